"""One statement over a campaign: the digests of all that the rows' bundles say, who signed them, the table, the config.

So no row can be dropped, added or replaced unseen, and no signature be taken away. It lies in the results,
``campaign.intoto.jsonl``, with a sign-off for each signer, as the bundles of the rows do. A signature that is added to
a row's bundle later leaves the statement true, so that a second person signs the same one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convkit.audit.bundle import read_bundle
from convkit.audit.dsse import Line, line_of, read_lines, write_bundle
from convkit.audit.evidence import bundle_path
from convkit.audit.files import sha256_of
from convkit.audit.findings import Kind, Problem, in_row
from convkit.audit.inside import object_in, objects_in, sha256_in
from convkit.audit.keys import PublicKey
from convkit.audit.policy import Policy
from convkit.audit.signing import Signed, Signing, lines_to_sign, with_sign_off
from convkit.audit.statements import CAMPAIGN, SIGN_OFF, statement
from convkit.audit.verifying import Checked, verify_target
from convkit.checkpoint.progress import Progress
from convkit.errors import ConvkitError

#: what the statements over a campaign are called, in their order
KINDS = {"campaign": CAMPAIGN, "sign-off": SIGN_OFF}
#: the copy of the table in the results, and the config with which they were made
FILES = {"table": "checkpoints.tsv", "config": "config.json"}


@dataclass(frozen=True)
class Row:
    """A row: its id, where its documents lie, its output if that is there, and what all its checks say."""

    id: str
    folder: Path
    target: Path | None
    verdict: str


def campaign_path(results: Path) -> Path:
    """Where the statement over a campaign lies."""
    return results / "campaign.intoto.jsonl"


def sign_campaign(results: Path, rows: Sequence[Row], signing: Signing) -> Signed:
    """Sign what a campaign consists of.

    Raises:
        UsageError: there is a statement that says something else, and it may not be replaced.
        ConvkitError: a file can't be read.
    """
    path = campaign_path(results)
    said = _said(results, rows)
    if (stated := _stated(path)) is not None and _is_true(stated, said):
        said = stated
    lines = lines_to_sign(path, [line_of(said)], overwrite=signing.overwrite)
    signed = with_sign_off(lines, signing, {})
    write_bundle(path, signed)
    return Signed(path, None, len(signed[0].signatures))


def verify_campaign(
    results: Path,
    rows: Sequence[Row],
    keys: Sequence[PublicKey],
    policy: Policy,
    progress: Progress | None = None,
) -> Checked:
    """Check the evidence of a campaign: its statement, then each row's.

    Args:
        results: the folder.
        rows: those that are there now.
        keys: the public keys that were given.
        policy: what is asked for.
        progress: called with the bytes of a row digested so far, and its bytes in all.

    Raises:
        ConvkitError: a file is there and can't be read.
    """
    path = campaign_path(results)
    read = read_bundle(path, KINDS, keys, policy)
    problems = [*read.problems]
    if (said := read.statements.get(CAMPAIGN)) is not None:
        problems += _compared(results, rows, said["predicate"])
    files = 0
    signers = [*read.signers]
    for row in rows:
        if row.target is None or not bundle_path(row.target).is_file():
            problems += [] if policy.unsigned_rows else [_unsigned(row)]
            continue
        checked = verify_target(row.target, keys, policy, folder=row.folder, progress=progress)
        problems += in_row(row.id, checked.problems)
        files += checked.files
        signers += [one for one in checked.signers if one.keyid not in {known.keyid for known in signers}]
    return Checked(tuple(problems), tuple(signers), files)


def _said(results: Path, rows: Sequence[Row]) -> dict[str, Any]:
    """The statement: rows in the order of the table."""
    entries: list[dict[str, Any]] = [
        {"id": row.id, "verdict": row.verdict, "bundle": _bundle_of(row, results)} for row in rows
    ]
    named = {kind: _named(results / name) for kind, name in FILES.items() if (results / name).is_file()}
    about = [
        {"name": f"{entry['id']}: {one['name']}", "digest": one["digest"]}
        for entry in entries
        for one in (entry["bundle"] or {}).get("statements", ())
    ]
    about += named.values()
    if not about:
        raise ConvkitError("holds nothing that can be signed", path=results, remedy="sign its rows first")
    return statement(about, CAMPAIGN, {"rows": entries, **named})


def _stated(path: Path) -> dict[str, Any] | None:
    """The statement that is there; None where there is none."""
    lines = [line for line in read_lines(path) if isinstance(line, Line)] if path.is_file() else []
    return next((line.statement for line in lines if line.predicate_type == CAMPAIGN), None)


def _is_true(stated: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a statement says what is so now, apart from signatures that were added to bundles since."""
    signers = [
        {
            str(entry.get("id")): {*_texts_in(object_in(entry, "bundle"), "signers")}
            for entry in objects_in(one["predicate"], "rows")
        }
        for one in (stated, now)
    ]
    fewer = all(ids <= signers[1].get(row, set()) for row, ids in signers[0].items())
    return fewer and _without_signers(stated) == _without_signers(now)


def _without_signers(said: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        {**entry, "bundle": {**object_in(entry, "bundle"), "signers": None}}
        for entry in objects_in(said["predicate"], "rows")
    ]
    return {**said, "predicate": {**said["predicate"], "rows": rows}}


def _bundle_of(row: Row, results: Path) -> dict[str, Any] | None:
    """What the bundle of a row says and which keys signed it; None where there is none."""
    if row.target is None or not (path := bundle_path(row.target)).is_file():
        return None
    lines = [line for line in read_lines(path) if isinstance(line, Line) and line.predicate_type != SIGN_OFF]
    digests = [
        {"name": line.predicate_type, "digest": {"sha256": hashlib.sha256(line.payload).hexdigest()}} for line in lines
    ]
    inside, root = path.absolute(), results.absolute()
    name = inside.relative_to(root).as_posix() if inside.is_relative_to(root) else inside.as_posix()
    signers = sorted({id for line in lines for id in line.signatures})
    return {"name": name, "statements": digests, "signers": signers}


def _named(path: Path) -> dict[str, Any]:
    return {"name": path.name, "digest": {"sha256": sha256_of(path)}}


def _compared(results: Path, rows: Sequence[Row], predicate: Mapping[str, Any]) -> Iterator[Problem]:
    """What differs between the campaign that was signed and the one that is there."""
    signed = objects_in(predicate, "rows")
    ids, now = [str(one.get("id")) for one in signed], {row.id: row for row in rows}
    for one in signed:
        id, bundle = str(one.get("id")), object_in(one, "bundle")
        if id not in now:
            yield _problem("removed row", FILES["table"], "is signed, and the campaign has it no more", id)
        elif bundle:
            yield from _compared_bundle(now[id], bundle, results)
        elif _bundle_of(now[id], results) is not None:
            yield _problem("changed bundle", _bundle_name(now[id]), "had no bundle when the campaign was signed", id)
    for row in rows:
        if row.id not in ids:
            yield _problem("added row", FILES["table"], "isn't signed as a row of the campaign", row.id)
    if {*ids} == {*now} and ids != [*now]:
        yield _problem("lines out of order", FILES["table"], "the rows are in another order than signed")
    for kind, name in FILES.items():
        yield from _compared_file(results / name, object_in(predicate, kind))


def _compared_bundle(row: Row, signed: Mapping[str, Any], results: Path) -> Iterator[Problem]:
    found, name = _bundle_of(row, results), Path(str(signed.get("name"))).name
    if found is None:
        yield _problem("missing file", name, "its bundle is signed, and isn't there", row.id)
    elif found["statements"] != signed.get("statements"):
        yield _problem("changed bundle", name, "it says something else than what was signed with the campaign", row.id)
    elif gone := {*_texts_in(signed, "signers")} - {*found["signers"]}:
        yield _problem("changed bundle", name, f"the signature of {', '.join(sorted(gone))} was taken away", row.id)


def _texts_in(found: Mapping[str, Any], name: str) -> list[str]:
    listed = found.get(name)
    return [str(one) for one in listed] if isinstance(listed, list) else []


def _compared_file(path: Path, signed: Mapping[str, Any]) -> Iterator[Problem]:
    if not signed and path.is_file():
        yield _problem("added file", path.name, "is there, and isn't signed with the campaign")
    elif signed and not path.is_file():
        yield _problem("removed file", path.name, "is signed with the campaign, and isn't there")
    elif signed and sha256_of(path) != sha256_in(signed):
        yield _problem("changed file", path.name, "its sha256 isn't the signed one")


def _bundle_name(row: Row) -> str:
    return bundle_path(row.target).name if row.target else ""


def _unsigned(row: Row) -> Problem:
    said = "the row has no output" if row.target is None else "nothing is signed beside its output"
    return _problem("unsigned row", row.target.name if row.target else "", said, row.id)


def _problem(kind: Kind, file: str, problem: str, row: str = "") -> Problem:
    return Problem(kind=kind, file=file, check="campaign", problem=problem, row=row)
