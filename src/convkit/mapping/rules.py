"""The rules of a mapping, which say what becomes of the leaves of two layouts.

==============  ==========================================================================================
``Rule``        leaves of the left are rearranged into leaves of the right, and back
``Derived``     a leaf that one layout stores and that can be computed from the config or other leaves
``Folded``      a leaf that the other layout stores multiplied by a number or by a second leaf's factors
``LeftBehind``  leaves that have no place in the other layout
``Refused``     leaves that no other rule claims, and that the other layout can't express
``Verbatim``    leaves that no other rule claims, and that keep their names
``Restated``    values that follow from others
==============  ==========================================================================================

Each is a :class:`convkit.mapping.declaration.Declaration`: its inverse, and itself below a prefix or in a pack,
follow from what its fields hold.
"""

from __future__ import annotations

import re
from collections import abc
from functools import cached_property
from typing import Any, ClassVar, Self

from msgspec import Struct

from convkit.config.condition import Condition
from convkit.mapping.bijection import check
from convkit.mapping.declaration import (
    Declaration,
    Role,
    Roles,
    Which,
    as_it_is,
    condition,
    keys,
    names_or_numbers,
    own_side,
    scoped_size,
)
from convkit.mapping.keys import KeyTemplate
from convkit.mapping.ops import Elementwise, Pad
from convkit.mapping.pattern import Pattern, PatternError


class AnyRule(Declaration):
    """The base of all rules. ``when`` is a condition on declared names; the rule applies only where it holds."""

    __slots__ = ()

    when: str

    def __post_init__(self) -> None:
        """Raise PatternError for a condition that can't be read."""
        try:
            Condition.parse(self.when)
        except ValueError as error:
            raise PatternError(f"rule {self}: {error}") from None

    def __hash__(self) -> int:
        return hash(str(self))  # dicts have no hash


Patterns = tuple[tuple[str, str], ...]
Ops = tuple[Elementwise | Pad, ...]
Sizes = tuple[tuple[str, int | str], ...]


def _inverse_pattern(pattern: Patterns) -> Patterns:
    return tuple((names, str(Pattern.parse(text).inverse())) for names, text in pattern)


def _inverse_ops(ops: Ops) -> Ops:
    return tuple(op.inverse() for op in reversed(ops))


def _scoped_ops(ops: Ops, scope: str) -> Ops:
    return tuple(op.scoped(scope) if isinstance(op, Pad) else op for op in ops)


def _scoped_sizes(sizes: Sizes, scope: str) -> Sizes:
    return tuple((atom, scoped_size(size, scope)) for atom, size in sizes)


class Rule(AnyRule):
    """Key template(s) on the left, key template(s) on the right, a rearrangement between them.

    Several templates on one side are names of one *tied* leaf: equal bit by bit, which is proven before
    a copy is dropped. ``left_copies`` and ``right_copies`` name *independent* copies: they are written equal,
    and left behind when read, whatever they hold. A copy is read as the leaf only if no other name is there.
    ``pattern`` may be a dict with a pattern for each group of names (``"q|k"``) of a placeholder that stands on both
    sides. ``ops`` follow the rearrangement, left to right. Further keyword arguments are sizes of the pattern's
    atoms, or lengths of placeholders: a number, or a declared name.

    >>> rule = Rule("l.{i}.w", "h.{i}.w", "(h two r) d -> (h r two) d", h="heads", two=2)
    >>> print(rule.inverse(), dict(rule.inverse().pattern))
    h.{i}.w <-> l.{i}.w {'': '(h r two) d -> (h two r) d'}

    Raises:
        PatternError: it isn't a bijection.
    """

    left: tuple[str, ...]
    right: tuple[str, ...]
    pattern: Patterns
    optional: bool
    left_copies: tuple[str, ...]
    right_copies: tuple[str, ...]
    ops: Ops
    sizes: Sizes

    roles: ClassVar[Roles] = {
        "left": keys("left"),
        "right": keys("right"),
        "pattern": Role(turned=_inverse_pattern),
        "optional": as_it_is(),
        "when": condition(),
        "left_copies": keys("left"),
        "right_copies": keys("right"),
        "ops": Role(turned=_inverse_ops, scoped=_scoped_ops),
        "sizes": Role(scoped=_scoped_sizes),
    }

    def __init__(
        self,
        left: str | tuple[str, ...],
        right: str | tuple[str, ...],
        pattern: str | abc.Mapping[str, str] | Patterns = "... -> ...",
        *,
        optional: bool = False,
        when: str = "",
        left_copies: str | tuple[str, ...] = (),
        right_copies: str | tuple[str, ...] = (),
        ops: Ops = (),
        **sizes: int | str,
    ) -> None:
        branches = {"": pattern} if isinstance(pattern, str) else dict(pattern)
        left, right, left_copies, right_copies = _declared_once(
            *((side,) if isinstance(side, str) else side for side in (left, right, left_copies, right_copies))
        )
        try:
            spelled = tuple((names, str(Pattern.parse(text))) for names, text in branches.items())
        except PatternError as error:
            raise PatternError(f"rule {left[0]} <-> {right[0]}: {error}") from None
        vars(self).update(
            left=left,
            right=right,
            pattern=spelled,
            optional=optional,
            when=when,
            left_copies=left_copies,
            right_copies=right_copies,
            ops=ops,
            sizes=tuple(sorted(sizes.items())),
        )
        self.__post_init__()
        try:
            check(left + left_copies, right + right_copies, spelled, ops, dict(self.sizes))
        except PatternError as error:
            raise PatternError(f"rule {self}: {error}") from None

    def changed(self, **changes: Any) -> Self:
        """A copy with some parts replaced."""
        parts = self._parts() | changes
        sizes = dict(parts.pop("sizes"))
        return type(self)(**parts, **sizes)

    def sized(self, axes: abc.Mapping[str, str]) -> Self:
        """Add the lengths that its mapping's ``axes`` give to its placeholders to its own sizes."""
        placeholders = {name for text in self.left + self.right for name in KeyTemplate.parse(text).axes}
        return self.changed(sizes={name: axes[name] for name in placeholders if name in axes} | dict(self.sizes))

    def pattern_for(self, bound: abc.Mapping[str, int | str]) -> Pattern:
        """The pattern for leaves whose shared placeholders have these values."""
        if self.pattern[0][0] == "":
            return Pattern.parse(self.pattern[0][1])
        values = {str(value) for value in bound.values()}
        return next(
            Pattern.parse(text) for names, text in self.pattern if names == "" or values & set(names.split("|"))
        )

    @cached_property
    def text(self) -> str:
        """The names on both sides."""
        return f"{' = '.join(self.left + self.left_copies)} <-> {' = '.join(self.right + self.right_copies)}"

    def _parts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.roles}

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._parts() == other._parts()

    __hash__ = AnyRule.__hash__

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"immutable type: {type(self).__name__!r}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._parts().items())})"

    def __str__(self) -> str:
        return self.text


class Derived(AnyRule, Struct, frozen=True):
    """A leaf that one layout may store and that can be computed from the config or other leaves of that layout.

    In a source it is recomputed and compared; a difference is kept as complement, or refused if ``proven``.
    In a target it is optional: it is written where an earlier conversion's receipt says that it was
    there. With a ``shape`` (numbers or declared names) it is always written, beside every leaf of the form ``of``.
    ``recipe`` is a name of ``convkit.execute.recipes``; its arguments are numbers or declared names. ``of`` are the
    leaves that it reads, with the placeholders of the key; the dtype is that of the first, unless given.
    """

    side: Which
    key: str
    recipe: str
    arguments: abc.Mapping[str, int | float | str] = {}
    of: tuple[str, ...] = ()
    shape: tuple[int | str, ...] | None = None
    dtype: str = ""
    when: str = ""
    proven: bool = False

    roles: ClassVar[Roles] = {
        "side": own_side(),
        "key": keys("own"),
        "recipe": as_it_is(),
        "arguments": names_or_numbers(),
        "of": keys("own"),
        "shape": names_or_numbers(),
        "dtype": as_it_is(),
        "when": condition(),
        "proven": as_it_is(),
    }

    def __str__(self) -> str:
        return f"{self.key} = {self.recipe}"


class Folded(AnyRule, Struct, frozen=True):
    """A leaf that the other layout stores multiplied: by a number, or by factors from a second leaf ``by``.

    In a source, the rule that carries the leaf reads it multiplied. The leaf itself is kept as complement, and so
    is ``by``, which the other layout lacks: both come back from there bit by bit. ``recipe`` is a name of
    ``convkit.execute.recipes.FACTORS``; its arguments are numbers or declared names. The placeholders of ``by`` are
    those of the key. Without ``by``, the argument ``factor`` is the number; where it is 1, nothing happens.

    >>> print(Folded("right", "lm_head.weight", arguments={"factor": "mup_head"}, when="mup"))
    lm_head.weight is multiplied by mup_head

    Raises:
        PatternError: neither a second leaf nor a factor, or both.
    """

    side: Which
    key: str
    by: str = ""
    recipe: str = "number"
    arguments: abc.Mapping[str, int | float | str] = {}
    when: str = ""

    roles: ClassVar[Roles] = {
        "side": own_side(),
        "key": keys("own"),
        "by": keys("own"),
        "recipe": as_it_is(),
        "arguments": names_or_numbers(),
        "when": condition(),
    }

    def __post_init__(self) -> None:
        """See the class."""
        AnyRule.__post_init__(self)
        if (self.recipe == "number") == bool(self.by) or not (self.by or set(self.arguments) == {"factor"}):
            raise PatternError(f"rule {self}: a number takes a 'factor', other recipes a second leaf")

    def __str__(self) -> str:
        if not self.by:
            return f"{self.key} is multiplied by {self.arguments.get('factor')}"
        return f"{self.by} is folded into {self.key}"


class LeftBehind(AnyRule, Struct, frozen=True):
    """Leaves of one layout that have no place in the other: they are listed, and kept as complement.

    Keys that begin with ``unless`` (a template) are excluded.
    """

    side: Which
    key: str
    reason: str
    unless: str = ""
    when: str = ""

    roles: ClassVar[Roles] = {
        "side": own_side(),
        "key": keys("own"),
        "reason": as_it_is(),
        "unless": keys("own"),
        "when": condition(),
    }

    def __str__(self) -> str:
        return f"{self.key} stays behind"


class Refused(AnyRule, Struct, frozen=True):
    """Leaves of one layout that no other rule claims, and whose meaning the other layout can't express."""

    side: Which
    key: str
    reason: str
    remedy: str
    when: str = ""

    roles: ClassVar[Roles] = {
        "side": own_side(),
        "key": keys("own"),
        "reason": as_it_is(),
        "remedy": as_it_is(),
        "when": condition(),
    }

    def __str__(self) -> str:
        return f"{self.key} is refused"


class Verbatim(AnyRule, Struct, frozen=True):
    """Leaves that no other rule claims and that keep their names on the other side."""

    key: str
    when: str = ""

    roles: ClassVar[Roles] = {
        "key": keys("both"),
        "when": condition(),
    }

    def __str__(self) -> str:
        return f"{self.key} <-> {self.key}"


class Restated(AnyRule, Struct, frozen=True):
    """Values that follow from others of the checkpoint, and so differ from side to side.

    ``what`` is a name of ``convkit.plan.restated.WAYS``, which computes them. Its arguments are given for each side
    that is written; None where nothing is restated.
    """

    what: str
    to_right: abc.Mapping[str, Any] | None = None
    to_left: abc.Mapping[str, Any] | None = None
    when: str = ""

    roles: ClassVar[Roles] = {
        "what": as_it_is(),
        "to_right": Role("right"),
        "to_left": Role("left"),
        "when": condition(),
    }

    def __str__(self) -> str:
        return f"{self.what} are restated"


def _declared_once(*sides: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Write out a placeholder's choices wherever it appears: one ``{p:q|k}`` gives every ``{p}`` its choices."""
    declared = {
        found[1]: found[0]
        for templates in sides
        for text in templates
        for found in re.finditer(r"\{(\w+):[^{}]*\}", text)
    }
    if not declared:
        return [*sides]
    return [tuple(re.sub(r"\{(\w+)\}", lambda f: declared.get(f[1], f[0]), text) for text in side) for side in sides]
