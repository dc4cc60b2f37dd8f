"""What the modules here declare, written down, so that a command imports only those modules that it needs.

``catalogue.json``, which ``make schemas`` writes, has every layout as it is declared, and says which module declares
which mapping. It counts only for the very files that it was made of. If one of them is new, gone or another than it
was, all modules are imported instead: that takes longer, and gives the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, astuple
from xxhash import xxh3_128

from convkit.errors import ConvkitError
from convkit.mapping import Layout, Mapping, Rescaling, Upgrades
from convkit.mappings.modules import declared, imported

FILE = Path(__file__).with_name("catalogue.json")


class Entry(Struct, frozen=True):
    """A mapping: the layouts that it joins, its module, how many forms of keys each side has, how many rules it has."""

    left: str
    right: str
    module: str
    left_forms: int
    right_forms: int
    rules: int

    @classmethod
    def of(cls, mapping: Mapping, module: str) -> Entry:
        """The entry of a mapping that a module declares."""
        forms = len(mapping.forms("left")), len(mapping.forms("right"))
        return cls(mapping.left.name, mapping.right.name, module, *forms, len(mapping.rules))


class Catalogue(Struct, frozen=True):
    """What modules declare.

    Attributes:
        layouts: by name.
        mappings: by name, in the order of their modules.
        upgrades: by framework, the module that says how its layouts come from release to release.
        rescalings: by framework, the module that says how its models get other factors.
    """

    layouts: dict[str, Layout]
    mappings: dict[str, Entry]
    upgrades: dict[str, str]
    rescalings: dict[str, str]


def catalogue_of(package: str, path: Sequence[str]) -> Catalogue:
    """The catalogue of a package of mappings, of its file or of its modules.

    Raises:
        ConvkitError: the file doesn't count, and a module can't be imported, or two declare one mapping.
    """
    try:
        document = json.loads(FILE.read_bytes())
    except (OSError, ValueError):  # it is made anew
        document = {}
    return _read(document) if document.get("made_of") == _digest(path) else _made(package, path)


def text(package: str, path: Sequence[str]) -> str:
    """The catalogue as its file has it.

    Raises:
        ConvkitError: a module can't be imported, or two declare one mapping.
    """
    made = _made(package, path)
    document = {
        "made_of": _digest(path),
        "layouts": [_written(layout) for layout in made.layouts.values()],
        "mappings": [astuple(entry) for entry in made.mappings.values()],
        "upgrades": made.upgrades,
        "rescalings": made.rescalings,
    }
    return json.dumps(document, indent=1) + "\n"


def _read(document: dict[str, Any]) -> Catalogue:
    layouts = [Layout(**{name: _tuples(value) for name, value in one.items()}) for one in document["layouts"]]
    entries = [Entry(*one) for one in document["mappings"]]
    return Catalogue(
        {layout.name: layout for layout in layouts},
        {f"{entry.left} <-> {entry.right}": entry for entry in entries},
        document["upgrades"],
        document["rescalings"],
    )


def _made(package: str, path: Sequence[str]) -> Catalogue:
    found = Catalogue({}, {}, {}, {})
    first: dict[str, Any] = {}
    for where, module in imported(package, path):
        for mapping in declared(where):
            if first.setdefault(mapping.name, mapping) is not mapping:  # a module may have imported another's
                there = found.mappings[mapping.name].module
                remedy = "remove one of them, or give its layout another name"
                raise ConvkitError(f"{there} and {where} both declare the mapping {mapping.name}", remedy=remedy)
            left, right = mapping.left, mapping.right
            found.mappings.setdefault(mapping.name, Entry.of(mapping, where))
            found.layouts.update({left.name: left, right.name: right})
        if isinstance(upgrades := getattr(module, "UPGRADES", None), Upgrades):
            found.upgrades[upgrades.framework] = where
        if isinstance(rescaling := getattr(module, "RESCALING", None), Rescaling):
            found.rescalings[rescaling.framework] = where
    return found


def _written(layout: Layout) -> dict[str, Any]:
    """A layout's fields, except those that have no value."""
    return {name: value for name, value in asdict(layout).items() if value not in ((), {}, False, None)}


def _tuples(value: Any) -> Any:
    """A value of JSON as layouts have it: they hold no lists."""
    if isinstance(value, dict):
        return {key: _tuples(one) for key, one in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _digest(path: Sequence[str]) -> str:
    """The digest of the modules' names and sources."""
    digest = xxh3_128()
    for folder in path:
        for name, file in sorted(_sources(folder)):
            digest.update(f"{name}\0".encode())
            with open(file, "rb", buffering=0) as source:  # noqa: PTH123 - a Path takes longer than reading it
                digest.update(source.read())
    return digest.hexdigest()


def _sources(folder: str, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every source file in a folder, by its name there."""
    for entry in os.scandir(folder):
        if entry.name.endswith(".py"):
            yield f"{prefix}{entry.name}", entry.path
        elif entry.name != "__pycache__" and entry.is_dir():
            yield from _sources(entry.path, f"{prefix}{entry.name}/")
