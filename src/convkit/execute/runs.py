"""Cut work into runs for threads and slabs for caches."""

from __future__ import annotations

import math
from collections.abc import Iterator

from msgspec import Struct

from convkit.checkpoint import Tensors
from convkit.checkpoint.digests import BLOCK
from convkit.execute.job import Job
from convkit.execute.slabs import SLAB
from convkit.execute.tiles import TILE
from convkit.plan.peak import WINDOW

#: bytes of a slab that holds TILE rows of a transposed tensor, at most
MAX_SLAB = 16 << 20


#: bytes of one leaf that one thread works through
RUN = 64 << 20


class Range(Struct, frozen=True):
    """Target elements ``[start, stop)`` of one leaf, made by one thread in order."""

    job: Job
    start: int
    stop: int


def cut(job: Job, stretch: int) -> Iterator[Range]:
    """Cut a leaf into ranges that start on a digest block and a stretch of the output (:meth:`Writer.stretch`), and
    share no large source chunk.
    """
    size, width = job.spec.size, job.spec.itemsize
    unit = math.lcm(BLOCK // width, max(1, stretch))
    run = WINDOW if job.reads_across() else RUN
    length = max(1, run // (unit * width), math.ceil(job.decoded_together() / unit)) * unit
    for start in range(0, size, length):
        yield Range(job, start, min(size, start + length))
    if size == 0:
        yield Range(job, 0, 0)


def cut_to_digest(tensors: Tensors, key: str) -> Iterator[tuple[int, int]]:
    """Cut a stored leaf into ranges that start on a digest block and on what is decoded together."""
    spec = tensors.spec(key)
    unit = math.lcm(BLOCK // spec.itemsize, max(1, tensors.granularity(key)))
    length = max(1, RUN // (unit * spec.itemsize)) * unit
    for start in range(0, spec.size, length):
        yield start, min(spec.size, start + length)
    if spec.size == 0:
        yield 0, 0


def slabs(run: Range, granularity: int, tall: bool) -> Iterator[tuple[int, int]]:
    """Cut a range into slabs: ``tall`` ones where a leaf is transposed slab by slab, so that tiles are whole."""
    spec = run.job.spec
    width = spec.itemsize
    wanted = SLAB
    if tall and len(spec.shape) > 1:
        row = math.prod(spec.shape[1:]) * width
        wanted = min(MAX_SLAB, max(SLAB, TILE * row))
    unit = max(1, granularity)
    length = max(1, wanted // (unit * width)) * unit
    for start in range(run.start, run.stop, length):
        yield start, min(run.stop, start + length)
