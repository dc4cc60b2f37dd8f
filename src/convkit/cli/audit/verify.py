"""``convkit audit verify``."""

from __future__ import annotations

import argparse
from pathlib import Path

from convkit.audit.campaign import verify_campaign
from convkit.audit.findings import Outcome
from convkit.audit.keys import read_public
from convkit.audit.policy import read_policy
from convkit.audit.verifying import verify_target
from convkit.cli.audit.keys import public_key_option
from convkit.cli.audit.rows import is_target, place_option, rows_of
from convkit.cli.output import emit, progress, say


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    place_option(parser)
    public_key_option(parser, "a key that you trust, which you got another way; repeat it for several", required=True)
    parser.add_argument(
        "--policy", metavar="FILE", type=Path, help="what is asked for, YAML or JSON: docs/how-to/audit.md"
    )
    parser.add_argument(
        "--documents", metavar="DIR", type=Path, help="where the verdicts on TARGET lie, if not beside it"
    )


def run(args: argparse.Namespace) -> int:
    """Check the evidence of an output or of a campaign; the exit code is the answer."""
    keys = [read_public(path) for path in args.public_key]
    policy = read_policy(args.policy)
    with progress(f"verify {args.path}") as advance:
        if is_target(args.path):
            rows: tuple[str, ...] = ()
            checked = verify_target(args.path, keys, policy, folder=args.documents, progress=advance)
        else:
            found = rows_of(args.path)
            rows = tuple(row.id for row in found)
            checked = verify_campaign(args.path, found, keys, policy, advance)
    outcome = Outcome(
        target=str(args.path),
        passed=not checked.problems,
        policy=policy.digest,
        rows=rows,
        files=checked.files,
        signers=checked.signers,
        problems=checked.problems,
    )
    if args.json:
        emit(outcome.to_json())
        return 0 if outcome.passed else 1
    _show(outcome)
    return 0 if outcome.passed else 1


def _show(outcome: Outcome) -> None:
    for problem in outcome.problems:
        say(str(problem))
    for one in outcome.signers:
        key = one.key or "a key that wasn't given"
        who = one.responsible or "nobody named as responsible"
        when = f", signed at {one.claimed_time} by the signer's claim" if one.claimed_time else ""
        say(f"{'signed' if one.verified else 'not counted'}: {key} ({one.keyid[:16]}): {who}{when}")
    rows = f"{len(outcome.rows)} rows, " if outcome.rows else ""
    said = "holds" if outcome.passed else f"DOESN'T HOLD, {len(outcome.problems)} problems"
    say(f"{outcome.target}: {rows}{outcome.files} files read: the evidence {said}")
