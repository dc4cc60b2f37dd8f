"""An array of zarr version 3 and its ``zarr.json``, as tensorstore writes it for Orbax.

Sources: the zarr v3 specification and its ``sharding_indexed`` codec for the fields; orbax-checkpoint 0.12.8 with
tensorstore 0.1.86 for what Orbax writes. There each chunk is a shard: inner chunks, packed one by one, then an index of
their offsets with a crc32c of the index alone. Chunks are named ``c/0/1``; the chunk of a 0-d array is ``c``. A chunk
that isn't stored is the fill value: Orbax writes all chunks, but releases up to 0.9.1 left out those of zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import mod
from pathlib import Path
from typing import Any, ClassVar

from convkit.checkpoint import TensorSpec, json_text
from convkit.checkpoint.tensors import ITEMSIZE
from convkit.errors import ConvkitError
from convkit.formats.arrays.zarr import REFETCH, ZarrArray, is_shape

NAME = "zarr.json"
SHARDING = "sharding_indexed"
#: the compressor that Orbax writes
ZSTD = {"id": "zstd", "level": 3}
#: what tensorstore decodes
_CODECS = ("bytes", "transpose", "blosc", "gzip", "zstd", "crc32c", SHARDING)
#: default separator in chunk names
_SEPARATORS = {"default": "/", "v2": "."}
_INDEX_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]


@dataclass(frozen=True, slots=True)
class Zarr3Array(ZarrArray):
    """An array of version 3; ``codecs``, ``fill_value`` and ``encoding`` are kept as they were found."""

    codecs: tuple[dict[str, Any], ...]
    fill_value: Any
    #: ``chunk_key_encoding``
    encoding: str = "default"
    separator: str = "/"

    driver: ClassVar[str] = "zarr3"
    name: ClassVar[str] = NAME

    @property
    def shard(self) -> dict[str, Any] | None:
        """The sharding configuration; None if chunks aren't shards."""
        return self.codecs[0]["configuration"] if self.codecs[0]["name"] == SHARDING else None

    @property
    def decoded(self) -> tuple[int, ...]:
        """Shape of an inner chunk, or of a chunk that isn't a shard."""
        return tuple(self.shard["chunk_shape"]) if self.shard else self.chunks

    @property
    def compressor(self) -> dict[str, Any] | None:
        """The last codec of a chunk, or of an inner chunk."""
        last = (self.shard["codecs"] if self.shard else self.codecs)[-1]
        settings = {key: value for key, value in last.get("configuration", {}).items() if key != "checksum"}
        return None if last["name"] in ("bytes", SHARDING) else {"id": last["name"], **settings}

    @property
    def packing(self) -> str | None:
        """The last codec; None if elements are stored as they are."""
        last = (self.shard["codecs"] if self.shard else self.codecs)[-1]["name"]
        return None if last == "bytes" else last

    @property
    def sparse(self) -> bool:
        """Always true, by the specification."""
        return True

    @property
    def raw(self) -> bool:
        """Whether the array is one chunk with its elements as in memory."""
        plain = len(self.codecs) == 1 and self.codecs[0]["name"] == "bytes"
        little = self.codecs[0].get("configuration", {}).get("endian", "little") == "little"
        return plain and little and self.chunks == self.spec.shape

    def chunk_name(self, position: Sequence[int]) -> str:
        """The name of the chunk at a position of the grid.

        >>> array = orbax_array(TensorSpec((4, 2), "float32"), (2, 2))
        >>> list(array.chunk_names()), orbax_array(TensorSpec((), "int32"), ()).chunk_name(())
        (['c/0/0', 'c/1/0'], 'c')
        """
        if self.encoding == "v2":
            return self.separator.join(map(str, position)) or "0"
        return self.separator.join(["c", *map(str, position)])

    def to_json(self) -> dict[str, Any]:
        """All fields that tensorstore writes into a ``zarr.json``."""
        named: dict[str, Any] = {"name": self.encoding}
        if self.separator != _SEPARATORS[self.encoding]:
            named["configuration"] = {"separator": self.separator}
        return {
            "chunk_grid": {"configuration": {"chunk_shape": list(self.chunks)}, "name": "regular"},
            "chunk_key_encoding": named,
            "codecs": list(self.codecs),
            "data_type": self.spec.dtype,
            "fill_value": self.fill_value,
            "node_type": "array",
            "shape": list(self.spec.shape),
            "zarr_format": 3,
        }


def orbax_array(
    spec: TensorSpec,
    chunks: tuple[int, ...],
    *,
    inner: tuple[int, ...] | None = None,
    compressor: dict[str, Any] | None = ZSTD,
) -> Zarr3Array:
    """An array as Orbax lays it out.

    Args:
        chunks: the shape of a shard (Orbax: ``write_shape``).
        inner: the shape of the inner chunks (Orbax: ``chunk_shape``), which divides ``chunks``; by default the same.
        compressor: as in a ``.zarray``; both versions have gzip and zstd.
    """
    packed = []
    if compressor is not None:
        checksum = {"checksum": False} if compressor["id"] == "zstd" else {}
        packed = [{"name": compressor["id"], "configuration": {**checksum, "level": compressor["level"]}}]
    endian = {"configuration": {"endian": "little"}} if spec.itemsize > 1 else {}
    shards = {
        "name": SHARDING,
        "configuration": {
            "chunk_shape": list(inner or chunks),
            "codecs": [{"name": "bytes", **endian}, *packed],
            "index_codecs": _INDEX_CODECS,
        },
    }
    return Zarr3Array(spec, chunks, (shards,), _zero(spec.dtype))


def is_shard_of_orbax(array: Zarr3Array) -> bool:
    """Whether chunks are shards as :func:`orbax_array` lays them out: little-endian, in C order, index last."""
    return array == orbax_array(array.spec, array.chunks, inner=array.decoded, compressor=array.compressor)


def parse(text: bytes | str, path: Path | str) -> Zarr3Array:
    """The array that the text of a ``zarr.json`` describes.

    Raises:
        ConvkitError: not JSON, not an array of version 3, or an unsupported shape, grid, dtype or codec.
    """
    try:
        found = json_text.loads(text)
    except ValueError as error:
        raise ConvkitError(f"is not valid JSON: {error}", path=path, remedy=REFETCH) from None
    if not isinstance(found, dict) or found.get("zarr_format") != 3 or found.get("node_type") != "array":
        raise ConvkitError("isn't an array of zarr version 3", path=path, remedy="name a checkpoint of another format")
    shape, dtype = found.get("shape"), found.get("data_type")
    if not isinstance(dtype, str) or dtype not in ITEMSIZE:
        raise ConvkitError(f"dtype {dtype!r} is not supported", path=path, remedy=f"supported: {', '.join(ITEMSIZE)}")
    chunks: Any = _configured(found.get("chunk_grid"), "regular").get("chunk_shape")
    if not (is_shape(shape) and is_shape(chunks, 1)) or len(shape) != len(chunks):
        raise ConvkitError(f"no shape and regular chunks: {shape} and {chunks}", path=path, remedy=REFETCH)
    encoding = _object(found.get("chunk_key_encoding"))
    name = str(encoding.get("name"))
    separator = str(_object(encoding.get("configuration", {})).get("separator", _SEPARATORS.get(name)))
    if name not in _SEPARATORS or separator not in _SEPARATORS.values():
        raise ConvkitError(
            f"chunks named by {found.get('chunk_key_encoding')!r} are not supported",
            path=path,
            remedy=f"supported: {', '.join(_SEPARATORS)}",
        )
    codecs = _codecs(found.get("codecs"), path)
    spec = TensorSpec.found(shape, dtype, path)
    array = Zarr3Array(spec, tuple(chunks), codecs, found.get("fill_value"), name, separator)
    if array.shard:
        inner = array.shard.get("chunk_shape")
        _codecs(array.shard.get("codecs"), path)
        _codecs(array.shard.get("index_codecs"), path)
        if not (is_shape(inner, 1) and len(inner) == len(chunks)) or any(map(mod, chunks, inner)):
            raise ConvkitError(f"chunks of {inner} don't divide shards of {chunks}", path=path, remedy=REFETCH)
    array.check_size(path)
    return array


def _codecs(found: Any, path: Path | str) -> tuple[dict[str, Any], ...]:
    """The codecs, if all are supported."""
    names = [_object(codec).get("name") for codec in found] if isinstance(found, list) else []
    if not names or any(name not in _CODECS for name in names):
        raise ConvkitError(f"codecs {found!r} are not supported", path=path, remedy=f"supported: {', '.join(_CODECS)}")
    if any(not isinstance(codec.get("configuration", {}), dict) for codec in found) or (
        SHARDING in names and (len(names) > 1 or "configuration" not in found[0])
    ):
        raise ConvkitError(f"codecs {found!r} don't have zarr's form", path=path, remedy=REFETCH)
    return tuple(found)


def _configured(found: Any, name: str) -> dict[str, Any]:
    """The configuration of an extension point, if it has this name."""
    known = _object(found)
    return _object(known.get("configuration")) if known.get("name") == name else {}


def _object(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def _zero(dtype: str) -> Any:
    """The fill value in tensorstore's spelling."""
    if dtype == "bool":
        return False
    if dtype.startswith("complex"):
        return [0.0, 0.0]
    return 0 if dtype.startswith(("int", "uint")) else 0.0
