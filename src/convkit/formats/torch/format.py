"""``torch``: files of ``torch.save``, read and written without torch and without unpickling.

Reads files (``.bin``, ``.pt``, ``.pth``; zip archives, and the format before torch 1.6), and folders with
``pytorch_model.bin`` or shards and their index. Nested dicts and lists flatten to dotted keys. Writes zip archives of a
flat dict, whose entries ``torch.load(mmap=True)`` can map.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convkit.checkpoint import Checkpoint, Format, Leaf, TensorSpec, WriteOptions, Writer
from convkit.checkpoint.source_files import Span
from convkit.checkpoint.tensors import ITEMSIZE, check_unstored
from convkit.errors import ConvkitError
from convkit.files.room import write_at
from convkit.formats.plain.io_errors import written_below
from convkit.formats.plain.placed import Place, Sum
from convkit.formats.plain.preallocated import FileLayout, PreallocatedWriter
from convkit.formats.plain.shards import INDEX, Output, arrange, check_shard, locate, split
from convkit.formats.torch import emit as torch_emit
from convkit.formats.torch import files as torch_files
from convkit.formats.torch import pickle as torch_pickle
from convkit.formats.torch.checkpoint import TorchCheckpoint
from convkit.formats.torch.crc import Pieces
from convkit.formats.torch.objects import Array
from convkit.formats.torch.zip_places import CRC_FIELD, Entry, directory, local_header, place

if TYPE_CHECKING:
    import numpy as np

SUFFIXES = (".pt", ".bin", ".pth")
SINGLE = "pytorch_model.bin"
#: the weights of an adapter, as peft names them
ADAPTER = "adapter_model.bin"

#: the folder inside every archive; torch takes any name
ROOT = "archive"

#: bytes read back at once for a CRC-32
BLOCK = 1 << 20


class Torch(Format):
    """Files of ``torch.save``, single or sharded."""

    name = "torch"
    folder = True
    suffixes = SUFFIXES
    ties = True
    mapped = True
    in_stores = True
    same_bytes = True
    summary = "torch.save (.bin, .pt, .pth), one file or shards with an index; read without unpickling"

    def detect(self, path: Path) -> str | None:
        """Recognise a file or folder by its name, or by its first bytes."""
        if path.is_dir():
            found = next((name for name in (SINGLE, SINGLE + INDEX, ADAPTER) if (path / name).is_file()), None)
            return f"the folder holds {found}" if found else None
        if path.suffix in (".pt", ".pth") or (
            path.name.startswith("pytorch_model") and path.suffix in (".bin", ".json")
        ):
            return f"the file is named {path.name}"
        if not path.is_file():
            return None
        with path.open("rb") as file:
            start = file.read(256)
        if torch_files.LEGACY_MAGIC in start[:32]:
            return "the file starts with torch's old magic number"
        is_archive = start.startswith(torch_files.ZIP_MAGIC) and b"/data.pkl" in start
        return "the file is a zip archive with data.pkl" if is_archive else None

    def open(self, path: Path) -> Checkpoint:
        """Interpret the pickle of the file or of every shard, without reading a storage."""
        index, listed = locate(path, SINGLE, ADAPTER)
        leaves: dict[str, Leaf] = {}
        places: dict[str, Place] = {}
        arrays: dict[str, Array] = {}
        sums: list[Sum] = []
        for file, keys in listed.items():
            found = dict(_leaves(file, sums))
            if index is not None:
                check_shard(index, file, keys, found)
            leaves |= {key: leaf for key, (leaf, _) in found.items()}
            places |= {key: place for key, (_, place) in found.items() if isinstance(place, Place)}
            arrays |= {key: place for key, (_, place) in found.items() if isinstance(place, Array)}
        return TorchCheckpoint(
            path,
            self.name,
            arrays=arrays,
            leaves=leaves,
            places=places,
            metadata={},
            files=list(listed),
            sums=sums,
        )

    def create(self, path: Path, leaves: Sequence[Leaf], options: WriteOptions, *, resume: bool = False) -> Writer:
        """Lay out a file (``path`` ends in .bin, .pt or .pth) or a folder. Keys are written flat.

        Raises:
            ConvkitError: a value or dtype that torch can't hold, or a leaf tied to one that is missing or unlike it.
            UsageError: a single file is to be cut into shards.
        """
        owners = _owners(leaves, path)
        shard_of = {
            leaf.key: number
            for number, shard in enumerate(split([leaf for leaf in leaves if not leaf.same_as], options.shard_size))
            for leaf in shard
        }
        shards: list[list[Leaf]] = [[] for _ in range(max(shard_of.values(), default=0) + 1)]
        for leaf in leaves:
            shards[shard_of[owners[leaf.key]]].append(leaf)
        output = arrange(path, SINGLE, shards, file=path.suffix in SUFFIXES, indexed=options.indexed)
        archives = [_archive(file, shard, owners) for file, shard in zip(output.files, shards, strict=True)]
        specs = {leaf.key: leaf.spec for leaf in leaves if leaf.spec}
        return TorchWriter(archives, specs, output, options, resume=resume)


@dataclass(frozen=True, slots=True)
class Archive:
    """One file to write: its layout as bytes, its layout as a zip archive, and the entry of each key."""

    layout: FileLayout
    entries: list[Entry]
    tensors: dict[str, Entry]


class TorchWriter(PreallocatedWriter):
    """Writes a preallocated archive, and adds the CRC-32 of each entry.

    A leaf's CRC-32 is computed when the leaf is finished and put into the entry's header, where a resumed writer finds
    it. The directory at the end, which repeats them all, completes the file.
    """

    def __init__(
        self,
        archives: Sequence[Archive],
        specs: Mapping[str, TensorSpec],
        output: Output,
        options: WriteOptions,
        *,
        resume: bool,
    ) -> None:
        self._archives = archives
        self._entries = {key: entry for archive in archives for key, entry in archive.tensors.items()}
        #: checksums of what this process has written
        self._pieces = {key: Pieces() for key in self._entries}
        super().__init__(
            [archive.layout for archive in archives],
            specs,
            folder=output.folder,
            at_commit=output.index,
            resume=resume,
            in_parts=options.in_parts,
            outlet=options.outlet,
        )

    def place(self, key: str) -> Span | None:
        """See :meth:`Writer.place`; the header of an entry, which has its CRC-32, belongs to it."""
        if (found := super().place(key)) is None:
            return None
        entry = self._entries[key]
        return Span(found.path, entry.header, entry.end - entry.header)

    def write(self, key: str, start: int, data: np.ndarray) -> None:
        """See :meth:`PreallocatedWriter.write`."""
        if key in self._pieces and data.size:
            self._pieces[key].add(start * data.itemsize, data.view("uint8").data)
        super().write(key, start, data)

    def finish(self, key: str) -> None:
        """Put the CRC-32 of the written bytes into the entry's header.

        Where other processes have written some of them, all are read: they are still in the page cache.
        """
        if key in self._entries:
            file, entry = self._places[key][0], self._entries[key]
            crc = self._pieces[key].whole(entry.size)
            with written_below(self._root):
                if crc is None:
                    crc = self._read_back(file, entry)
                write_at(file, entry.header + CRC_FIELD, crc.to_bytes(4, "little"))
            self.framed(file, entry.header, entry.start)

    def _read_back(self, file: int, entry: Entry) -> int:
        crc = 0
        for offset in range(entry.start, entry.end, BLOCK):
            crc = zlib.crc32(os.pread(file, min(BLOCK, entry.end - offset), offset), crc)
        return crc

    def _complete(self) -> None:
        for file, archive in zip(self._files, self._archives, strict=True):
            crcs = [int.from_bytes(os.pread(file, 4, entry.header + CRC_FIELD), "little") for entry in archive.entries]
            end = archive.entries[-1].end
            write_at(file, end, directory(archive.entries, crcs, end))
            self.framed(file, end, archive.layout.size)


def _leaves(file: Path, sums: list[Sum]) -> Iterator[tuple[str, tuple[Leaf, Place | Array | None]]]:
    """The leaves of one file, and their places, or their arrays within the pickle.

    Further names of the same tensor are tied to the first. The checksums of its records are added to ``sums``.
    """
    data, spans = torch_files.read(file)
    sums += [Sum(file, name, start, size, crc) for start, size, name, crc in spans.values() if crc]
    if not isinstance(data, dict | list | tuple):
        problem = f"holds an object of kind {torch_pickle.kind_of(data)}, not a dict of tensors"
        raise ConvkitError(problem, path=file, remedy="save a state_dict")
    keys: set[str] = set()
    first: dict[torch_pickle.Tensor | Array, str] = {}
    for key, item in torch_pickle.flatten(data, file) if data else ():
        if key in keys:
            raise ConvkitError("two entries have this dotted key", path=file, key=key, remedy="rename one of them")
        keys.add(key)
        if isinstance(item, Array):
            spec = TensorSpec.found(item.shape, item.dtype or "", file, key)
            owner = first.setdefault(item, key)
            yield key, (Leaf(key, spec, same_as=None if owner == key else owner), item)
            continue
        if not isinstance(item, torch_pickle.Tensor):
            yield key, (Leaf(key, value=item), None)
            continue
        spec = TensorSpec.found(item.shape, item.dtype, file, key)
        check_unstored(spec.nbytes, item.storage.nbytes, file, key)
        owner = first.setdefault(item, key)
        leaf = Leaf(key, spec, same_as=None if owner == key else owner)
        yield key, (leaf, _place(file, key, item, spans))


def _place(file: Path, key: str, tensor: torch_pickle.Tensor, spans: torch_files.Spans) -> Place:
    """The place of a tensor, after checking that it lies within its storage."""
    itemsize = ITEMSIZE[tensor.dtype]
    if tensor.storage.key not in spans:
        raise ConvkitError(
            f"its storage {tensor.storage.key} is missing", path=file, key=key, remedy="fetch the file again"
        )
    start, nbytes, _, _ = spans[tensor.storage.key]
    axes = list(zip(tensor.shape, tensor.strides, strict=True))
    last = tensor.offset + sum((length - 1) * stride for length, stride in axes) if 0 not in tensor.shape else -1
    if nbytes < tensor.storage.nbytes or (last + 1) * itemsize > tensor.storage.nbytes:
        problem = (
            f"needs {(last + 1) * itemsize} of the {tensor.storage.nbytes} bytes of its storage, which has {nbytes}"
        )
        raise ConvkitError(problem, path=file, key=key, remedy="fetch the file again")
    if last < 0:
        return Place(file, start)
    dense = [math.prod(tensor.shape[axis + 1 :]) for axis in range(len(axes))]
    is_dense = all(length == 1 or stride == own for (length, stride), own in zip(axes, dense, strict=True))
    strides = None if is_dense else tuple(stride * itemsize for stride in tensor.strides)
    return Place(file, start + tensor.offset * itemsize, strides)


def _owners(leaves: Sequence[Leaf], path: Path) -> dict[str, str]:
    """Key of each leaf -> key of the leaf that holds its bytes."""
    by_key = {leaf.key: leaf for leaf in leaves}
    for leaf in leaves:
        owner = by_key.get(leaf.same_as) if leaf.same_as else leaf
        if owner is None or (owner is not leaf and (owner.same_as or owner.spec != leaf.spec)):
            raise ConvkitError(
                f"is tied to {leaf.same_as}, which is missing, tied itself, or of another shape or dtype",
                path=path,
                key=leaf.key,
                remedy="write it in full",
            )
    return {leaf.key: leaf.same_as or leaf.key for leaf in leaves}


def _archive(path: Path, leaves: Sequence[Leaf], owners: Mapping[str, str]) -> Archive:
    """The archive's layout: known records, then an entry for each tensor, then room for the directory."""
    owned = {leaf.key: leaf.spec for leaf in leaves if leaf.spec and not leaf.same_as}
    names = {key: str(number) for number, key in enumerate(owned)}
    pickle = torch_emit.dump(leaves, {leaf.key: names[owners[leaf.key]] for leaf in leaves if leaf.spec}, path)
    entries: list[Entry] = []
    head = bytearray()
    for name, record in [("data.pkl", pickle), ("byteorder", b"little"), ("version", b"3\n")]:
        entries.append(place(f"{ROOT}/{name}", len(head), len(record)))
        head += local_header(entries[-1], zlib.crc32(record)) + record
    tensors: dict[str, Entry] = {}
    for key, spec in owned.items():
        tensors[key] = place(f"{ROOT}/data/{names[key]}", entries[-1].end, spec.nbytes)
        entries.append(tensors[key])
    end = entries[-1].end
    size = end + len(directory(entries, [0] * len(entries), end))
    offsets = {key: entry.start for key, entry in tensors.items()}
    stamps = {entry.header: local_header(entry) for entry in tensors.values()}
    return Archive(FileLayout(path, size, bytes(head), offsets, stamps), entries, tensors)


FORMAT = Torch()
