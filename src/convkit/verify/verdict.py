"""The outcome of one check: what was measured, against which bound, and how sensitive the check is."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field
from msgspec.structs import force_setattr

from convkit.files.document import Document
from convkit.files.packages import Package

#: ``yes``: nothing is wrong, and every planted fault was caught. ``no``: something is wrong. ``reference in doubt``:
#: two references of one side disagree, so neither is fit to judge the other side. ``not shown``: nothing was found
#: wrong, but a planted fault was missed, so a real one may have been missed too; or something couldn't be compared
#: that had to be.
State = Annotated[
    Literal["yes", "no", "reference in doubt", "not shown"],
    Meta(
        description="yes: nothing is wrong, and every planted fault was caught; no: something is wrong; "
        "reference in doubt: two references of one side disagree; "
        "not shown: nothing was found wrong, but a planted fault was missed, or something couldn't be compared."
    ),
]


class Fault(Struct, frozen=True):
    """A fault planted on purpose, and whether the check caught it; a figure that isn't finite is None.

    In a stage, a fault shows in one of several outputs, each with a bound of its own: ``measured`` then has the bound
    of its ``max_rel`` as ``bound``, and that of its ``amplified_max_rel`` as ``amplified_bound``.
    """

    name: str
    caught: bool
    measured: dict[str, Any] = field(default_factory=dict)
    stage: Annotated[
        str | UnsetType,
        Meta(description="The stage of the model that it was planted in; left out where it belongs to none."),
    ] = UNSET

    def __post_init__(self) -> None:
        force_setattr(self, "measured", finite(self.measured))


class Stage(Struct, frozen=True, kw_only=True):
    """A stage of a model: what the target's stage computes, against the source's.

    Errors are the largest difference over the largest value of the source's output, over all of the stage's outputs.
    A figure is None if it isn't finite, whether it was given as None, as NaN or as an infinity, or if nothing was run.
    """

    name: Annotated[str, Meta(description="embedding, layers.0, encoder.layers.0, head")]
    max_rel: Annotated[
        float | None, Meta(description="The error when fed with what entered the source's stage; the bound applies.")
    ]
    bound: Annotated[float | None, Meta(description="The largest error that float32 explains here.")]
    noise: Annotated[
        float | None, Meta(description="The error of the source's stage with its weights one ulp aside.")
    ] = None
    repeat: Annotated[float | None, Meta(description="The error of the source's stage run again, unchanged.")] = None
    free_max_rel: Annotated[
        float | None, Meta(description="The error when fed with what left the target's own stage before.")
    ] = None
    amplified_max_rel: Annotated[
        float | UnsetType | None,
        Meta(description="The error where weights were made stronger to show a fault; left out where they weren't."),
    ] = UNSET
    amplified_bound: Annotated[
        float | UnsetType | None, Meta(description="The bound that applies to amplified_max_rel.")
    ] = UNSET
    unshown: Annotated[str, Meta(description="Why nothing was shown about this stage; empty if something was.")] = ""
    problems: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            force_setattr(self, name, finite(getattr(self, name)))

    @property
    def beyond(self) -> list[tuple[float | None, float | None]]:
        """The errors that aren't shown to be within their bounds, each with its bound."""
        pairs = [(self.max_rel, self.bound)]
        if self.amplified_max_rel is not UNSET:
            pairs.append((self.amplified_max_rel, None if self.amplified_bound is UNSET else self.amplified_bound))
        return [(error, bound) for error, bound in pairs if error is None or bound is None or error > bound]


def finite(value: Any) -> Any:
    """The value, with None for NaN and for infinities, which JSON can't hold, in a dict or a list too."""
    if isinstance(value, dict):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Deviated(Struct, frozen=True, kw_only=True):
    """A deviation that a receipt declares: a value of a config that the other side says only nearly.

    ``measured`` is how far the model with that value is from the model with the value that it is taken as: the
    deviation's own size, which no bound applies to. It is empty where no model was run.
    """

    side: Annotated[
        Literal["source", "target", "between"],
        Meta(description="whose config it is: between is a config on the way of a chain, which no file holds"),
    ]
    field: str
    value: Any
    taken_as: Any
    reason: str
    measured: dict[str, Any] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        force_setattr(self, "measured", finite(self.measured))


class Verdict(Document, frozen=True, kw_only=True):
    """The outcome of one check: what ``--json`` prints and the report reads.

    :class:`convkit.verify.judged.Check` makes it and decides the state. Where a bound applies, ``bound`` has the
    name of its figure in ``measured``. A figure that isn't finite is None. ``faults`` are the planted faults that the
    same check was run against.
    ``stages`` are those of the models that were run, in the order of computation.
    ``packages`` are those whose formats and oracles the check used, beside convkit's own.
    ``deviations`` are those under which the verdict holds: it says nothing about what they change.
    ``problems`` says why the state isn't ``yes``, one reason per line; it is empty if the state is ``yes``.
    ``passed`` and ``sensitivity`` follow from the rest.
    """

    schema: Literal["convkit.verdict/3"] = "convkit.verdict/3"
    check: str
    state: State
    #: whether the state is ``yes``
    passed: Annotated[bool, Meta(description="Whether the state is yes.")] = False
    source: str
    target: str
    receipt: Annotated[
        str | UnsetType, Meta(description="The digest of the target's receipt, as it was when the check began.")
    ] = UNSET
    measured: dict[str, Any] = field(default_factory=dict)
    bound: dict[str, Any] = field(default_factory=dict)
    #: ``caught 12 of 12``; empty where no fault was planted
    sensitivity: str = ""
    faults: tuple[Fault, ...] = ()
    deviations: Annotated[
        tuple[Deviated, ...] | UnsetType,
        Meta(description="The deviations under which the verdict holds; left out where there are none."),
    ] = UNSET
    stages: Annotated[
        tuple[Stage, ...] | UnsetType,
        Meta(description="The stages of the models, in the order of computation; left out where no model was run."),
    ] = UNSET
    covered: Annotated[
        str | UnsetType,
        Meta(description="The part of the model that was asked for (--stages); left out where it was the whole."),
    ] = UNSET
    packages: Annotated[
        tuple[Package, ...] | UnsetType,
        Meta(description="Other packages whose code took part in the check; left out where there are none."),
    ] = UNSET
    details: dict[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    seconds: Annotated[float, Meta(ge=0)] = 0.0

    def __post_init__(self) -> None:
        caught = f"caught {sum(fault.caught for fault in self.faults)} of {len(self.faults)}" if self.faults else ""
        force_setattr(self, "measured", finite(self.measured))
        force_setattr(self, "bound", finite(self.bound))
        force_setattr(self, "passed", self.state == "yes")
        force_setattr(self, "sensitivity", caught)
