"""What a plan says of values that the other side can say only nearly.

A mapping declares them where it converts the config. The conversion that undoes it puts the value back that its receipt
records, and then it is the target that says more than its source. In a chain a later mapping speaks of a config
that no file holds: where one field of the first config says the same, it is named instead.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from convkit.config.tree import MISSING, dig, paths_of, plant, same
from convkit.errors import ConfigError
from convkit.mapping import Mapping
from convkit.plan.plan_json import PlannedDeviation

if TYPE_CHECKING:
    from convkit.config import ConfigTable, Converted
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
    """The deviations of a chain's mappings, in fields of the configs at its ends where these say the same."""
    found: list[PlannedDeviation] = []
    for place, plan in enumerate(plans):
        for one in plan.deviations:
            if one.side == "source":
                end, way = (
                    plans[0].source_config,
                    [(_table(before).inverse(), before) for before in plans[:place][::-1]],
                )
                config = plan.source_config
            else:
                end, way = plans[-1].target_config, [(_table(after), after) for after in plans[place + 1 :]]
                config = plan.target_config
            found.append(_carried(one, config, end, way))
    return tuple(found)


def _table(plan: Plan) -> ConfigTable:
    assert isinstance(plan.mapping, Mapping)
    return plan.mapping.config


def _carried(
    deviation: PlannedDeviation, config: dict[str, Any], end: dict[str, Any], way: Sequence[tuple[ConfigTable, Plan]]
) -> PlannedDeviation:
    """The deviation in the one field of the config at the ``end`` that says the same, after tables on the ``way``
    from the ``config`` that has its own field; if there is no such field, it stays between the ends.
    """
    if not way:
        return deviation
    between = msgspec.structs.replace(deviation, side="between")
    was, would_be = config, copy.deepcopy(config)
    plant(would_be, deviation.field, deviation.taken_as)
    try:
        for table, plan in way:
            was, would_be = (table.convert(one, plan.names, plan.release).config for one in (was, would_be))
    except ConfigError:
        return between
    changed = [path for path in {*paths_of(was), *paths_of(would_be)} if not same(dig(was, path), dig(would_be, path))]
    if len(changed) != 1:
        return between
    (path,) = changed
    value, taken_as = dig(was, path), dig(would_be, path)
    if MISSING in (value, taken_as) or dig(end, path) not in (MISSING, value):
        return between
    return msgspec.structs.replace(deviation, field=path, value=value, taken_as=taken_as)
