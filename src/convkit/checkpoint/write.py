"""Write a checkpoint: the interface of formats and writers, and the options that users can set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

if TYPE_CHECKING:
    import numpy as np
from convkit.checkpoint.outlet import Outlet
from convkit.checkpoint.read import Checkpoint, Leaf
from convkit.checkpoint.source_files import Span


class WriteOptions(Struct, frozen=True):
    """Options for any format; a format ignores those that don't concern it."""

    #: bytes per shard at most (safetensors, torch); None is one file
    shard_size: int | None = None
    #: whether a folder is cut into shards with an index even where one is enough (safetensors, torch)
    indexed: bool = False
    #: format-level metadata for the file's own header (JSON values only)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    #: shape of a leaf's chunks, by its key (t5x, pax, orbax); others are cut as the format has it
    chunks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    #: ``none``, ``gzip`` or ``zstd``, also with a level: ``zstd:3`` (t5x, pax, orbax); None is the format's own
    compressor: str | None = None
    #: version of zarr, 2 or 3 (orbax); None is the format's own
    zarr: int | None = None
    #: whether arrays lie in one database instead of a folder each (orbax)
    ocdbt: bool = True
    #: the model's config, for a format where :attr:`Format.holds_config` is true
    config: Mapping[str, Any] | None = None
    #: whether processes on several machines fill the output: one lays it out, without taking its room on the disk, and
    #: the others (``resume=True``) never lay it out again
    in_parts: bool = False
    #: what takes bytes as soon as they are final; a writer may tell it of some, or of none
    outlet: Outlet | None = None


class Writer(ABC):
    """A staged output: filled by any thread, leaf by leaf, in any order, each element once.

    It writes below the staging path that it was given and nowhere else; the shell (:mod:`convkit.execute.publish`)
    publishes under the final name. After ``kill -9`` a writer that is opened again with ``resume=True`` on the same
    staging path still holds every leaf for which :meth:`finish` had returned.

    Where it says so (:attr:`shared`), several processes may fill the output at the same time, each with a writer of its
    own, opened with ``resume=True`` once one of them has laid it out (``WriteOptions.in_parts``). Each writes other
    ranges of the leaves, or the same bytes. One of them finishes the leaves that several wrote, and commits.
    """

    #: whether several processes may fill the output at the same time
    shared: bool = False
    #: whether they may share a leaf; else one of them writes all of it
    splits: bool = True

    def granularity(self, key: str) -> int:
        """The number of elements in whose multiples every write starts and, except a leaf's last, ends.

        It is a row of chunks, or 1 where any range can be written.
        """
        return 1

    def stretch(self, key: str) -> int:
        """The number of elements, in multiples of :meth:`granularity`, that one thread best writes in order.

        They lie together in a file that is filled once then; written otherwise, they lie there all the same.
        """
        return self.granularity(key)

    def place(self, key: str) -> Span | None:
        """Where the leaf lies, with what says something of it alone; None unless that is known before it is written."""
        return None

    @abstractmethod
    def write(self, key: str, start: int, data: np.ndarray) -> None:
        """Write elements ``[start, start + data.size)`` in C order; ``data`` is 1-D, contiguous, carrier dtype.

        It may be reused when this returns.
        """

    @abstractmethod
    def finish(self, key: str) -> None:
        """Mark the leaf as written, and make it survive the death of this process."""

    def settle(self, key: str) -> None:
        """Make what was written of a leaf so far survive the death of this process, though more is to come.

        Only of a :attr:`shared` output.
        """
        raise NotImplementedError

    def sync(self) -> None:
        """Make what this process has written survive the death of this machine; only of a :attr:`shared` output."""
        raise NotImplementedError

    def copy_leaf(self, key: str, files: Mapping[str, Path]) -> bool:
        """Copy a whole leaf from its files (:meth:`Tensors.leaf_files`), instead of :meth:`write` and :meth:`finish`.

        Returns False, and does nothing, where this writer stores the leaf otherwise (other chunks, another
        compressor): then it must be written.
        """
        return False

    def copy_chunks(self, key: str, start: int, stop: int, packed: object) -> bool:
        """Write a range from a leaf's packed chunks (:meth:`Tensors.packed`), instead of :meth:`write`.

        It starts and ends as :meth:`write` says. Returns False, and does nothing, where this writer packs the leaf
        otherwise.
        """
        return False

    @abstractmethod
    def commit(self) -> None:
        """Complete the output once every leaf is finished; it needn't be on the disk before it is published."""

    def beside(self) -> dict[str, bytes]:
        """Small files that belong beside the output, by their paths from its parent; the caller writes them."""
        return {}

    @abstractmethod
    def close(self) -> None:
        """Close the files (also without commit: the staging path can then be resumed or removed)."""


class Format(ABC):
    """A format: how bytes lie on disk."""

    #: the word users type: ``safetensors``, ``torch``, ``cerebras-h5``, ...
    name: str
    #: whether a checkpoint is usually a folder (with model.safetensors in it), not a file
    folder: bool
    #: suffixes of single files, the usual one first; empty where a checkpoint is always a folder
    suffixes: tuple[str, ...] = ()
    #: whether a leaf may share another's bytes: then ``Leaf.same_as`` is recorded and the leaf is
    #: not written; else the executor clears ``same_as`` and writes the leaf in full
    ties: bool = False
    #: keys of a checkpoint's ``metadata`` that a target of this format takes over (as ``WriteOptions.metadata``)
    carried: tuple[str, ...] = ()
    #: whether the model's config lies within the checkpoint (``WriteOptions.config``), and not beside it
    holds_config: bool = False
    #: where the config lies within the checkpoint, relative to its folder, if it is there: the paths to look at
    config_files: tuple[str, ...] = ()
    #: whether a checkpoint consists of several, each in a folder of it by whose name its keys begin
    components: bool = False
    #: whether a leaf may be a value; else it holds tensors only
    holds_values: bool = True
    #: whether tensors lie in files as they are, and needn't be decoded
    mapped: bool = False
    #: whether the same leaves and options give the same bytes: in any order, by any number of threads, after a kill; at
    #: the same time, where it says one (:meth:`times`)
    same_bytes: bool = False
    #: the library that reads a file's index, if it doesn't check all of it: a damaged file may crash or hang it
    index_library: str | None = None
    #: whether a checkpoint in a store is read there, without a copy
    in_stores: bool = False
    #: one line for ``convkit list formats``
    summary: str

    def carried_over(
        self, metadata: Mapping[str, Any], moved: Mapping[str, Sequence[str]], leaves: Sequence[Leaf]
    ) -> dict[str, Any]:
        """What a target of this format takes over of a source's ``metadata``, as ``WriteOptions.metadata``.

        Args:
            metadata: of a source of any format.
            moved: the names in the target of each leaf of the source, or of what stands in its place.
            leaves: of the target.
        """
        return {name: metadata[name] for name in self.carried if metadata.get(name)}

    @abstractmethod
    def detect(self, path: Path) -> str | None:
        """Say why ``path`` (file or folder) is of this format, by names and magic bytes; None if it isn't."""

    def times(self, path: Path) -> set[int]:
        """The times that a checkpoint says convkit wrote it at, in whole seconds since 1970.

        It is written again with the same bytes at the one time that it says, or at any if it says none.
        """
        return set()

    @abstractmethod
    def open(self, path: Path) -> Checkpoint:
        """Open a file or folder of this format.

        Raises:
            ConvkitError: truncated, corrupt, malicious, incomplete; one line with the remedy.
        """

    @abstractmethod
    def create(self, path: Path, leaves: Sequence[Leaf], options: WriteOptions, *, resume: bool = False) -> Writer:
        """Lay out a new checkpoint at the staging ``path`` (a folder to fill or a file to make).

        With ``resume``, continue what an earlier process left there for the same leaves and options.

        Raises:
            ConvkitError: a leaf that this format can't hold; names the key and the remedy.
        """
