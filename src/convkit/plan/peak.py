"""Predict the anonymous memory of a conversion with two threads, in bytes."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from convkit.plan.pieces import pieces
from convkit.plan.step import Step

#: bytes of a target whose sources one thread holds at a time, where they are transposed and lie open in a file
WINDOW = 128 << 20

_THREADS = 2
#: the interpreter, libraries, and the slabs and writes of two threads: where tensors lie open in files, and where they
#: are decoded
OPEN, DECODING = 96 << 20, 256 << 20
#: elements that a window reads beyond what it needs: of rows that it cuts, and between rows
_BEYOND = 1.25


def of_open_sources(steps: Iterable[Step]) -> int:
    """Where a format's tensors lie open in files: a window of what is transposed; whole sources of what is folded."""
    return OPEN + _THREADS * max(map(held_of_open, steps), default=0)


def held_of_open(step: Step) -> int:
    """What a thread holds of a step whose sources lie open: a window, or all that is folded."""
    few = _of_each_kind(step)
    turned = {piece.target for piece in pieces(few) if piece.crosswise}
    windows = (int(_BEYOND * min(WINDOW, side.spec.nbytes)) for side in few.targets if side.key in turned)
    whole = _held_whole(step) if turned and step.folded and step.folded.side == "source" else 0
    return max(whole, *windows, 0)


def of_decoded_sources(steps: Iterable[Step]) -> int:
    """Where tensors must be decoded: the sources of one step for each thread."""
    return DECODING + _THREADS * max(map(_held_whole, steps), default=0)


def _held_whole(step: Step) -> int:
    return sum(side.spec.nbytes for side in step.sources)


def _of_each_kind(step: Step) -> Step:
    """The same with one leaf of each kind: leaves that differ only in their place, such as experts, are many."""
    sources, targets = (
        tuple({(side.axes, side.spec, tuple(dict(side.at))): side for side in sides}.values())
        for sides in (step.sources, step.targets)
    )
    return replace(step, sources=sources, targets=targets)
