"""A server of S3 for these tests: moto's stand-in, or with ``CONVKIT_S3=ceph`` Ceph's gateway, as ``make test-stores``
has it where that is installed.
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
import pytest
import servers
from faulty import Proxy, between

from convkit.cli import main
from convkit.files.stores import failures


def pytest_report_header() -> str:
    real = os.environ.get("CONVKIT_S3") == "ceph"
    if real and not servers.is_real():
        return "S3: moto's server, a stand-in: Ceph's gateway isn't installed (Debian: radosgw ceph-mon ceph-osd)"
    return "S3: Ceph's gateway" if real else "S3: moto's server, a stand-in"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    real = os.environ.get("CONVKIT_S3") == "ceph" and servers.is_real()
    with ExitStack() as stack:
        if real:
            yield servers.started(stack, lambda: tmp_path_factory.mktemp("ceph"))
        else:
            yield stack.enter_context(servers.moto())


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

    def put(self, folder: Path, name: str = "model") -> str:
        """Upload a file or a folder; returns its URI."""
        if folder.is_file():
            self.store.pipe_file(f"{self.name}/{name}", folder.read_bytes())
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.store.pipe_file(f"{self.name}/{name}/{file.relative_to(folder)}", file.read_bytes())
        return f"s3://{self.name}/{name}"


@pytest.fixture
def bucket(server: servers.Server, s3: Proxy) -> Bucket:
    store = fsspec.filesystem(
        "s3", key=servers.KEY, secret=servers.SECRET, endpoint_url=server.url, skip_instance_cache=True
    )
    name = f"bucket-{uuid4().hex}"
    store.mkdir(name)
    return Bucket(name, store)


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
