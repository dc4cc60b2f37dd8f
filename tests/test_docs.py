"""Examples in the documentation do what they show."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from convkit.cli import main
from convkit.mappings import layouts

DOCS = Path(__file__).parent.parent / "docs"


def commands(document: str) -> list[str]:
    """Lines of the document's shell examples; what merely lists options is in no such example."""
    examples = re.findall(r"^```sh\n(.*?)^```", (DOCS / document).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return "".join(examples).splitlines()


@pytest.mark.parametrize("document", ["reference/cerebras.md", "how-to/cerebras-compat.md", "how-to/orbax.md"])
def test_examples_run(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = commands(document)
    assert lines
    for line in lines:
        command, *arguments = shlex.split(line)
        code = (
            main(arguments) if command == "convkit" else subprocess.run([command, *arguments], check=False).returncode
        )
        assert code == 0, line


def test_every_layout_of_cerebras_is_described() -> None:
    text = (DOCS / "reference" / "cerebras.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(cerebras/\S+)` \|", text, re.MULTILINE))
    there = {re.sub("/dpo-.*", "/dpo-<family>", name) for name in layouts()}
    assert listed == {name for name in there if name.startswith("cerebras/")}


def quoted(document: str) -> list[tuple[str, str]]:
    """The document's examples that quote a source file: its path below the package, and the text."""
    text = (DOCS / document).read_text(encoding="utf-8")
    return re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("path", "text"), quoted("how-to/adding-a-mapping.md"), ids=lambda part: part.splitlines()[0])
def test_quotes_are_from_the_source(path: str, text: str) -> None:
    assert text in (DOCS.parent / "src" / "convkit" / path).read_text(encoding="utf-8")


def guarantees() -> list[tuple[str, list[tuple[str, str]]]]:
    """Each sentence that is promised, with the tests that it names."""
    sections = (DOCS / "explanation" / "guarantees.md").read_text(encoding="utf-8").split("\n## ")[1:]
    promised = [section.partition("\nNot promised:")[0] for section in sections]
    sentences = [line for section in promised for line in section.splitlines() if line.startswith("- ")]
    return [(sentence, re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", sentence)) for sentence in sentences]


def test_each_guarantee_names_the_tests_that_hold_it() -> None:
    assert guarantees()
    for sentence, tests in guarantees():
        assert tests, sentence
        for file, name in tests:
            assert re.search(rf"^\s*def {name}\(", (DOCS.parent / file).read_text(encoding="utf-8"), re.MULTILINE), name
