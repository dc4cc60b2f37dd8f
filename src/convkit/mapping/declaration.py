"""Declarations say what their fields hold, and this module derives their inverse, prefixed and scoped forms.

Rules, variants, facts and measures are frozen Structs. Each has a table, ``roles``, that says once of every field
whether it holds keys (of the left, of the right, of the declaration's own side, or of both), a condition, sizes, a
declared name, or none of these. A new kind of rule only has to describe its fields, and the whole algebra works on it.

>>> from convkit.mapping.rules import LeftBehind
>>> rule = LeftBehind("left", "{=hf}mask", "made anew", when="!tied")
>>> rule.inverse().side, rule.under("a.", "b.").key, rule.scoped("text.").when
('right', 'a.{=hf}mask', '!text.tied')
"""

from __future__ import annotations

from collections import abc
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self

from msgspec import Struct, structs

from convkit.config.condition import Condition
from convkit.mapping.keys import KeyTemplate
from convkit.mapping.pattern import PatternError

Which = Literal["left", "right"]

OTHER: dict[Which, Which] = {"left": "right", "right": "left"}


class Role(Struct, frozen=True):
    """What a field holds. ``side`` says whose keys; each function makes the field's value in a derived declaration.

    ``turned(value)`` is for the inverse, ``below(value, prefix)`` for the declaration below a prefix,
    ``scoped(value, scope)`` for a component of a pack, whose declared names have the scope before them.
    """

    side: Literal["", "left", "right", "own", "both"] = ""
    turned: Callable[[Any], Any] | None = None
    below: Callable[[Any, str], Any] | None = None
    scoped: Callable[[Any, str], Any] | None = None


#: of every field, by its name
Roles = abc.Mapping[str, Role]


class Declaration:
    """The base of what a mapping declares. ``roles`` says what each field holds."""

    __slots__ = ()

    roles: ClassVar[Roles]

    def changed(self, **changes: Any) -> Self:
        """A copy with some fields replaced."""
        return structs.replace(self, **changes)  # type: ignore[type-var]

    def inverse(self) -> Self:
        """Read it from right to left: ``x.inverse().inverse() == x``."""
        left, right = ([name for name, role in self.roles.items() if role.side == side] for side in ("left", "right"))
        changes = {name: role.turned(getattr(self, name)) for name, role in self.roles.items() if role.turned}
        for one, other in zip(left, right, strict=True):
            changes |= {one: getattr(self, other), other: getattr(self, one)}
        return self.changed(**changes)

    def under(self, left: str, right: str) -> Self:
        """Move it below a prefix (itself a template) on each side.

        Raises:
            PatternError: the prefixes differ, and a field holds keys of both sides.
        """
        changes = {}
        for name, role in self.roles.items():
            if role.below:
                changes[name] = role.below(getattr(self, name), self._prefix(role, left, right))
        return self.changed(**changes)

    def scoped(self, scope: str) -> Self:
        """Put it into a pack: in the scope ``text.``, the declared name ``layers`` is called ``text.layers``."""
        roles = self.roles.items()
        return self.changed(**{name: role.scoped(getattr(self, name), scope) for name, role in roles if role.scoped})

    def sized(self, axes: abc.Mapping[str, str]) -> Self:
        """Copy the lengths of placeholders, which its mapping declares, into the declaration itself."""
        return self

    def _prefix(self, role: Role, left: str, right: str) -> str:
        if role.side == "both" and left != right:
            raise PatternError(f"{self}: can't stand below {left!r} and {right!r}")
        side = getattr(self, "side") if role.side == "own" else role.side  # noqa: B009
        return left if side in ("left", "both") else right


def as_it_is() -> Role:
    """A field that no derived form changes."""
    return Role()


def keys(side: Literal["left", "right", "own", "both"]) -> Role:
    """A field of key templates: one, or a tuple of them. An empty one stands for none, and stays empty."""
    return Role(side, below=_below, scoped=_scoped_keys)


def axis_of_key(side: Literal["left", "right"]) -> Role:
    """A field that holds a key template and an axis of its leaves; or None."""
    below = _if_any(lambda value, prefix: (_below(value[0], prefix), value[1]))
    scoped = _if_any(lambda value, scope: (_scoped_keys(value[0], scope), value[1]))
    return Role(side, below=below, scoped=scoped)


def own_side() -> Role:
    """The field that says which side the other fields' keys belong to."""
    return Role(turned=lambda side: OTHER[side])


def condition() -> Role:
    """A field that holds a condition on declared names."""
    return Role(scoped=lambda text, scope: str(Condition.parse(text).scoped(scope)))


def declared_name() -> Role:
    """The field that holds the name being declared."""
    return Role(scoped=lambda name, scope: scope + name)


def names_or_numbers() -> Role:
    """A field of numbers, or of declared names for numbers: a tuple, or the values of a dict; or None."""
    return Role(scoped=_if_any(_scoped_numbers))


def function_of_names() -> Role:
    """A field that holds a function of the declared names; or None."""
    return Role(scoped=_if_any(OfComponent))


class OfComponent(Struct, frozen=True):
    """A function of a component's declared names, called with the names of the pack."""

    function: Callable[[dict[str, Any]], Any]
    scope: str

    def __call__(self, names: dict[str, Any]) -> Any:
        """Call it with the component's names, without their scope."""
        scope = self.scope
        return self.function(
            names | {n.removeprefix(scope): value for n, value in names.items() if n.startswith(scope)}
        )


def _each(text: Any, function: Callable[[str], str]) -> Any:
    return tuple(map(function, text)) if isinstance(text, tuple) else text and function(text)


def _below(text: Any, prefix: str) -> Any:
    return _each(text, lambda one: prefix + one)


def _scoped_keys(text: Any, scope: str) -> Any:
    return _each(text, lambda one: KeyTemplate.parse(one).scoped(scope).text)


def _scoped_numbers(value: Any, scope: str) -> Any:
    if isinstance(value, abc.Mapping):
        return {name: scoped_size(size, scope) for name, size in value.items()}
    return tuple(scoped_size(size, scope) for size in value)


def scoped_size(size: Any, scope: str) -> Any:
    """Return a number as it is, and a declared name with its scope."""
    return scope + size if isinstance(size, str) else size


def _if_any(function: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    return lambda value, scope: None if value is None else function(value, scope)
