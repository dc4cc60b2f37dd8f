"""Downloads from good servers and bad ones."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from file_server import FileServer, serving

from convkit.errors import ConvkitError, UsageError
from convkit.fetch import fetch
from convkit.files.stores import failures

BODY = bytes(index * index % 251 for index in range(300_000))
#: bytes before a connection drops
PART = 1 << 17
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "BACKOFF_SECONDS", 0.0)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving({"/m.bin": BODY}) as served:
        yield served


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def interrupted(server: FileServer, destination: Path, after: int = PART) -> None:
    """Leave a part of the file in the staging folder."""
    server.faults[:] = [("drop", after)]
    with pytest.raises(ConvkitError, match=f"the {after} bytes that arrived are kept"):
        fetch(f"{server.url}/m.bin", destination, retries=0)
    assert not destination.exists()
    server.requests.clear()


def test_file(server: FileServer, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None, str]] = []
    record = fetch(
        f"{server.url}/m.bin", tmp_path / "m", sha256=SHA256.upper(), progress=lambda *step: seen.append(step)
    )
    assert (tmp_path / "m").read_bytes() == BODY
    assert left(tmp_path) == ["m", "m.fetch.json"]
    assert record["fetched"]
    assert json.loads((tmp_path / "m.fetch.json").read_text()) | {"fetched": True} == record
    assert (record["kind"], record["sha256"], record["bytes"]) == ("file", SHA256, len(BODY))
    arrived = [step for step in seen if step[2] == "m.bin"]
    assert (arrived[0], arrived[-1]) == ((0, len(BODY), "m.bin"), (len(BODY), len(BODY), "m.bin"))
    assert seen[-1] == (len(BODY), len(BODY), "sha256")


@pytest.mark.parametrize("ending", ["length", "chunked"])
@pytest.mark.parametrize("ranges", [True, False])
def test_connections_that_drop(server: FileServer, tmp_path: Path, ending: str, ranges: bool) -> None:
    server.ending, server.ranges = ending, ranges
    server.faults = [("drop", PART), ("drop", PART), ("drop", 0), ("status", 503)]
    fetch(f"{server.url}/m.bin", tmp_path / "m", sha256=SHA256, retries=4)
    assert len(server.requests) == 5
    if ranges and ending == "length":
        assert server.asked("Range") == [None, f"bytes={PART}-", *[f"bytes={2 * PART}-"] * 3]


def test_progress_renews_patience(server: FileServer, tmp_path: Path) -> None:
    server.faults = [("drop", 70_000)] * 4
    fetch(f"{server.url}/m.bin", tmp_path / "m", sha256=SHA256, retries=1)
    assert len(server.requests) == 5


def test_without_progress_patience_ends(server: FileServer, tmp_path: Path) -> None:
    server.faults = [("status", 500)] * 9
    with pytest.raises(ConvkitError, match=r"m.bin: the server answered HTTP 500 \(gave up after 3 attempts;"):
        fetch(f"{server.url}/m.bin", tmp_path / "m", retries=2)
    assert len(server.requests) == 3
    assert left(tmp_path) == []


def test_later_call_resumes(server: FileServer, tmp_path: Path) -> None:
    interrupted(server, tmp_path / "m")
    assert left(tmp_path) == [".m.convkit-part"]
    fetch(f"{server.url}/m.bin", tmp_path / "m", sha256=SHA256)
    assert server.asked("Range") == [f"bytes={PART}-"]
    assert left(tmp_path) == ["m", "m.fetch.json"]


def test_nothing_is_missing_but_the_name(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the last byte and before the rename: the server says 416, and that is enough."""
    with monkeypatch.context() as patch:
        patch.setattr("convkit.fetch.record.describe", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fetch(f"{server.url}/m.bin", tmp_path / "m")
    server.requests.clear()
    fetch(f"{server.url}/m.bin", tmp_path / "m", sha256=SHA256)
    assert server.asked("Range") == [f"bytes={len(BODY)}-"]


@pytest.mark.parametrize("if_range", [True, False])
@pytest.mark.parametrize("length", [300_000, 300_001, PART, 50_000])
def test_file_that_changed_starts_again(server: FileServer, tmp_path: Path, if_range: bool, length: int) -> None:
    interrupted(server, tmp_path / "m")
    server.if_range = if_range
    server.files["/m.bin"] = bytes(length)
    fetch(f"{server.url}/m.bin", tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == bytes(length)


@pytest.mark.parametrize(
    ("validators", "resumes"),
    [
        ({"Last-Modified": "Sun, 22 Nov 2026 07:00:00 GMT"}, True),
        ({"ETag": 'W/"weak"', "Last-Modified": "Sun, 22 Nov 2026 07:00:00 GMT"}, True),
        ({"ETag": 'W/"weak"'}, False),
        ({}, False),
    ],
)
def test_what_proves_that_a_file_is_the_same(
    server: FileServer, tmp_path: Path, validators: dict[str, str], resumes: bool
) -> None:
    server.validators = lambda body: validators
    interrupted(server, tmp_path / "m")
    fetch(f"{server.url}/m.bin", tmp_path / "m", sha256=SHA256)
    assert server.asked("Range") == [f"bytes={PART}-" if resumes else None]


def test_part_of_another_source_is_not_continued(server: FileServer, tmp_path: Path) -> None:
    server.files["/other.bin"] = BODY[::-1]
    interrupted(server, tmp_path / "m")
    fetch(f"{server.url}/other.bin", tmp_path / "m")
    assert server.asked("Range") == [None]
    assert (tmp_path / "m").read_bytes() == BODY[::-1]


def test_killed_process_is_continued(server: FileServer, tmp_path: Path) -> None:
    stall = threading.Event()
    server.faults = [("drop", PART)]
    server.before = lambda: len(server.requests) == 1 or stall.wait()
    code = f"from convkit.fetch import fetch; fetch({server.url + '/m.bin'!r}, {str(tmp_path / 'm')!r})"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as process:
        for _ in range(1000):  # until it asks for the rest and is left waiting
            if len(server.requests) == 2 or process.poll() is not None:
                break
            threading.Event().wait(0.01)
        os.kill(process.pid, signal.SIGKILL)
    stall.set()
    assert server.asked("Range") == [None, f"bytes={PART}-"]
    assert left(tmp_path) == [".m.convkit-part"]
    fetch(f"{server.url}/m.bin", tmp_path / "m", sha256=SHA256)
    assert server.asked("Range")[2:] == [f"bytes={PART}-"]
    assert left(tmp_path) == ["m", "m.fetch.json"]


def test_two_at_once_exclude_each_other(server: FileServer, tmp_path: Path) -> None:
    asked, go_on = threading.Event(), threading.Event()
    server.before = lambda: (asked.set(), go_on.wait())
    first = threading.Thread(target=fetch, args=(f"{server.url}/m.bin", tmp_path / "m"))
    first.start()
    asked.wait()
    with pytest.raises(ConvkitError, match=r"m: is being fetched by another process \(wait until that one ends\)"):
        fetch(f"{server.url}/m.bin", tmp_path / "m")
    go_on.set()
    first.join()
    assert fetch(f"{server.url}/m.bin", tmp_path / "m", sha256=SHA256)["fetched"] is False
    assert left(tmp_path) == ["m", "m.fetch.json"]


def test_wrong_sha256_leaves_nothing(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(ConvkitError, match=f"m.bin: sha256 is {SHA256}, not {'0' * 64} "):
        fetch(f"{server.url}/m.bin", tmp_path / "m", sha256="0" * 64)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (404, r"the server doesn't have this file \(HTTP 404\) \(check the URI\)"),
        (410, r"the server doesn't have this file \(HTTP 410\)"),
        (403, r"access denied \(HTTP 403\) \(put user and password in ~/.netrc\)"),
        (206, r"the server answered HTTP 206"),  # nobody asked for a range
        (418, r"the server answered HTTP 418"),
    ],
)
def test_final_answers_are_not_asked_twice(server: FileServer, tmp_path: Path, status: int, says: str) -> None:
    server.faults = [("status", status)]
    with pytest.raises(ConvkitError, match=f"m.bin: {says}"):
        fetch(f"{server.url}/m.bin", tmp_path / "m")
    assert len(server.requests) == 1
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ending": "close"}, "doesn't say how long the file is"),
        ({"headers": {"Content-Encoding": "gzip"}}, "compressed, despite the request"),
    ],
)
def test_answers_whose_end_is_unclear_are_refused(
    server: FileServer, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    vars(server).update(change)
    with pytest.raises(ConvkitError, match=says):
        fetch(f"{server.url}/m.bin", tmp_path / "m")


def _no_such_name(*asked: object, **how: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _no_such_name)
    with pytest.raises(ConvkitError) as caught:
        fetch("https://me:hunter2@models.invalid/m.bin?sig=hunter2", tmp_path / "m", retries=1)
    assert str(caught.value) == (
        "https://models.invalid/m.bin?sig=***: models.invalid can't be reached: Name or service not known "
        "(gave up after 2 attempts; try again later)"
    )
    assert left(tmp_path) == []


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/m.bin"
        with pytest.raises(ConvkitError, match=r"127.0.0.1 can't be reached: Connection refused"):
            fetch(url, tmp_path / "m", retries=0)


def test_secrets_are_used_and_not_told(server: FileServer, tmp_path: Path) -> None:
    url = server.url.replace("://", "://me:hunter2@")
    fetch(f"{url}/m.bin?sig=hunter3", tmp_path / "m")
    path, headers = server.requests[0]
    assert path == "/m.bin?sig=hunter3"
    assert headers["Authorization"] == "Basic bWU6aHVudGVyMg=="
    assert "hunter" not in (tmp_path / "m.fetch.json").read_text()
    with pytest.raises(UsageError) as caught:
        fetch("http://me:hunter2@[broken/m.bin", tmp_path / "n")
    assert "hunter" not in str(caught.value)


def test_masked_uri_is_recognised_by_sha256_alone(server: FileServer, tmp_path: Path) -> None:
    url = f"{server.url}/m.bin?version=1"
    fetch(url, tmp_path / "m")
    with pytest.raises(UsageError, match="a URI with a query can't be recognised without a sha256"):
        fetch(url, tmp_path / "m")
    assert fetch(url, tmp_path / "m", sha256=SHA256)["fetched"] is False


def test_disk_without_room(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(ConvkitError, match=r"needs 300000 bytes more and 1000 are free in .* \(make room\)"):
        fetch(f"{server.url}/m.bin", tmp_path / "m")
    assert left(tmp_path) == []


INDEX = "model.safetensors.index.json"


def _sharded(shards: dict[str, str]) -> dict[str, bytes]:
    files = {f"/hub/{name}": name.encode(errors="surrogatepass") * PART for name in {*shards.values()}}
    return files | {f"/hub/{INDEX}": json.dumps({"weight_map": shards}).encode(), "/hub/config.json": b"{}"}


@pytest.mark.parametrize("index", [INDEX, "pytorch_model.bin.index.json"])
def test_index_brings_its_shards_and_config(tmp_path: Path, index: str) -> None:
    files = _sharded({"a": "model-1.bin", "b": "sub dir/model-2.bin", "c": "model-1.bin"})
    files = {path.replace(" ", "%20"): body for path, body in files.items()}
    files[f"/hub/{index}"] = files.pop(f"/hub/{INDEX}")
    with serving(files) as server:
        record = fetch(f"{server.url}/hub/{index}?token=x", tmp_path / "m")
    assert [each["path"] for each in record["files"]] == sorted(
        ["config.json", "model-1.bin", index, "sub dir/model-2.bin"]
    )
    assert record["kind"] == "folder"
    assert (tmp_path / "m" / "sub dir" / "model-2.bin").read_bytes() == b"sub dir/model-2.bin" * PART
    assert all(path.endswith("?token=x") for path, _ in server.requests)


@pytest.mark.parametrize("heads", [True, False])
def test_progress_over_all_shards(tmp_path: Path, heads: bool) -> None:
    """Also where the server doesn't answer HEAD: then the total is known as late as the last shard's size."""
    files = _sharded({"a": "model-1.bin", "b": "model-2.bin"})
    of_shards, whole = len(files[f"/hub/{INDEX}"]) + 2 * 11 * PART, sum(map(len, files.values()))
    seen: list[tuple[int, int | None, str]] = []
    with serving(FileServer(files, heads=heads)) as server:
        fetch(f"{server.url}/hub/{INDEX}", tmp_path / "m", progress=lambda *step: seen.append(step))
    arrived = [(done, total) for done, total, part in seen if part != "sha256"]
    assert [done for done, _ in arrived] == sorted(done for done, _ in arrived)
    assert all(total is None or done <= total for done, total in arrived)
    totals = [total for _, total, part in seen if part == "model-1.bin"]
    assert set(totals) == {of_shards if heads else None}
    assert arrived[-1] == (whole, whole)
    assert seen[-1] == (whole, whole, "sha256")


def test_index_without_config(tmp_path: Path) -> None:
    files = _sharded({"a": "model-1.bin"})
    del files["/hub/config.json"]
    with serving(files) as server:
        record = fetch(f"{server.url}/hub/{INDEX}", tmp_path / "m")
    assert [each["path"] for each in record["files"]] == ["model-1.bin", INDEX]


def test_missing_shard(tmp_path: Path) -> None:
    files = _sharded({"a": "model-1.bin", "b": "model-2.bin"})
    del files["/hub/model-2.bin"]
    with (
        serving(files) as server,
        pytest.raises(ConvkitError, match=r"hub/model-2.bin: the server doesn't have this file"),
    ):
        fetch(f"{server.url}/hub/{INDEX}", tmp_path / "m")
    assert left(tmp_path) == []


def test_interrupted_folder_resumes_and_drops_what_is_no_longer_listed(tmp_path: Path) -> None:
    with serving(_sharded({"a": "model-1.bin", "b": "model-2.bin"})) as server:
        server.faults = [("none", 0), ("none", 0), ("drop", PART)]
        with pytest.raises(ConvkitError):
            fetch(f"{server.url}/hub/{INDEX}", tmp_path / "m", retries=0)
        assert (tmp_path / ".m.convkit-part" / "payload" / "model-1.bin").exists()
        server.files = _sharded({"b": "model-2.bin"})
        server.requests.clear()
        record = fetch(f"{server.url}/hub/{INDEX}", tmp_path / "m")
    assert [each["path"] for each in record["files"]] == ["config.json", "model-2.bin", INDEX]
    asked = [(path, headers.get("Range")) for path, headers in server.requests]
    assert ("/hub/model-2.bin", f"bytes={PART}-") in asked


@pytest.mark.parametrize("shard", ["../evil.bin", "/etc/evil", "a/../../evil", "a//b", "", "a\\..\\b", "a\nb"])
def test_index_that_points_outside(tmp_path: Path, shard: str) -> None:
    with serving(_sharded({"a": shard})) as server, pytest.raises(ConvkitError) as caught:
        fetch(f"{server.url}/hub/{INDEX}", tmp_path / "m")
    assert f"lists {shard!r}, which isn't a plain path below the folder" in str(caught.value)
    assert left(tmp_path) == []


def test_index_that_is_no_text(tmp_path: Path) -> None:
    """A lone surrogate is refused by the reader of JSON."""
    with serving(_sharded({"a": "\udcff"})) as server, pytest.raises(ConvkitError, match="isn't one"):
        fetch(f"{server.url}/hub/{INDEX}", tmp_path / "m")
    assert left(tmp_path) == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"weight_map": []}', b'{"weight_map": {"a": {}}}', b"\xff"])
def test_index_that_is_none(tmp_path: Path, body: bytes) -> None:
    with serving({f"/{INDEX}": body}) as server, pytest.raises(ConvkitError, match="is named like an index of shards"):
        fetch(f"{server.url}/{INDEX}", tmp_path / "m")
    assert left(tmp_path) == []


@pytest.mark.parametrize("uri", ["http://host", "http://host/folder/", "http:///m.bin", "https://host:99999x/m.bin"])
def test_uri_that_names_no_file(tmp_path: Path, uri: str) -> None:
    with pytest.raises(UsageError):
        fetch(uri, tmp_path / "m")
