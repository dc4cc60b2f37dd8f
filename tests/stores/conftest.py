"""Servers for these tests. S3: moto's stand-in, or with ``CONVKIT_S3=ceph`` Ceph's gateway, as ``make test-stores`` has
it where that is installed. Google Cloud Storage: the emulator fake-gcs-server. The Hub: test_streamed_hub.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import google_storage as google
import pytest
import servers
from faulty import Proxy, between

from convkit.cli import main
from convkit.files.stores import failures


def pytest_report_header() -> list[str]:
    said = "S3: moto's server, a stand-in"
    if os.environ.get("CONVKIT_S3") == "ceph":
        missing = f"{said}: Ceph's gateway isn't installed (Debian: radosgw ceph-mon ceph-osd)"
        said = "S3: Ceph's gateway" if servers.is_real() else missing
    emulator = (
        "the emulator fake-gcs-server" if google.is_here() else "not tested: gcsfs or its emulator isn't installed"
    )
    return [said, f"Google Cloud Storage: {emulator}", "Hugging Face Hub: a stand-in of these tests"]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    real = os.environ.get("CONVKIT_S3") == "ceph" and servers.is_real()
    with ExitStack() as stack:
        if real:
            yield servers.started(stack, lambda: tmp_path_factory.mktemp("ceph"))
        else:
            yield stack.enter_context(servers.moto())


@pytest.fixture(scope="session")
def emulator() -> Iterator[str]:
    if not google.is_here():
        pytest.skip("gcsfs or fake-gcs-server isn't installed")
    with google.emulator() as url:
        yield url


@pytest.fixture
def gs(emulator: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The emulator behind a proxy; gcsfs and tensorstore are led to the proxy."""
    monkeypatch.setattr(failures, "BACKOFF_SECONDS", 0.01)
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
    with between(emulator, google=True) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", proxy.url)
        monkeypatch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "a-token")
        yield proxy


@pytest.fixture
def s3(server: servers.Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The server behind a proxy; whoever asks for S3 is led to the proxy."""
    monkeypatch.setattr(failures, "BACKOFF_SECONDS", 0.01)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_ACCESS_KEY_ID": servers.KEY,
        "AWS_SECRET_ACCESS_KEY": servers.SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    with between(server.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


#: runs a command; its exit code and all that it said
Run = Callable[..., tuple[int, str]]


@dataclass
class Bucket:
    """A bucket of its own for a test; it is filled past the proxy."""

    name: str
    store: Any
    scheme: str = "s3"

    @property
    def tag(self) -> str:
        """How the versions of its objects begin in receipts."""
        return 'ETag "' if self.scheme == "s3" else "generation 1"

    def put(self, folder: Path, name: str = "model") -> str:
        """Upload a file or a folder; returns its URI."""
        if folder.is_file():
            self.store.pipe_file(f"{self.name}/{name}", folder.read_bytes())
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.store.pipe_file(f"{self.name}/{name}/{file.relative_to(folder)}", file.read_bytes())
        return f"{self.scheme}://{self.name}/{name}"


@pytest.fixture
def scheme() -> str:
    """Of the store of a test; a module that tries several has a fixture of its own."""
    return "s3"


@pytest.fixture
def proxy(scheme: str, request: pytest.FixtureRequest) -> Proxy:
    """What stands before the store."""
    found: Proxy = request.getfixturevalue(scheme)
    return found


@pytest.fixture
def bucket(scheme: str, proxy: Proxy) -> Bucket:
    said = {"key": servers.KEY, "secret": servers.SECRET} if scheme == "s3" else {"token": "anon"}
    store = fsspec.filesystem(scheme, endpoint_url=proxy.upstream, skip_instance_cache=True, **said)
    name = f"bucket-{uuid4().hex}"
    store.mkdir(name)
    return Bucket(name, store, scheme)


@pytest.fixture
def convkit(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; its exit code and all that it said."""

    def run(*words: object) -> tuple[int, str]:
        code = main([str(word) for word in words])
        said = "".join(capsys.readouterr())
        assert servers.SECRET not in said
        return code, said

    return run


def receipt(target: Path) -> dict[str, Any]:
    """The receipt beside an output."""
    found: dict[str, Any] = json.loads(target.with_name(f"{target.name}.convkit.json").read_text())
    return found
