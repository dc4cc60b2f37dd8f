"""Conversions of a bfloat16 llama in safetensors, beside plain copies of the same bytes.

Each conversion digests every leaf of both sides, writes new files, syncs them and publishes them by a rename.

- ``copy``: read and write into new files, then fsync;
- ``overwrite``: the same into existing files, whose pages and blocks are allocated.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks import checkpoint
from benchmarks.case import CONVKIT, Case, Figure, Side, command

COPY = """
import os, sys
os.makedirs(sys.argv[2], exist_ok=True)
for name in sorted(os.listdir(sys.argv[1])):
    read = os.open(os.path.join(sys.argv[1], name), os.O_RDONLY)
    write = os.open(os.path.join(sys.argv[2], name), os.O_WRONLY | os.O_CREAT)
    while chunk := os.read(read, 2 << 20):
        os.write(write, chunk)
    os.fsync(write)
"""


def sides(work: Path, case: str) -> Iterator[Mapping[str, Side]]:
    """The references, the conversion, and its round trip."""
    source, out = work / "source", work / ("out.mdl" if case == "mdl" else "out")
    checkpoint.make(source)
    over, new = work / "over", work / "new"
    copy = (sys.executable, "-c", COPY, source)
    command(*copy, over)()
    yield {
        "overwrite": command(*copy, over),
        "copy": command(*copy, new, clears=new),
        "convert": command(sys.executable, "-m", "benchmarks.cases", case, source, out, clears=(new, out)),
        "roundtrip": command(*CONVKIT, "roundtrip", source, out),
    }
    shutil.rmtree(over)


def _case(name: str, about: str, limit: float, with_proof: float | None = None) -> Case:
    return Case(
        name,
        about,
        partial(sides, case=name),
        (
            Figure("convert"),
            Figure("convert", "copy", limit=limit),
            Figure("convert", "overwrite"),
            Figure("convert", "copy", what="cpu"),
            Figure(("convert", "roundtrip"), "copy", limit=with_proof),
            Figure("convert", what="anonymous", limit=64),
            Figure("roundtrip", what="anonymous"),
        ),
        disk=10,
    )


CASES = (
    _case("rename", "2.27 GB, every leaf gets another name; safetensors", 1.2, with_proof=1.9),
    _case("cerebras", "2.27 GB, Hugging Face to Cerebras: names, rotary order of q and k; safetensors", 1.2),
    _case("transpose", "2.27 GB, every kernel transposed; safetensors", 1.6, with_proof=2.4),
    _case("mdl", "2.27 GB, as cerebras, to .mdl", 1.4),
)
