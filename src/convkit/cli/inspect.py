"""``convkit inspect``."""

from __future__ import annotations

import argparse
from typing import Any

from convkit.checkpoint import Leaf
from convkit.checkpoint.digests import ALGORITHMS, digest_leaf, digest_value
from convkit.checkpoint.progress import Meter
from convkit.cli.kinds import MIGRATIONS
from convkit.cli.options import config_option, source_format_option
from convkit.cli.output import emit, progress, say, table
from convkit.errors import ConvkitError, PlanError
from convkit.files.receipt import json_value
from convkit.files.stores import place
from convkit.formats import detect_format
from convkit.mapping import Mapping, inverse
from convkit.mappings import naming
from convkit.plan import Source, open_source
from convkit.plan.detect import detect_layout
from convkit.plan.encoded import encoding_of
from convkit.plan.names import detect_facts, detect_variants, seen_variants
from convkit.plan.wrapped import fitting, wrapping_of
from convkit.report.text import size


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("path", metavar="PATH", type=place, help="the checkpoint: a file or a folder")
    parser.add_argument("--digest", action="store_true", help="read everything and give each leaf's content digest")
    parser.add_argument("--algorithm", choices=ALGORITHMS, default=ALGORITHMS[0], help="of --digest")
    config_option(parser)
    source_format_option(parser)


def run(args: argparse.Namespace) -> int:
    """Describe a checkpoint."""
    if args.source_format:
        format, reason = args.source_format, "named by the user"
    else:
        found, reason = detect_format(args.path)
        format = found.name
    with _opened(args, format) as source:
        document = _describe(source, reason)
        if args.digest:
            with progress(f"inspect {args.path}") as shown:
                advance = Meter(document["bytes"], shown)
                for leaf in document["leaves"]:
                    leaf["digest"] = digest_of(source, leaf["key"], args.algorithm, advance)
    if args.json:
        emit(document)
    else:
        _show(document)
    return 0


def _opened(args: argparse.Namespace, format: str) -> Source:
    """Open the checkpoint; for an Orbax root, all its steps."""
    if format in MIGRATIONS:
        from convkit.orbax.root_checkpoint import RootCheckpoint, root_at

        if (found := root_at(args.path)) is not None:
            return Source(args.path, RootCheckpoint(found), None, None, {})
    return open_source(args.path, format=format, config=args.config)


def _describe(source: Source, reason: str) -> dict[str, Any]:
    leaves = source.checkpoint.leaves
    document: dict[str, Any] = {
        "schema": "convkit.inspect/1",
        "path": str(source.path),
        "format": source.checkpoint.format,
        "format_reason": reason,
        "layout": None,
        "layout_reason": None,
        "wrapped": None,
        "variant": {},
        "facts": {},
        "config_path": str(source.config_path) if source.config_path else None,
        "config": source.config,
        "bytes": sum(leaf.spec.nbytes for leaf in leaves.values() if leaf.spec),
        "encoding": (found := encoding_of(source)) and found.what,
        "notes": source.checkpoint.metadata.get("notes", []),
        "not_carried": source.not_carried,
        "leaves": [_leaf(leaf) for leaf in leaves.values()],
    }
    try:
        layout, why = detect_layout(source)
    except ConvkitError as error:
        document["layout_reason"] = error.problem
        return document
    document |= {"layout": layout.name, "layout_reason": why}
    mapping = naming(layout.name)
    if mapping is None:
        return document
    turned = mapping if mapping.left.name == layout.name else inverse(mapping)
    return document | _shape_of_names(turned, leaves, why)


def _shape_of_names(mapping: Mapping, leaves: dict[str, Leaf], why: str) -> dict[str, Any]:
    """What the keys show of the mapping's left layout, which was detected for a reason: whether they have its names,
    what wraps them, and without it, its variants and facts.
    """
    try:
        wrapping = wrapping_of(leaves, mapping)
    except PlanError as error:
        return {"wrapped": str(error)}
    plain = [wrapping.plain(key) for key in leaves]
    seen = seen_variants(mapping.variants, plain)
    taken = detect_variants(mapping.variants, plain, {})
    wrapped = {"prefix": wrapping.prefix, "within": list(wrapping.within)} if wrapping else None
    if 2 * (named := fitting(plain, mapping)) < len(plain):
        why = f"{why}, but {named or 'none'} of {len(plain)} leaves {'has a name' if named < 2 else 'have names'} of it"
    layout = {"layout": mapping.left.name if named else None, "layout_reason": why}
    return layout | {"wrapped": wrapped, "variant": seen, "facts": detect_facts(mapping.facts, plain, taken)}


def _leaf(leaf: Leaf) -> dict[str, Any]:
    shown: dict[str, Any] = {"key": leaf.key, "shape": None, "dtype": None}
    if leaf.spec is not None:
        shown |= {"shape": list(leaf.spec.shape), "dtype": leaf.spec.dtype}
    else:
        shown["value"] = json_value(leaf.value)
    if leaf.same_as:
        shown["same_as"] = leaf.same_as
    return shown


def digest_of(source: Source, key: str, algorithm: str, advance: Meter) -> str:
    """The digest of a leaf, as receipts give it."""
    leaf = source.checkpoint.leaves[key]
    if leaf.spec is None:
        return digest_value(algorithm, json_value(leaf.value))
    return digest_leaf(source.checkpoint, key, algorithm, advance)


def _show(document: dict[str, Any]) -> None:
    choices = document["variant"] | document["facts"]
    table(
        [
            ("path", document["path"]),
            ("format", f"{document['format']} ({document['format_reason']})"),
            ("layout", f"{document['layout'] or 'unknown'} ({document['layout_reason']})"),
            *([("wrapped", _wrapped(document["wrapped"]))] if document["wrapped"] else []),
            ("variant", ", ".join(f"{name}={value!r}" for name, value in choices.items()) or "-"),
            ("config", document["config_path"] or ("within the checkpoint" if document["config"] else "none")),
            ("leaves", f"{len(document['leaves'])}, {size(document['bytes'])}"),
            *([("weights", document["encoding"])] if document["encoding"] else []),
            *(("note", note) for note in document["notes"]),
            *(("not carried", name) for name in document["not_carried"]),
        ]
    )
    say("")
    table([_row(leaf) for leaf in document["leaves"]])


def _wrapped(wrapped: dict[str, Any] | str) -> str:
    """What wraps the keys; or why that can't be said."""
    if isinstance(wrapped, str):
        return wrapped
    names = [name for name in (wrapped["prefix"], *wrapped["within"]) if name]
    return f"in {', '.join(names)} (a conversion reads the keys without)"


def _row(leaf: dict[str, Any]) -> tuple[str, str, str, str]:
    if leaf["dtype"]:
        shape = "x".join(map(str, leaf["shape"])) or "scalar"
        what = leaf["dtype"]
    else:
        kind = leaf["value"].get("opaque") if isinstance(leaf["value"], dict) else None
        shape, what = "value", kind if kind and "hex" not in leaf["value"] else repr(leaf["value"])
    note = f"= {leaf['same_as']}" if "same_as" in leaf else leaf.get("digest", "")
    return leaf["key"], shape, what, note
