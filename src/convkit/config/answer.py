"""What a row of a config table returns: fields, names, warnings, and what the target says only nearly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Deviation:
    """A value of the source that the target can say only nearly.

    Attributes:
        field: the path of the field in the source's config.
        value: what the source says there.
        taken_as: the value of the same field that would make the source exactly what the target is. Equivalence runs
            the source with it, and shows the distance to the source as it is apart.
        reason: one sentence for plan, receipt, verdict and page.
    """

    field: str
    value: Any
    taken_as: Any
    reason: str


@dataclass(frozen=True)
class Answer:
    """The answer of a row's function: fields of the other side, declared names, and remarks."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    deviations: tuple[Deviation, ...] = ()
