"""Conversions of a llama in safetensors, beside plain copies of the same bytes.

Each conversion digests every leaf of both sides, writes new files, syncs them and publishes them by a rename.

- ``reserved``: one thread reserves the room of new files, reads and writes, then fsyncs: the least that has to be done;
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

#: cases of float32, of half as many layers
HALVED = ("transpose-32",)
#: bytes of a call that writes
PIECES = {"128 KiB": str(128 << 10), "1 MiB": str(1 << 20)}
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


RESERVED = """
import os, sys
os.makedirs(sys.argv[2], exist_ok=True)
buffer = memoryview(bytearray(int(sys.argv[3])))
for name in sorted(os.listdir(sys.argv[1])):
    read = os.open(os.path.join(sys.argv[1], name), os.O_RDONLY)
    write = os.open(os.path.join(sys.argv[2], name), os.O_WRONLY | os.O_CREAT)
    os.posix_fallocate(write, 0, os.fstat(read).st_size)
    at = 0
    while count := os.preadv(read, [buffer], at):
        os.pwrite(write, buffer[:count], at)
        at += count
    os.fsync(write)
"""


def sides(work: Path, case: str) -> Iterator[Mapping[str, Side]]:
    """The references, the conversion, and its round trip."""
    source, out = work / "source", work / ("out.mdl" if case == "mdl" else "out")
    if case in HALVED:
        source = work / "source-32"
        checkpoint.make(source, checkpoint.Size(layers=2), dtype="float32")
    else:
        checkpoint.make(source)
    over, new = work / "over", work / "new"
    copy = (sys.executable, "-c", COPY, source)
    command(*copy, over)()
    yield {
        "overwrite": command(*copy, over),
        "copy": command(*copy, new, clears=new),
        "reserved": command(sys.executable, "-c", RESERVED, source, new, PIECES["1 MiB"], clears=new),
        "convert": command(sys.executable, "-m", "benchmarks.cases", case, source, out, clears=(new, out)),
        "roundtrip": command(*CONVKIT, "roundtrip", source, out),
    }
    shutil.rmtree(over)
    if case in HALVED:
        shutil.rmtree(source)


def pieces(work: Path) -> Iterator[Mapping[str, Side]]:
    """The reference, by small calls and by large ones: the page cache takes what a call writes into folios as large."""
    source, new = work / "source", work / "new"
    checkpoint.make(source)
    copy = (sys.executable, "-c", RESERVED, source, new)
    yield {name: command(*copy, size, clears=new) for name, size in PIECES.items()}


def _case(name: str, about: str, limit: float, with_proof: float | None = None) -> Case:
    return Case(
        name,
        about,
        partial(sides, case=name),
        (
            Figure("convert"),
            Figure("convert", "reserved", limit=limit),
            Figure("convert", "copy", limit=1.0),
            Figure("convert", "overwrite"),
            Figure("convert", "reserved", what="cpu"),
            Figure(("convert", "roundtrip"), "reserved", limit=with_proof),
            Figure(("convert", "roundtrip"), "reserved", what="cpu"),
            Figure("convert", what="anonymous", limit=64),
            Figure("roundtrip", what="anonymous"),
        ),
        disk=10,
    )


CASES = (
    _case("rename", "2.27 GB, every leaf gets another name; safetensors", 1.2, with_proof=1.9),
    _case("cerebras", "2.27 GB, Hugging Face to Cerebras: names, rotary order of q and k; safetensors", 1.2),
    _case("transpose", "2.27 GB, every kernel transposed; safetensors", 1.6, with_proof=2.4),
    _case("transpose-32", "2.79 GB of float32, every kernel transposed; safetensors", 1.3),
    _case("mdl", "2.27 GB, as cerebras, to .mdl", 1.4),
    Case(
        "pieces",
        "2.27 GB, copied into reserved files by calls of 128 KiB, and by calls of 1 MiB",
        pieces,
        (Figure("128 KiB", "1 MiB"), Figure("128 KiB", "1 MiB", what="cpu")),
        disk=5,
    ),
)
