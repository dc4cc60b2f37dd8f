"""Which leaves of a tiny checkpoint are made together: those of one part of a mapping."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from convkit.config.condition import Condition
from convkit.mapping import Mapping as LayoutMapping
from convkit.mapping import Part
from convkit.mapping.keys import KeyTemplate


class Wholes:
    """The parts of the left side that apply under declared names."""

    def __init__(self, mapping: LayoutMapping, names: Mapping[str, Any]) -> None:
        parts = (part for part in mapping.parts if part.side == "left")
        self.parts = [part for part in parts if Condition.parse(part.when).holds(names)]
        self._names = names
        self._found: dict[str, list[Part]] = {}
        self._patterns: dict[str, re.Pattern[str]] = {}

    def of(self, key: str) -> list[Part]:
        """The parts that are there as a whole or not at all to which a leaf belongs, itself or as what they need."""
        if key not in self._found:
            mine = [part for part in self.parts if any(self._is_of(form, key) for form in part.keys)]
            beside = {part.beside for part in mine if part.needed}
            wholes = (part for part in self.parts if not part.needed)
            self._found[key] = [part for part in wholes if part in mine or beside.intersection(part.keys)]
        return self._found[key]

    def ask_for(self, key: str) -> bool:
        """Whether the leaf has a form of which a part may say that it is missing."""
        return any(self._is_of(form, key) for part in self.parts for form in (*part.keys, part.beside))

    def _is_of(self, form: str, key: str) -> bool:
        if form not in self._patterns:
            self._patterns[form] = KeyTemplate.parse(form).pattern(self._names)
        return self._patterns[form].fullmatch(key) is not None
