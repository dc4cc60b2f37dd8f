"""OpenSSF model signatures, version 1.0: a file beside a model that the field's own tools check.

Source of facts: the specification of OpenSSF Model Signing, version 1.0 (ossf/model-signing-spec, ``spec/v1.0.md``).
A signature is a Sigstore bundle over one in-toto statement, whose predicate lists every file with its digest. Written
here: files digested whole by sha256, links refused, and a signature by a key on P-256, P-384 or P-521, the kinds that
the specification knows. What lies at the top under a name of git's (:data:`IGNORED`) is in no such signature, by the
specification; the statements in ``<target>.intoto.jsonl`` cover it.

Read here: what is written here, also with other ``ignore_paths``. Shards, other digests, certificates and keyless
signatures are said to be what they are, and not checked.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from convkit.audit.dsse import PAYLOAD, STATEMENT, MalformedError, decoded
from convkit.audit.keys import PrivateKey, PublicKey
from convkit.checkpoint import json_text
from convkit.checkpoint.digests import canonical_json
from convkit.files.document import write_whole

PREDICATE = "https://model_signing/signature/v1.0"
#: names at the top of a model that no signature covers
IGNORED = (".git", ".gitattributes", ".github", ".gitignore")
_MEDIA = "application/vnd.dev.sigstore.bundle"
_MEDIA_TYPE = f"{_MEDIA}.v0.3+json"


def signature_path(target: Path) -> Path:
    """Where the model signature of ``target`` lies."""
    return target.with_name(f"{target.name}.model.sig")


class Resource(Struct, frozen=True):
    """A file of the model."""

    name: Annotated[str, Meta(min_length=1)]
    digest: Annotated[str, Meta(pattern="^[0-9a-f]+$")]
    #: model-signing 1.1.1 writes ``sha256-sharded-100`` for shards, which the specification doesn't know
    algorithm: Annotated[str, Meta(min_length=1)]


class Serialization(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the files were found and digested."""

    method: Literal["files", "shards"]
    hash_type: Literal["sha256", "blake2b", "blake3"]
    allow_symlinks: bool
    shard_size: Annotated[float, Meta(gt=0)] | None = None  # model-signing writes a float
    ignore_paths: tuple[Annotated[str, Meta(min_length=1)], ...] = ()

    def __post_init__(self) -> None:
        if (self.method == "shards") != (self.shard_size is not None):
            raise ValueError("shards have a shard_size, and nothing else has")


class _Predicate(Struct, frozen=True, forbid_unknown_fields=True):
    resources: Annotated[tuple[Resource, ...], Meta(min_length=1)]
    serialization: Serialization


class _Subject(Struct, frozen=True):
    name: Annotated[str, Meta(min_length=1)]
    digest: Annotated[dict[str, Annotated[str, Meta(pattern="^[0-9a-f]+$")]], Meta(min_length=1)]


class _Statement(Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(name="_type")
    subject: Annotated[tuple[_Subject, ...], Meta(min_length=1, max_length=1)]
    predicateType: Literal["https://model_signing/signature/v1.0"]  # noqa: N815 (the specification's name)
    predicate: _Predicate


@dataclass(frozen=True)
class Signature:
    """A model signature: what its key is called, the bytes that are signed, and what they say."""

    hint: str
    payload: bytes
    signature: bytes
    name: str
    resources: Mapping[str, str]
    serialization: Serialization
    #: how it was made, if not by a key
    other_method: str = ""

    def of(self, key: PublicKey) -> bool:
        """Whether the signature says that this key made it."""
        return self.hint == hint_of(key)

    def made_by(self, key: PublicKey) -> bool:
        """Whether this key made it."""
        return key.made(self.signature, _pae(self.payload))

    def unreadable(self) -> str:
        """Why the files can't be compared; empty if they can."""
        if self.other_method:
            return f"it is signed by a {self.other_method}, which isn't checked here"
        how = self.serialization
        if (how.method, how.hash_type, how.allow_symlinks) != ("files", "sha256", False):
            return f"it digests {how.method} by {how.hash_type}, which isn't checked here"
        return ""

    def covers(self, name: str) -> bool:
        """Whether a file of the model has to be in the signature."""
        top = name.partition("/")[0]
        ignored = self.serialization.ignore_paths
        return top not in IGNORED and not any(name == one or name.startswith(f"{one}/") for one in ignored)

    def differing(self, files: Mapping[str, str]) -> Iterator[str]:
        """What differs between the files that are there, by their sha256, and those that are signed."""
        there = {name: digest for name, digest in files.items() if self.covers(name)}
        for name in sorted({*there, *self.resources}):
            if name not in there:
                yield f"{name} is missing"
            elif name not in self.resources:
                yield f"{name} isn't signed"
            elif there[name] != self.resources[name]:
                yield f"{name} has another sha256"


def hint_of(key: PublicKey) -> str:
    """What a model signature calls a key: the sha256 of its PEM text."""
    return hashlib.sha256(key.pem).hexdigest()


def signable(key: PublicKey) -> bool:
    """Whether the specification knows keys of this kind."""
    return key.kind != "ed25519"


def statement_of(name: str, files: Mapping[str, str]) -> dict[str, Any]:
    """What is signed of a model of this name, whose files have these sha256, by their paths in it or its one name."""
    resources = [
        {"name": one, "algorithm": "sha256", "digest": files[one]}
        for one in sorted(files)
        if one.partition("/")[0] not in IGNORED
    ]
    root = hashlib.sha256(b"".join(bytes.fromhex(one["digest"]) for one in resources)).hexdigest()
    serialization = {
        "method": "files",
        "hash_type": "sha256",
        "allow_symlinks": False,
        "ignore_paths": [*IGNORED],
    }
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": root}}],
        "predicateType": PREDICATE,
        "predicate": {"resources": resources, "serialization": serialization},
    }


def write_signature(path: Path, name: str, files: Mapping[str, str], key: PrivateKey) -> None:
    """Sign the files of a model, and write the signature to ``path``."""
    payload = canonical_json(statement_of(name, files))
    bundle = {
        "mediaType": _MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint_of(key.public)}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": _base64(payload),
            "payloadType": PAYLOAD,
            "signatures": [{"sig": _base64(key.sign(_pae(payload))), "keyid": ""}],
        },
    }
    write_whole(path, (json.dumps(bundle, indent=2) + "\n").encode())


def read_signature(data: bytes) -> Signature:
    """Read a model signature from the bytes of its file.

    Raises:
        MalformedError: it isn't one by the specification.
    """
    try:
        bundle = json_text.loads(data)
    except ValueError as error:
        raise MalformedError(f"it isn't JSON: {error}") from None
    parts = ("mediaType", "verificationMaterial", "dsseEnvelope")
    if not isinstance(bundle, dict) or set(bundle) != {*parts} or not str(bundle["mediaType"]).startswith(_MEDIA):
        raise MalformedError(f"it isn't a Sigstore bundle of {', '.join(parts)}")
    hint, method = _material(bundle["verificationMaterial"])
    payload, signature = _envelope(bundle["dsseEnvelope"])
    try:
        said = msgspec.convert(json_text.loads(payload), _Statement)
    except (ValueError, msgspec.ValidationError) as error:
        raise MalformedError(f"its statement isn't one of a model: {error}") from None
    names = [one.name for one in said.predicate.resources]
    if names != sorted(set(names)):
        raise MalformedError("its files aren't in order, or one is there twice")
    how = said.predicate.serialization
    if how.method == "files" and {one.algorithm for one in said.predicate.resources} != {how.hash_type}:
        raise MalformedError(f"a file isn't digested by {how.hash_type}")
    return Signature(
        hint=hint,
        payload=payload,
        signature=signature,
        name=said.subject[0].name,
        resources={one.name: one.digest for one in said.predicate.resources},
        serialization=how,
        other_method=method,
    )


def _material(found: object) -> tuple[str, str]:
    """What the key is called, and by what it is signed if not by a key."""
    if isinstance(found, dict):
        public = found.get("publicKey")
        if isinstance(public, dict) and isinstance(public.get("hint"), str):
            return public["hint"], ""
        if isinstance(public, dict) and isinstance(public.get("rawBytes"), str):
            return "", "key of an earlier form"
        if "x509CertificateChain" in found:
            return "", "certificate"
        if "certificate" in found and found.get("tlogEntries"):
            return "", "keyless certificate"
    raise MalformedError("its verificationMaterial names no key and no certificate with its log entries")


def _envelope(found: object) -> tuple[bytes, bytes]:
    fields: Sequence[str] = ("payload", "payloadType", "signatures")
    if not isinstance(found, dict) or set(found) != {*fields} or found["payloadType"] != PAYLOAD:
        raise MalformedError(f"its dsseEnvelope isn't one of {PAYLOAD}")
    signatures = found["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
        raise MalformedError("it has no signature, or several")
    payload, signature = decoded(found["payload"]), decoded(signatures[0].get("sig"))
    if not payload or not signature:
        raise MalformedError("its payload or its signature is empty")
    return payload, signature


def _pae(payload: bytes) -> bytes:
    """The bytes that are signed: DSSE's encoding of the payload and its type."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD), PAYLOAD.encode(), len(payload), payload)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
