"""``convkit cerebras list`` and ``list-converters``: which models can be converted from which format to which.

Source of the flags: ModelZoo release 2.10.0, ``tools/convert_checkpoint.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from convkit.cli.cerebras.forms import KINDS
from convkit.cli.cerebras.names import (
    ALIASES,
    OTHERWISE_NAMED,
    PACKED,
    REFUSED,
    UNREACHABLE,
    Model,
    model_called,
    models,
    ways,
)
from convkit.cli.output import emit, table
from convkit.mappings import layouts as all_layouts
from convkit.mappings import releases_of


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("model", metavar="MODEL", nargs="?", default="all", help="one model (default: all)")
    parser.add_argument("--hide-notes", action="store_true", help="leave out the notes")


def run(args: argparse.Namespace) -> int:
    """List models, formats and layouts."""
    asked = models().values() if args.model.lower() == "all" else [model_called(args.model)]
    rows = [row for model in asked for row in _rows(model)]
    if args.json:
        emit(rows)
        return 0
    shown = [[row["model"], " <-> ".join(row["formats"]), " <-> ".join(row["layouts"])] for row in rows]
    if not args.hide_notes:
        shown = [[*cells, "; ".join(row["notes"])] for cells, row in zip(shown, rows, strict=True)]
    table(shown)
    return 0


def _rows(model: Model) -> Iterator[dict[str, Any]]:
    """A row for each pair of formats, and of layouts, between which a model can be converted."""
    *others, hub = model.layouts
    for kind in others or [hub]:
        for pair in ways(model, kind, hub):
            yield {
                "model": model.name,
                "formats": [_formats(one, pair) for one in dict.fromkeys((kind, hub))],
                "layouts": list(dict.fromkeys(pair)),
                "notes": [*_notes(model)],
            }


def _formats(kind: str, layouts: tuple[str, ...]) -> str:
    """The formats of a kind that layouts have: ``cs-2.1 ... cs-2.10``; ``cs-X.Y`` where no layout is known."""
    if kind == "hf":
        return kind
    known = [all_layouts().get(name) for name in layouts if name.startswith("cerebras/")]
    having = [set(releases_of(layout) if layout else ()) for layout in known]
    releases = sorted(set.intersection(*having)) if having else []
    first_and_last = dict.fromkeys(".".join(map(str, release)) for release in (*releases[:1], *releases[-1:]))
    return " ... ".join(f"cs-{release}{KINDS[kind]}" for release in first_and_last or ["X.Y"])


def _notes(model: Model) -> Iterator[str]:
    plain = model.name.removesuffix("-headless")
    if plain in ALIASES and not plain.startswith("bert"):
        yield f"as {ALIASES[plain]}"
    if model.headless:
        yield "the base model, without an output head"
    if model.name in PACKED:
        yield f"packed: its parts lie in the folders {' and '.join(PACKED[model.name])} of transformers' side"
    if "hf" not in model.layouts and len(model.layouts) == 1:
        yield "transformers has no such model: it goes from release to release only"
    if model.name in UNREACHABLE:
        yield "the original's command doesn't know it"
    if model.name in REFUSED:
        yield "the original refuses it: its registry lacks the name"
    if model.name in OTHERWISE_NAMED:
        yield f"the yaml says {ALIASES[plain]}, the original's {OTHERWISE_NAMED[model.name]}"
