"""What a plan says of values that the other side can say only nearly.

A mapping declares them where it converts the config. The conversion that undoes it puts the value back that its receipt
records, and then it is the target that says more than its source. In a chain a later mapping speaks of a config
that no file holds: where one field of the first config says the same, it is named instead.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from convkit.config.tree import MISSING, dig, plant, same
from convkit.errors import ConfigError
from convkit.mapping import Mapping
from convkit.plan.plan_json import PlannedDeviation

if TYPE_CHECKING:
    from convkit.config import Converted
    from convkit.plan.document import Plan


def declared(converted: Converted) -> tuple[PlannedDeviation, ...]:
    """The deviations that the rows of a table declared, as plans record them."""
    found = converted.deviations
    return tuple(PlannedDeviation(one.side, one.field, one.value, one.taken_as, one.reason) for one in found)


def put_values_back(config: dict[str, Any], earlier: Iterable[PlannedDeviation]) -> tuple[PlannedDeviation, ...]:
    """Give fields of ``config``, which is changed, the values from which an ``earlier`` conversion deviated.

    A field that has another value by now than that conversion left keeps it.
    """
    found = []
    for one in earlier:
        if one.side == "source" and same(dig(config, one.field), one.taken_as):
            plant(config, one.field, copy.deepcopy(one.value))
            reason = f"as it was before the conversion that this one undoes; {one.reason}"
            found.append(PlannedDeviation("target", one.field, one.value, one.taken_as, reason))
    return tuple(found)


def of_chain(plans: Sequence[Plan]) -> tuple[PlannedDeviation, ...]:
    """The deviations of a chain's mappings, in fields of its ends where these say the same."""
    found: list[PlannedDeviation] = []
    for place, plan in enumerate(plans):
        last = place == len(plans) - 1
        for one in plan.deviations:
            if one.side == "source" and place > 0:
                found.append(_in_source(plans[:place], plan.source_config, one) or _between(one))
            else:
                found.append(_between(one) if one.side == "target" and not last else one)
    return tuple(found)


def _between(deviation: PlannedDeviation) -> PlannedDeviation:
    return msgspec.structs.replace(deviation, side="between")


def _in_source(before: Sequence[Plan], config: dict[str, Any], deviation: PlannedDeviation) -> PlannedDeviation | None:
    """The deviation of a config that the plans ``before`` made, in the one field of the first config that says it."""
    was, would_be = config, copy.deepcopy(config)
    plant(would_be, deviation.field, deviation.taken_as)
    for plan in reversed(before):
        assert isinstance(plan.mapping, Mapping)
        table = plan.mapping.config.inverse()
        try:
            was, would_be = (table.convert(one, plan.names, plan.release).config for one in (was, would_be))
        except ConfigError:
            return None
    changed = [path for path in {*_fields(was), *_fields(would_be)} if not same(dig(was, path), dig(would_be, path))]
    if len(changed) != 1:
        return None
    (path,) = changed
    value, taken_as = dig(was, path), dig(would_be, path)
    if MISSING in (value, taken_as) or dig(before[0].source_config, path) not in (MISSING, value):
        return None
    return PlannedDeviation("source", path, value, taken_as, deviation.reason)


def _fields(config: Any, at: str = "") -> Iterator[str]:
    """The dotted paths of all values that aren't sections."""
    for name, value in config.items():
        if isinstance(value, dict) and value:
            yield from _fields(value, f"{at}{name}.")
        else:
            yield f"{at}{name}"
