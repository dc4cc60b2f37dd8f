"""Make the plan of a chain by combining the plans of its mappings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convkit.mapping import Chain
from convkit.plan.deviations import of_chain
from convkit.plan.document import Plan
from convkit.plan.step import Bound


def chain_plan(chain: Chain, plans: Sequence[Plan]) -> Plan:
    """Combine plans into one, from the first mapping's source to the last one's target."""
    first, last = plans[0], plans[-1]
    names: dict[str, Any] = {}
    variant: dict[str, str] = {}
    for plan in plans:
        names |= plan.names
        variant |= plan.variant
    return Plan(
        mapping=chain,
        source_format=first.source_format,
        target_format=last.target_format,
        variant=variant,
        source_config=first.source_config,
        target_config=last.target_config,
        names=names,
        defaults=tuple(entry for plan in plans for entry in plan.defaults),
        lost_config=first.lost_config,
        release=next((plan.release for plan in reversed(plans) if plan.release), ()),
        bound=Bound(),
        dropped=first.dropped,
        missing=first.missing,
        to_compute=[],
        restored={},
        source_leaves=first.source_leaves,
        target_leaves=last.target_leaves,
        warnings=list(dict.fromkeys(warning for plan in plans for warning in plan.warnings)),
        dtype=last.dtype,
        deviations=of_chain(plans),
        unknown=first.unknown,
        unclaimed=first.unclaimed,
        through=tuple(plans),
    )
