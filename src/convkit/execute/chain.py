"""Run mappings one after another, without a checkpoint on disk in between.

Every mapping except the last makes its target only in memory, slab by slab, as the next one
requests it. Leaves that a mapping can't carry are kept in the complement of the output, under distinct names.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from convkit.checkpoint import Checkpoint
from convkit.checkpoint.read import Tensors
from convkit.checkpoint.views import Renamed
from convkit.execute.complement import Complement, find_complement
from convkit.execute.job import Job, copies
from convkit.execute.jobs import target_jobs
from convkit.execute.seen import Gathered
from convkit.files.complement import kept_as, kept_at
from convkit.mapping import Chain
from convkit.plan import Options, Plan, Source, make_plan
from convkit.plan.earlier import Before


class Link(Struct, frozen=True):
    """One mapping of a plan, with its source and the complement of an earlier conversion."""

    plan: Plan
    source: Checkpoint
    earlier: Tensors | None


def links_of(plan: Plan, source: Checkpoint, earlier: Tensors | None) -> list[Link]:
    """The mappings of a plan, each reading the output of the one before."""
    links: list[Link] = []
    for own in plan.stages:
        read = Converted(links[-1]) if links else source
        kept = earlier and Renamed(earlier, kept_at(own.restored_from, earlier.leaves))
        links.append(Link(own, read, kept))
    return links


def jobs_of(links: Sequence[Link]) -> list[Job]:
    """Every tensor of the last target."""
    last = links[-1]
    jobs = target_jobs(last.plan, last.source, last.earlier)
    return jobs if len(links) == 1 else [replace(job, digest_of=None) for job in jobs]


def complement_of(links: Sequence[Link], before: Sequence[Before] = (), earlier: Tensors | None = None) -> Complement:
    """Find the leaves that the mappings can't carry, under their names in the complement; and those that mappings
    ``before`` them couldn't, from the complement of the ``earlier`` conversion.

    Raises:
        ConvkitError: tied copies differ, or a derived leaf differs from its recipe.
    """
    found = [find_complement(link.source, link.plan) for link in links]
    jobs = list(found[0].jobs)
    for place, later in enumerate(found[1:], start=1):
        jobs += [replace(job, key=kept_as(place, job.key), digest_of=None) for job in later.jobs]
    for number, one in enumerate(before if earlier else ()):
        assert earlier
        lost = Renamed(earlier, kept_at(one.place, earlier.leaves))
        jobs += [replace(job, key=kept_as(-number - 1, job.key), digest_of=None) for job in copies("complement", lost)]
    names = (kept_as(place, key) for place, part in enumerate(found) for key in part.unforeseen)
    return Complement(jobs, tuple(names))


class Converted(Gathered, Checkpoint):
    """The output of a mapping as a checkpoint, which isn't stored on disk."""

    def __init__(self, link: Link) -> None:
        super().__init__(target_jobs(link.plan, link.source, link.earlier))
        self.path = link.source.path
        self.format = link.plan.target_format
        self.metadata = {}
        self.leaves = dict(link.plan.target_leaves)
        self._source = link.source

    def files(self) -> list[Path]:
        """The files of the source."""
        return self._source.files()


def plan_chain(source: Source, chain: Chain, options: Options | None = None) -> tuple[Source, Plan]:
    """Deprecated: ``make_plan`` takes a chain, and ``convert`` its plan, with the source itself."""
    warnings.warn("plan_chain is deprecated: make_plan takes a chain", DeprecationWarning, stacklevel=2)
    return source, make_plan(source, chain, options=options)
