"""Datasets of every layout, read as HDF5 reads them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import lz4.block
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.checkpoint.source_files import SourceFiles
from convkit.formats.cerebras_h5.arrays import (
    CACHE_BYTES,
    Array,
    ChunkCache,
    ChunkedArray,
    LibraryArray,
    PlacedArray,
    RawBytes,
    lz4_decode,
    open_array,
)


@contextmanager
def opened(path: Path, dtype: Any = "uint32", cache: ChunkCache | None = None) -> Iterator[Array]:
    """The dataset ``x`` of a file."""
    with h5py.File(path) as file:
        raw = RawBytes(SourceFiles(), path, path.stat().st_size)
        yield open_array(file["x"], np.dtype(dtype), raw, cache or ChunkCache())


def noise(shape: tuple[int, ...]) -> np.ndarray:
    """Half of it compressible."""
    array = np.random.default_rng(0).integers(0, 2**32, shape, np.uint32)
    array[: len(array) // 2] = 7
    return array


CHUNKED: list[dict[str, Any]] = [
    {"chunks": (3, 4), **hdf5plugin.LZ4()},
    {"chunks": (3, 4), **hdf5plugin.LZ4(nbytes=16)},
    {"chunks": (1, 13), **hdf5plugin.LZ4()},
    {"chunks": (8, 2)},
]
LIBRARY: list[dict[str, Any]] = [
    {"chunks": (3, 4), "compression": "gzip", "shuffle": True},
    {"chunks": (3, 4), "fletcher32": True, **hdf5plugin.LZ4()},
    {"chunks": (3, 4), **hdf5plugin.Zstd()},
    {"dtype": ">u4", "chunks": (3, 4), **hdf5plugin.LZ4()},
    {"dtype": ">u4"},
]


@pytest.mark.parametrize(
    ("options", "kind"),
    [*((o, ChunkedArray) for o in CHUNKED), *((o, LibraryArray) for o in LIBRARY), ({}, PlacedArray)],
)
def test_reads_any_slice(tmp_path: Path, options: dict[str, Any], kind: type[Array]) -> None:
    array = noise((10, 13))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=array, **options)
    with opened(tmp_path / "x.h5") as found:
        assert type(found) is kind
        for _ in range(50):
            start, stop = sorted(random.choices(range(array.size + 1), k=2))
            assert found.read(start, stop).tolist() == array.reshape(-1)[start:stop].tolist()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_reads_any_grid_of_chunks(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("grid") / "x.h5"
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)))
    chunks = tuple(data.draw(st.integers(1, length)) for length in shape)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=(array := noise(shape)), chunks=chunks, **hdf5plugin.LZ4())
    with opened(path) as found:
        start, stop = sorted(data.draw(st.integers(0, array.size)) for _ in range(2))
        assert found.read(start, stop).tolist() == array.reshape(-1)[start:stop].tolist()


def test_chunks_never_written_hold_the_fill_value(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", (6, 5), "u4", chunks=(2, 2), fillvalue=9, **hdf5plugin.LZ4())[2:4, :2] = 1
    with opened(tmp_path / "x.h5") as found, h5py.File(tmp_path / "x.h5") as file:
        assert found.read(0, 30).tolist() == file["x"][...].reshape(-1).tolist()


def test_compact_data_is_left_to_the_library(tmp_path: Path) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        h5py.h5d.create(file.id, b"x", h5py.h5t.STD_U32LE, h5py.h5s.create_simple((3,)), plist)
        file["x"][...] = [1, 2, 3]
    with opened(tmp_path / "x.h5") as found:
        assert type(found) is LibraryArray
        assert found.read(1, 3).tolist() == [2, 3]


def external(file: h5py.File) -> None:
    file.create_dataset("x", (3,), "u4", external=[("elsewhere.bin", 0, 12)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), "u4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "y", (3,))
    file.create_virtual_dataset("x", layout)


@pytest.mark.parametrize("make", [external, virtual])
def test_refuses_data_in_other_files(tmp_path: Path, make: Callable[[h5py.File], None]) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        make(file)
    with pytest.raises(ValueError, match="other files"), opened(tmp_path / "x.h5"):
        pass


def test_refuses_a_user_block(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w", userblock_size=512) as file:
        file["x"] = np.zeros(3, "u4")
    with pytest.raises(ValueError, match="user block"), opened(tmp_path / "x.h5"):
        pass


def test_decoded_chunks_are_kept_up_to_a_limit(tmp_path: Path) -> None:
    cache = ChunkCache()
    chunk = np.zeros(CACHE_BYTES // 4, np.uint8)
    for offset in (1, 2, 3, 4):
        cache.put(offset, chunk)
    assert cache.get(1) is chunk
    cache.put(5, chunk)
    assert [offset for offset in (1, 2, 3, 4, 5) if cache.get(offset) is None] == [2]


def packed_chunk(data: bytes) -> bytes:
    """A chunk as the LZ4 filter writes it, in one block."""
    block = lz4.block.compress(data, store_size=False)
    return len(data).to_bytes(8, "big") + len(data).to_bytes(4, "big") + len(block).to_bytes(4, "big") + block


PACKED = packed_chunk(bytes(1000))


def test_decodes_lz4() -> None:
    assert lz4_decode(memoryview(PACKED), 1000) == bytes(1000)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        PACKED[:5],
        PACKED[:14],
        PACKED[:-1],
        PACKED[:16] + b"\xff" * (len(PACKED) - 16),
        (1001).to_bytes(8, "big") + PACKED[8:],
        PACKED[:8] + bytes(4) + PACKED[12:],
        PACKED[:12] + (1).to_bytes(4, "big") + b"x",
        PACKED[:12] + (1000).to_bytes(4, "big") + b"x",
        random.Random(0).randbytes(100),
    ],
)
def test_refuses_corrupt_lz4(packed: bytes) -> None:
    with pytest.raises(ValueError, match="chunk"):
        lz4_decode(memoryview(packed), 1000)
