"""Mappings one after another, without a checkpoint on disk in between.

Every mapping but the last makes its target only in the executor's hands, slab by slab, as the next one
asks for it. What a mapping on the way can't carry would be lost there, so it is refused.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from convkit.checkpoint import Checkpoint
from convkit.errors import PlanError
from convkit.execute.complement import find_complement
from convkit.execute.jobs import target_jobs
from convkit.execute.seen import Gathered
from convkit.mapping import Chain
from convkit.plan import Options, Plan, Source, make_plan


def plan_chain(source: Source, chain: Chain, options: Options | None = None) -> tuple[Source, Plan]:
    """The last plan of a chain, and the source as the mappings before it make it: what ``convert`` takes.

    ``options`` are those of the last mapping, but for ``drop``, which names leaves of the source.

    Raises:
        PlanError: a plan isn't total, or leaves something behind on the way.
        ConvkitError: tied copies differ.
    """
    options = options or Options()
    first, *others = chain.links
    if not others:
        return source, make_plan(source, first, options=options)
    passing = Options(release=options.release, drop=options.drop, restore=False, given=options.given)
    plan = make_plan(source, first, options=passing)
    kept = find_complement(source.checkpoint, plan)
    lost = [*plan.bound.left_behind, *(job.key for job in kept.jobs if job.key not in kept.rounded)]
    if lost:
        raise PlanError(
            f"has no place in {first.right.name}, through which the way leads",
            path=source.path,
            key=lost[0],
            remedy="convert in two steps, which keeps it as complement, or --drop it",
        )
    middle = replace(source, checkpoint=Converted(source.checkpoint, plan), config=plan.target_config)
    end, last = plan_chain(middle, Chain(tuple(others)), replace(options, drop=(), restore=False))
    return end, replace(last, through=(plan, *last.through))


class Converted(Gathered, Checkpoint):
    """A plan's target as a checkpoint: mappings are chained (:mod:`convkit.execute.chain`) without a copy on disk."""

    def __init__(self, source: Checkpoint, plan: Plan) -> None:
        super().__init__(target_jobs(plan, source, None))
        self.path = source.path
        self.format = plan.target_format
        self.metadata = {}
        self.leaves = dict(plan.target_leaves)
        self._source = source

    def files(self) -> list[Path]:
        """Those of the source."""
        return self._source.files()
