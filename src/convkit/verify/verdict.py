"""The outcome of one check: what was measured, against which bound, and how sensitive the check is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field
from msgspec.structs import force_setattr

from convkit.files.document import Document

#: ``yes``: nothing is wrong, and every planted fault was caught. ``no``: something is wrong. ``not shown``:
#: nothing was found wrong, but a planted fault was missed, so a real one may have been missed too; or something
#: couldn't be compared that had to be.
State = Annotated[
    Literal["yes", "no", "not shown"],
    Meta(
        description="yes: nothing is wrong, and every planted fault was caught; no: something is wrong; "
        "not shown: nothing was found wrong, but a planted fault was missed, or something couldn't be compared."
    ),
]


class Fault(Struct, frozen=True):
    """A fault planted on purpose, and whether the check caught it."""

    name: str
    caught: bool
    measured: dict[str, Any] = field(default_factory=dict)


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


class Verdict(Document, frozen=True, kw_only=True):
    """The outcome of one check: what ``--json`` prints and the report reads.

    :class:`convkit.verify.judged.Check` makes it and decides the state. Where a bound applies, ``bound`` has the
    name of its figure in ``measured``. ``faults`` are the planted faults that the same check was run against.
    ``deviations`` are those under which the verdict holds: it says nothing about what they change.
    ``problems`` says why the state isn't ``yes``, one reason per line; it is empty if the state is ``yes``.
    ``passed`` and ``sensitivity`` follow from the rest.
    """

    schema: Literal["convkit.verdict/2"] = "convkit.verdict/2"
    check: str
    state: State
    #: whether the state is ``yes``
    passed: Annotated[bool, Meta(description="Whether the state is yes.")] = False
    source: str
    target: str
    measured: dict[str, Any] = field(default_factory=dict)
    bound: dict[str, Any] = field(default_factory=dict)
    #: ``caught 12 of 12``; empty where no fault was planted
    sensitivity: str = ""
    faults: tuple[Fault, ...] = ()
    deviations: Annotated[
        tuple[Deviated, ...] | UnsetType,
        Meta(description="The deviations under which the verdict holds; left out where there are none."),
    ] = UNSET
    details: dict[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    seconds: Annotated[float, Meta(ge=0)] = 0.0

    def __post_init__(self) -> None:
        caught = f"caught {sum(fault.caught for fault in self.faults)} of {len(self.faults)}" if self.faults else ""
        force_setattr(self, "passed", self.state == "yes")
        force_setattr(self, "sensitivity", caught)
