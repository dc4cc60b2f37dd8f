"""Files on a web server are read by ranges, if it answers them."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
from conftest import Run, receipt

from convkit.fetch import fetch

sys.path.insert(0, str(Path(__file__).parent.parent / "fetch"))

from file_server import FileServer, serving


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    fetch("generated://llama", tmp_path / "here")
    return {f"/m/{file.name}": file.read_bytes() for file in (tmp_path / "here").iterdir()}


def test_a_file_and_its_config(files: dict[str, bytes], tmp_path: Path, convkit: Run) -> None:
    with serving(files) as server:
        uri = f"{server.url}/m/model.safetensors"
        code, said = convkit("convert", uri, tmp_path / "out.mdl", "--to", "cerebras/llama")
        assert code == 0, said
        assert convkit("roundtrip", uri, tmp_path / "out.mdl")[0] == 0
    weights = files["/m/model.safetensors"]
    assert receipt(tmp_path / "out.mdl")["source"]["files"] == [
        {"name": "model.safetensors", "bytes": len(weights), "version": f'ETag "{hashlib.md5(weights).hexdigest()}"'}
    ]


def test_a_mdl_and_its_config(tmp_path: Path, convkit: Run) -> None:
    fetch("generated://llama", tmp_path / "here")
    assert convkit("convert", tmp_path / "here", tmp_path / "out" / "m.mdl", "--to", "cerebras/llama")[0] == 0
    files = {f"/{file.name}": file.read_bytes() for file in (tmp_path / "out").glob("m.*") if file.is_file()}
    with serving(files) as server:
        uri = f"{server.url}/m.mdl"
        assert convkit("diff", uri, tmp_path / "out" / "m.mdl")[0] == 0
        code, said = convkit("roundtrip", tmp_path / "here", uri)
        assert code == 0, said


def test_a_query_is_sent_and_masked(files: dict[str, bytes], tmp_path: Path, convkit: Run) -> None:
    with serving(files) as server:
        uri = f"{server.url}/m/model.safetensors?token=hunter22"
        code, said = convkit("convert", uri, tmp_path / "out.mdl", "--to", "cerebras/llama")
        assert code == 0, said
        assert "hunter22" not in said
        assert all("hunter22" not in path.read_text() for path in tmp_path.glob("*.json"))


def test_a_server_without_ranges_is_refused(files: dict[str, bytes], convkit: Run) -> None:
    with serving(FileServer(files, ranges=False)) as server:
        code, said = convkit("inspect", f"{server.url}/m/model.safetensors")
    assert (code, "answers no requests of ranges (fetch it first" in said) == (3, True), said


def test_a_file_without_a_version_is_refused(files: dict[str, bytes], convkit: Run) -> None:
    with serving(FileServer(files, validators=lambda body: {})) as server:
        code, said = convkit("inspect", f"{server.url}/m/model.safetensors")
    assert (code, "nobody would see that it changes" in said) == (3, True), said


def test_a_file_that_changes_fails(files: dict[str, bytes], tmp_path: Path, convkit: Run) -> None:
    weights = files["/m/model.safetensors"]
    with serving(files) as server:

        def replace() -> None:
            path, headers = server.requests[-1]
            if path == "/m/model.safetensors" and headers["Range"] != "bytes=0-0":
                server.files[path] = weights[:-1] + bytes([weights[-1] ^ 1])

        server.before = replace
        uri = f"{server.url}/m/model.safetensors"
        code, said = convkit("convert", uri, tmp_path / "o.mdl", "--to", "cerebras/llama")
    assert (code, "model.safetensors: changed while it was read" in said) == (3, True), said
    assert not (tmp_path / "o.mdl").exists()
