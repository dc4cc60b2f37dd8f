"""Keys that sign and check: elliptic curves P-256, P-384, P-521, and Ed25519, as PEM files, encrypted ones too.

A key is called by its id: the sha256 of the public key's DER form, which an auditor gets without convkit::

    openssl pkey -pubin -in k.pub.pem -outform DER | sha256sum
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convkit.errors import ConvkitError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    Private = EllipticCurvePrivateKey | Ed25519PrivateKey
    Public = EllipticCurvePublicKey | Ed25519PublicKey

#: the kinds of keys; the first is the usual one
KINDS = ("p256", "p384", "p521", "ed25519")
#: where a passphrase is read from, if no file of it is named: never the command line, which other users see
PASSPHRASE = "CONVKIT_KEY_PASSPHRASE"
_CURVES = {"secp256r1": "p256", "secp384r1": "p384", "secp521r1": "p521"}
_HASHES = {"p256": "SHA256", "p384": "SHA384", "p521": "SHA512"}
_KNOWN = "P-256, P-384, P-521 or Ed25519"
_MAKE = "convkit audit keygen makes one"


@dataclass(frozen=True)
class PublicKey:
    """A key that checks signatures, and the file that it came from."""

    key: Public
    path: Path | None = None

    @cached_property
    def kind(self) -> str:
        """One of :data:`KINDS`."""
        return _CURVES[self.key.curve.name] if hasattr(self.key, "curve") else "ed25519"

    @cached_property
    def id(self) -> str:
        """What the key is called: the sha256 of its DER form, hexadecimal."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return hashlib.sha256(self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()

    @property
    def pem(self) -> bytes:
        """Its PEM text."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def made(self, signature: bytes, data: bytes) -> bool:
        """Whether this key made the signature of the data."""
        from cryptography.exceptions import InvalidSignature

        verify: Any = self.key.verify
        try:
            verify(signature, data, *_how(self.kind))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class PrivateKey:
    """A key that signs."""

    key: Private

    @cached_property
    def public(self) -> PublicKey:
        """The key that checks what this one signs."""
        return PublicKey(self.key.public_key())

    def sign(self, data: bytes) -> bytes:
        """The signature of the data: DER for elliptic curves, over SHA-256, 384 or 512 by the curve."""
        sign: Any = self.key.sign
        return bytes(sign(data, *_how(self.public.kind)))


def generate(kind: str = KINDS[0]) -> PrivateKey:
    """Make a key."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    if kind == "ed25519":
        return PrivateKey(ed25519.Ed25519PrivateKey.generate())
    curve = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}[kind]
    return PrivateKey(ec.generate_private_key(curve))


def write_pair(key: PrivateKey, path: Path, passphrase: bytes | None) -> Path:
    """Write a key to ``path``, which only its owner may read, and its public half beside it; returns that one's path.

    Raises:
        UsageError: one of the files exists: a key is never replaced.
    """
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    public = path.with_name(f"{path.name.removesuffix('.pem')}.pub.pem")
    for one in (path, public):
        if os.path.lexists(one):
            raise UsageError("exists, and a key is never replaced", path=one, remedy="name another file")
    lock = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    _write(path, key.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock), 0o600)
    _write(public, key.public.pem, 0o644)
    return public


def read_private(path: Path, passphrase: bytes | None = None) -> PrivateKey:
    """Read a key from a PEM file.

    Raises:
        UsageError: it is encrypted, and there is no passphrase.
        ConvkitError: it can't be read, or is of another kind.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _read(path)
    encrypted = b"ENCRYPTED" in data
    if encrypted and passphrase is None:
        remedy = f"give --passphrase-file FILE, or set {PASSPHRASE}"
        raise UsageError("is encrypted, and there is no passphrase", path=path, remedy=remedy)
    try:
        key: Any = load_pem_private_key(data, passphrase if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if encrypted:
            raise ConvkitError("isn't opened by this passphrase", path=path, remedy="check the passphrase") from None
        raise ConvkitError("isn't a private key as PEM", path=path, remedy=_MAKE) from None
    _check(key.public_key(), path)
    return PrivateKey(key)


def read_public(path: Path) -> PublicKey:
    """Read a public key from a PEM file.

    Raises:
        ConvkitError: it can't be read, or is of another kind.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data = _read(path)
    if b"PRIVATE KEY" in data:
        raise ConvkitError("is a private key", path=path, remedy="give its public half, and keep this one to yourself")
    try:
        key: Any = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise ConvkitError("isn't a public key as PEM", path=path, remedy=_MAKE) from None
    _check(key, path)
    return PublicKey(key, path)


def passphrase_from(path: Path | None) -> bytes | None:
    """The passphrase: the first line of a file, or what the environment says; None if there is none.

    Raises:
        ConvkitError: the file can't be read, or its first line is empty.
    """
    if path is None:
        said = os.environ.get(PASSPHRASE)
        return os.fsencode(said) if said else None
    first = _read(path).split(b"\n", 1)[0].removesuffix(b"\r")
    if not first:
        raise ConvkitError("has no passphrase in its first line", path=path, remedy="write it there")
    return first


def _how(kind: str) -> tuple[ECDSA, ...]:
    """What signing and checking need to know of the hash."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return (ec.ECDSA(getattr(hashes, _HASHES[kind])()),) if kind in _HASHES else ()


def _check(key: object, path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    known = isinstance(key, ed25519.Ed25519PublicKey) or (
        isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES
    )
    if not known:
        raise ConvkitError("is a key of another kind", path=path, remedy=f"give one of {_KNOWN}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConvkitError(f"can't be read: {error.strerror}", path=path, remedy="check the path") from error


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write a new file of this mode, which is never readable by more users than that."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as error:
        raise ConvkitError(f"can't be written: {error.strerror}", path=path, remedy="name another file") from error
    with os.fdopen(handle, "wb") as file:
        file.write(data)
