"""The work that a receipt records, as it is asked for again: by the command line in it, else by what its plan says."""

from __future__ import annotations

import argparse
import contextlib
import io
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convkit.cli import parser
from convkit.cli.planning import opened, planned
from convkit.errors import ConvkitError, UsageError
from convkit.files.document import as_json
from convkit.files.receipt import CONVERSION, read_receipt
from convkit.plan import Plan, Source

#: commands whose options are those of a conversion
_PLANNED = ("convert", "prove", "upgrade")
#: what the commands of repairs and migrations call what they read and write
_READ = ("source", "checkpoint_path", "old_checkpoint", "input_path")
_WRITTEN = ("target", "fixed_checkpoint_path", "output_file", "output_path")


def is_planned(receipt: Mapping[str, Any]) -> bool:
    """Whether a receipt is that of a conversion whose plan can be asked for, so that it needs no disk."""
    return receipt["kind"] == CONVERSION and _words(receipt)[:1] != ["te"]


@contextmanager
def planned_again(args: argparse.Namespace, receipt: Mapping[str, Any]) -> Iterator[tuple[Source, Plan]]:
    """The source, open, and the plan of its conversion, made anew as it was asked for.

    Raises:
        ConvkitError: the source can't be read, or the plan isn't total.
    """
    asked = _asked(args, receipt)
    with opened(asked) as source:
        yield source, planned(asked, source)


def carried_out(args: argparse.Namespace, receipt: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Do the work again, into a folder, under the name that the target has; returns the receipt.

    Raises:
        ConvkitError: it can't be done.
    """
    asked = _asked(args, receipt)
    target = folder / args.target.name
    for name in _WRITTEN:
        if hasattr(asked, name):
            setattr(asked, name, target)
    for name in ("overwrite", "json", "dry_run", "reverse", "fix_inplace"):
        if hasattr(asked, name):
            setattr(asked, name, False)
    with contextlib.redirect_stdout(io.StringIO()):
        asked.call(asked)
    found = read_receipt(target)
    if found is None:
        raise ConvkitError("wasn't made again", path=args.target, remedy="report it")
    made: dict[str, Any] = as_json(found)
    return made


def _asked(args: argparse.Namespace, receipt: Mapping[str, Any]) -> argparse.Namespace:
    """The arguments by which the work is done again, reading the source that is named now."""
    words = _words(receipt)
    if not is_planned(receipt):
        asked = _parsed(words)
    elif words[:1] and words[0] in _PLANNED:
        asked = _parsed(words)
        asked.call = _parsed(["convert", "SRC", "DST"]).call
        if words[0] == "upgrade":  # it stays within its layout
            plan = receipt["plan"]
            asked.to, asked.release = plan["target"]["layout"], asked.release or plan.get("release")
    else:
        asked = _parsed(_words_of(receipt["plan"]))
    for name in _READ:
        if hasattr(asked, name):
            setattr(asked, name, args.source)
    asked.watch, asked.threads = args.watch, args.threads
    if is_planned(receipt):
        asked.config = args.config or (asked.config if asked.config and asked.config.exists() else None)
    return asked


def _words(receipt: Mapping[str, Any]) -> list[str]:
    """What was typed, without the program's name; nothing where convkit was called from Python."""
    return shlex.split(str(receipt.get("command_line") or ""))[1:]


def _parsed(words: list[str]) -> argparse.Namespace:
    try:
        return parser().parse_args(words)
    except UsageError as error:
        remedy = "use the convkit that made it; convkit audit verify checks it all the same"
        said = f"was made by a command that can't be repeated: {error.problem}"
        raise ConvkitError(said, remedy=remedy) from error


def _words_of(plan: Mapping[str, Any]) -> list[str]:
    """What a plan says of how it was asked for, where another command than convert made it."""
    source, target = plan["source"], plan["target"]
    words = [
        "convert",
        "SRC",
        "DST",
        "--from",
        source["layout"],
        "--to",
        target["layout"],
        "--format",
        target["format"],
    ]
    words += ["--release", plan["release"]] if plan.get("release") else []
    drawn = source.get("wrapped", {}).get("drawn") or []
    words += ["--seed", str(drawn[0]["seed"])] if drawn else []
    words += ["--dtype", plan["dtype"]] if plan.get("dtype") else []
    words += ["--allow-overflow"] if plan.get("allow_overflow") else []
    for key, leaf in plan["source_leaves"].items():
        words += ["--drop", key] if leaf["fate"] == "dropped" else []
    for key in plan.get("missing", {}):
        words += ["--allow-missing", key]
    return words
