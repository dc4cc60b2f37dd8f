"""``convkit orbax check``: show which calls load a checkpoint, which don't, and what Orbax hides about it."""

from __future__ import annotations

import argparse
import textwrap
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from convkit.cli.options import no_fail_option
from convkit.cli.output import emit, note, say, steps, table
from convkit.errors import UsageError
from convkit.orbax.check.calls import Verb, spelled
from convkit.orbax.check.check import Check, agree, check, confirmed, leaves
from convkit.orbax.check.outcome import Outcome

SCHEMA = "convkit.orbax-check/1"
_WIDTH = 110


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("path", metavar="PATH", type=Path, help="a root, a step, a checkpoint, an item or a file")
    parser.add_argument("--run", action="store_true", help="make each call in the installed Orbax, and compare")
    parser.add_argument(
        "--devices", metavar="N", type=int, default=1, help="CPU devices on which to load it (default: 1)"
    )
    no_fail_option(parser)


def run(args: argparse.Namespace) -> int:
    """Print the table; exit 1 if nothing loads the checkpoint or Orbax disagrees, 3 if nothing is recognised."""
    if args.devices < 1:
        raise UsageError(f"--devices {args.devices}", remedy="at least 1")
    checked = check(args.path, args.devices)
    if args.run:
        with steps(f"check {args.path}") as advance:
            checked = confirmed(checked, lambda done, total: advance(done, total, f"{done} of {total} calls"))
    if args.json:
        emit(_document(checked))
    else:
        _print(checked)
    if checked.problem:
        note(str(checked.problem))
        return checked.problem.exit_code
    usable = any(checked.to_use(api) for api in ("v0", "v1"))
    return 0 if args.no_fail or (usable and not checked.disagreeing) else 1


def _document(checked: Check) -> dict[str, Any]:
    found = checked.found
    answers = checked.ran or (None,) * len(checked.calls)
    return {
        "schema": SCHEMA,
        "path": str(checked.path),
        "kind": found.kind if found else None,
        "api": found.api if found else None,
        "why": found.why if found else str(checked.problem),
        "items": {name: {"kind": item.kind, "why": item.why} for name, item in found.items.items()} if found else {},
        "steps": [step.name for step in found.steps] if found else [],
        "devices": checked.devices,
        "calls": [
            {
                "call": call.text,
                "api": call.api,
                **_outcome_json(guess),
                **({"ran": _outcome_json(real), "agrees": agree(guess, real)} if real else {}),
            }
            for call, guess, real in zip(checked.calls, checked.predicted, answers, strict=True)
        ],
        "use": {api: call.text if (call := checked.to_use(api)) else None for api in ("v1", "v0")},
        "where": _spelled(checked),
        "findings": [asdict(finding) for finding in checked.findings],
        "confirmed": not checked.disagreeing if checked.ran else None,
    }


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    causes = [{"error": kind, "reason": reason} for kind, reason in outcome.causes]
    return {"result": outcome.result, "value": outcome.value, "causes": causes}


def _spelled(checked: Check) -> dict[str, str]:
    """Explain the short names in the calls."""
    meanings = {"p": str(checked.path)}
    if checked.names and checked.names != ("", 0):
        meanings |= spelled(checked.names)
    return meanings


def _print(checked: Check) -> None:
    found = checked.found
    if found:
        say(f"{checked.path}: {found.api} {found.kind} ({found.why})")
        table([(f"  {name or 'itself'}", item.kind, item.why) for name, item in found.items.items()])
        if found.steps:
            say(f"  steps: {', '.join(step.name for step in found.steps)}")
    else:
        say(f"{checked.path}: not recognised as an Orbax checkpoint")
    say("", "use")
    for api in ("v1", "v0"):
        call = checked.to_use(api)
        say(f"  {call.text if call else f'nothing of {api} loads it'}")
    for name, meaning in _spelled(checked).items():
        if name != "p":
            say(f"  {name} = {meaning}")
    _print_answers(checked)
    if checked.findings:
        say("", "beware")
    for finding in checked.findings:
        _wrapped(f"{finding.where}: {finding.what}" if finding.where else finding.what, "- ")
        _wrapped(finding.remedy, "  -> ")
    if checked.ran:
        _print_ran(checked)


def _print_answers(checked: Check) -> None:
    failed: dict[str, list[str]] = defaultdict(list)
    succeeded = []
    for call, outcome in zip(checked.calls, checked.predicted, strict=True):
        if outcome.ok:
            succeeded.append((f"  {call.text}", _summary(call.verb, outcome.value)))
        else:
            failed[" <- ".join(f"{kind}: {reason}" for kind, reason in outcome.causes)].append(call.text)
    if succeeded:
        say("", "answers")
        table(succeeded)
    if failed:
        say("", "fails")
    for why, texts in failed.items():
        _wrapped(why, "  ")
        for text in texts:
            say(f"      {text}")


def _summary(verb: Verb, value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value)
    if not value:
        return "{}: nothing"
    noun = "leaf" if leaves(value) == 1 else "leaves"
    what = "of metadata" if verb in (Verb.METADATA, Verb.METADATA_ALL) else ""
    return f"{leaves(value)} {noun} {what}".rstrip()


def _print_ran(checked: Check) -> None:
    differing = checked.disagreeing
    say("", f"{len(checked.calls) - len(differing)} of {len(checked.calls)} calls answered as predicted")
    for call, guess, real in differing:
        say(f"  {call.text}")
        for what, outcome in (("predicted", guess), ("Orbax", real)):
            text = " <- ".join(f"{kind}: {reason}" for kind, reason in outcome.causes) or str(outcome.value)
            _wrapped(f"{what}: {outcome.result}, {text}", "      ")


def _wrapped(text: str, indent: str) -> None:
    say(*textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=" " * (len(indent) + 2)))
