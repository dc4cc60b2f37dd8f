"""What the package knows by name: formats, layouts, mappings, generated families, checks and faults."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import MISSING, fields
from typing import Any

from markdown import code, codes, plain, table

from convkit import formats as _formats
from convkit import mappings as _mappings
from convkit.generate import FAMILIES
from convkit.verify.equivalence import faults, faults_of_images, faults_of_texts
from convkit.verify.roundtrip.faults import FAULTS


def formats() -> str:
    """The formats, with what each is."""
    return table(
        ["format", "what it is"], ([code(name), plain(_formats.get_format(name).summary)] for name in _formats.names())
    )


def layouts() -> str:
    """The layouts, with their conventions and the format that each has by default."""
    return table(
        ["layout", "what it is", "format", "conventions"],
        (
            [code(name), plain(one.summary), code(one.format), codes(f"{a} {b}" for a, b in one.conventions.items())]
            for name, one in sorted(_mappings.layouts().items())
        ),
    )


def mappings() -> str:
    """The layouts that a mapping leads from each layout to."""
    reached = defaultdict(set)
    for one in _mappings.all_mappings():
        reached[one.left.name].add(one.right.name)
        reached[one.right.name].add(one.left.name)
    return table(["layout", "to and from"], ([code(name), codes(sorted(to))] for name, to in sorted(reached.items())))


def families() -> str:
    """The families that can be generated, each with its options and their defaults."""
    return table(
        ["source", "options"],
        ([code(f"generated://{name}"), codes(f"{a}={b}" for a, b in _options(one))] for name, one in FAMILIES.items()),
    )


def _options(family: Any) -> Iterable[tuple[str, str]]:
    for one in fields(family):
        if one.init:
            default = "" if one.default is MISSING else one.default
            yield one.name, str(default).lower() if isinstance(default, bool) else str(default)


def faults_of_roundtrip() -> str:
    """The faults that a round trip is run against."""
    return _listed(FAULTS)


def faults_of_equivalence() -> str:
    """The faults that equivalence is run against: those that change tensors."""
    kinds = {
        "In a layer": faults.IN_A_LAYER,
        "Before the layers": (*faults.BEFORE_THE_LAYERS, *faults_of_texts.TABLES_OF_TEXTS),
        "Before the layers of a model of images": faults_of_images.OF_IMAGES,
        "After the layers": (*faults.AFTER_THE_LAYERS, *faults_of_texts.HEADS_OF_TEXTS),
    }
    return "\n".join(f"**{where}**\n\n{_listed(kind.name for kind in found)}" for where, found in kinds.items())


def _listed(names: Iterable[str]) -> str:
    return "".join(f"- {plain(name)}\n" for name in dict.fromkeys(names))
