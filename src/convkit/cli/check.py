"""``convkit roundtrip``, ``equivalence``, ``diff`` and ``verify``: checks that end in a verdict."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from convkit.cli.options import config_option, no_fail_option, source_format_option
from convkit.cli.output import emit
from convkit.files.receipt import CONVERSION, MIGRATION, REPAIR, read_receipt
from convkit.verify.verdict import Verdict

#: problem lines shown; all are in the JSON document
_SHOWN = 20

#: how a verdict's state is spelled on the terminal
_STATES = {"yes": "yes", "no": "NO", "not shown": "not shown"}


def _of_two_checkpoints(parser: argparse.ArgumentParser) -> None:
    """What the checks of a conversion take."""
    parser.add_argument("source", metavar="SRC", type=Path)
    parser.add_argument("target", metavar="DST", type=Path)
    parser.add_argument("--from", metavar="LAYOUT", dest="from_", help="layout of SRC, where no receipt says it")
    parser.add_argument("--to", metavar="LAYOUT", help="layout of DST, where no receipt says it")
    config_option(parser)
    parser.add_argument("--target-config", metavar="FILE", type=Path, help="the config of DST")
    source_format_option(parser)
    no_fail_option(parser)


def roundtrip_options(parser: argparse.ArgumentParser) -> None:
    """What ``roundtrip`` takes."""
    _of_two_checkpoints(parser)
    parser.add_argument("--release", metavar="R", help="release of the layout, where no receipt says it")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="keep the reconverted checkpoint")


def equivalence_options(parser: argparse.ArgumentParser) -> None:
    """What ``equivalence`` takes."""
    _of_two_checkpoints(parser)
    parser.add_argument("--probe-length", metavar="N", type=int, default=256, help="positions of the input")


def diff_options(parser: argparse.ArgumentParser) -> None:
    """What ``diff`` takes."""
    parser.add_argument("source", metavar="A", type=Path)
    parser.add_argument("target", metavar="B", type=Path)
    no_fail_option(parser)


def verify_options(parser: argparse.ArgumentParser) -> None:
    """What ``verify`` takes."""
    parser.add_argument("path", metavar="PATH", type=Path)
    no_fail_option(parser)


def roundtrip(args: argparse.Namespace) -> int:
    """Reconvert and compare with the source, show the verdict."""
    return _answer(args, _roundtrip(args))


def equivalence(args: argparse.Namespace) -> int:
    """Run both models, show the verdict."""
    return _answer(args, _equivalence(args))


def diff(args: argparse.Namespace) -> int:
    """Compare two checkpoints, show the verdict."""
    from convkit.verify.diff import diff

    return _answer(args, diff(args.source, args.target))


def verify(args: argparse.Namespace) -> int:
    """Check a checkpoint against its receipt, show the verdict."""
    return _answer(args, _verify(args))


def _answer(args: argparse.Namespace, verdict: Verdict) -> int:
    if args.json:
        emit(verdict.to_json())
    else:
        _show(verdict)
    return 0 if verdict.passed or args.no_fail else 1


def _roundtrip(args: argparse.Namespace) -> Verdict:
    from convkit.verify.repaired import repaired
    from convkit.verify.roundtrip.check import roundtrip

    if (migration := read_receipt(args.target, MIGRATION)) is not None:
        from convkit.migrate.orbax import checks

        return checks.roundtrip(args.source, args.target, migration, keep=args.keep)
    receipt = read_receipt(args.target, CONVERSION)
    if receipt is None and (record := read_receipt(args.target, REPAIR)) is not None:
        return repaired(args.source, args.target, record)
    plan = receipt["plan"] if receipt else _plan(args)
    return roundtrip(args.source, args.target, plan, receipt=receipt, keep=args.keep, source_format=args.source_format)


def _plan(args: argparse.Namespace) -> dict[str, Any]:
    """The plan that convkit would make for a conversion that somebody else made."""
    from convkit.mapping.layout import parse_release
    from convkit.plan import Options, make_plan, open_source
    from convkit.plan.detect import detect_layout

    with (
        open_source(args.source, format=args.source_format, config=args.config) as source,
        open_source(args.target, config=args.target_config) as target,
    ):
        to = args.to or detect_layout(target)[0].name
        options = Options(
            format=target.checkpoint.format,
            release=parse_release(args.release),
            restore=False,
            existing=target.checkpoint.leaves,
        )
        return make_plan(source, to, args.from_, options).to_json()


def _equivalence(args: argparse.Namespace) -> Verdict:
    if (migration := read_receipt(args.target, MIGRATION)) is not None:
        from convkit.migrate.orbax import checks

        return checks.equivalence(args.source, args.target, migration)
    from convkit.verify.equivalence.check import equivalence

    return equivalence(
        args.source,
        args.target,
        from_layout=args.from_,
        to_layout=args.to,
        source_config=args.config,
        target_config=args.target_config,
        source_format=args.source_format,
        probe_length=args.probe_length,
    )


def _verify(args: argparse.Namespace) -> Verdict:
    if args.path.exists() and (migration := read_receipt(args.path, MIGRATION)) is not None:
        from convkit.verify.files import verify_migration

        return verify_migration(args.path.absolute(), migration)
    from convkit.verify.receipts import verify

    return verify(args.path)


def _show(verdict: Verdict) -> None:
    measured = ", ".join(f"{name} {_number(value)}" for name, value in verdict.measured.items())
    bound = ", ".join(f"{name} <= {_number(value)}" for name, value in verdict.bound.items())
    print(f"{verdict.check}: {_STATES[verdict.state]}: {measured}{f' (bound: {bound})' if bound else ''}")
    if verdict.sensitivity:
        missed = ", ".join(fault.name for fault in verdict.faults if not fault.caught)
        print(f"planted faults: {verdict.sensitivity}{f'; missed: {missed}' if missed else ''}")
    for problem in verdict.problems[:_SHOWN]:
        print(f"  {problem}")
    if len(verdict.problems) > _SHOWN:
        print(f"  ... and {len(verdict.problems) - _SHOWN} more (--json shows all)")


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
