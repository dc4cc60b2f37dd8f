"""``convkit audit show``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec

from convkit.audit.campaign import campaign_path
from convkit.audit.evidence import bundle_path
from convkit.audit.oms import signature_path
from convkit.audit.shown import Shown, shown_in, statements_in, verdicts_in
from convkit.cli.audit.rows import is_target, place_option, rows_of
from convkit.cli.output import emit, say
from convkit.errors import ConvkitError


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    place_option(parser)


def run(args: argparse.Namespace) -> int:
    """Show what is signed; no signature is checked."""
    if is_target(args.path):
        places = {"": (bundle_path(args.path), signature_path(args.path))}
    else:
        there = {row.id: row.target for row in rows_of(args.path) if row.target is not None}
        rows = {id: (bundle_path(target), signature_path(target)) for id, target in there.items()}
        places = {"": (campaign_path(args.path), args.path / ""), **rows}
    found = {row: (path, shown_in(path, model)) for row, (path, model) in places.items() if path.is_file()}
    if not found:
        raise ConvkitError("nothing is signed here", path=args.path, remedy="convkit audit sign signs it")
    if args.json:
        emit([{"row": row, **_document(path, one)} for row, (path, one) in found.items()])
        return 0
    for row, (path, one) in found.items():
        _show(row, path, one)
    say("no signature was checked: convkit audit verify does that")
    return 0


def _document(path: Path, one: Shown) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(one)
    return found | {"contents": statements_in(path)}


def _show(row: str, path: Path, one: Shown) -> None:
    say(f"{row + ': ' if row else ''}{path}")
    for said in one.statements:
        result = f", {said.result}" if said.result else ""
        say(f"  {said.kind}: {said.files} subjects, payload sha256 {said.payload_sha256[:16]}{result}")
    for statement in statements_in(path):
        for check, verdict in verdicts_in(statement).items():
            caught = f", {verdict['sensitivity']}" if verdict.get("sensitivity") else ""
            say(f"    {check}: {verdict.get('state')}{caught}")
    for claim in one.claims:
        when = f" at {claim.claimed_time}" if claim.claimed_time else ""
        who = claim.responsible or "nobody named"
        say(f"  sign-off: {who}{when}, both by the signer's claim; key {claim.keyid[:16]}")
    for text in one.malformed:
        say(f"  {text}")
    if one.model_signature:
        say(f"  model signature: {one.model_signature}")
