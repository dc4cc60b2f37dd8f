"""What a row of a config table returns: fields, names, warnings, and what the target says only nearly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct, field


class Deviation(Struct, frozen=True):
    """A value of one side that the other can say only nearly.

    Attributes:
        field: the path of the field in that side's config.
        value: what stands there.
        taken_as: the value of the same field with which this side would be exactly what the other is. Equivalence
            runs the side with it, and shows the distance to the side as it is apart.
        reason: one sentence for plan, receipt, verdict and page.
        side: whose config it is. Mostly it is the source that says what the target can't; it is the target where
            whatever is written there says more than the source does.
    """

    field: str
    value: Any
    taken_as: Any
    reason: str
    side: Literal["source", "target"] = "source"


class Answer(Struct, frozen=True):
    """The answer of a row's function.

    Attributes:
        fields: fields of the other side.
        names: declared names.
        warnings: remarks, one sentence each.
        deviations: values that the other side says only nearly.
        defaults: the values that are taken for fields that the config leaves out, which the plan lists.
        claims: what the config says that the checkpoint has: facts of the mapping, or keys of leaves, each with the
            words of the config ("architectures = BertForMaskedLM"). A claim that the leaves don't meet is refused.
        denied: facts that the config says aren't true: a leaf that stays behind without one isn't a sign of it.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    deviations: tuple[Deviation, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    claims: Mapping[str, str] = field(default_factory=dict)
    denied: frozenset[str] = frozenset()
