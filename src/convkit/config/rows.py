"""Configs convert by a table, declared once and read both ways, like the tensors.

Each row says where a value stands on the left and on the right, which name it has in rules, what
holds where a config leaves it out (the documented default of that framework's config class), and
how values correspond. Fields are dotted paths into nested dicts.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, Literal

Release = tuple[int, ...]


#: no default: the config must say it
REQUIRED: Any = type("Required", (), {"__repr__": lambda self: "REQUIRED"})()


#: left out where the source leaves it out
ABSENT: Any = type("Absent", (), {"__repr__": lambda self: "ABSENT"})()


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table.

    ``when`` is a condition on declared names (:mod:`convkit.config.condition`): without it the line isn't
    there. ``since`` and ``until`` bound the releases (inclusive, exclusive) for which right fields are
    written; they are read whatever the release.
    """

    when: str = ""
    since: Release = ()
    until: Release = ()


@dataclass(frozen=True)
class Field(Row):
    """A value that both sides have.

    ``values`` pairs left with right values where they differ; of several pairs that fit, the first
    counts. ``null`` is what None stands for, where it isn't a value like others. Both it and the
    defaults may be functions of the declared names.
    """

    left: str
    right: str
    name: str = ""
    left_default: Any = REQUIRED
    right_default: Any = REQUIRED
    values: tuple[tuple[Any, Any], ...] = ()
    null: Any = None


@dataclass(frozen=True)
class Constant(Row):
    """A field of one side whose value the layout fixes.

    As target it is written (unless ``write`` is false); as source it must have one of the values,
    and where it is left out, ``default`` (or what that function of the names gives) must be one of them.
    """

    side: Literal["left", "right"]
    field: str
    value: Any
    default: Any = ABSENT
    also: tuple[Any, ...] = ()
    write: bool = True


@dataclass(frozen=True)
class Written(Row):
    """A field of one side that is written (a value, or a function of the names) and never looked at."""

    side: Literal["left", "right"]
    field: str
    value: Any


@dataclass(frozen=True)
class Flag(Row):
    """A boolean that the tensors themselves answer: whether biases are there.

    ``fact`` is the name of a ``Fact`` of the mapping. Where the checkpoint's tensors are known they
    win, and a config that says otherwise is corrected with a warning.
    """

    left: str
    right: str
    fact: str
    left_default: bool = False
    right_default: bool = False


#: ``function(values, names)`` gets the fields of a group that are there and the declared names (with
#: ``release``), and returns fields of the other side. A field that comes back as ABSENT isn't written;
#: ``"=name"`` declares a name; ``"!"`` is a warning.
Together = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Coupled(Row):
    """Fields that correspond as a group, by a pair of functions that the mapping file states."""

    left: tuple[str, ...]
    right: tuple[str, ...]
    to_right: Together
    to_left: Together


@dataclass(frozen=True)
class Refused(Row):
    """Fields of one side (a trailing ``*`` for any ending) that mean something the other side can't say.

    Refused when one is set to another value than the neutral one that stands beside it; None is always neutral.
    """

    side: Literal["left", "right"]
    fields: abc.Mapping[str, Any] = dataclass_field(hash=False)
    reason: str
    remedy: str


@dataclass(frozen=True)
class Rejected(Row):
    """Fields of one side that some release's class doesn't take, though others do: not written for it."""

    side: Literal["left", "right"]
    fields: tuple[str, ...]


@dataclass(frozen=True)
class Name(Row):
    """A declared name that follows from others (``head_dim``)."""

    name: str
    compute: Callable[[dict[str, Any]], Any]
