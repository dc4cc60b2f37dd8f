"""Key templates: names of leaves whose placeholders are axes.

=================  =======================================================================
``{i}``            an integer axis: ``layers.{i}.weight`` matches ``layers.0.weight``, ...
``{2i}``           the same, of which every second number is there: ``act.{2i}`` for i = 3 is ``act.6``
``{g:gate|up}``    an axis that runs over names, in that order
``{p:weight|b?}``  the names marked ``?`` may be absent
``{=base}``        the value of a declared name (a config value, a variant), not an axis
``{=text.base}``   the value of a declared name of a pack's component
``{rest:*}``       any text, which a rule leaves behind or carries over; not an axis
``{n:#}``          a whole number in any text's place: such leaves needn't be complete
=================  =======================================================================

Matching is anchored at both ends. Integers have no leading zeros, so that formatting what was
matched gives the same key back.

>>> template = KeyTemplate.parse("layers.{i}.{p:q|k}.weight")
>>> template.match("layers.10.k.weight", {})
{'i': 10, 'p': 'k'}
>>> template.format({"i": 10, "p": "k"}, {})
'layers.10.k.weight'
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache, cached_property, lru_cache
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

#: what a placeholder is bound to: an index, or one of its names
Bindings = dict[str, int | str]

_FIELD = re.compile(
    r"\{(?:=(?P<config>[A-Za-z_][\w.]*)|(?P<step>[1-9][0-9]*)?(?P<name>[A-Za-z_]\w*)(?::(?P<choices>[^{}]*))?)\}"
)


class Placeholder(Struct, frozen=True):
    """One ``{...}`` of a template. A number in a key is ``step`` times the placeholder's."""

    name: str
    choices: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()
    config: bool = False
    wild: bool = False
    digits: bool = False
    step: int = 1

    @property
    def is_axis(self) -> bool:
        """Whether it is an axis, along which leaves are numbered."""
        return not (self.config or self.wild)

    @property
    def numbered(self) -> bool:
        """Whether it stands for whole numbers."""
        return not (self.choices or self.wild or self.config)

    def scoped(self, scope: str) -> Placeholder:
        """Put the scope before a declared name; other placeholders stay as they are."""
        return replace(self, name=scope + self.name) if self.config else self

    def __str__(self) -> str:
        if self.config:
            return f"{{={self.name}}}"
        choices = (
            "#"
            if self.digits
            else "*"
            if self.wild
            else "|".join(name + "?" * (name in self.optional) for name in self.choices)
        )
        step = "" if self.step == 1 else self.step
        return f"{{{self.name}:{choices}}}" if choices else f"{{{step}{self.name}}}"


class KeyTemplate(Struct, frozen=True, dict=True):
    """A parsed template; immutable, hashable, compared by its text."""

    text: str
    parts: tuple[str | Placeholder, ...]

    @classmethod
    @cache
    def parse(cls, text: str) -> KeyTemplate:
        """Read a template.

        Raises:
            ValueError: a stray brace, an empty choice, or a name declared twice, differently.
        """
        parts: list[str | Placeholder] = []
        position = 0
        declared: dict[str, Placeholder] = {}
        for found in _FIELD.finditer(text):
            parts.append(text[position : found.start()])
            position = found.end()
            field = _placeholder(found, text)
            first = declared.setdefault(field.name, field)
            again = (first, Placeholder(first.name)) if first.step == 1 else (first,)
            if field not in again or (first.config and not field.config):
                raise ValueError(f"{text!r}: placeholder {field.name!r} is declared twice, differently")
            parts.append(first)
        parts.append(text[position:])
        if any(isinstance(part, str) and ("{" in part or "}" in part) for part in parts):
            raise ValueError(f"{text!r}: a brace that doesn't belong to a placeholder")
        return cls(text, tuple(part for part in parts if part != ""))

    @cached_property
    def placeholders(self) -> dict[str, Placeholder]:
        """Placeholders by name, in the order in which they appear."""
        return {part.name: part for part in self.parts if isinstance(part, Placeholder)}

    @property
    def axes(self) -> dict[str, Placeholder]:
        """Placeholders that are axes."""
        return {name: field for name, field in self.placeholders.items() if field.is_axis}

    @cached_property
    def bound(self) -> dict[str, Placeholder]:
        """Placeholders that stand for a part of the key: axes, and wild ones."""
        return {name: field for name, field in self.placeholders.items() if not field.config}

    @cached_property
    def config(self) -> tuple[str, ...]:
        """The declared names whose values stand in the key."""
        return tuple(name for name, one in self.placeholders.items() if one.config)

    def match(self, key: str, names: Mapping[str, Any]) -> Bindings | None:
        """Return what the placeholders stand for in ``key``; None if the key doesn't match."""
        found = self.pattern(names).fullmatch(key)
        return None if found is None else self._bindings(found)

    def matching(self, keys: Collection[str], names: Mapping[str, Any]) -> Iterator[tuple[str, Bindings]]:
        """Yield each key that matches, with what the placeholders stand for in it."""
        if not keys:
            return
        for key, found in zip(keys, map(self.pattern(names).fullmatch, keys), strict=True):
            if found is not None and (bindings := self._bindings(found)) is not None:
                yield key, bindings

    def pattern(self, names: Mapping[str, Any]) -> re.Pattern[str]:
        """The template as a regular expression, which matches whole keys."""
        return _compiled(self.text, tuple([str(names[name]) for name in self.config])) if self.config else self._plain

    @cached_property
    def _plain(self) -> re.Pattern[str]:
        """The regular expression of a template without declared names."""
        return _compiled(self.text, ())

    @cached_property
    def _numbered(self) -> tuple[tuple[str, bool], ...]:
        return tuple((name, one.numbered) for name, one in self.bound.items())

    @cached_property
    def _steps(self) -> dict[str, int]:
        return {name: one.step for name, one in self.bound.items() if one.step != 1}

    def _bindings(self, found: re.Match[str]) -> Bindings | None:
        bindings: Bindings = {name: int(found[name]) if numbered else found[name] for name, numbered in self._numbered}
        for name, step in self._steps.items():
            place, rest = divmod(int(found[name]), step)
            if rest:
                return None
            bindings[name] = place
        return bindings

    def format(self, bindings: Mapping[str, int | str], names: Mapping[str, Any]) -> str:
        """Make the key for these bindings.

        Raises:
            KeyError: a placeholder or a declared name is missing.
        """
        out = []
        for part in self.parts:
            if isinstance(part, str):
                out.append(part)
            else:
                value = (names if part.config else bindings)[part.name]
                out.append(str(value if part.step == 1 else part.step * int(value)))
        return "".join(out)

    def under(self, prefix: str) -> KeyTemplate:
        """Put a prefix (itself a template) before the template."""
        return KeyTemplate.parse(prefix + self.text)

    def scoped(self, scope: str) -> KeyTemplate:
        """Put a scope before the declared names, as they are called in a pack.

        >>> str(KeyTemplate.parse("{=hf}layers.{i}.{p:w|b?}").scoped("text."))
        '{=text.hf}layers.{i}.{p:w|b?}'
        """
        parts = (part if isinstance(part, str) else part.scoped(scope) for part in self.parts)
        return KeyTemplate.parse("".join(map(str, parts)))

    def __hash__(self) -> int:
        return hash(self.text)  # which says what the parts are

    def __str__(self) -> str:
        return self.text


def _placeholder(found: re.Match[str], text: str) -> Placeholder:
    name, choices = found["name"], found["choices"]
    if found["config"]:
        return Placeholder(found["config"], config=True)
    if choices is None:
        return Placeholder(name, step=int(found["step"] or 1))
    if found["step"]:
        raise ValueError(f"{text!r}: placeholder {name!r} has a step, but stands for no numbers")
    if choices in ("*", "#"):
        return Placeholder(name, wild=True, digits=choices == "#")
    names = choices.split("|")
    plain = tuple(choice.removesuffix("?") for choice in names)
    if not all(plain) or len(set(plain)) < len(plain):
        raise ValueError(f"{text!r}: placeholder {name!r} has an empty choice, or one twice")
    return Placeholder(name, plain, frozenset(choice[:-1] for choice in names if choice.endswith("?")))


@lru_cache(maxsize=4096)
def _compiled(text: str, config: tuple[str, ...]) -> re.Pattern[str]:
    """A template as a regular expression, with the values of the declared names in it."""
    template = KeyTemplate.parse(text)
    values = dict(zip(template.config, config, strict=True))
    seen: set[str] = set()
    out = []
    for part in template.parts:
        if isinstance(part, str):
            out.append(re.escape(part))
        elif part.config:
            out.append(re.escape(values[part.name]))
        elif part.name in seen:
            out.append(f"(?P={part.name})")
        else:
            seen.add(part.name)
            choices = "|".join(re.escape(choice) for choice in part.choices)
            text_of_any = part.wild and not part.digits
            body = choices or (r".+" if text_of_any else "0|[1-9][0-9]*")
            out.append(f"(?P<{part.name}>{body})")
    return re.compile("".join(out), re.DOTALL)
