"""The kinds of rows of a config table, which is declared once and read both ways, like the tensors' rules.

Each row gives the fields of a value on the left and on the right, its name in rules, its default where a config leaves
it out (as documented for that framework's config class), and how values correspond. Fields are dotted paths into nested
dicts.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, Literal

Release = tuple[int, ...]


#: no default: the field is required
REQUIRED: Any = type("Required", (), {"__repr__": lambda self: "REQUIRED"})()


#: the field is left out if the source leaves it out
ABSENT: Any = type("Absent", (), {"__repr__": lambda self: "ABSENT"})()


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table. It applies only where ``when``, a condition on declared names
    (:mod:`convkit.config.condition`), holds. ``since`` and ``until`` bound the releases (inclusive, exclusive) for
    which right fields are
    written; they are read whatever the release.
    """

    when: str = ""
    since: Release = ()
    until: Release = ()

    def places(self) -> frozenset[tuple[str, str]]:
        """The fields that the row concerns, each with its side.

        >>> sorted(Field("n_embd", "hidden_size").places())
        [('left', 'n_embd'), ('right', 'hidden_size')]
        """
        own = getattr(self, "field", None) or getattr(self, "fields", ())
        by_side = {side: getattr(self, side, ()) for side in ("left", "right")}
        by_side |= {self.side: own} if hasattr(self, "side") else {}
        listed = {side: (paths,) if isinstance(paths, str) else tuple(paths) for side, paths in by_side.items()}
        return frozenset((side, path) for side, paths in listed.items() for path in paths)


@dataclass(frozen=True)
class Field(Row):
    """A value that both sides have. ``values`` pairs left with right values where they differ; the first pair that fits
    wins. ``null`` is the value that None stands for, if None isn't an ordinary value. It and the defaults may be
    functions of the declared names.
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
    """A field of one side whose value is fixed by the layout. In a target it is written (unless ``write`` is false). In
    a source it must have one of the values; if it is left out, ``default`` (a value, or a function of the names) must
    be one of them.
    """

    side: Literal["left", "right"]
    field: str
    value: Any
    default: Any = ABSENT
    also: tuple[Any, ...] = ()
    write: bool = True


@dataclass(frozen=True)
class Written(Row):
    """A field of one side that is written (a value, or a function of the names) and never read."""

    side: Literal["left", "right"]
    field: str
    value: Any


@dataclass(frozen=True)
class Flag(Row):
    """A boolean that the tensors themselves decide, such as whether there are biases. ``fact`` is the name of a
    ``Fact`` of the mapping. If the checkpoint's tensors are known they win, and a config that contradicts them is
    corrected with a warning.
    """

    left: str
    right: str
    fact: str
    left_default: bool = False
    right_default: bool = False


#: ``function(values, names)`` gets the fields of a group that are present and the declared names (with
#: ``release``), and returns fields of the other side. A field that comes back as ABSENT isn't written;
#: ``"=name"`` declares a name; ``"!"`` is a warning.
Together = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Coupled(Row):
    """Fields that correspond as a group, by a pair of functions in the mapping's file."""

    left: tuple[str, ...]
    right: tuple[str, ...]
    to_right: Together
    to_left: Together


@dataclass(frozen=True)
class Refused(Row):
    """Fields of one side (a trailing ``*`` matches any ending) with a meaning that the other side can't express. A
    config that sets one to anything except its neutral value is refused; None is always neutral.
    """

    side: Literal["left", "right"]
    fields: abc.Mapping[str, Any] = dataclass_field(hash=False)
    reason: str
    remedy: str


@dataclass(frozen=True)
class Rejected(Row):
    """Fields of one side that the class of some release doesn't accept: not written for that release."""

    side: Literal["left", "right"]
    fields: tuple[str, ...]


@dataclass(frozen=True)
class Name(Row):
    """A declared name that follows from others (``head_dim``)."""

    name: str
    compute: Callable[[dict[str, Any]], Any]
