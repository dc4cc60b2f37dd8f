"""Make small configs from the tables of a mapping alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from copy import deepcopy
from random import Random
from typing import Any

from convkit.config import ABSENT, REQUIRED, WHOLE, ConfigTable, Constant, Coupled, Field, Flag
from convkit.config.classes import OF_CLASS, ClassField, every
from convkit.config.sides import Which
from convkit.config.tree import MISSING, dig, plant
from convkit.mapping.components import PackedTable

#: sizes small enough for a tiny model; most of them divide each other, as heads divide a width
SIZES = (1, 2, 2, 3, 4, 4, 6, 8, 8, 16)
#: numbers of layers, or of whatever else numbers in keys count
COUNTS = (1, 2, 2, 3)


def make_config(table: ConfigTable, random: Random, counted: Set[str] = frozenset()) -> dict[str, Any]:
    """Make a config of the side that the table reads.

    Sizes are small, values that rows list are taken from them, and the rest has its default or a value of its kind.
    The fields needn't agree with each other: the table refuses what doesn't. ``counted`` are the declared names that
    are numbers of leaves.
    """
    source: Which = "right" if table.reverse else "left"
    base = random.choice(getattr(table, f"{source}_at"))
    config: dict[str, Any] = {}
    section: dict[str, Any] = {}
    for path, value in _fields(table, source, random, counted):
        plant(config, path[1:], value) if path.startswith("/") else plant(section, path, value)
    for part in table.sections if isinstance(table, PackedTable) else ():
        scope = f"{part.name}."
        theirs = {name.removeprefix(scope) for name in counted if name.startswith(scope)}
        path, own = part.at(source), make_config(part.table, random, theirs)
        there = dig(section, path)
        plant(section, path, own | (there if isinstance(there, dict) else {}))
    there = dig(config, base)
    plant(config, base, section | (there if base and isinstance(there, dict) else {}))
    return config


def with_names(table: ConfigTable, config: dict[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """A config whose fields say what is wanted of some declared names, as far as they say it themselves."""
    source = "right" if table.reverse else "left"
    found = deepcopy(config)
    for row in table.rows:
        if isinstance(row, Field) and not row.values and (row.name or row.left) in wanted:
            path = getattr(row, source)
            base = table.section_path(config)
            place = path[1:] if path.startswith("/") else ".".join(filter(None, (base, path)))
            plant(found, place, wanted[row.name or row.left])
    return found


def class_fields(table: ConfigTable, source: str) -> dict[str, ClassField]:
    """Every field of the classes of one side, by name."""
    return {name: one for cls in reversed(every(getattr(table, source))) for name, one in cls.fields.items()}


def some_values(field: ClassField) -> Sequence[Any]:
    """Values that a field may have, small ones, and the default if there is one that isn't computed."""
    computed = callable(field.default) or field.default in (REQUIRED, ABSENT)
    own = () if computed else (field.default,)
    found = {
        "whole number": tuple(n for n in (0, 1, 2, 3, 8) if field.kind.least is None or n >= field.kind.least),
        "number": (0.5, 2.0) if field.kind.most is None else (0.0, 0.5),
        "boolean": (True, False),
        "text": ("spare",),
        "section": ({}, {"spare": 1}),
        "list": ([], [1]),
        "anything": (),
    }[field.kind.what]
    return (*own, *found, *((None,) if field.kind.null else ()))


def _fields(table: ConfigTable, source: str, random: Random, counted: Set[str]) -> Iterator[tuple[str, Any]]:
    """Yield fields of one side, as far as the rows and the classes say what they may hold."""
    classes = class_fields(table, source)
    for row in table.rows:
        if isinstance(row, Constant) and row.side == source and random.random() < 0.9:
            near = [value for value, _ in row.near]
            chosen = random.choice((row.value, row.value, *row.also, *near))
            if not callable(chosen):
                yield row.field, chosen
        elif isinstance(row, Coupled):
            for path in getattr(row, source):
                field = classes.get(path)
                if field is None or random.random() >= 0.3:
                    continue
                if field.kind.what in ("whole number", "boolean"):
                    yield path, random.choice(some_values(field))
                elif field.kind.each == WHOLE:  # some of the layers
                    yield path, [number for number in range(max(COUNTS)) if random.random() < 0.3]
        elif isinstance(row, Field | Flag):
            path, default = getattr(row, source), getattr(row, f"{source}_default")
            if not path:  # the whole config
                yield path, {"field": random.choice(SIZES)}
            elif isinstance(row, Field) and (row.name or row.left) in counted:
                yield path, random.choice(COUNTS)
            elif isinstance(row, Field) and row.values:
                yield path, random.choice(row.values)[source == "right"]
            else:
                if default is OF_CLASS:
                    default = classes[path].default if path in classes else REQUIRED
                value = _like(default, classes.get(path), random)
                if value is not MISSING:
                    yield path, value


def _like(default: Any, field: ClassField | None, random: Random) -> Any:
    """A value of the kind of a field, or of its default; MISSING if it may be left out."""
    kind = field.kind.what if field else "anything"
    if isinstance(default, bool) or kind == "boolean":
        return random.choice((True, False))
    if isinstance(default, int) or (default is REQUIRED and kind in ("whole number", "anything")):
        return random.choice(SIZES)  # the default would be too large
    if isinstance(default, float):
        return random.choice((default, default / 2, MISSING))
    if default is REQUIRED and field:
        return random.choice(some_values(field))
    if kind in ("whole number", "anything") and (default is None or callable(default)):
        return random.choice((MISSING, MISSING, random.choice(SIZES)))
    return MISSING
