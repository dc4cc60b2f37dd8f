"""Refuse a conversion that would take more memory than it may, before anything is written.

A plan's ``peak_bytes`` is made of shapes alone. Here the opened source says how much of each leaf is decoded together.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from convkit.checkpoint import Tensors
from convkit.errors import UsageError
from convkit.formats import get_format
from convkit.plan.document import Plan
from convkit.plan.peak import DECODING, OPEN, held_of_open
from convkit.plan.pieces import pieces
from convkit.plan.step import Side, Step

#: threads of which the overhead counts (:mod:`convkit.plan.peak`), and what each further one adds
_COUNTED, _FURTHER = 2, 16 << 20
#: bytes decoded together that are among the overhead, and beyond which a chunk that can be decoded in slices is
_SLICED = 64 << 20


def check_memory(plan: Plan, source: Tensors, limit: int, threads: int | None = None) -> None:
    """Check that a conversion takes no more anonymous memory than ``limit`` bytes, as far as it can be predicted.

    Args:
        plan: of the conversion.
        source: the opened source.
        limit: the bytes.
        threads: how many there will be; None for one for each core.

    Raises:
        UsageError: it takes more; names the leaf of which the most is held, and what helps.
    """
    threads = threads or os.cpu_count() or 1
    overhead, held, key = _largest(plan, source)
    least, needed = (overhead + max(0, n - _COUNTED) * _FURTHER + n * held for n in (1, threads))
    if needed <= limit:
        return
    megabytes = -(-needed // 1_000_000)
    each = f": each thread holds {-(-held // 1_000_000)} MB of the step of this leaf" if key else ""
    many = f"{threads} thread{'s' * (threads > 1)}"
    problem = f"--memory: converting takes about {megabytes} MB with {many}, over {limit // 1_000_000} MB{each}"
    if least <= limit and threads > 1:
        remedy = f"use fewer --threads, or allow {megabytes} MB"
    elif key and held > _SLICED:
        remedy = f"allow {-(-least // 1_000_000)} MB with --threads 1, or save the source in smaller chunks"
    else:
        remedy = f"allow {megabytes} MB"
    raise UsageError(problem, path=getattr(source, "path", None), key=key, remedy=remedy)


def _largest(plan: Plan, source: Tensors) -> tuple[int, int, str | None]:
    """The overhead, and of the step that takes the most: what a thread holds of it, and its largest leaf."""
    if plan.through:
        return plan.peak_bytes(), 0, None
    opened = get_format(plan.source_format).mapped
    held: Callable[[Step], int] = held_of_open if opened else lambda step: _decoded(step, source)
    steps = [(held(step), step) for step in plan.bound.steps if not step.value]
    most, step = max(steps, key=lambda entry: entry[0], default=(0, None))
    key = max(step.sources, key=lambda side: side.spec.nbytes).key if step and most else None
    return OPEN if opened else DECODING, most, key


def _decoded(step: Step, source: Tensors) -> int:
    """What a thread holds of a step whose sources must be decoded: those that are transposed or multiplied whole."""
    whole = {piece.source for piece in pieces(step) if piece.crosswise}
    if step.folded:
        whole |= {side.key for side in step.sources}
    return sum(side.spec.nbytes if side.key in whole else _together(side, source) for side in step.sources)


def _together(side: Side, source: Tensors) -> int:
    """What is decoded together of a leaf that is read in order, beyond what the overhead has."""
    if side.key not in source.leaves:
        return side.spec.nbytes
    nbytes = min(side.spec.nbytes, source.granularity(side.key) * side.spec.itemsize)
    if nbytes <= _SLICED or source.continues(side.key):
        return 0
    return 2 * nbytes  # the chunk, and its elements
