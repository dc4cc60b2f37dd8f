"""``convkit audit sign``."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from convkit.audit.campaign import Row, sign_campaign
from convkit.audit.dsse import Line, read_lines
from convkit.audit.evidence import Evidence, bundle_path, evidence_of
from convkit.audit.files import total_bytes
from convkit.audit.inside import object_in, objects_in, sha256_in
from convkit.audit.keys import PrivateKey, passphrase_from, read_private
from convkit.audit.signing import Signed, Signing, sign_target
from convkit.audit.statements import PROVENANCE, VERDICTS
from convkit.checkpoint.progress import Meter
from convkit.cli.audit.keys import passphrase_option
from convkit.cli.audit.rows import is_target, place_option, rows_of
from convkit.cli.audit.sources import source_of
from convkit.cli.output import emit, note, progress, say
from convkit.cli.report import altered
from convkit.errors import ConvkitError, UsageError
from convkit.files.clock import now_s


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    place_option(parser)
    parser.add_argument("--key", metavar="KEY.pem", type=Path, required=True, help="the private key")
    passphrase_option(parser)
    parser.add_argument("--responsible", metavar="WHO", help="the person or the role that stands for it")
    parser.add_argument(
        "--documents", metavar="DIR", type=Path, help="where the verdicts on TARGET lie, if not beside it"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace statements that say something else, with all signatures"
    )


def run(args: argparse.Namespace) -> int:
    """Sign an output, or every output of a campaign and the campaign."""
    key = read_private(args.key, passphrase_from(args.passphrase_file))
    signing = Signing(key, datetime.fromtimestamp(now_s(), UTC), args.responsible, args.overwrite)
    if is_target(args.path):
        done = [_sign(args.path, args.documents, signing)]
    elif args.documents is not None:
        raise UsageError("--documents is for one output", path=args.path, remedy="leave it out")
    else:
        done = _sign_all(args.path, signing)
    if args.json:
        emit({"schema": "convkit.signed/1", "keyid": key.public.id, "signed": [_shown(one) for one in done]})
        return 0
    for one in done:
        say(f"{one.bundle}: signed, {one.signatures} {'signature' if one.signatures == 1 else 'signatures'}")
        if one.model_signature is not None:
            say(f"{one.model_signature}: model signature")
    return 0


def _sign_all(results: Path, signing: Signing) -> list[Signed]:
    """Sign every row that this key hasn't signed as it is, then the campaign."""
    rows = rows_of(results)
    done = []
    for row in rows:
        if row.target is None:
            note(f"row {row.id} has no output, so nothing is signed of it")
        elif not _is_signed(row, signing.key):
            done.append(_sign(row.target, row.folder, signing))
    return [*done, sign_campaign(results, rows, signing)]


def _sign(target: Path, documents: Path | None, signing: Signing) -> Signed:
    evidence = evidence_of(target, documents)
    if problems := altered(target):
        raise ConvkitError(f"isn't what its receipt says: {problems[0]}", path=target, remedy="make it again")
    source = source_of(evidence, documents or _row_of(evidence))
    with progress(f"sign {target}") as shown:
        signed = sign_target(evidence, source, signing, Meter(total_bytes(evidence.files), shown))
    if signed.source_as_stated:
        note(f"{target}: its source isn't there to be compared; it is signed as an earlier signer stated it")
    elif not source.files:
        note(f"{target}: no digest of its source is signed: {source.known}")
    return signed


def _row_of(evidence: Evidence) -> Path | None:
    """The folder of a row, if the documents of a target lie in one."""
    folder = evidence.target.parent
    return folder if (folder / "convert.json").is_file() and (folder / "fetch.json").is_file() else None


def _is_signed(row: Row, key: PrivateKey) -> bool:
    """Whether the key signed what there is of a row: its receipt and its verdicts. Files are for `verify`."""
    assert row.target is not None
    path = bundle_path(row.target)
    if not path.is_file():
        return False
    lines = [line for line in read_lines(path) if isinstance(line, Line)]
    if not lines or not all(line.signers([key.public]) for line in lines[:2]):
        return False
    evidence = evidence_of(row.target, row.folder)
    said = [line.statement["predicate"] for line in lines[:2]]
    now = {check: one.sha256 for check, one in evidence.verdicts.items()}
    documents = object_in(said[-1], VERDICTS, "documents")
    signed = {check: sha256_in(object_in(documents, check)) for check in documents}
    receipts = [sha256_in(one) for one in objects_in(object_in(said[0], "runDetails"), "byproducts")]
    return lines[0].predicate_type == PROVENANCE and receipts == [evidence.receipt.sha256] and signed == now


def _shown(one: Signed) -> dict[str, object]:
    model = str(one.model_signature) if one.model_signature else None
    return {"bundle": str(one.bundle), "model_signature": model, "signatures": one.signatures}
