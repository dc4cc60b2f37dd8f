"""The seal of a receipt: a digest of its own bytes, which shows that the receipt is as it was written.

A sealed document is JSON in UTF-8, whose last field is ``digest``: ``"sha256:"`` and 64 hexadecimal digits. They are
the SHA-256 of the file's bytes, in which 64 zeros stand for those digits. The file ends with them, a quotation mark,
a line feed, a closing brace and a line feed, so that they are found without reading JSON. The bytes are sealed and not
the values that they say: also a changed digit that rounds to the same number breaks the seal.

A seal shows damage, not forgery: who edits a receipt on purpose can seal it anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from convkit.files.long_document import Rows, plain

FIELD = "digest"
_ALGORITHM, _DIGITS, _END = "sha256", 64, b'"\n}\n'
_BLANK = "0" * _DIGITS
_SEAL = re.compile(rf'"{FIELD}": "({_ALGORITHM}:[0-9a-f]{{{_DIGITS}}})"\n}}\n\Z'.encode())
#: bytes at a document's end that hold its seal
_TAIL = 128
#: bytes of a document that are written at once, about
_CHUNK = 1 << 20
#: how deep a document is encoded entry by entry, because its tables may have 300 MB; what lies deeper comes at once
_TABLES = 3
_ENCODER = json.JSONEncoder(ensure_ascii=False, default=plain)


def sealed(document: Mapping[str, Any]) -> tuple[dict[str, Any], bytearray]:
    """A document with its seal, and the bytes of its file. Half a surrogate pair is written as JSON's escape."""
    blank = _blank(document)
    data = bytearray().join(_chunks(blank))
    digits = hashlib.sha256(data).hexdigest()
    data[-_DIGITS - len(_END) :] = digits.encode() + _END
    return {**blank, FIELD: f"{_ALGORITHM}:{digits}"}, data


def write_sealed(path: Path, document: Mapping[str, Any]) -> dict[str, Any]:
    """Write the same bytes to a file, and return the document with its seal; a receipt's bytes may be 300 MB.

    Raises:
        OSError: the system can't write it.
    """
    blank, running = _blank(document), hashlib.sha256()
    with path.open("wb") as file:
        for chunk in _chunks(blank):
            running.update(chunk)
            file.write(chunk)
        file.seek(-_DIGITS - len(_END), os.SEEK_CUR)
        file.write(running.hexdigest().encode())
    return {**blank, FIELD: f"{_ALGORITHM}:{running.hexdigest()}"}


def _blank(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document with zeros for its seal."""
    return {**{name: value for name, value in document.items() if name != FIELD}, FIELD: f"{_ALGORITHM}:{_BLANK}"}


def _chunks(document: Mapping[str, Any]) -> Iterator[bytearray]:
    """The bytes of a document's file."""
    data = bytearray()
    for piece in _pieces(document, 0):
        data += piece
        if len(data) >= _CHUNK:
            yield data
            data = bytearray()
    yield data + b"\n"


def _pieces(value: Any, depth: int) -> Iterator[bytes]:
    """A value that lies this deep in a document, as ``json.dumps`` with an indent of 2 writes it."""
    line = b"\n" + b"  " * depth
    if depth == _TABLES or not value or not isinstance(value, Mapping | list | tuple | Rows):
        yield _text(value).replace(b"\n", line)
        return
    entries: Iterable[tuple[bytes, Any]]
    if isinstance(value, Mapping):
        before, last, entries = b"{", b"}", ((_text(name) + b": ", inner) for name, inner in value.items())
    else:
        before, last, entries = b"[", b"]", ((b"", inner) for inner in value)
    for name, inner in entries:
        yield before + line + b"  " + name
        yield from _pieces(inner, depth + 1)
        before = b","
    yield line + last


def _text(value: Any) -> bytes:
    text = _ENCODER.encode(value).encode("utf-8", "backslashreplace")
    try:
        return msgspec.json.format(text, indent=2)  # as json.dumps does it, in a tenth of the time
    except msgspec.DecodeError:  # of a number that isn't finite, and was left so
        return json.dumps(value, indent=2, ensure_ascii=False, default=plain).encode("utf-8", "backslashreplace")


def unbroken(data: bytes | bytearray | Sequence[bytes | memoryview], document: Mapping[str, Any]) -> bool:
    """Whether a sealed document has the seal that its file's bytes need; the last of several pieces ends with it."""
    pieces = [memoryview(one) for one in ([data] if isinstance(data, bytes | bytearray) else data)]
    last = pieces.pop()
    end = max(0, len(last) - _DIGITS - len(_END))
    running = hashlib.sha256()
    for piece in (*pieces, last[:end]):  # not of a copy: a receipt may have 300 MB
        running.update(piece)
    running.update(_BLANK.encode() + _END)
    digits = running.hexdigest()
    return last[end:] == digits.encode() + _END and document.get(FIELD) == f"{_ALGORITHM}:{digits}"


def seal_on(path: Path) -> str | None:
    """The seal that a file bears, unchecked; None where there is no such file, or it bears none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            found = _SEAL.search(file.read(_TAIL))
    except OSError:
        return None
    return found[1].decode() if found else None
