"""Long documents: the tables in them, which have an entry a leaf, stay text until somebody looks at them.

The plan of a model of half a million tensors has 150 MB, and its receipt 300 MB. As Python's values they would take
gigabytes; as text they take their length, once. Whatever a document holds, reading it takes no more than a few times
its length and a gigabyte.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args, overload

import msgspec
from msgspec import Raw, Struct

from convkit.checkpoint import json_text
from convkit.checkpoint.digests import canonical_object, canonical_pieces
from convkit.files.document import TAG, Held, from_json, typed

_T = TypeVar("_T")
#: most bytes of a document that is read
BYTES_LIMIT = 1 << 30
#: most commas and brackets of a table: each stands for at most one entry or one value more. A plan has 26 of each leaf
#: in its steps, where each leaf has a step of its own
TABLE_VALUES_LIMIT = 1 << 24
#: most colons of an object, thus most keys: 800 000 leaves of a plan, each of five keys
TABLE_KEYS_LIMIT = 1 << 22
#: in a long document, a table is large if it has more than this share of the values that are read at once
_SHARE = 32
#: how deep tables may lie in each other, and in parts of documents: a receipt holds a plan, which may hold others
_DEPTH_LIMIT = 4
#: bytes of a document that show what it begins with, and of a piece in which values are counted
_START, _PIECE = 64, 1 << 20
#: entries of a table that are remembered by their text: of half a million leaves, many are alike
_REMEMBERED = 1 << 12
#: bytes of a text that can't hold too many values
_SHORT = json_text.VALUES_LIMIT // 2


class _Tables(Struct):
    """The fields of documents that are tables; all others are skipped, and take no memory."""

    source_leaves: Raw = Raw()
    target_leaves: Raw = Raw()
    leaves: Raw = Raw()
    tensors: Raw = Raw()
    steps: Raw = Raw()
    through: Raw = Raw()
    before: Raw = Raw()


class _Long(_Tables):
    """With the fields that may hold tables."""

    plan: Raw = Raw()
    source: Raw = Raw()
    target: Raw = Raw()
    complement: Raw = Raw()


#: JSON that is held: bytes, or a part of them
Text = bytes | memoryview


def read_long(text: bytes, *, halves: bool = False) -> Any:
    """What a document says, as :func:`convkit.files.document.from_json` gives it; of a long one, its tables as text.

    Where the whole is over the limits of :mod:`convkit.checkpoint.json_text`, its large tables are a :class:`Table` or
    :class:`Rows`, and what isn't in a table must keep within them.

    Raises:
        json_text.OverLimitError: a ValueError: it is over a limit.
        ValueError: it isn't JSON.
    """
    return _read(text, 0, halves=halves)


def _read(text: Text, depth: int, *, halves: bool = False) -> Any:
    if len(text) <= json_text.BYTES_LIMIT:
        try:
            return from_json(bytes(text), halves=halves)
        except json_text.OverLimitError as over:
            error = over.with_traceback(None)  # which would hold the text as long as there is the error
    else:
        error = json_text.over_bytes(len(text))
    return _by_tables(text, error, depth, halves=halves)


def _by_tables(text: Text, error: json_text.OverLimitError, depth: int, *, halves: bool) -> dict[str, Any]:
    if depth == _DEPTH_LIMIT or len(text) > BYTES_LIMIT or not bytes(text[:_START]).lstrip().startswith(b"{"):
        raise error
    try:
        found = msgspec.json.decode(text, type=_Long)
        held = sum(_values_in(getattr(found, name)) for name in _Long.__struct_fields__)
        # only now the whole may be made: of what was skipped so far, each entry would take memory
        if _values_in(text) - held > json_text.VALUES_LIMIT:
            raise error
        whole = msgspec.json.decode(text, type=dict[str, Raw])
        return {name: _entry(name, value, error, depth, halves=halves) for name, value in whole.items()}
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _entry(name: str, value: Raw, error: json_text.OverLimitError, depth: int, *, halves: bool) -> Any:
    values = _values_in(value)
    if name not in _Long.__struct_fields__ or values <= json_text.VALUES_LIMIT // _SHARE:
        return from_json(bytes(value), halves=halves)
    text = memoryview(value)
    if name not in _Tables.__struct_fields__:
        return _by_tables(text, error, depth + 1, halves=halves)
    kind: type[Table | Rows] = Table if text[:1] == b"{" else Rows
    # those in rows are made a row at a time
    keys = sum(piece.count(b":") for piece in _pieces(text)) if kind is Table else 0
    for count, limit, what in ((values, TABLE_VALUES_LIMIT, "values"), (keys, TABLE_KEYS_LIMIT, "keys")):
        if count > limit:
            raise json_text.OverLimitError(f"its {name} hold {count} {what}, over {limit}, the most that are read")
    table = kind(value, depth + 1)
    for _ in table.values() if isinstance(table, Table) else table:  # so that nobody who looks finds it malformed
        pass
    return table


def _values_in(text: Text | Raw) -> int:
    """See :func:`json_text.values_in`."""
    return sum(map(json_text.values_in, _pieces(text)))


def _pieces(text: Text | Raw) -> Iterator[bytes]:
    """A text, of which no copy is made as a whole."""
    view = memoryview(text)
    return (bytes(view[start : start + _PIECE]) for start in range(0, len(view), _PIECE))


def _made(value: Raw, depth: int) -> Any:
    """An entry of a table."""
    text = bytes(value)
    if len(text) > _SHORT or TAG.encode() in text:
        return _read(text, depth)
    return msgspec.json.decode(text)  # as from_json does it, in a tenth of the time


def plain(held: Any) -> Any:
    """What JSON's encoders are to write in the place of a table."""
    if isinstance(held, Table):
        return dict(held.items())
    if isinstance(held, Rows):
        return list(held)
    raise TypeError(f"{type(held).__name__} isn't a value of JSON")


class _Entry(Generic[_T]):
    """Makes entries of a type; they are checked as :func:`convkit.files.document.typed` does it."""

    def __init__(self, type_: type[_T], path: Path | None, remedy: str, depth: int) -> None:
        self._type, self._path, self._remedy, self._depth = type_, path, remedy, depth
        self._decoder = msgspec.json.Decoder(type_)
        self._made: dict[bytes, _T] = {}

    def of(self, value: Raw, root: str, place: str | int) -> _T:
        """An entry, at a place of what is called ``root`` in an error; those of the same text are one value."""
        text = bytes(value)
        found = self._made.get(text)
        if found is None:
            found = self._decoded(text, value, root, place)
            if len(self._made) < _REMEMBERED:
                self._made[text] = found
        return found

    def _decoded(self, text: bytes, value: Raw, root: str, place: str | int) -> _T:
        if len(text) <= _SHORT and TAG.encode() not in text:
            try:
                return self._decoder.decode(text)
            except (ValueError, RecursionError):
                pass  # the error is told by typed
        named = f"{root}[{place!r}]"
        return typed(self._type, _made(value, self._depth), self._path, root=named, remedy=self._remedy)


class Table(Mapping[str, Any], Held):
    """An object that is held as JSON text. Each look goes through all of it: who wants several entries iterates."""

    def __init__(self, text: Raw, depth: int) -> None:
        self._text, self._depth = text, depth
        self._length = len(self._texts())

    def __getitem__(self, key: str) -> Any:
        return _made(self._texts()[key], self._depth)

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts())

    def __len__(self) -> int:
        return self._length

    def items(self) -> Any:
        """Keys and values; one value is made at a time."""
        return ((key, _made(value, self._depth)) for key, value in self._texts().items())

    def values(self) -> Any:
        """The values, one at a time."""
        return (value for _, value in self.items())

    def typed(self, type_: Any, path: Path | None, root: str, remedy: str) -> Any:
        """See :meth:`Held.typed`."""
        entry = _Entry(get_args(type_)[1], path, remedy, self._depth)
        # names of leaves stand in several tables, and in the checkpoint
        return {sys.intern(key): entry.of(value, root, key) for key, value in self._texts().items()}

    def canonical_pieces(self) -> Iterator[bytes]:
        """See :meth:`convkit.checkpoint.digests.InPieces.canonical_pieces`."""
        entries = sorted(self._texts().items(), key=itemgetter(0))
        return canonical_object((key, _made(value, self._depth)) for key, value in entries)

    def _texts(self) -> dict[str, Raw]:
        return msgspec.json.decode(self._text, type=dict[str, Raw])


class Rows(Sequence[Any], Held):
    """An array that is held as JSON text, as :class:`Table` is."""

    def __init__(self, text: Raw, depth: int) -> None:
        self._text, self._depth = text, depth
        self._length = len(self._texts())

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        found = self._texts()[index]
        return [_made(one, self._depth) for one in found] if isinstance(found, list) else _made(found, self._depth)

    def __iter__(self) -> Iterator[Any]:
        return (_made(value, self._depth) for value in self._texts())

    def __len__(self) -> int:
        return self._length

    def typed(self, type_: Any, path: Path | None, root: str, remedy: str) -> Any:
        """See :meth:`Held.typed`."""
        entry = _Entry(get_args(type_)[0], path, remedy, self._depth)
        return tuple(entry.of(value, root, number) for number, value in enumerate(self._texts()))

    def canonical_pieces(self) -> Iterator[bytes]:
        """See :meth:`convkit.checkpoint.digests.InPieces.canonical_pieces`."""
        for number, value in enumerate(self._texts()):
            yield b"," if number else b"["
            yield from canonical_pieces(_made(value, self._depth))
        yield b"]"

    def _texts(self) -> list[Raw]:
        return msgspec.json.decode(self._text, type=list[Raw])
