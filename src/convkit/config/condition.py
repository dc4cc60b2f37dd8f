"""Conditions on declared names, for ``when=`` in a rule or in a row of a config table.

=============  ==============================================================
``tied``       the name's value is true
``!tied``      it isn't
``hf=model.``  its text is this one
``n>1``        it is a number greater than this one
``n<2``        it is a number less than this one
``a & !b``     both hold
(nothing)      always holds
=============  ==============================================================

>>> condition = Condition.parse("tied & !headless")
>>> condition.holds({"tied": True, "headless": False})
True
>>> str(condition.scoped("text."))
'text.tied & !text.headless'
>>> Condition.parse("hf=model. & activations>1").holds({"hf": "model.", "activations": 2})
True
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

_PART = re.compile(r"\s*(?P<negated>!?)\s*(?P<name>[A-Za-z_][\w.]*)\s*(?:(?P<sign>[=<>])\s*(?P<value>.*?))?\s*")


class Part(Struct, frozen=True):
    """One comparison of the declared name ``name`` with ``value``; without a sign, a test whether it is true."""

    name: str
    sign: str = ""
    value: str = ""
    negated: bool = False

    @classmethod
    def parse(cls, text: str) -> Part:
        """Parse the text between two ``&``.

        Raises:
            ValueError: it isn't a comparison.
        """
        found = _PART.fullmatch(text)
        if found is None or (found["negated"] and found["sign"]):
            raise ValueError(f"{text.strip()!r} isn't a condition: write name, !name, name=text, name>1 or name<2")
        if found["sign"] in ("<", ">") and not re.fullmatch(r"-?\d+", found["value"]):
            raise ValueError(f"{text.strip()!r}: {found['value']!r} isn't a whole number")
        return cls(found["name"], found["sign"] or "", found["value"] or "", bool(found["negated"]))

    def holds(self, names: Mapping[str, Any]) -> bool:
        """Whether it holds.

        Raises:
            KeyError: the name isn't declared.
        """
        value = names[self.name]
        match self.sign:
            case "=":
                return str(value) == self.value
            case "<":
                return bool(value < int(self.value))
            case ">":
                return bool(value > int(self.value))
        return bool(value) != self.negated

    def __str__(self) -> str:
        return f"{'!' * self.negated}{self.name}{self.sign}{self.value}"


class Condition(Struct, frozen=True):
    """A parsed condition: all of its parts must hold."""

    parts: tuple[Part, ...] = ()

    @classmethod
    @cache
    def parse(cls, text: str) -> Condition:
        """Parse a condition; the empty text always holds.

        Raises:
            ValueError: a part isn't a comparison.
        """
        return cls(tuple(map(Part.parse, text.split("&"))) if text else ())

    def holds(self, names: Mapping[str, Any]) -> bool:
        """Whether every part holds.

        Raises:
            KeyError: a name that isn't declared.
        """
        return all(part.holds(names) for part in self.parts)

    def scoped(self, scope: str) -> Condition:
        """The same condition on the names of one component of a pack, which are prefixed by the scope."""
        return Condition(tuple(replace(part, name=scope + part.name) for part in self.parts))

    def __str__(self) -> str:
        return " & ".join(map(str, self.parts))
