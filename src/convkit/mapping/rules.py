"""The rules of a mapping: what becomes of the leaves of two layouts. Each knows its inverse."""

from __future__ import annotations

import re
from collections import abc
from dataclasses import dataclass, field, replace
from typing import Any

from convkit.mapping.bijection import check
from convkit.mapping.layout import OTHER, Which
from convkit.mapping.ops import Elementwise, Pad
from convkit.mapping.pattern import Pattern, PatternError


@dataclass(frozen=True, init=False)
class Rule:
    """Key template(s) on the left, key template(s) on the right, a rearrangement between them.

    Several templates on one side are names of one leaf: *tied* (equal bit by bit, which is proven
    before a copy is dropped) or, with ``copied``, independent copies of which the first is the
    model. ``pattern`` may be a dict from the names of a placeholder that stands on both sides
    (``"q|k"``) to a pattern each. ``ops`` follow the rearrangement, left to right. Further keyword
    arguments are sizes of the pattern's atoms: a number, or a declared name.
    """

    left: tuple[str, ...]
    right: tuple[str, ...]
    pattern: tuple[tuple[str, str], ...]
    optional: bool
    when: str
    copied: bool
    ops: tuple[Elementwise | Pad, ...]
    sizes: tuple[tuple[str, int | str], ...]

    def __init__(
        self,
        left: str | tuple[str, ...],
        right: str | tuple[str, ...],
        pattern: str | abc.Mapping[str, str] | tuple[tuple[str, str], ...] = "... -> ...",
        *,
        optional: bool = False,
        when: str = "",
        copied: bool = False,
        ops: tuple[Elementwise | Pad, ...] = (),
        **sizes: int | str,
    ) -> None:
        branches = {"": pattern} if isinstance(pattern, str) else dict(pattern)
        left, right = _declared_once(
            (left,) if isinstance(left, str) else left, (right,) if isinstance(right, str) else right
        )
        try:
            spelled = tuple((names, str(Pattern.parse(text))) for names, text in branches.items())
        except PatternError as error:
            raise PatternError(f"rule {left[0]} <-> {right[0]}: {error}") from None
        values = {
            "left": left,
            "right": right,
            "pattern": spelled,
            "optional": optional,
            "when": when,
            "copied": copied,
            "ops": ops,
            "sizes": tuple(sorted(sizes.items())),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        check(self)

    def changed(self, **changes: Any) -> Rule:
        """A copy with some parts replaced."""
        parts = {
            name: getattr(self, name) for name in ("left", "right", "pattern", "optional", "when", "copied", "ops")
        }
        parts |= changes
        sizes = dict(parts.pop("sizes", self.sizes))
        return Rule(**parts, **sizes)

    def inverse(self) -> Rule:
        """The same bijection, read from right to left."""
        return self.changed(
            left=self.right,
            right=self.left,
            pattern=tuple((names, str(Pattern.parse(text).inverse())) for names, text in self.pattern),
            ops=tuple(op.inverse() for op in reversed(self.ops)),
        )

    def under(self, left: str, right: str) -> Rule:
        """The same below a prefix on each side."""
        return self.changed(
            left=tuple(left + text for text in self.left), right=tuple(right + text for text in self.right)
        )

    def pattern_for(self, bound: abc.Mapping[str, int | str]) -> Pattern:
        """The pattern for leaves whose shared placeholders have these values."""
        values = {str(value) for value in bound.values()}
        return next(
            Pattern.parse(text) for names, text in self.pattern if names == "" or values & set(names.split("|"))
        )

    def __str__(self) -> str:
        sides = [
            text if len(names) == 1 else " = ".join(names) for names in (self.left, self.right) for text in names[:1]
        ]
        return f"{sides[0]} <-> {sides[1]}"


@dataclass(frozen=True)
class Derived:
    """A leaf that one layout may store and that follows from the config, or from other leaves of that layout.

    As source it is recomputed and compared; what differs is kept as complement, or refused where it is to be
    ``proven``. As target it isn't owed: it is written where an earlier conversion's receipt says that it was
    there. With a ``shape`` (numbers or declared names) it is, beside every leaf of the form ``of``.
    ``recipe`` is a name of ``convkit.execute.recipes``; its arguments are numbers or declared names. ``of`` are the
    leaves that it reads, their placeholders those of the key; the dtype is that of the first unless said.
    """

    side: Which
    key: str
    recipe: str
    arguments: abc.Mapping[str, int | float | str] = field(default_factory=dict, hash=False)
    of: tuple[str, ...] = ()
    shape: tuple[int | str, ...] | None = None
    dtype: str = ""
    when: str = ""
    proven: bool = False

    def inverse(self) -> Derived:
        """The same on the other side."""
        return replace(self, side=OTHER[self.side])

    def under(self, left: str, right: str) -> Derived:
        """The same below a prefix."""
        prefix = left if self.side == "left" else right
        return replace(self, key=prefix + self.key, of=tuple(prefix + text for text in self.of))

    def __str__(self) -> str:
        return f"{self.key} = {self.recipe}"


@dataclass(frozen=True)
class Folded:
    """A leaf that the other layout has multiplied by factors, which a second leaf ``by`` gives and which it lacks.

    As source it is read so by the rule that carries it; both leaves are kept as complement, from which they
    come back. ``recipe`` is a name of ``convkit.execute.recipes.FACTORS``; its arguments are numbers or declared
    names. The placeholders of ``by`` are those of the key.
    """

    side: Which
    key: str
    by: str
    recipe: str
    arguments: abc.Mapping[str, int | float | str] = field(default_factory=dict, hash=False)
    when: str = ""

    def inverse(self) -> Folded:
        """The same on the other side."""
        return replace(self, side=OTHER[self.side])

    def under(self, left: str, right: str) -> Folded:
        """The same below a prefix."""
        prefix = left if self.side == "left" else right
        return replace(self, key=prefix + self.key, by=prefix + self.by)

    def __str__(self) -> str:
        return f"{self.by} is folded into {self.key}"


@dataclass(frozen=True)
class LeftBehind:
    """Leaves of one layout that have no place in the other; listed, and kept as complement.

    Keys that begin with ``unless`` (a template) are not meant. ``when`` is a condition as a rule's.
    """

    side: Which
    key: str
    reason: str
    unless: str = ""
    when: str = ""

    def inverse(self) -> LeftBehind:
        """The same on the other side."""
        return replace(self, side=OTHER[self.side])

    def under(self, left: str, right: str) -> LeftBehind:
        """The same below a prefix."""
        prefix = left if self.side == "left" else right
        return replace(self, key=prefix + self.key, unless=self.unless and prefix + self.unless)

    def __str__(self) -> str:
        return f"{self.key} stays behind"


@dataclass(frozen=True)
class Refused:
    """Leaves of one layout that no other rule claims, and that mean something the other layout can't say."""

    side: Which
    key: str
    reason: str
    remedy: str
    when: str = ""

    def inverse(self) -> Refused:
        """The same on the other side."""
        return replace(self, side=OTHER[self.side])

    def under(self, left: str, right: str) -> Refused:
        """The same below a prefix."""
        return replace(self, key=(left if self.side == "left" else right) + self.key)

    def __str__(self) -> str:
        return f"{self.key} is refused"


@dataclass(frozen=True)
class Verbatim:
    """Leaves that no other rule claims and that keep their names on the other side."""

    key: str
    when: str = ""

    def inverse(self) -> Verbatim:
        """Itself."""
        return self

    def under(self, left: str, right: str) -> Verbatim:
        """The same below a prefix.

        Raises:
            PatternError: the prefixes differ, so the names would change.
        """
        if left != right:
            raise PatternError(f"{self}: can't stand below {left!r} and {right!r}")
        return replace(self, key=left + self.key)

    def __str__(self) -> str:
        return f"{self.key} <-> {self.key}"


AnyRule = Rule | Derived | Folded | LeftBehind | Refused | Verbatim


def _declared_once(*sides: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Write out the choices of a placeholder wherever it appears: ``{p:q|k}`` once makes ``{p}`` the same."""
    declared = {
        found[1]: found[0]
        for templates in sides
        for text in templates
        for found in re.finditer(r"\{(\w+):[^{}]*\}", text)
    }
    return [tuple(re.sub(r"\{(\w+)\}", lambda f: declared.get(f[1], f[0]), text) for text in side) for side in sides]
