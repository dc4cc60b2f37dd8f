"""A checkpoint in S3: read where it lies, and written there, beside copies by the same client, s3fs.

``CONVKIT_BENCH_STORE=s3://BUCKET/PREFIX`` names where; the server and its credentials come from the environment
(``AWS_ENDPOINT_URL``). The checkpoint is 1 or 10 GB of llama. ``convkit inspect --digest`` reads every byte by ranges
and digests every leaf, ``convkit convert`` writes a Cerebras layout in safetensors.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks import checkpoint
from benchmarks.case import CONVKIT, Case, Figure, Side, command
from benchmarks.checkpoint import Size

STORE = "CONVKIT_BENCH_STORE"
GET = "import sys, s3fs; s3fs.S3FileSystem().get(sys.argv[1], sys.argv[2], recursive=True)"
PUT = "import sys, s3fs; s3fs.S3FileSystem().put(sys.argv[1], sys.argv[2], recursive=True)"


def sides(work: Path, layers: int) -> Iterator[Mapping[str, Side]]:
    """Two ways to read, and two to write."""
    uri, python = os.environ[STORE].rstrip("/"), (sys.executable, "-c")
    source, copy = work / "source", work / "copy"
    checkpoint.make(source, Size(layers=layers))
    command(*python, PUT, f"{source}/", f"{uri}/source")()
    to = ("--to", "cerebras/llama", "--format", "safetensors", "--overwrite")
    yield {
        "get": command(*python, GET, f"{uri}/source", copy, clears=copy),
        "read": command(*CONVKIT, "inspect", f"{uri}/source", "--digest"),
        "put": command(*python, PUT, f"{source}/", f"{uri}/copied"),
        "write": command(*CONVKIT, "convert", source, f"{uri}/converted", *to),
    }


def _missing() -> str:
    return "" if os.environ.get(STORE) else f"needs an object store ({STORE} names a place in it, s3://BUCKET/PREFIX)"


def _case(name: str, gigabytes: int, layers: int, *, long: bool) -> Case:
    return Case(
        name,
        f"{gigabytes} GB of llama in S3, read and digested where it lies, and converted to there",
        partial(sides, layers=layers),
        (
            *(Figure(side, what=what) for side in ("get", "read", "put", "write") for what in ("wall", "anonymous")),
            *(Figure(a, b, what=what) for a, b in (("read", "get"), ("write", "put")) for what in ("wall", "cpu")),
        ),
        pairs=1 if long else 5,
        warm=not long,
        disk=3 * gigabytes,
        packages=("s3fs",),
        missing=_missing,
        peers={"get": "read", "put": "write"},
        long=long,
    )


CASES = (_case("stores", 1, layers=1, long=False), _case("stores-10gb", 10, layers=22, long=True))
