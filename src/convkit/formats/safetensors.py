"""safetensors: a JSON header, then the tensors end to end.

Layout, from the format's description and its reference implementation (safetensors 0.8): eight bytes for the header's
length (little-endian), the header, the data. The header maps each key to
``{"dtype", "shape", "data_offsets": [begin, end]}``, offsets counted from the header's end, and
``__metadata__`` to a map of strings, or null. Offsets must cover the data without gap or overlap. The header is parsed
by hand, because the reference package would be imported for nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convkit.checkpoint import Format, Leaf, TensorSpec, WriteOptions, Writer
from convkit.errors import ConvkitError
from convkit.formats.plain.placed import Place, PlacedCheckpoint
from convkit.formats.plain.preallocated import FileLayout, PreallocatedWriter
from convkit.formats.plain.shards import INDEX, arrange, check_shard, locate, parse_json, split

SUFFIX = ".safetensors"
SINGLE = "model.safetensors"
#: the weights of an adapter, as peft names them
ADAPTER = "adapter_model.safetensors"

#: the reference implementation refuses longer headers
HEADER_LIMIT = 100_000_000
#: data starts at a multiple of a cache line
ALIGNMENT = 64

#: dtype in the header (safetensors 0.8, enum Dtype) -> ours; types narrower than a byte are not supported
DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}
_REFETCH = "fetch the file again"
_NAMES = {ours: name for name, ours in DTYPES.items()}


class Safetensors(Format):
    """A ``.safetensors`` file, or a folder with ``model.safetensors`` or shards and their index."""

    name = "safetensors"
    folder = True
    suffixes = (SUFFIX,)
    holds_values = False
    mapped = True
    in_stores = True
    same_bytes = True
    summary = "safetensors, one file or shards with an index (Hugging Face)"

    def detect(self, path: Path) -> str | None:
        """Recognise a file or folder by its name, or by a plausible header."""
        if path.is_dir():
            found = next((name for name in (SINGLE, SINGLE + INDEX, ADAPTER) if (path / name).is_file()), None)
            return f"the folder holds {found}" if found else None
        if path.name.endswith((SUFFIX, SUFFIX + INDEX)):
            return f"the file is named {path.name}"
        if not path.is_file():
            return None
        with path.open("rb") as file:
            start = file.read(9)
        length = int.from_bytes(start[:8], "little")
        plausible = start[8:] == b"{" and length <= min(HEADER_LIMIT, path.stat().st_size - 8)
        return "the file starts with a safetensors header" if plausible else None

    def open(self, path: Path) -> PlacedCheckpoint:
        """Read the header, or the index and every shard's header, but no tensor."""
        index, listed = locate(path, SINGLE, ADAPTER)
        leaves: dict[str, Leaf] = {}
        places: dict[str, Place] = {}
        metadata: dict[str, str] = {}
        for file, keys in listed.items():
            found, own_places, own_metadata = _read_header(file)
            if index is not None:
                check_shard(index, file, keys, found)
            leaves |= found
            places |= own_places
            metadata |= own_metadata
        return PlacedCheckpoint(path, self.name, leaves=leaves, places=places, metadata=metadata, files=list(listed))

    def create(self, path: Path, leaves: Sequence[Leaf], options: WriteOptions, *, resume: bool = False) -> Writer:
        """Lay out a file (``path`` ends in .safetensors) or a folder; tied leaves are written in full each.

        Raises:
            ConvkitError: a value, or a dtype that the format doesn't have.
            UsageError: a single file is to be cut into shards.
        """
        specs = {leaf.key: _holdable(leaf, path) for leaf in leaves}
        metadata = {"format": "pt"}
        for name, value in options.metadata.items():
            metadata.setdefault(name, value if isinstance(value, str) else json.dumps(value, sort_keys=True))
        shards = split(leaves, options.shard_size)
        output = arrange(path, SINGLE, shards, file=path.suffix == SUFFIX, indexed=options.indexed)
        layouts = [_layout(file, shard, metadata) for file, shard in zip(output.files, shards, strict=True)]
        return PreallocatedWriter(
            layouts,
            specs,
            folder=output.folder,
            at_commit=output.index,
            resume=resume,
            in_parts=options.in_parts,
            outlet=options.outlet,
        )


def _read_header(file: Path) -> tuple[dict[str, Leaf], dict[str, Place], dict[str, str]]:
    """Leaves and places in data order, and the metadata."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 or length > size - 8:
            problem = f"is truncated: {size} bytes, but the header alone needs {length + 8}"
            raise ConvkitError(problem if size >= 8 else f"is truncated: {size} bytes", path=file, remedy=_REFETCH)
        if length > HEADER_LIMIT:
            raise ConvkitError(f"header of {length} bytes, over {HEADER_LIMIT}", path=file, remedy=_REFETCH)
        header = parse_json(opened.read(length), file)
    if not isinstance(header, dict):
        raise ConvkitError("the header is not a JSON object", path=file, remedy=_REFETCH)
    metadata = header.pop("__metadata__", None)
    metadata = {} if metadata is None else metadata  # null is what the reference implementation reads as absent
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ConvkitError("is not a map of strings", path=file, key="__metadata__", remedy=_REFETCH)
    entries = sorted((_entry(file, key, entry) for key, entry in header.items()), key=lambda entry: entry[2:])
    end = 0
    for key, _, begin, stop in entries:
        if begin != end:
            problem = f"its data starts at {begin}, but the tensor before it ends at {end}"
            raise ConvkitError(problem, path=file, key=key, remedy=_REFETCH)
        end = stop
    if 8 + length + end != size:
        problem = f"is {'truncated' if size < 8 + length + end else 'too long'}: {size} bytes of {8 + length + end}"
        raise ConvkitError(problem, path=file, key=entries[-1][0] if entries else None, remedy=_REFETCH)
    leaves = {key: Leaf(key, spec) for key, spec, _, _ in entries}
    places = {key: Place(file, 8 + length + begin) for key, _, begin, _ in entries}
    return leaves, places, metadata


def _entry(file: Path, key: str, entry: Any) -> tuple[str, TensorSpec, int, int]:
    """Check one tensor's entry in the header."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, begin, end]
    except (TypeError, KeyError, ValueError) as error:
        raise ConvkitError("its entry lacks dtype, shape or offsets", path=file, key=key, remedy=_REFETCH) from error
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ConvkitError(f"no shape and offsets: {numbers}", path=file, key=key, remedy=_REFETCH)
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ConvkitError(
            f"dtype {dtype!r} is not supported", path=file, key=key, remedy=f"supported: {', '.join(DTYPES)}"
        )
    spec = TensorSpec.found(shape, DTYPES[dtype], file, key)
    if end - begin != spec.nbytes:
        problem = f"{dtype}{shape} needs {spec.nbytes} bytes, its offsets span {end - begin}"
        raise ConvkitError(problem, path=file, key=key, remedy=_REFETCH)
    return sys.intern(key), spec, begin, end  # what is said of a leaf elsewhere has the same name


def _holdable(leaf: Leaf, path: Path) -> TensorSpec:
    """The leaf's spec, after checking that the format can hold it."""
    if leaf.spec is None:
        problem, remedy = (
            "is a value, and safetensors holds tensors only",
            "leave it out: --drop, or say --format torch",
        )
        raise ConvkitError(problem, path=path, key=leaf.key, remedy=remedy)
    if leaf.spec.dtype not in _NAMES or leaf.key == "__metadata__":
        raise ConvkitError(
            f"safetensors can't hold {leaf.key!r} of {leaf.spec.dtype}",
            path=path,
            key=leaf.key,
            remedy=f"dtypes: {', '.join(_NAMES)}",
        )
    return leaf.spec


def _layout(path: Path, leaves: Sequence[Leaf], metadata: Mapping[str, str]) -> FileLayout:
    """Header and offsets of one file: widest elements first, so that every tensor is aligned without gaps."""
    specs = {leaf.key: leaf.spec for leaf in leaves if leaf.spec}
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    offsets: dict[str, int] = {}
    end = 0
    for key, spec in sorted(specs.items(), key=lambda item: -item[1].itemsize):
        offsets[key] = end
        end += spec.nbytes
        entries[key] = {"dtype": _NAMES[spec.dtype], "shape": spec.shape, "data_offsets": [offsets[key], end]}
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-(8 + len(header)) % ALIGNMENT)
    if len(header) > HEADER_LIMIT:
        problem = f"its header of {len(header)} bytes would be over {HEADER_LIMIT}"
        raise ConvkitError(problem, path=path, remedy="write smaller shards")
    start = 8 + len(header)
    head = len(header).to_bytes(8, "little") + header
    return FileLayout(path, start + end, head, {key: start + offset for key, offset in offsets.items()})


FORMAT = Safetensors()
