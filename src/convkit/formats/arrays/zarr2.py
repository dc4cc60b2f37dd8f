"""An array of zarr version 2 and its ``.zarray``, as tensorstore writes it.

Sources: the zarr v2 specification for the fields; tensorstore 0.1.86, driver ``zarr``, for dtypes spelled by name
(``bfloat16``, ``float8_…``). An array is a grid of chunks, each an object of its own, named by its position: ``0.2``;
the chunk of a 0-d array is ``0``. Chunks at the border are stored whole. T5X, Pax and Orbax write ``fill_value`` null,
and then every chunk.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from convkit.checkpoint import TensorSpec, json_text
from convkit.checkpoint.tensors import ITEMSIZE, NARROW
from convkit.errors import ConvkitError, UsageError
from convkit.formats.arrays.zarr import REFETCH, ZarrArray, is_shape

NAME = ".zarray"
#: default limit of bytes per chunk: large enough to compress well, small enough that a few chunks in flight fit in a
#: small budget (T5X's own limit is 64 MiB)
CHUNK_BYTES = 16 << 20

GZIP = {"id": "gzip", "level": 1}
ZSTD = {"id": "zstd", "level": 1}
#: what tensorstore decodes
_COMPRESSORS = ("blosc", "bz2", "gzip", "zlib", "zstd")
#: compressors that convkit writes, and their levels
_LEVELS = {"gzip": range(10), "zstd": range(1, 23)}

#: fields that may be absent, and what is meant then
_USUAL = {"order": "C", "dimension_separator": ".", "filters": None}
_KINDS = {"b": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}


@dataclass(frozen=True, slots=True)
class Zarray(ZarrArray):
    """An array of version 2.

    >>> list(Zarray(TensorSpec((3, 2), "float32"), (2, 2)).chunk_names())
    ['0.0', '1.0']
    """

    compressor: dict[str, Any] | None = None
    fill_value: Any = None
    order: str = "C"
    separator: str = "."
    big_endian: bool = False
    filters: list[Any] | None = None

    driver: ClassVar[str] = "zarr"
    name: ClassVar[str] = NAME

    @property
    def packing(self) -> str | None:
        """The compressor, else a filter."""
        return self.compressor["id"] if self.compressor else "filters" if self.filters else None

    @property
    def sparse(self) -> bool:
        """Whether there is a fill value."""
        return self.fill_value is not None

    @property
    def raw(self) -> bool:
        """Whether the array is one chunk with its elements as in memory."""
        plain = self.compressor is None and not self.filters and self.order == "C" and not self.big_endian
        return plain and self.chunks == self.spec.shape

    def chunk_name(self, position: Sequence[int]) -> str:
        """The name of the chunk at a position of the grid."""
        return self.separator.join(map(str, position)) or "0"

    def to_json(self) -> dict[str, Any]:
        """All fields of the ``.zarray``."""
        return {
            "chunks": list(self.chunks),
            "compressor": self.compressor,
            "dimension_separator": self.separator,
            "dtype": zarr_name(self.spec.dtype).replace("<", ">" if self.big_endian else "<"),
            "fill_value": self.fill_value,
            "filters": self.filters,
            "order": self.order,
            "shape": list(self.spec.shape),
            "zarr_format": 2,
        }


def parse(text: bytes | str, path: Path | str) -> Zarray:
    """The array that the text of a ``.zarray`` describes.

    Raises:
        ConvkitError: not JSON, not version 2, no shape or chunks, or an unsupported dtype or compressor.
    """
    try:
        found = json_text.loads(text)
    except ValueError as error:
        raise ConvkitError(f"is not valid JSON: {error}", path=path, remedy=REFETCH) from None
    if not isinstance(found, dict) or found.get("zarr_format") != 2:
        raise ConvkitError("isn't an array of zarr version 2", path=path, remedy="name a checkpoint of another format")
    return from_json(found, path)


def from_json(found: dict[str, Any], path: Path | str) -> Zarray:
    """The array that ``.zarray`` fields describe; absent fields take tensorstore's defaults.

    Raises:
        ConvkitError: see :func:`parse`.
    """
    shape, chunks, compressor = found.get("shape"), found.get("chunks"), found.get("compressor")
    if not (is_shape(shape) and is_shape(chunks, 1)) or len(shape) != len(chunks):
        raise ConvkitError(f"no shape and chunks: {shape} and {chunks}", path=path, remedy=REFETCH)
    if compressor is not None and (not isinstance(compressor, dict) or compressor.get("id") not in _COMPRESSORS):
        raise ConvkitError(
            f"compressor {compressor!r} is not supported", path=path, remedy=f"supported: {', '.join(_COMPRESSORS)}"
        )
    order, separator, filters = (found.get(name, usual) for name, usual in _USUAL.items())
    if order not in ("C", "F") or separator not in (".", "/") or not isinstance(filters, list | None):
        problem = f"order {order!r}, dimension_separator {separator!r} and filters {filters!r} aren't zarr's"
        raise ConvkitError(problem, path=path, remedy=REFETCH)
    dtype, big_endian = _our_name(found.get("dtype"), path)
    array = Zarray(
        TensorSpec.found(shape, dtype, path),
        tuple(chunks),
        compressor,
        found.get("fill_value"),
        order,
        separator,
        big_endian,
        filters,
    )
    array.check_size(path)
    return array


def parse_compressor(text: str) -> dict[str, Any] | None:
    """The compressor that a user names: ``none``, ``gzip`` or ``zstd``, with an optional level after a colon.

    >>> parse_compressor("zstd:3")
    {'id': 'zstd', 'level': 3}

    Raises:
        UsageError: no such compressor, or no such level.
    """
    name, _, level = text.partition(":")
    if text == "none":
        return None
    if name in _LEVELS and (not level or (level.isascii() and level.isdigit() and int(level) in _LEVELS[name])):
        return {"id": name, "level": int(level or 1)}
    raise UsageError(f"no compressor is called {text!r}", remedy="say none, gzip:0 to gzip:9, or zstd:1 to zstd:22")


def zarr_name(dtype: str) -> str:
    """zarr's spelling of a numpy dtype name, little-endian.

    >>> zarr_name("float32"), zarr_name("bool"), zarr_name("bfloat16")
    ('<f4', '|b1', 'bfloat16')
    """
    match = re.fullmatch(r"(bool|int|uint|float|complex)\d*", dtype)
    width = ITEMSIZE.get(dtype)
    if match is None or width is None or dtype in NARROW:
        return dtype
    return f"{'<' if width > 1 else '|'}{dtype[0]}{width}"


def _our_name(dtype: Any, path: Path | str) -> tuple[str, bool]:
    """The numpy name of a zarr dtype, and whether it is big-endian."""
    name = dtype if isinstance(dtype, str) else ""
    match = re.fullmatch(r"([<>|])([biufc])(\d+)", name)
    if match is not None:
        name = _KINDS[match[2]] if match[2] == "b" else f"{_KINDS[match[2]]}{int(match[3]) * 8}"
    if name not in ITEMSIZE or (match is not None and ITEMSIZE[name] != int(match[3])):
        raise ConvkitError(f"dtype {dtype!r} is not supported", path=path, remedy=f"supported: {', '.join(ITEMSIZE)}")
    return name, match is not None and match[1] == ">"
