"""What a table does with each field of its classes, without any config: for docs, and for the laws of families."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from convkit.config.classes import ABSENT, EVERY_VALUE, ITS_DEFAULT, REQUIRED, ConfigClass, every
from convkit.config.rows import Constant, Rest, Row, Written
from convkit.config.sides import Which
from convkit.config.table import ConfigTable

What = Literal["row", "constant", "no effect", "neutral", "refused", "unknown"]


@dataclass(frozen=True)
class Fate:
    """What becomes of a field of a class.

    =============  ==========================================================================================
    ``row``        a row converts it
    ``constant``   it must have the value that the layout fixes
    ``no effect``  no value of it changes what a trained model computes
    ``neutral``    no row reads it: every value except the neutral one is refused
    ``refused``    no row reads it, and its default has an effect: configs that leave it out are refused, too
    ``unknown``    a row names it, and no class of the side has a field of that name
    =============  ==========================================================================================

    The last two are mistakes in a declaration.
    """

    side: Which
    cls: str
    field: str
    what: What


def fates(table: ConfigTable) -> tuple[Fate, ...]:
    """The fate of every field of both classes, as they are in the current release, whatever the rows' conditions.

    Fields in sections are listed where the class declares them by their dotted paths. A side without a class has none.
    """
    sides: tuple[Which, Which] = ("left", "right")
    return tuple(fate for side in sides for fate in _of_side(table, side))


def _of_side(table: ConfigTable, side: Which) -> Iterator[Fate]:
    classes = every(table.left if side == "left" else table.right)
    named = {path for row in table.rows for path in _paths(row, side)}
    rest = any(isinstance(row, Rest) for row in table.rows)
    for cls in classes:
        for path in cls.fields:
            yield Fate(side, cls.name, path, "row" if rest else _of_field(table, side, cls, path))
    for path in sorted(named if classes else ()):
        if not any(path in one.fields or path.partition(".")[0] in one.fields for one in classes):
            yield Fate(side, " or ".join(one.name for one in classes), path, "unknown")


def _of_field(table: ConfigTable, side: Which, cls: ConfigClass, path: str) -> What:
    readers = [row for row in table.rows if _reads(row, side, path)]
    if readers:
        return "constant" if all(isinstance(row, Constant) for row in readers) else "row"
    field = cls.fields[path]
    if field.neutral is EVERY_VALUE:
        return "no effect"
    depends = field.neutral is ITS_DEFAULT or field.beside or callable(field.default)
    if depends or field.default in (REQUIRED, ABSENT) or not field.in_release(()):
        return "neutral"
    return "neutral" if field.is_neutral(field.default, (), {}) else "refused"


def _reads(row: Row, side: Which, path: str) -> bool:
    if isinstance(row, Written):
        return False
    return any(one == path or one.startswith(f"{path}.") for one in _paths(row, side))


def _paths(row: Row, side: Which) -> Iterator[str]:
    """The fields in the model's section that a row names."""
    return (path for where, path in row.places() if where == side and path and not path.startswith("/"))
