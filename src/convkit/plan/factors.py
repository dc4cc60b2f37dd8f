"""The mappings that give a target the factors that are asked for, or take from a source those that it was given."""

from __future__ import annotations

from collections import abc
from collections.abc import Sequence
from typing import Any

from convkit.mapping import inverse
from convkit.mappings import rescaled
from convkit.plan.earlier import asked_before
from convkit.plan.releases import Leg
from convkit.plan.source import Source


def with_factors(source: Source, legs: Sequence[Leg], fields: abc.Mapping[str, Any], *, restore: bool) -> list[Leg]:
    """The way by these ``legs``, and these ``fields`` of its target's config behind it.

    A source that goes to another layout loses the factors first that its receipt says it was given, if that counts.

    Raises:
        UsageError: the target's layout has no such factors.
    """
    (start, *_), (*_, end) = legs, legs
    found = list(legs)
    if restore and start.mapping.left.name != end.mapping.right.name and (had := asked_before(source)):
        found.insert(0, Leg(inverse(rescaled(start.mapping.left, had)), start.release))
    return [*found, Leg(rescaled(end.mapping.right, fields), end.release)] if fields else found
