"""``convkit audit rederive``: make a target's leaves or bytes again from its source, and compare them."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from convkit.audit.comparing import Comparison, signed_files
from convkit.audit.evidence import Evidence, bundle_path, evidence_of
from convkit.audit.findings import Kind, Problem
from convkit.audit.keys import read_public
from convkit.audit.rederived import (
    Claimed,
    claimed_in,
    differing_files,
    differing_leaves,
    other_versions,
    same_plan,
    source_differs,
)
from convkit.checkpoint.progress import Meter
from convkit.cli.audit.again import carried_out, is_planned, planned_again
from convkit.cli.audit.keys import public_key_option
from convkit.cli.audit.sources import digests_now
from convkit.cli.digest import leaves_of
from convkit.cli.options import from_on
from convkit.cli.output import emit, note, progress, say
from convkit.files.clock import standing_at
from convkit.files.stores import place
from convkit.formats import get_format, open_checkpoint


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("source", metavar="SRC", type=place, help="what TARGET was made from")
    parser.add_argument("target", metavar="TARGET", type=Path, help="the output, with its statements beside it")
    public_key_option(parser, "a key that you trust, by which the statements are checked first; repeat it for several")
    parser.add_argument("--config", metavar="FILE", type=Path, help="the config of SRC, if it isn't where it was")
    parser.add_argument(
        "--leaves", action="store_true", help="compare digests of leaves, without disk, where bytes could be compared"
    )
    parser.add_argument("--scratch", metavar="DIR", type=Path, help="a folder with room for the target, made again")
    parser.add_argument("--threads", metavar="N", type=from_on(1), help="default: one per core")


def run(args: argparse.Namespace) -> int:
    """Make it again and compare; the exit code is the answer."""
    evidence = evidence_of(args.target)
    claimed = claimed_in(bundle_path(args.target), [read_public(path) for path in args.public_key])
    if not args.public_key:
        note("no signature was checked: --public-key names a key that you trust")
    problems = [*claimed.problems, *_as_signed(args, claimed)] if claimed.provenance else [*claimed.problems]
    how = "nothing was made again"
    count = 0
    if not problems:
        for line in other_versions(evidence.receipt.document):
            note(f"{args.target}: {line}")
        how, count, problems = _compared(args, evidence, claimed)
    if args.json:
        document = {"schema": "convkit.rederived/1", "target": str(args.target), "passed": not problems, "how": how}
        emit(document | {"compared": count, "problems": [_shown(one) for one in problems]})
    else:
        for problem in problems:
            say(str(problem))
        said = f"{args.target}: {how}"
        say(f"{said}: NOT THE SAME" if problems else f"{said}: the same, {count} compared")
    return 1 if problems else 0


def _as_signed(args: argparse.Namespace, claimed: Claimed) -> list[Problem]:
    """Whether target and source are the files that are signed."""
    assert claimed.provenance
    with progress(f"digest {args.target}") as shown:
        problems = [*Comparison(args.target, signed_files(claimed.provenance), shown).problems()]
    signed = claimed.source_files
    return [*problems, *source_differs(digests_now(args.source, signed), signed)] if signed else problems


def _compared(args: argparse.Namespace, evidence: Evidence, claimed: Claimed) -> tuple[str, int, list[Problem]]:
    """How it was compared, how much, and what differs."""
    receipt = evidence.receipt.document
    format = str(receipt["target"].get("format"))
    times = get_format(format).times(args.target)
    # several are the times of steps that were written one after another
    bytes_too = get_format(format).same_bytes and len(times) <= 1 and not args.leaves
    if is_planned(receipt):
        with planned_again(args, receipt) as (source, plan):
            if plan.digest != claimed.plan_digest:
                return "planned again", 0, [_problem("another plan", args.target.name, _other_plan(receipt))]
            if not bytes_too:
                return _leaf_by_leaf(args, evidence, source, plan)
    with tempfile.TemporaryDirectory(prefix="convkit-rederive-", dir=args.scratch) as folder:
        with standing_at(*times) if len(times) == 1 else nullcontext():
            made = carried_out(args, receipt, Path(folder))
        if not same_plan(claimed.plan_digest, receipt["plan"], made["plan"]):
            return "planned again", 0, [_problem("another plan", args.target.name, _other_plan(receipt))]
        again = Path(folder) / args.target.name
        if bytes_too:
            found = differing_files(args.target, receipt, again, made)
            return "made again and compared byte by byte", len(evidence.files), [*found]
        there = _leaves(args.target, format)
        return (
            "made again and compared by the digests of leaves",
            len(there),
            [*differing_leaves(there, _leaves(again, format))],
        )


def _leaf_by_leaf(args: argparse.Namespace, evidence: Evidence, source: Any, plan: Any) -> tuple[str, int, list[Any]]:
    """Make every leaf again without disk, and compare it with the target's file and with the receipt."""
    from convkit.execute.rederived import leaf_digests

    receipt = evidence.receipt.document
    recorded = receipt["target"]["leaves"]
    algorithm = next((str(leaf["digest"]).partition(":")[0] for leaf in recorded.values()), "sha256")
    with progress(f"{args.source} -> nowhere") as shown:
        made = leaf_digests(source, plan, algorithm, threads=args.threads, progress=shown)
    there = _leaves(args.target, plan.target_format, algorithm)
    problems = [*differing_leaves(there, made["target"])]
    kept = {key: str(leaf["digest"]) for key, leaf in receipt["complement"]["tensors"].items()}
    problems += differing_leaves(kept, made["complement"], "complement")
    return "made again without disk and compared by the digests of leaves", len(there), problems


def _leaves(path: Path, format: str, algorithm: str = "sha256") -> dict[str, str]:
    """The digests of the leaves that lie in a checkpoint now; of an Orbax root, of all its steps."""
    from convkit.orbax.root_checkpoint import RootCheckpoint, root_at

    root = root_at(path) if format.startswith("orbax") else None
    with RootCheckpoint(root) if root is not None else open_checkpoint(path, format) as checkpoint:
        total = sum(leaf.spec.nbytes for leaf in checkpoint.leaves.values() if leaf.spec)
        with progress(f"digest {path}") as shown:
            found = leaves_of(checkpoint, algorithm, Meter(total, shown))
    return {key: str(leaf["digest"]) for key, leaf in found.items()}


def _other_plan(receipt: dict[str, Any]) -> str:
    from convkit import __version__

    return "; ".join(
        (
            f"this convkit {__version__} plans it otherwise than the one that made it, {receipt['convkit']},"
            " or the source's config is another",
            *other_versions(receipt),
        )
    )


def _problem(kind: Kind, file: str, problem: str) -> Problem:
    return Problem(kind=kind, file=file, check="rederive", problem=problem)


def _shown(one: Problem) -> dict[str, str]:
    return {"kind": one.kind, "file": one.file, "check": one.check, "problem": one.problem}
