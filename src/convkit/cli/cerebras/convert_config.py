"""``convkit cerebras convert-config``: replaces the command of this name of ModelZoo's converter, with the same flags.

Source of the flags and of the names of outputs: ModelZoo release 2.10.0, ``tools/convert_checkpoint.py``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from convkit.cli.cerebras.convert import (
    form_options,
    in_folders,
    in_their_words,
    output_dir_option,
    overwrite_option,
    request_of,
    way_from,
)
from convkit.cli.cerebras.forms import AUTO
from convkit.cli.cerebras.names import HEADS, SHOWN, Model
from convkit.cli.cerebras.packed import YAML, has_parts, places_of, read_parts, write_parts
from convkit.cli.convert import print_notes
from convkit.cli.output import emit, say
from convkit.config import Converted
from convkit.config.tree import paths_of
from convkit.errors import ConfigError, UsageError
from convkit.execute.publish import writing
from convkit.files.config_file import read_config, write_config
from convkit.files.taken import refuse_taken
from convkit.mapping import Chain, Mapping
from convkit.mapping.layout import parse_release
from convkit.mappings import find_mapping
from convkit.plan.detect import layout_of_config
from convkit.plan.deviations import declared
from convkit.plan.releases import Journey, Leg


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("source", metavar="CONFIG", type=Path, help="the config: a .json of hf, a .yaml of Cerebras")
    form_options(parser)
    output_dir_option(parser)
    parser.add_argument("--debug", action="store_true", help="print which fields are read, and which have no place")
    overwrite_option(parser)


def run(args: argparse.Namespace) -> int:
    """Convert a config, and print where it is."""
    request = request_of(args)
    found, target = request.ways, request.target
    if request.source.text == AUTO:
        raise UsageError(f"--src-fmt {AUTO}: a config doesn't say its release", remedy="say it: --src-fmt cs-2.9")
    packed = request.source.kind == "hf" and has_parts(args.source, request.model)
    if request.source.kind == "hf":
        found = [way for way in found if in_folders(way) == packed] or found
    config = read_parts(args.source, request.model) if packed else read_config(args.source)
    with in_their_words():
        here, there = way_from(found, lambda: layout_of_config(config, args.source)[0].name, args.source)
        mapping = find_mapping(here, there)
        folder: Path = args.output_dir or args.source.parent
        apart = target.kind == "hf" and in_folders((here, there))
        name = f"{YAML if packed else args.source.stem}_to_{target.text}.{'json' if target.kind == 'hf' else 'yaml'}"
        places = places_of(folder, request.model) if apart else [folder / name]
        for place in places:
            refuse_taken(place, overwrite=args.overwrite)
        asked, said = (parse_release(one.release) for one in (target, request.source))
        journey = Journey(None, asked, said, restore=False)
        document = _converted(args.source, config, journey.legs([mapping]), facts_of(request.model, mapping))
    with writing(places[0]):
        write_parts(folder, document["config"]) if apart else write_config(places[0], document["config"])
    _show(args, document | {"target": str(folder if apart else places[0])})
    return 0


def facts_of(model: Model, mapping: Mapping) -> dict[str, Any]:
    """What the tensors of a model would show, as the user names it."""
    facts = [fact.name for fact in mapping.facts if fact.left]
    if model.headless:
        base = {"hf": ""} if mapping.left.name.startswith("hf/") else {"headless": True}
        return dict.fromkeys((fact for fact in facts if fact in HEADS), False) | base
    shown = SHOWN.get(model.name, "").split()
    return {fact: fact in shown for fact in facts} if shown else {}


def _converted(path: Path, config: dict[str, Any], legs: list[Leg], facts: dict[str, Any]) -> dict[str, Any]:
    """Convert a config, and say what became of it.

    Raises:
        ConfigError: it can't be expressed on the other side; the file is named.
    """
    done: list[Converted] = []
    try:
        for leg in legs:
            done.append(leg.mapping.config.convert(done[-1].config if done else config, facts, leg.release))
    except ConfigError as error:
        raise ConfigError(error.problem, path=path, key=error.key, remedy=error.remedy) from None
    first, last = done[0], done[-1]
    return {
        "source": str(path),
        "mapping": Chain(tuple(leg.mapping for leg in legs)).name,
        "release": ".".join(map(str, legs[-1].release)),
        "config": last.config,
        "read": sorted(first.seen),
        "defaults": [default for one in done for default in one.defaults],
        "deviations": [deviation for one in done for deviation in to_builtins(declared(one))],
        "unknown": list(first.unknown),
        "lost_config": first.lost,
        "warnings": list(dict.fromkeys(warning for one in done for warning in one.warnings)),
    }


def _show(args: argparse.Namespace, document: dict[str, Any]) -> None:
    print_notes({"plan": document, "warnings": document["warnings"]})
    if args.json:
        emit(document)
        return
    if args.debug:
        say(*(f"read: {path}" for path in document["read"]))
        say(*(f"no place: {path}" for path in paths_of(document["lost_config"])))
    say(f"{document['target']}: {document['mapping']}", f"Config saved to {document['target']}")
