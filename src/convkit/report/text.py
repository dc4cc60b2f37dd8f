"""Numbers as people read them, spelled alike by the page, the table and the commands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

#: what every table says of NaN and of infinities
NOT_FINITE = "not finite"


def size(count: float | None) -> str:
    """Bytes in decimal units.

    >>> size(90868376), size(512), size(None)
    ('90.9 MB', '512 B', '–')
    """
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 999.5 or unit == "TB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or abs(count) >= 99.95 else f"{count:.1f} {unit}"


def duration(seconds: float | None) -> str:
    """A span of time.

    >>> duration(0.04), duration(9.87), duration(75), duration(7320), duration(None), duration(float("nan"))
    ('0.04 s', '9.9 s', '1 min 15 s', '2 h 02 min', '–', 'not finite')
    """
    if seconds is None:
        return "–"
    if not math.isfinite(seconds):
        return NOT_FINITE
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def number(value: object) -> str:
    """A measured value: two significant digits if it is small or huge, integers in full, lists with commas.

    >>> number(3.14159e-07), number(0.25), number(5123.4), number(0.0), number(1 - 2e-9), number(float("inf"))
    ('3.1e-07', '0.25', '5,123', '0', '1 − 2.0e-09', 'not finite')
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(number(entry) for entry in value) or "none"
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return NOT_FINITE
    if value == 0:
        return "0"
    if 0.999 < value < 1:
        return f"1 − {1 - value:.1e}"
    if not 1e-3 <= abs(value) < 1e4:
        return f"{value:.1e}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def figure(value: object, ran: bool = True) -> str:
    """A figure of a verdict, which has null for what isn't finite; of a stage that wasn't run there is none.

    >>> figure(3.14159e-07), figure(None), figure(None, ran=False)
    ('3.1e-07', 'not finite', '–')
    """
    return NOT_FINITE if value is None and ran else number(value)


def times(excess: float | None) -> str:
    """An error in units of its bound.

    >>> times(1250.4), times(float("inf")), times(None)
    ('1,250 × bound', 'not finite', 'not measured')
    """
    if excess is None:
        return "not measured"
    return f"{number(excess)} × bound" if math.isfinite(excess) else NOT_FINITE


def capitalized(sentence: str) -> str:
    """The same with a capital letter at the beginning.

    >>> capitalized("the models part at layers.0")
    'The models part at layers.0'
    """
    return sentence[:1].upper() + sentence[1:]


#: who says a value, and who says it only nearly, by the side that has the field in its config
_SPEAKERS = {
    "source": ("the source's", "the target takes"),
    "target": ("the target's", "the source takes"),
    "between": ("on the way,", "what follows takes"),
}
#: characters of a value that are shown
_SHOWN = 60


def deviation(declared: Mapping[str, Any]) -> str:
    """A deviation that a plan declares, as one sentence.

    >>> deviation({"field": "hidden_act", "value": "gelu_new", "taken_as": "gelu", "reason": "it has no other"})
    "the source's hidden_act is 'gelu_new', and the target takes it as 'gelu': it has no other"
    """
    whose, who = _SPEAKERS.get(str(declared.get("side", "source")), _SPEAKERS["source"])
    value, taken_as = (shortened(declared.get(name)) for name in ("value", "taken_as"))
    return f"{whose} {declared['field']} is {value}, and {who} it as {taken_as}: {declared['reason']}"


def shortened(value: object) -> str:
    """A value of a config, its end left out if it is long.

    >>> shortened("gelu"), len(shortened([1.0] * 40))
    ("'gelu'", 60)
    """
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def deviations(count: int) -> str:
    """What is said beside a "yes" that holds under so many deviations.

    >>> deviations(0), deviations(1), deviations(3)
    ('', 'with a deviation', 'with 3 deviations')
    """
    return ("", "with a deviation")[count] if count < 2 else f"with {count} deviations"
