"""The Hugging Face Hub, which a stand-in plays here: commits, large files on another server, gates, and faults."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest
from conftest import Run, receipt
from faulty import Asked, Proxy, between

from convkit.fetch import fetch
from convkit.files.stores import failures

sys.path.insert(0, str(Path(__file__).parent.parent / "fetch"))

from hub_server import Hub, running

OLD, NEW = "a" * 40, "b" * 40
TOKEN = "hf_hunter22"


@dataclass
class Place:
    """A hub behind a proxy, and the server of its large files behind another one."""

    hub: Hub
    front: Proxy
    files: Proxy


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(failures, "BACKOFF_SECONDS", 0.01)
    fetch("generated://llama", tmp_path / "here")
    files = {file.name: file.read_bytes() for file in (tmp_path / "here").iterdir()}
    weights = files["model.safetensors"]
    other = {**files, "model.safetensors": weights[:-1] + bytes([weights[-1] ^ 1])}
    hub = Hub("org/model", {OLD: files, NEW: other}, OLD)
    with running(hub) as url, between(url, google=True) as front, between(url, google=True) as large:
        hub.elsewhere = large.url
        monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": front.url, "token": TOKEN})
        yield Place(hub, front, large)


def test_a_branch_counts_as_its_commit_and_no_credentials_go_elsewhere(
    place: Place, tmp_path: Path, convkit: Run
) -> None:
    def move(asked: Asked) -> None:
        if "/resolve/" in asked.name:
            place.hub.main = NEW

    place.front.before = move
    code, said = convkit("convert", "hf://org/model", tmp_path / "out.mdl", "--to", "cerebras/llama")
    assert code == 0, said
    ours = receipt(tmp_path / "out.mdl")
    assert ours["source"]["path"] == f"hf://org/model@{OLD}"
    assert all(file["version"].startswith("blob_id ") for file in ours["source"]["files"])
    assert convkit("convert", tmp_path / "here", tmp_path / "copied.mdl", "--to", "cerebras/llama")[0] == 0
    assert ours["source"]["leaves"] == receipt(tmp_path / "copied.mdl")["source"]["leaves"]
    assert convkit("roundtrip", f"hf://org/model@{OLD}", tmp_path / "out.mdl")[0] == 0
    code, said = convkit("roundtrip", "hf://org/model", tmp_path / "out.mdl")
    assert code != 0, "main has other weights now"
    assert place.files.asked
    assert {asked.signer for asked in place.front.asked} == {TOKEN}
    assert {asked.signer for asked in place.files.asked} == {""}
    assert TOKEN not in said + "".join(path.read_text() for path in tmp_path.glob("*.json"))


def test_a_mdl_is_read_there(place: Place, tmp_path: Path, convkit: Run) -> None:
    assert convkit("convert", tmp_path / "here", tmp_path / "out" / "m.mdl", "--to", "cerebras/llama")[0] == 0
    place.hub.commits[OLD] = {file.name: file.read_bytes() for file in (tmp_path / "out").glob("m.*") if file.is_file()}
    assert convkit("diff", "hf://org/model", tmp_path / "out" / "m.mdl")[0] == 0
    code, said = convkit("roundtrip", tmp_path / "here", "hf://org/model/m.mdl")
    assert code == 0, said


def test_the_record_of_a_stream_names_the_commit(place: Place, tmp_path: Path, convkit: Run) -> None:
    assert convkit("fetch", "hf://org/model@main", tmp_path / "m", "--stream")[0] == 0
    assert json.loads((tmp_path / "m.fetch.json").read_text())["uri"] == f"hf://org/model@{OLD}"
    place.hub.main = NEW
    code, said = convkit("digest", tmp_path / "m.fetch.json")
    assert code == 0, said
    assert said == convkit("digest", tmp_path / "here")[1].replace(str(tmp_path / "here"), f"hf://org/model@{OLD}")


@pytest.mark.parametrize("where", ["front", "files"])
def test_what_passes_is_tried_again(where: str, place: Place, tmp_path: Path, convkit: Run) -> None:
    faults = iter(["slow down", "error", "reset", "truncate"])
    proxy: Proxy = getattr(place, where)
    proxy.fault = lambda asked: next(faults, None) if where == "files" or "/resolve/" in asked.name else None
    code, said = convkit("convert", "hf://org/model", tmp_path / "out.mdl", "--to", "cerebras/llama")
    assert code == 0, said
    assert proxy.done == ["slow down", "error", "reset", "truncate"]
    assert convkit("roundtrip", "hf://org/model", tmp_path / "out.mdl")[0] == 0


@pytest.mark.parametrize("fault", ["slow down", "error", "reset", "truncate"])
def test_what_lasts_ends_in_one_line(fault: str, place: Place, tmp_path: Path, convkit: Run) -> None:
    place.files.fault = lambda asked: fault
    code, said = convkit("convert", "hf://org/model", tmp_path / "out.mdl", "--to", "cerebras/llama")
    assert (code, said.count("\n")) == (3, 1), said
    assert said.startswith(f"convkit: hf://org/model@{OLD}/model.safetensors: ")
    assert "gave up after 6 attempts; try again later" in said
    assert not (tmp_path / "out.mdl").exists()


@pytest.mark.parametrize("token", [False, "hf_of-somebody-else"])
def test_a_gated_repository_is_one_line(
    token: object, place: Place, monkeypatch: pytest.MonkeyPatch, convkit: Run
) -> None:
    place.hub.token = TOKEN
    monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": place.front.url, "token": token})
    code, said = convkit("inspect", "hf://org/model")
    assert (code, said.count("\n")) == (3, 1), said
    assert said.startswith("convkit: hf://org/model: access denied (check the URI; if it is private, set HF_TOKEN")
    assert len(place.front.asked) == 1


@pytest.mark.parametrize("uri", ["hf://org/model@nothing", "hf://org/nothing"])
def test_what_isnt_there_is_one_line(uri: str, place: Place, convkit: Run) -> None:
    assert convkit("inspect", uri) == (3, f"convkit: {uri}: no such file or folder (check the URI)\n")


def test_nothing_is_written_to_the_hub(place: Place, tmp_path: Path, convkit: Run) -> None:
    code, said = convkit("convert", tmp_path / "here", "hf://org/model", "--to", "cerebras/llama")
    assert (code, "outputs aren't written to hf://" in said) == (2, True), said
    assert not place.front.asked
