"""``convkit roundtrip``, ``equivalence``, ``diff`` and ``verify``: checks that end in a verdict."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from msgspec import structs

from convkit.checkpoint.source_files import Ranged
from convkit.cli.kinds import RECORDED, made_by, models_asked, plan_of_others, recordings
from convkit.cli.options import (
    config_option,
    from_on,
    no_fail_option,
    parts_options,
    running_options,
    source_format_option,
)
from convkit.cli.output import emit, few_of, parse_size, progress, say, steps
from convkit.cli.volume import VOLUME
from convkit.errors import UsageError
from convkit.files.part import Part
from convkit.files.receipt import CONVERSION, read_receipt
from convkit.files.stores import place
from convkit.files.unchanged import same_objects
from convkit.report.stages import faults_of, headline, stages_of
from convkit.report.text import NOT_FINITE, deviation, deviations, size
from convkit.verify.verdict import Verdict
from convkit.version import commit

#: problem lines shown; the JSON document has all
_SHOWN = 20

#: words for a verdict's state on the terminal
_STATES = {"yes": "yes", "no": "NO", "reference in doubt": "REFERENCE IN DOUBT", "not shown": "not shown"}


def _of_two_checkpoints(parser: argparse.ArgumentParser) -> None:
    """Add the options of the checks of a conversion."""
    parser.add_argument("source", metavar="SRC", type=place, help="the checkpoint that was converted")
    parser.add_argument("target", metavar="DST", type=place, help="what it was converted to")
    parser.add_argument("--from", metavar="LAYOUT", dest="from_", help="layout of SRC, if no receipt records it")
    parser.add_argument("--to", metavar="LAYOUT", help="layout of DST, if no receipt records it")
    config_option(parser)
    parser.add_argument("--target-config", metavar="FILE", type=Path, help="the config of DST")
    source_format_option(parser)
    no_fail_option(parser)


def _ends(text: str) -> str:
    """The first and the last of some stages, ``A:B``; which there are, the model says."""
    if text.count(":") != 1:
        raise argparse.ArgumentTypeError(f"{text!r} isn't the first and the last stage, as A:B")
    return text


def roundtrip_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``roundtrip``."""
    _of_two_checkpoints(parser)
    parser.add_argument("--release", metavar="R", help="release of the layout, if no receipt records it")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="keep the reconverted checkpoint")
    parts_options(parser, "join what all parts have found into the verdict")


def equivalence_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``equivalence``."""
    _of_two_checkpoints(parser)
    running_options(parser)
    comparing_options(parser)
    parts_options(parser, "join what all parts have found into the verdict")


def comparing_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of how two models are compared."""
    parser.add_argument("--probe-length", metavar="N", type=from_on(2), default=256, help="positions of the input")
    parser.add_argument(
        "--faults",
        choices=("all", "spread", "none"),
        default="spread",
        help="plant every kind of fault in every layer, or each in at least one, or none, which shows nothing",
    )
    parser.add_argument(
        "--stages", metavar="A:B", type=_ends, help="only these stages, by name or number: layers.0:layers.7"
    )
    parser.add_argument("--memory", metavar="SIZE", type=parse_size, help="the most memory to take, as 4GiB")
    for side, path in zip(RECORDED, ("SRC", "DST"), strict=True):
        parser.add_argument(
            f"--{side}-recorded",
            metavar="FILE",
            type=Path,
            help=f"inputs and logits that its own framework computed for {path}, a .npz: its reference must agree",
        )


def diff_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``diff``."""
    parser.add_argument("source", metavar="A", type=place, help="a checkpoint")
    parser.add_argument("target", metavar="B", type=place, help="the checkpoint to compare with it")
    no_fail_option(parser)


def verify_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``verify``."""
    parser.add_argument("path", metavar="PATH", type=place, help="an output of convkit, whose receipt lies beside it")
    no_fail_option(parser)


def roundtrip(args: argparse.Namespace) -> int:
    """Reconvert, compare with the source, and show the verdict; or do a part of it."""
    if not args.part and not args.finish:
        return _answer(args, verdict_of(args, "roundtrip"))
    if args.keep:
        raise UsageError("--keep is not for a round trip in parts", remedy="leave it out")
    _refuse_none(args.part)
    receipt = _receipt_for_parts(args.target, "round trip")
    plan = receipt["plan"] if receipt else plan_of_others(args)
    how = {"receipt": receipt, "source_format": args.source_format, "commit": commit()}
    from convkit.verify.roundtrip.in_parts import roundtrip_joined, roundtrip_part

    if args.finish:
        return _answer(args, roundtrip_joined(args.source, args.target, plan, **how))
    with progress(f"roundtrip {args.target}, part {args.part}") as advance:
        document = roundtrip_part(args.source, args.target, plan, args.part, progress=advance, **how)
    return _answer_part(args, document)


def _refuse_none(part: Part | None) -> None:
    if part and not part.number:
        raise UsageError("a check has no part 0", remedy="begin with any part, from 1 on")


def _receipt_for_parts(target: Path, check: str) -> dict[str, Any] | None:
    """The receipt of a conversion, whose checks are made in parts; None where another program made the target."""
    if isinstance(target, Ranged):
        remedy = "leave --part and --finish out"
        raise UsageError(f"the {check} of a target in a store isn't made in parts", path=target, remedy=remedy)
    receipt = read_receipt(target)
    if receipt and receipt["kind"] != CONVERSION:
        raise UsageError(f"the {check} of a {receipt['kind']} isn't made in parts", remedy="leave --part out")
    return receipt


def _answer_part(args: argparse.Namespace, document: dict[str, Any]) -> int:
    """Show what a part of a check has found."""
    if args.watch is not None:
        args.watch.check()
    problems = document["problems"]
    if args.json:
        emit(document)
    else:
        found = f"{len(problems)} problems" if problems else "nothing is wrong"
        where = f"{len(document['stages'])} stages" if "stages" in document else size(document["bytes"])
        say(f"{document['check']}: part {args.part}: {found} in {where}; the verdict is --finish's")
        say(*(f"  {problem}" for problem in VOLUME.shown(problems, _SHOWN)))
    return 1 if problems and not args.no_fail else 0


def equivalence(args: argparse.Namespace) -> int:
    """Run both models, and show the verdict; or do a part of it."""
    if not args.part and not args.finish:
        return _answer(args, verdict_of(args, "equivalence"))
    _refuse_none(args.part)
    _receipt_for_parts(args.target, "equivalence check")
    recorded, (asked, choices) = recordings(args), models_asked(args)
    if args.part and recorded:
        remedy = "give it to --finish, which runs that side once more, whole"
        raise UsageError(f"--{next(iter(recorded))}-recorded is not for a part", remedy=remedy)
    from convkit.verify.equivalence.in_parts import equivalence_joined, equivalence_part

    what = f"{args.source} = {args.target}{f', part {args.part}' if args.part else ''}"
    with steps(what) as advance:
        if args.finish:
            verdict = equivalence_joined(
                args.source, args.target, choices=choices, commit=commit(), steps=advance, recorded=recorded, **asked
            )
        else:
            document = equivalence_part(
                args.source,
                args.target,
                args.part,
                choices=choices,
                threads=args.threads,
                commit=commit(),
                steps=advance,
                **asked,
            )
    return _answer(args, verdict) if args.finish else _answer_part(args, document)


def verdict_of(args: argparse.Namespace, check: str) -> Verdict:
    """Make one of the two checks of a conversion."""
    with same_objects(args.source, args.target):
        kind, receipt = made_by(args.target)
        if check == "equivalence":
            return kind.equivalence(args, receipt)
        with progress(f"roundtrip {args.target}") as advance:
            return kind.roundtrip(args, receipt, advance)


def diff(args: argparse.Namespace, close: tuple[float, float] | None = None) -> int:
    """Compare two checkpoints, and show the verdict; ``close`` as :func:`convkit.verify.diff.diff` takes it."""
    from convkit.verify.diff import diff

    with same_objects(args.source, args.target), progress(f"diff {args.source} {args.target}") as advance:
        verdict = diff(args.source, args.target, close=close, progress=advance)
    return _answer(args, verdict)


def verify(args: argparse.Namespace) -> int:
    """Check a checkpoint against its receipt, and show the verdict."""
    from convkit.verify.receipts import verify

    with same_objects(args.path), progress(f"verify {args.path}") as advance:
        verdict = verify(args.path, progress=advance)
    return _answer(args, verdict)


def _answer(args: argparse.Namespace, verdict: Verdict) -> int:
    """Show a verdict, unless the recorded source that it is about has changed meanwhile."""
    if args.watch is not None:
        args.watch.check()
    if args.json:
        emit(verdict.to_json())
    else:
        show(verdict)
    return 0 if verdict.passed or args.no_fail else 1


def show(verdict: Verdict) -> None:
    """Print a verdict for people."""
    measured = ", ".join(f"{name} {_number(value)}" for name, value in verdict.measured.items())
    bound = ", ".join(f"{name} <= {_number(value)}" for name, value in verdict.bound.items())
    declared = verdict.deviations or ()
    under = f", {deviations(len(declared))}" if declared else ""
    say(f"{verdict.check}: {_STATES[verdict.state]}{under}: {measured}{f' (bound: {bound})' if bound else ''}")
    for one in declared:
        own = f" (by itself: max_rel {_number(one.measured['max_rel'])})" if one.measured else ""
        say(f"deviation: {deviation(structs.asdict(one))}{own}")
    document = verdict.to_json()
    if walked := headline(stages_of(document)):
        say(f"stages: {walked}")
    if probe := verdict.details.get("probe"):
        say(f"input: {probe['positions']} positions")
    if verdict.sensitivity:
        missed = [fault.in_words for fault in faults_of(document) if not fault.caught]
        named = f"; missed: {few_of(missed, _SHOWN)}" if missed else ""
        say(f"planted faults: {verdict.sensitivity}{named}")
    if gap := verdict.details.get("not_compared"):
        say(f"not compared: {gap}")
    for key, why in verdict.details.get("missing", {}).items():
        say(f"not there: {key}, though {why}: accepted")
    shown = VOLUME.shown(verdict.problems, _SHOWN)
    say(*(f"  {problem}" for problem in shown))
    if len(shown) < len(verdict.problems):
        say(f"  ... and {len(verdict.problems) - len(shown)} more (-v shows all)")


def _number(value: Any) -> str:
    if value is None:
        return NOT_FINITE
    return f"{value:.3g}" if isinstance(value, float) else str(value)
