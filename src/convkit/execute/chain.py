"""Mappings one after another, without a checkpoint on disk in between.

Every mapping but the last makes its target only in the executor's hands, slab by slab, as the next one
asks for it. What a mapping can't carry is kept in the complement of the output, under a name of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from convkit.checkpoint import Checkpoint
from convkit.checkpoint.read import Tensors
from convkit.checkpoint.views import Renamed
from convkit.execute.complement import Complement, find_complement
from convkit.execute.job import Job
from convkit.execute.jobs import target_jobs
from convkit.execute.seen import Gathered
from convkit.files.complement import kept_as, kept_at
from convkit.mapping import Chain
from convkit.plan import Options, Plan, Source, make_plan


@dataclass(frozen=True)
class Link:
    """One mapping of a plan, with what it reads: its source, and what an earlier conversion kept."""

    plan: Plan
    source: Checkpoint
    earlier: Tensors | None


def links_of(plan: Plan, source: Checkpoint, earlier: Tensors | None) -> list[Link]:
    """The mappings of a plan, each reading what the one before makes."""
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


def complement_of(links: Sequence[Link]) -> Complement:
    """What the mappings can't carry, under the names that it has in the complement.

    Raises:
        ConvkitError: tied copies differ, or a derived leaf isn't what it must be.
    """
    found = [find_complement(link.source, link.plan) for link in links]
    jobs = list(found[0].jobs)
    for place, later in enumerate(found[1:], start=1):
        jobs += [replace(job, key=kept_as(place, job.key), digest_of=None) for job in later.jobs]
    names = (kept_as(place, key) for place, part in enumerate(found) for key in part.unforeseen)
    return Complement(jobs, tuple(names))


class Converted(Gathered, Checkpoint):
    """What a mapping makes, as a checkpoint: no copy of it lies on disk."""

    def __init__(self, link: Link) -> None:
        super().__init__(target_jobs(link.plan, link.source, link.earlier))
        self.path = link.source.path
        self.format = link.plan.target_format
        self.metadata = {}
        self.leaves = dict(link.plan.target_leaves)
        self._source = link.source

    def files(self) -> list[Path]:
        """Those of the source."""
        return self._source.files()


def plan_chain(source: Source, chain: Chain, options: Options | None = None) -> tuple[Source, Plan]:
    """Deprecated: ``make_plan`` takes a chain, and ``convert`` its plan, with the source itself."""
    warnings.warn("plan_chain is deprecated: make_plan takes a chain", DeprecationWarning, stacklevel=2)
    return source, make_plan(source, chain, options=options)
