"""Mappings one after another, without a checkpoint on disk in between.

Every mapping but the last makes its target only in the executor's hands, slab by slab, as the next one
asks for it. What a mapping on the way can't carry would be lost there, so it is refused.
"""

from __future__ import annotations

from dataclasses import replace

from convkit.bind import PlanError
from convkit.jobs import Converted, check_ties, lost_on_the_way
from convkit.mapping import Chain
from convkit.plan import Options, Plan, make_plan
from convkit.source import Source


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
    check_ties(source.checkpoint, plan)
    for key in lost_on_the_way(source.checkpoint, plan):
        raise PlanError(
            f"has no place in {first.right.name}, through which the way leads",
            path=source.path,
            key=key,
            remedy="convert in two steps, which keeps it as complement, or --drop it",
        )
    middle = replace(source, checkpoint=Converted(source.checkpoint, plan), config=plan.target_config)
    end, last = plan_chain(middle, Chain(tuple(others)), replace(options, drop=(), restore=False))
    return end, replace(last, through=(plan, *last.through))
