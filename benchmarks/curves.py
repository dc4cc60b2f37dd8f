"""What conversions take as checkpoints grow, in bytes, in leaves, and with threads.

``size`` and ``threads`` are of the llama of :mod:`benchmarks.checkpoint`, to ``.mdl``; ``leaves`` is of a mixture of
experts whose tensors have few elements, so that nearly all it takes is by leaf (:mod:`benchmarks.huge`).
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks import checkpoint, huge
from benchmarks.case import CONVKIT, Case, Figure, Side, command
from benchmarks.checkpoint import Size
from benchmarks.copies import COPY

#: of each number of GB
SIZES = {
    0.01: Size(layers=3, hidden=256, intermediate=896, vocab=4000, heads=4, kv_heads=2),
    0.1: Size(layers=2, hidden=1024, intermediate=3584, vocab=10_000, heads=8, kv_heads=2),
    1.0: Size(layers=1),
    8.0: Size(layers=17),
    20.0: Size(layers=45),
}
#: layers and experts of each number of leaves
LEAVES = {19: (1, 3), 127: (4, 8), 979: (16, 18), 10_003: (40, 81), 100_203: (120, 276), 497_643: (120, 1380)}
#: with more leaves, `huge-chain` converts and checks (:mod:`benchmarks.huge`)
MOST_CHECKED = 200_000


def of_size(work: Path, gb: float) -> Iterator[Mapping[str, Side]]:
    """A copy, the conversion, and its round trip."""
    source, new, out = work / "model", work / "new", work / "out.mdl"
    checkpoint.make(source, SIZES[gb])
    yield {
        "copy": command(sys.executable, "-c", COPY, source, new, clears=(new, out)),
        "convert": command(*CONVKIT, "convert", source, out, "--to", "cerebras/llama", clears=(new, out)),
        "roundtrip": command(*CONVKIT, "roundtrip", source, out),
    }
    shutil.rmtree(source)


def with_threads(work: Path, threads: int) -> Iterator[Mapping[str, Side]]:
    """The conversion."""
    source, out = work / "source", work / "out.mdl"
    checkpoint.make(source)
    words = ("--to", "cerebras/llama", "--threads", str(threads))
    yield {"convert": command(*CONVKIT, "convert", source, out, *words, clears=out)}


def of_leaves(work: Path, leaves: int) -> Iterator[Mapping[str, Side]]:
    """What looks at all leaves, and what makes them."""
    layers, experts = LEAVES[leaves]
    source, out = work / f"{leaves}", work / "out.mdl"
    huge.write(source, huge.FEW | {"num_hidden_layers": layers, "num_local_experts": experts}, huge.FEW_SHARD)
    to = ("--to", "cerebras/mixtral")
    sides = {
        "inspect": command(*CONVKIT, "inspect", source, "--json"),
        "plan": command(*CONVKIT, "plan", source, *to, "--json"),
    }
    if leaves <= MOST_CHECKED:
        sides["convert"] = command(*CONVKIT, "convert", source, out, *to, clears=out)
        sides["roundtrip"] = command(*CONVKIT, "roundtrip", source, out)
    yield sides


def _figures(*sides: str) -> tuple[Figure, ...]:
    return tuple(Figure(side, what=what) for side in sides for what in ("wall", "cpu", "anonymous"))


CASES = (
    *(
        Case(
            f"size/{gb:g}",
            f"{gb:g} GB of llama, to .mdl",
            partial(of_size, gb=gb),
            (*_figures("convert", "roundtrip"), Figure("convert", "copy"), Figure(("convert", "roundtrip"), "copy")),
            disk=2.1 * gb + 0.1,
            at=gb,
            unit="GB",
            long=gb > 10,
        )
        for gb in SIZES
    ),
    *(
        Case(
            f"threads/{threads}",
            f"2.27 GB of llama, to .mdl, with --threads {threads}",
            partial(with_threads, threads=threads),
            _figures("convert"),
            disk=5,
            at=threads,
            unit="threads",
        )
        for threads in (1, 2, 3, 4)
    ),
    *(
        Case(
            f"leaves/{leaves}",
            f"{leaves:,} leaves of few elements, to .mdl",
            partial(of_leaves, leaves=leaves),
            _figures("inspect", "plan", *(("convert", "roundtrip") if leaves <= MOST_CHECKED else ())),
            disk=1,
            pairs=5 if leaves <= MOST_CHECKED else 3,
            warm=leaves <= MOST_CHECKED,
            at=leaves,
            unit="leaves",
        )
        for leaves in LEAVES
    ),
)
