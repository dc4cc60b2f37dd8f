"""Conversions of a T5X AdamW checkpoint in chunks, beside tensorstore's own rewrite (:mod:`benchmarks.rewrite`).

57 % of the bytes are stacked, 43 % are only renamed: their chunks are copied as files. Both decompress everything; the
conversion needs it for the digests.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks import t5x_checkpoint
from benchmarks.case import CONVKIT, Case, Figure, Side, command
from benchmarks.cases import COMPRESSORS


def sides(work: Path, case: str) -> Iterator[Mapping[str, Side]]:
    """The reference, the conversion, and its round trip."""
    source, out, new = work / case, work / "out", work / "new"
    t5x_checkpoint.make(source, COMPRESSORS[case])
    yield {
        "rewrite": command(sys.executable, "-m", "benchmarks.rewrite", source, new, clears=new),
        "convert": command(sys.executable, "-m", "benchmarks.cases", case, source, out, clears=(new, out)),
        "roundtrip": command(*CONVKIT, "roundtrip", source, out),
    }


def _case(name: str, compressor: str, limit: float) -> Case:
    return Case(
        name,
        f"834 MB of T5X with Adam's moments, to TE with fused qkv; chunks by {compressor}",
        partial(sides, case=name),
        (
            Figure("convert"),
            Figure("convert", "rewrite", limit=limit),
            Figure("convert", "rewrite", what="cpu"),
            Figure(("convert", "roundtrip"), "rewrite", limit=1.5),
            Figure("roundtrip", "rewrite"),
            Figure("convert", what="anonymous", limit=256),
            Figure("roundtrip", what="anonymous", limit=256),
        ),
        disk=4,
        packages=("tensorstore",),
        peers={"rewrite": "convert"},
    )


CASES = (
    _case("t5x-gzip", "gzip 1, as in T5X", 0.8),
    _case("t5x-zstd", "zstd 1, as in Orbax and Pax", 1.0),
)
