"""What docs/how-to/stores.md shows works, in a bucket that has another name."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from conftest import Bucket, Run

from convkit.fetch import fetch

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "stores.md"


def test_examples_run(bucket: Bucket, convkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch("generated://llama?layers=1", tmp_path / "model")
    bucket.put(tmp_path / "model", "llama")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) > 5
    for line in lines:
        code, said = convkit(*shlex.split(line.replace("s3://bucket/", f"s3://{bucket.name}/"))[1:])
        assert code == 0, f"{line}: {said}"
