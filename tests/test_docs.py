"""Examples in the documentation do what they show."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from convkit.cli import main

DOCS = Path(__file__).parent.parent / "docs"


def commands(document: str) -> list[str]:
    """Lines of the document's shell examples, without ``convkit``; what merely lists options is in no such example."""
    examples = re.findall(r"^```sh\n(.*?)^```", (DOCS / document).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line.removeprefix("convkit ") for line in "".join(examples).splitlines()]


@pytest.mark.parametrize("document", ["cerebras-compat.md", "orbax.md"])
def test_examples_run(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = commands(document)
    assert lines
    for line in lines:
        assert main(shlex.split(line)) == 0, line
