"""Make one range of a leaf: gather it slab by slab, digest each slab, and write it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from convkit.checkpoint import Writer
from convkit.checkpoint.digests import BlockDigests
from convkit.execute.gather import Gather
from convkit.execute.origins import Passing
from convkit.execute.runs import Range, cut, slabs
from convkit.files.scratch import Scratch
from convkit.mapping.ops import Overflow

if TYPE_CHECKING:
    from convkit.execute.job import Job


class Made(Struct, frozen=True):
    """A range that was made: the digests of its blocks, what a cast lost, and whether stored files were copied."""

    blocks: list[bytes]
    overflow: Overflow
    copied: bool


def ranges_of(job: Job, writer: Writer) -> list[Range]:
    """The ranges of a leaf; one whose stored files may be copied is one range."""
    if job.files() is not None:
        return [Range(job, 0, job.spec.size)]
    return list(cut(job, writer.stretch(job.key)))


def make_range(
    part: Range,
    writer: Writer,
    algorithm: str,
    advance: Callable[[int], object],
    *,
    whole: Callable[[str], Passing] | None = None,
    scratch: Scratch | None = None,
) -> Made:
    """Make a range; its leaf's files or packed chunks are copied instead, where the writer takes them.

    Args:
        part: the range.
        writer: of the output.
        algorithm: of the digests.
        advance: called with the bytes of each slab.
        whole: what is fed with a source leaf that is read or decoded whole, by its key.
        scratch: files for what is transposed.

    Raises:
        ConvkitError: the source can't be read, or the output can't be written.
    """
    job = part.job
    packed = job.packed()
    if packed is not None and writer.copy_chunks(job.key, part.start, part.stop, packed):
        return _carried(part, algorithm, advance)
    digests = BlockDigests(algorithm)
    files = job.files()
    copied = files is not None and writer.copy_leaf(job.key, files)
    grain = 1 if copied else writer.granularity(job.key)
    with closing(Gather(job, whole, until=part.stop, scratch=scratch)) as gather:
        for start, stop in slabs(part, grain, gather.tall):
            data = gather(start, stop)
            if data.size:
                digests.update(data)
                if not copied:
                    writer.write(job.key, start, data)
            advance((stop - start) * job.spec.itemsize)
        return Made(digests.blocks(), gather.overflow, copied)


def _carried(part: Range, algorithm: str, advance: Callable[[int], object]) -> Made:
    """A range that was written from its packed chunks, which are decoded for the digests alone."""
    (piece,) = part.job.pieces
    digests = BlockDigests(algorithm)
    for _, data in part.job.reader.blocks(piece.source, start=part.start, stop=part.stop):
        digests.update(data)
        advance(data.nbytes)
    return Made(digests.blocks(), Overflow(), copied=False)


def anonymous_bytes() -> int:
    """The current anonymous memory of this process (Linux; 0 elsewhere): pages that are there and of no file."""
    try:
        there, of_files = Path("/proc/self/statm").read_bytes().split()[1:3]
    except OSError:
        return 0
    return (int(there) - int(of_files)) * os.sysconf("SC_PAGE_SIZE")
