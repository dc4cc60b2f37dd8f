"""``convkit digest``: leaves as receipts give them, files as sha256sum does, and the directory as the shell does."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from convkit.audit.files import digested, directory_digest, files_in
from convkit.cli import main
from convkit.errors import ConvkitError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    (made / "sub folder").mkdir(parents=True)
    save_file(
        {"a": np.arange(600_000, dtype=np.float32), "b": np.zeros((0, 3), np.float16)}, made / "model.safetensors"
    )
    (made / "sub folder" / "é.txt").write_text("naïve")
    (made / "Z").write_text("")
    return made


def test_leaves_files_and_directory(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["digest", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    data = np.arange(600_000, dtype=np.float32).tobytes()
    blocks = [hashlib.sha256(data[at : at + (1 << 20)]).digest() for at in range(0, len(data), 1 << 20)]
    assert found["leaves"]["a"] == {
        "digest": f"sha256:{hashlib.sha256(b''.join(blocks)).hexdigest()}",
        "shape": [600_000],
        "dtype": "float32",
    }
    assert found["leaves"]["b"]["digest"] == f"sha256:{hashlib.sha256(b'').hexdigest()}"
    assert found["block_bytes"] == 1 << 20
    assert list(found["files"]) == ["Z", "model.safetensors", "sub folder/é.txt"]
    assert found["files"]["Z"] == f"sha256:{hashlib.sha256(b'').hexdigest()}"


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_the_shell_has_the_same_directory_digest(folder: Path) -> None:
    line = "find . -type f -print0 | cut -zc3- | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -f1 -d' '"
    said = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    assert directory_digest(digested(files_in(folder))) == said


def test_a_name_is_part_of_the_directory_digest() -> None:
    one, other = {"a": "1" * 64, "b": "2" * 64}, {"a": "1" * 64, "c": "2" * 64}
    assert directory_digest(one) != directory_digest(other)
    assert directory_digest(dict(reversed(one.items()))) == directory_digest(one)


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "a\u202eb"])
def test_names_that_sha256sum_escapes_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(ConvkitError, match="has a name that sha256sum escapes"):
        digested(files_in(tmp_path))


def test_links_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(ConvkitError, match="is a link"):
        digested(files_in(tmp_path))


def test_one_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "model.safetensors"
    assert main(["digest", str(file)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}  model.safetensors" in shown
    assert shown[-1].endswith("the directory: every file and its name")
