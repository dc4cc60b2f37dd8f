"""Stores that are read through fsspec: one in memory, and S3 simulated by the moto server."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import fsspec.config
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem
from hub_server import hub

from convkit.errors import ConvkitError, UsageError
from convkit.fetch import fetch, remote
from convkit.files.stores import failures

BODY = bytes(index * index % 251 for index in range(300_000))
CHUNK = 1 << 16


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "BACKOFF_SECONDS", 0.0)
    monkeypatch.setattr(remote, "CHUNK", CHUNK)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryFileSystem:
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    memory = MemoryFileSystem()
    memory.pipe({"/model/config.json": b"{}", "/model/sub/m.bin": BODY})
    return memory


def _tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("uri", ["memory://model", "memory:///model/"])
def test_folder(store: MemoryFileSystem, tmp_path: Path, uri: str) -> None:
    record = fetch(uri, tmp_path / "m")
    assert _tree(tmp_path / "m") == {"config.json": b"{}", "sub/m.bin": BODY}
    assert (record["uri"], record["kind"]) == (uri, "folder")


def test_file(store: MemoryFileSystem, tmp_path: Path) -> None:
    fetch("memory://model/sub/m.bin", tmp_path / "m", sha256=hashlib.sha256(BODY).hexdigest())
    assert (tmp_path / "m").read_bytes() == BODY


def test_index_brings_its_shards(store: MemoryFileSystem, tmp_path: Path) -> None:
    store.pipe("/model/pytorch_model.bin.index.json", b'{"weight_map": {"a": "sub/m.bin"}}')
    fetch("memory://model/pytorch_model.bin.index.json", tmp_path / "m")
    assert sorted(_tree(tmp_path / "m")) == ["config.json", "pytorch_model.bin.index.json", "sub/m.bin"]


class Breaks:
    """Makes every read fail but the first few."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, good: int) -> None:
        self.good = good
        self.read_at: list[int] = []
        original = MemoryFile.read

        def read(file: MemoryFile, *amount: int) -> bytes:
            self.read_at.append(file.tell())
            self.good -= 1
            if self.good < 0:
                raise RuntimeError("the store\nstumbled")
            return original(file, *amount)

        monkeypatch.setattr(MemoryFile, "read", read)


def test_later_call_resumes(store: MemoryFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    breaks = Breaks(monkeypatch, good=2)
    with pytest.raises(ConvkitError) as caught:
        fetch("memory://model/sub/m.bin", tmp_path / "m", retries=1)
    assert str(caught.value) == (
        "memory:///model/sub/m.bin: RuntimeError: the store "
        f"(gave up after 2 attempts; the {2 * CHUNK} bytes that arrived are kept; try again later)"
    )
    breaks.good, breaks.read_at = 99, []
    fetch("memory://model/sub/m.bin", tmp_path / "m", sha256=hashlib.sha256(BODY).hexdigest())
    assert breaks.read_at[0] == 2 * CHUNK


def test_file_that_changed_starts_again(
    store: MemoryFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks = Breaks(monkeypatch, good=2)
    with pytest.raises(ConvkitError):
        fetch("memory://model", tmp_path / "m", retries=0)
    store.pipe("/model/sub/m.bin", BODY[::-1])
    breaks.good = 99
    fetch("memory://model", tmp_path / "m")
    assert (tmp_path / "m" / "sub" / "m.bin").read_bytes() == BODY[::-1]


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "a//b"])
def test_listing_that_points_outside(
    store: MemoryFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    listed: dict[str, Any] = {f"/model/{name}": {"type": "file", "size": 1}}
    monkeypatch.setattr(MemoryFileSystem, "find", lambda self, root, detail: listed)
    with pytest.raises(ConvkitError) as caught:
        fetch("memory://model", tmp_path / "m")
    assert str(caught.value).startswith(f"memory://model: lists {name!r}, which isn't a plain path below the folder")
    assert list(tmp_path.iterdir()) == []


def test_listing_outside_its_own_root(store: MemoryFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: dict[str, Any] = {"/elsewhere/evil": {"type": "file", "size": 1}}
    monkeypatch.setattr(MemoryFileSystem, "find", lambda self, root, detail: listed)
    with pytest.raises(ConvkitError, match="lists '/elsewhere/evil', which isn't a plain path"):
        fetch("memory://model", tmp_path / "m")


def test_listing_of_a_file_that_is_also_a_folder(
    store: MemoryFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: dict[str, Any] = {f"/model/{name}": {"type": "file", "size": 1} for name in ("a", "a/b")}
    monkeypatch.setattr(MemoryFileSystem, "find", lambda self, root, detail: listed)
    with pytest.raises(ConvkitError, match="lists 'a' as a file and as a folder"):
        fetch("memory://model", tmp_path / "m")


def test_uri_with_a_query_is_recognised_by_sha256_alone(store: MemoryFileSystem, tmp_path: Path) -> None:
    """A key may hold ? and #; masked keys can't be distinguished."""
    store.pipe("/model/a#1", b"1")
    fetch("memory://model/a#1", tmp_path / "m")
    with pytest.raises(UsageError, match="can't be recognised without a sha256"):
        fetch("memory://model/a#2", tmp_path / "m")


def test_nothing_there(store: MemoryFileSystem, tmp_path: Path) -> None:
    with pytest.raises(ConvkitError, match=r"memory:///none: no such file or folder \(check the URI\)"):
        fetch("memory://none", tmp_path / "m")
    store.mkdir("/empty")
    with pytest.raises(ConvkitError, match=r"memory://empty: the folder holds no file \(check the URI\)"):
        fetch("memory://empty", tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_unknown_scheme(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown scheme warp:// \(use file, package, generated, http,"):
        fetch("warp://me:hunter2@model", tmp_path / "m")


@pytest.mark.parametrize(
    ("scheme", "module", "remedy"),
    [
        ("s3", "s3fs", "pip install 'convkit-checkpoints[s3]'"),
        ("gs", "gcsfs", "pip install 'convkit-checkpoints[gs]'"),
        ("hf", "huggingface_hub", "pip install 'convkit-checkpoints[hf]'"),
        ("oci", "ocifs", "Install ocifs to access OCI Object Storage"),
    ],
)
def test_missing_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, module: str, remedy: str) -> None:
    for name in ("_registry", "registry"):  # what an earlier test had imported
        monkeypatch.setattr(sys.modules["fsspec.registry"], name, {})
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConvkitError) as caught:
        fetch(f"{scheme}://bucket/model", tmp_path / "m")
    assert str(caught.value) == f"{scheme}://bucket/model: the driver isn't installed ({remedy})"


@pytest.mark.skipif(find_spec("huggingface_hub") is None, reason="huggingface_hub isn't installed")
def test_model_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub("org/model", {"config.json": b"{}", "sub/m.bin": BODY}) as endpoint:
        monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": endpoint, "token": False})
        record = fetch("hf://org/model@main", tmp_path / "m")
        assert record["uri"] == "hf://org/model@main"
        assert _tree(tmp_path / "m") == {"config.json": b"{}", "sub/m.bin": BODY}
        fetch("hf://org/model/sub/m.bin", tmp_path / "file", sha256=hashlib.sha256(BODY).hexdigest())
        with pytest.raises(ConvkitError, match="hf://org/none: no such file or folder"):
            fetch("hf://org/none", tmp_path / "none")
    assert fetch("hf://org/model@main", tmp_path / "m")["fetched"] is False


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    if find_spec("s3fs") is None or find_spec("moto") is None or find_spec("flask_cors") is None:
        pytest.skip("needs s3fs, moto[s3], flask and flask-cors")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield fsspec.filesystem("s3", skip_instance_cache=True)
    server.stop()


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"bucket-{uuid4().hex}"
    s3.mkdir(name)
    s3.pipe({f"{name}/model/config.json": b"{}", f"{name}/model/sub dir/ü.bin": BODY})
    s3.touch(f"{name}/model/marker/")
    return name


def test_s3_folder(s3: Any, bucket: str, tmp_path: Path) -> None:
    record = fetch(f"s3://{bucket}/model", tmp_path / "m")
    assert _tree(tmp_path / "m") == {"config.json": b"{}", "sub dir/ü.bin": BODY}
    assert "hunter2" not in (tmp_path / "m.fetch.json").read_text()
    fetch(f"s3://{bucket}", tmp_path / "whole", progress=None)
    assert sorted(_tree(tmp_path / "whole")) == ["model/config.json", "model/sub dir/ü.bin"]
    assert fetch(f"s3://{bucket}/model", tmp_path / "m") == record | {"fetched": False}


def test_s3_resumes(s3: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, seen = f"s3://{bucket}/model/sub dir/ü.bin", []

    def give_up(here: int, size: int | None, path: str) -> None:
        if here > CHUNK:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(uri, tmp_path / "m", progress=give_up)
    fetch(
        uri,
        tmp_path / "m",
        sha256=hashlib.sha256(BODY).hexdigest(),
        progress=lambda here, size, path: seen.append(here),
    )
    assert seen[0] == 2 * CHUNK


def test_s3_without_the_object(s3: Any, bucket: str, tmp_path: Path) -> None:
    with pytest.raises(ConvkitError, match=f"s3://{bucket}/none: no such file or folder"):
        fetch(f"s3://{bucket}/none", tmp_path / "m")
