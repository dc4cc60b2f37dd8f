"""What a field may hold, and how the spellings that people's files use for it are read.

A number may come as text (``'16'``) or in a form that YAML 1.1 takes for text (``1e-5``, ``1e6``), an integer as
``64.0``. Each is read as the number where that is exact. What can't be a value of the field is refused.

>>> COUNT.read("16"), COUNT.read(64.0), NUMBER.read("1e-5"), NUMBER.read(2)
(16, 64, 1e-05, 2)
>>> str(COUNT), str(RATE.or_null)
('a whole number from 1 to 2147483647', 'a number from 0 to 1, or null')
"""

from __future__ import annotations

import math
import re
import reprlib
import sys
from decimal import Decimal
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

#: a number as JSON and YAML 1.2 write it; not ``016``, which YAML 1.1 takes for 14
_NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d*|(?=\.\d))(?P<fraction>\.\d*)?(?P<exponent>[eE][+-]?\d{1,5})?")
_LONGEST = 400
_SHORTENED = reprlib.Repr()
_SHORTENED.maxstring = _SHORTENED.maxother = 60
_TYPES: dict[str, type] = {"boolean": bool, "text": str, "section": dict, "list": list}


class KindError(ValueError):
    """A value that is none of a kind. ``where`` is its place within the value that was read, ``kind`` its kind."""

    def __init__(self, problem: str, kind: Kind, where: str = "") -> None:
        super().__init__(problem)
        self.kind = kind
        self.where = where


class Kind(Struct, frozen=True):
    """A type of values.

    Attributes:
        what: what they are.
        least: the least number.
        most: the greatest number.
        above: a number that all of them exceed.
        null: whether None is a value.
        parts: the kinds of the fields of a section, by name. Others may stand beside them: they are unknown.
        each: the kind of the values of a list.
    """

    what: Literal["whole number", "number", "boolean", "text", "section", "list", "anything"]
    least: float | None = None
    most: float | None = None
    above: float | None = None
    null: bool = False
    parts: tuple[tuple[str, Kind], ...] = ()
    each: Kind | None = None

    @property
    def or_null(self) -> Kind:
        """The same kind, with None as a value."""
        return replace(self, null=True)

    def of(self, each: Kind | None = None, /, **parts: Kind) -> Kind:
        """A list of values of one kind, or a section with these fields.

        >>> LIST.of(COUNT).read(["1", 2.0]), SECTION.of(groups=COUNT).read({"groups": "4", "more": "5"})
        ([1, 2], {'groups': 4, 'more': '5'})
        """
        return replace(self, each=each, parts=tuple(parts.items()))

    def read(self, value: Any) -> Any:
        """The value that a config's spelling stands for. A value of this kind stays as it is, an integer that is a
        number too.

        Raises:
            KindError: it stands for no value of this kind; the message says why, beginning with "is".
        """
        if self.what == "anything" or (value is None and self.null):
            return value
        found: Any
        if self.what in _TYPES:
            found = value if type(value) is _TYPES[self.what] else None
        else:
            found = _as_number(value, whole=self.what == "whole number")
        if found is None:
            article = "" if self.what == "text" else "a "
            raise KindError(f"is {shown(value)}, which isn't {article}{self.what}", self)
        if self.least is not None and found < self.least:
            raise KindError(f"is {shown(found)}, less than {self.least}", self)
        if self.most is not None and found > self.most:
            raise KindError(f"is {shown(found)}, more than {self.most}", self)
        if self.above is not None and found <= self.above:
            raise KindError(f"is {shown(found)}, not above {self.above}", self)
        return self._read_within(found)

    def _read_within(self, value: Any) -> Any:
        """The same section or list, with what is in it read."""
        if self.parts:
            known = dict(self.parts)
            return {name: _part(known[name], name, one) if name in known else one for name, one in value.items()}
        if self.each:
            return [_part(self.each, str(place), one) for place, one in enumerate(value)]
        return value

    def __str__(self) -> str:
        name = {"text": "text", "anything": "anything"}.get(self.what, f"a {self.what}")
        if self.least is not None:
            name += f" of at least {self.least}" if self.most is None else f" from {self.least} to {self.most}"
        if self.above is not None:
            name += f" above {self.above}"
        return name + ", or null" * (self.null and self.what != "anything")


def _part(kind: Kind, name: str, value: Any) -> Any:
    try:
        return kind.read(value)
    except KindError as error:
        where = f"{name}.{error.where}" if error.where else name
        raise KindError(str(error), error.kind, where) from None


def shown(value: Any) -> str:
    """A value for a message, shortened; None as JSON and YAML write it."""
    return "null" if value is None else _SHORTENED.repr(value)


def _as_number(value: Any, whole: bool) -> int | float | None:
    """The finite (whole) number that a value is or that its text spells exactly; None if there is none."""
    if isinstance(value, str):
        value = _spelled(value.strip(), whole)
    if type(value) not in (int, float) or abs(value) > sys.float_info.max or math.isnan(value):
        return None
    if not whole or isinstance(value, int):
        return value
    return int(value) if value.is_integer() else None


def _spelled(text: str, whole: bool) -> int | float | None:
    """The number that JSON would read; a whole number even if it has an exponent, since that loses nothing."""
    found = _NUMBER.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        return None
    if not found["fraction"] and not found["exponent"]:
        return int(text)
    exact, number = Decimal(text), float(text)
    if math.isinf(number) or (number == 0 and exact != 0):
        return None
    return int(exact) if whole and exact == exact.to_integral_value() else number


#: a size: 1, 2, ...
COUNT = Kind("whole number", least=1, most=2**31 - 1)
WHOLE = Kind("whole number")
#: finite
NUMBER = Kind("number")
#: not negative: an epsilon
AMOUNT = Kind("number", least=0)
#: a factor, the base of a power
POSITIVE = Kind("number", above=0)
#: a probability, such as a dropout rate
RATE = Kind("number", least=0, most=1)
FLAG = Kind("boolean")
TEXT = Kind("text")
SECTION = Kind("section")
LIST = Kind("list")
ANYTHING = Kind("anything", null=True)
