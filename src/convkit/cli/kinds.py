"""The kinds of work, by the word in their receipts: how the output of each is judged.

A new kind of work is a row of :data:`KINDS`. ``convkit verify`` doesn't use the table: a receipt itself shows whether
it covers leaves or files (:mod:`convkit.verify.receipts`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from convkit.cli.output import steps
from convkit.files.receipt import CONVERSION, MIGRATION, REPAIR, read_receipt

if TYPE_CHECKING:
    from convkit.checkpoint.progress import Progress
    from convkit.verify.equivalence.both import Asked
    from convkit.verify.equivalence.walk import Choices
    from convkit.verify.verdict import Verdict

#: makes a verdict from a check's arguments, and the receipt beside its target if there is one
Check = Callable[[argparse.Namespace, "dict[str, Any] | None"], "Verdict"]
#: the same for a check that reads bytes, whose progress is shown
ReadingCheck = Callable[[argparse.Namespace, "dict[str, Any] | None", "Progress"], "Verdict"]

#: what ``to`` may name beside a layout -> the command that does it
REPAIRS = {
    "fix-checkpoint-spec": ("cerebras", "fix-checkpoint-spec", "SRC"),
    "data-iter-state": ("cerebras", "data-iter-state", "--old_checkpoint", "SRC", "--output_file", "DST"),
}
#: options of ``convkit equivalence`` that the column ``checks`` may give: how the models are run, not what they are
EQUIVALENCE_OPTIONS = ("device", "faults", "memory", "probe-length", "stages", "threads")
#: the sides of which the framework's own logits may be given
RECORDED = ("source", "target")
#: formats to which an Orbax checkpoint is migrated if ``to`` doesn't name a layout
MIGRATIONS = ("orbax-v0", "orbax-v1")


class Kind(Struct, frozen=True):
    """One kind of work.

    Attributes:
        roundtrip: whether the target leads back to its source.
        equivalence: whether the target computes the same as its source.
        checks: the checks that prove a row of the table, each with the options that its column ``checks`` may give.
    """

    roundtrip: ReadingCheck
    equivalence: Check
    checks: Mapping[str, tuple[str, ...]]


def made_by(target: Path) -> tuple[Kind, dict[str, Any] | None]:
    """Find the kind of work that made a target, and its receipt; without a receipt, another program converted it.

    Raises:
        ConvkitError: the receipt can't be read.
    """
    receipt = read_receipt(target)
    return KINDS[receipt["kind"] if receipt else CONVERSION], receipt


def _converted_back(args: argparse.Namespace, receipt: dict[str, Any] | None, progress: Progress) -> Verdict:
    from convkit.verify.roundtrip.check import roundtrip

    plan = receipt["plan"] if receipt else plan_of_others(args)
    return roundtrip(
        args.source,
        args.target,
        plan,
        receipt=receipt,
        keep=args.keep,
        source_format=args.source_format,
        progress=progress,
    )


def plan_of_others(args: argparse.Namespace) -> dict[str, Any]:
    """Make the plan of convkit for a conversion that another program made."""
    from convkit.mapping.layout import parse_release
    from convkit.plan import Options, make_plan, open_source
    from convkit.plan.detect import detect_layout

    with (
        open_source(args.source, format=args.source_format, config=args.config) as source,
        open_source(args.target, config=args.target_config) as target,
    ):
        to = args.to or detect_layout(target, to=detect_layout(source, args.from_)[0].name)[0].name
        options = Options(
            format=target.checkpoint.format,
            release=parse_release(args.release),
            restore=False,
            existing=target.checkpoint.leaves,
        )
        return make_plan(source, to, args.from_, options).to_json()


def models_asked(args: argparse.Namespace) -> tuple[Asked, Choices]:
    """How the models of a check are opened and walked."""
    from convkit.verify.equivalence.walk import Choices

    asked: Asked = {
        "from_layout": args.from_,
        "to_layout": args.to,
        "source_config": args.config,
        "target_config": args.target_config,
        "source_format": args.source_format,
        "probe_length": args.probe_length,
        "device": args.device,
    }
    return asked, Choices(faults=args.faults, stages=args.stages or "", memory=args.memory)


def recordings(args: argparse.Namespace) -> dict[str, Path]:
    """The logits that a framework recorded, by side."""
    return {side: file for side in RECORDED if (file := getattr(args, f"{side}_recorded"))}


def _same_model(args: argparse.Namespace, _: dict[str, Any] | None) -> Verdict:
    from convkit.verify.equivalence.check import equivalence

    asked, choices = models_asked(args)
    with steps(f"{args.source} = {args.target}") as advance:
        return equivalence(
            args.source,
            args.target,
            threads=args.threads,
            choices=choices,
            steps=advance,
            recorded=recordings(args),
            **asked,
        )


def _repaired(args: argparse.Namespace, receipt: dict[str, Any] | None, progress: Progress) -> Verdict:
    from convkit.verify.repaired import repaired

    return repaired(args.source, args.target, receipt or {}, progress=progress)


def _migrated_back(args: argparse.Namespace, receipt: dict[str, Any] | None, progress: Progress) -> Verdict:
    from convkit.migrate.orbax import checks

    return checks.roundtrip(args.source, args.target, receipt or {}, keep=args.keep, progress=progress)


def _restored(args: argparse.Namespace, receipt: dict[str, Any] | None) -> Verdict:
    from convkit.migrate.orbax import checks

    return checks.equivalence(args.source, args.target, receipt or {})


KINDS = {
    CONVERSION: Kind(_converted_back, _same_model, {"roundtrip": (), "equivalence": EQUIVALENCE_OPTIONS}),
    # its round trip compares every tensor under its own name, so no model needs to be run
    REPAIR: Kind(_repaired, _same_model, {"roundtrip": ()}),
    MIGRATION: Kind(_migrated_back, _restored, {"roundtrip": (), "equivalence": ()}),
}
