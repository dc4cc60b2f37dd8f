"""Share a plan's work among parts: ranges of target leaves to make, and ranges of source leaves to digest.

The cut depends on nothing except the plan, the formats and the number of parts. So every part knows its own share, and
nobody needs to hand it out. A part's share is one stretch of all ranges in order, by bytes: it reads and writes close
together. There is a stretch of the ranges to make, and one of those to digest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from convkit.checkpoint import Checkpoint, Writer
from convkit.execute.job import Held, Job
from convkit.execute.making import ranges_of
from convkit.execute.runs import Range, cut_to_digest
from convkit.files.part import Part, stretch


@dataclass(frozen=True)
class SourceRange:
    """Elements ``[start, stop)`` of a source leaf, to be digested because no leaf of the target is the same."""

    key: str
    start: int
    stop: int


@dataclass(frozen=True)
class Share:
    """What one part does.

    Attributes:
        ranges: those of target leaves.
        sources: those of source leaves.
        whole: keys of the leaves that no other part writes to.
        nbytes: of both together.
    """

    ranges: list[Range]
    sources: list[SourceRange]
    whole: frozenset[str]
    nbytes: int


def share_of(part: Part, jobs: Sequence[Job], writer: Writer, source: Checkpoint) -> Share:
    """The share of a part."""
    # what is shared out: ranges, or all ranges of a leaf together
    units = [[each] for job in jobs for each in ranges_of(job, writer)]
    if not writer.splits:
        units = [ranges_of(job, writer) for job in jobs]
    ranges = [each for unit in units for each in unit]
    sizes = [sum((each.stop - each.start) * each.job.spec.itemsize for each in unit) for unit in units]
    mine = list(stretch(part, sizes))
    own = [each for n in mine for each in units[n]]
    of_all, of_own = Counter(each.job.key for each in ranges), Counter(each.job.key for each in own)
    for each in own:
        each.job.open_runs = of_own[each.job.key]
        each.job.held = Held() if each.job.open_runs > 1 else None

    digested = list(_to_digest(jobs, source))
    lengths = [(each.stop - each.start) * source.spec(each.key).itemsize for each in digested]
    listed = list(stretch(part, lengths))
    return Share(
        own,
        [digested[n] for n in listed],
        frozenset(key for key, count in of_own.items() if count == of_all[key]),
        sum(sizes[n] for n in mine) + sum(lengths[n] for n in listed),
    )


def _to_digest(jobs: Sequence[Job], source: Checkpoint) -> Iterator[SourceRange]:
    moved = {job.digest_of for job in jobs}
    for key, leaf in source.leaves.items():
        if leaf.spec is not None and key not in moved:
            yield from (SourceRange(key, start, stop) for start, stop in cut_to_digest(source, key))
