"""What a bundle says, for people: no signature is checked here, so all of it is a claim."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from convkit.audit.dsse import Line, MalformedError, read_lines
from convkit.audit.evidence import bundle_path
from convkit.audit.inside import object_in
from convkit.audit.oms import signature_path
from convkit.audit.statements import SET, SIGN_OFF, VERDICTS


class Claim(Struct, frozen=True, kw_only=True):
    """A sign-off, as it stands: which key it names, who is responsible, and when the signer says it was signed."""

    keyid: str
    responsible: str | None
    claimed_time: str | None


class Said(Struct, frozen=True, kw_only=True):
    """A statement: its kind, the sha256 of its payload, how many files it is about, and the keys that it names."""

    kind: str
    payload_sha256: str
    files: int
    directory: str | None
    keyids: tuple[str, ...]
    #: of a test result
    result: str | None = None


class Shown(Struct, frozen=True, kw_only=True):
    """What lies beside a target, or in a campaign's results, unchecked."""

    bundle: str
    model_signature: str | None
    statements: tuple[Said, ...]
    claims: tuple[Claim, ...]
    #: lines that say nothing, with what is wrong with them
    malformed: tuple[str, ...] = ()


def shown(target: Path) -> Shown | None:
    """What the bundle of a target says; None where there is none.

    Raises:
        ConvkitError: it can't be read.
    """
    path = bundle_path(target)
    return shown_in(path, signature_path(target)) if path.is_file() else None


def shown_in(path: Path, model: Path | None = None) -> Shown:
    """What a bundle says.

    Raises:
        ConvkitError: it can't be read.
    """
    found = read_lines(path)
    lines = [line for line in found if isinstance(line, Line)]
    return Shown(
        bundle=path.name,
        model_signature=model.name if model is not None and model.is_file() else None,
        statements=tuple(_said(line) for line in lines if line.predicate_type != SIGN_OFF),
        claims=tuple(_claim(line) for line in lines if line.predicate_type == SIGN_OFF),
        malformed=tuple(
            f"line {number}: {one}" for number, one in enumerate(found, start=1) if isinstance(one, MalformedError)
        ),
    )


def statements_in(path: Path) -> list[dict[str, Any]]:
    """The statements of a bundle as they are, unchecked.

    Raises:
        ConvkitError: it can't be read.
    """
    return [line.statement for line in read_lines(path) if isinstance(line, Line)]


def verdicts_in(statement: Mapping[str, Any]) -> Mapping[str, Any]:
    """The verdicts in a test result, by check; none in another statement."""
    verdicts = object_in(statement, "predicate", VERDICTS, "verdicts")
    return {check: object_in(verdicts, check) for check in verdicts}


def _said(line: Line) -> Said:
    said = line.statement
    whole = next((one["digest"].get("dirHash") for one in said["subject"] if one.get("name") == SET), None)
    result = said["predicate"].get("result")
    return Said(
        kind=line.predicate_type,
        payload_sha256=hashlib.sha256(line.payload).hexdigest(),
        files=sum(one.get("name") != SET for one in said["subject"]),
        directory=whole if isinstance(whole, str) else None,
        keyids=tuple(line.signatures),
        result=result if isinstance(result, str) else None,
    )


def _claim(line: Line) -> Claim:
    claim = object_in(line.statement, "predicate", "signersClaim")
    texts = {name: value for name, value in claim.items() if isinstance(value, str)}
    return Claim(keyid=", ".join(line.signatures), responsible=texts.get("responsible"), claimed_time=texts.get("time"))
