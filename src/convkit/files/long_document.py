"""Long documents: the tables in them, which have an entry a leaf, stay text until somebody looks at them.

The plan of a model of half a million tensors has 150 MB, and its receipt 300 MB. As Python's values they would take
gigabytes; as text they take their length. Whatever a document holds, reading it takes no more than a few times its
length and a gigabyte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import msgspec
from msgspec import Raw, Struct

from convkit.checkpoint import json_text
from convkit.files.document import TAG, from_json

#: most bytes of a document that is read
BYTES_LIMIT = 1 << 30
#: most commas and brackets of a table: each stands for at most one entry or one value more
TABLE_VALUES_LIMIT = 1 << 23
#: most colons of a table, thus most keys: 800 000 leaves of a plan, each of five keys
TABLE_KEYS_LIMIT = 1 << 22
#: in a long document, a table is large if it has more than this share of the values that are read at once
_SHARE = 32
#: how deep tables may lie in each other, and in parts of documents: a receipt holds a plan, which may hold others
_DEPTH_LIMIT = 4
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


class _Long(_Tables):
    """With the fields that may hold tables."""

    plan: Raw = Raw()
    source: Raw = Raw()
    target: Raw = Raw()
    complement: Raw = Raw()


def read_long(text: bytes) -> Any:
    """What a document says, as :func:`convkit.files.document.from_json` gives it; of a long one, its tables as text.

    Where the whole is over the limits of :mod:`convkit.checkpoint.json_text`, its large tables are a :class:`Table` or
    :class:`Rows`, and what isn't in a table must keep within them.

    Raises:
        json_text.OverLimitError: a ValueError: it is over a limit.
        ValueError: it isn't JSON.
    """
    return _read(text, 0)


def _read(text: bytes, depth: int) -> Any:
    try:
        return from_json(text)
    except json_text.OverLimitError as error:
        return _by_tables(text, error, depth)


def _by_tables(text: bytes, error: json_text.OverLimitError, depth: int) -> dict[str, Any]:
    if depth == _DEPTH_LIMIT or len(text) > BYTES_LIMIT or not text.lstrip().startswith(b"{"):
        raise error
    try:
        found = msgspec.json.decode(text, type=_Long)
        held = sum(json_text.values_in(bytes(getattr(found, name))) for name in _Long.__struct_fields__)
        # only now the whole may be made: of what was skipped so far, each entry would take memory
        if json_text.values_in(text) - held > json_text.VALUES_LIMIT:
            raise error
        whole = msgspec.json.decode(text, type=dict[str, Raw])
        return {name: _entry(name, value, error, depth) for name, value in whole.items()}
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _entry(name: str, value: Raw, error: json_text.OverLimitError, depth: int) -> Any:
    text = bytes(value)
    values = json_text.values_in(text)
    if name not in _Long.__struct_fields__ or values <= json_text.VALUES_LIMIT // _SHARE:
        return from_json(text)
    if name not in _Tables.__struct_fields__:
        return _by_tables(text, error, depth + 1)
    for count, limit, what in ((values, TABLE_VALUES_LIMIT, "values"), (text.count(b":"), TABLE_KEYS_LIMIT, "keys")):
        if count > limit:
            raise json_text.OverLimitError(f"its {name} hold {count} {what}, over {limit}, the most that are read")
    kind: type[Table | Rows] = Table if text.startswith(b"{") else Rows
    del text  # a copy
    table = kind(value, depth + 1)
    for _ in table.values() if isinstance(table, Table) else table:  # so that nobody who looks finds it malformed
        pass
    return table


def _made(value: Raw, depth: int) -> Any:
    """An entry of a table."""
    text = bytes(value)
    if len(text) > _SHORT or TAG.encode() in text:
        return _read(text, depth)
    return msgspec.json.decode(text)  # as from_json does it, in a tenth of the time


class Table(Mapping[str, Any]):
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

    def _texts(self) -> dict[str, Raw]:
        return msgspec.json.decode(self._text, type=dict[str, Raw])


class Rows(Sequence[Any]):
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

    def _texts(self) -> list[Raw]:
        return msgspec.json.decode(self._text, type=list[Raw])
