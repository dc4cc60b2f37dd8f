"""Bundles: files of lines, each a DSSE envelope over an in-toto statement, and who signed each.

A bundle isn't signed as a whole: lines can be taken out and put in. What must be there, and in which order, is for
whoever checks it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from convkit.audit.keys import PrivateKey, PublicKey
from convkit.checkpoint import json_text
from convkit.checkpoint.digests import canonical_json
from convkit.errors import ConvkitError
from convkit.files.document import write_whole

STATEMENT = "https://in-toto.io/Statement/v1"
PAYLOAD = "application/vnd.in-toto+json"


class MalformedError(ValueError):
    """A line that isn't an envelope over a statement."""


@dataclass(frozen=True)
class Line:
    """An envelope: the bytes that are signed, and the signatures by the ids of their keys."""

    payload: bytes
    signatures: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def statement(self) -> dict[str, Any]:
        """What is said."""
        return _object(self.payload)

    @property
    def predicate_type(self) -> str:
        """Of what kind the statement is."""
        return str(self.statement["predicateType"])

    def signed(self, key: PrivateKey) -> Line:
        """The same with the signature of a key, in the place of one that it made before."""
        from securesystemslib.dsse import Envelope
        from securesystemslib.signer import CryptoSigner, SSlibKey

        public = SSlibKey.from_crypto(key.key.public_key(), keyid=key.public.id)
        made = Envelope(self.payload, PAYLOAD, {}).sign(CryptoSigner(key.key, public))
        return replace(self, signatures={**self.signatures, key.public.id: bytes.fromhex(made.signature)})

    def signers(self, keys: Iterable[PublicKey]) -> list[PublicKey]:
        """Those of the keys that signed this, whatever ids the signatures bear: ids aren't signed."""
        from securesystemslib.dsse import Envelope
        from securesystemslib.exceptions import VerificationError
        from securesystemslib.signer import Signature, SSlibKey

        found = []
        for key in keys:
            known = SSlibKey.from_crypto(key.key, keyid=key.id)
            for made in self.signatures.values():
                envelope = Envelope(self.payload, PAYLOAD, {key.id: Signature(key.id, made.hex())})
                try:
                    envelope.verify([known], 1)
                except VerificationError:
                    continue
                found.append(key)
                break
        return found

    def text(self) -> str:
        """The line as its file has it."""
        from securesystemslib.dsse import Envelope
        from securesystemslib.signer import Signature

        made = {id: Signature(id, signature.hex()) for id, signature in self.signatures.items()}
        return canonical_json(Envelope(self.payload, PAYLOAD, made).to_dict()).decode()


def line_of(statement: Mapping[str, Any]) -> Line:
    """An unsigned line that says this. The payload is canonical JSON, in which every number keeps its value."""
    return Line(canonical_json(statement))


def write_bundle(path: Path, lines: Sequence[Line]) -> None:
    """Write a bundle, whole or not at all."""
    write_whole(path, "".join(f"{line.text()}\n" for line in lines).encode())


def read_lines(path: Path) -> list[Line | MalformedError]:
    """The lines of a bundle, in order; of one that is none, why.

    Raises:
        ConvkitError: the file can't be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConvkitError(f"can't be read: {error.strerror}", path=path, remedy="let this user read it") from error
    found: list[Line | MalformedError] = []
    for line in data.removesuffix(b"\n").split(b"\n") if data else ():
        try:
            found.append(parsed(line))
        except MalformedError as error:
            found.append(error)
    return found


def parsed(data: bytes) -> Line:
    """An envelope from its JSON.

    Raises:
        MalformedError: it isn't one over an in-toto statement.
    """
    envelope = _object(data)
    if set(envelope) != {"payload", "payloadType", "signatures"}:
        raise MalformedError("it isn't an envelope of payload, payloadType and signatures")
    if envelope["payloadType"] != PAYLOAD:
        raise MalformedError(f"its payloadType isn't {PAYLOAD}")
    signatures: dict[str, bytes] = {}
    for one in envelope["signatures"] if isinstance(envelope["signatures"], list) else ():
        if not isinstance(one, dict) or not isinstance(id := one.get("keyid"), str) or id in signatures:
            raise MalformedError("a signature has no keyid of its own")
        signatures[id] = decoded(one.get("sig"))
    line = Line(decoded(envelope["payload"]), signatures)
    statement = line.statement
    if statement.get("_type") != STATEMENT or not isinstance(statement.get("predicateType"), str):
        raise MalformedError(f"its payload isn't a statement {STATEMENT}")
    if not isinstance(statement.get("predicate"), dict) or not _subjects(statement.get("subject")):
        raise MalformedError("its statement lacks subjects with digests, or a predicate")
    return line


def decoded(text: object) -> bytes:
    """The bytes that a text in base64 stands for.

    Raises:
        MalformedError: it isn't one.
    """
    try:
        return base64.b64decode(text if isinstance(text, str) else "!", validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError("what should be base64 isn't") from None


def _subjects(found: object) -> bool:
    """Whether a statement names what it is about, each by a name of its own."""
    if not isinstance(found, list) or not found:
        return False
    fine = all(isinstance(one, dict) and isinstance(one.get("digest"), dict) and one["digest"] for one in found)
    return fine and len({str(one.get("name")) for one in found}) == len(found)


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json_text.loads(data, object_pairs_hook=_once)
    except (ValueError, json.JSONDecodeError) as error:
        raise MalformedError(f"it isn't JSON: {error}") from None
    if not isinstance(found, dict):
        raise MalformedError("it isn't an object of JSON")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of which no key is there twice: readers would take one or the other."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found
