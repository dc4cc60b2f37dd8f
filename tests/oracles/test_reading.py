"""Tensors of checkpoints, whole and in part: the values, the digests, and no more in memory than is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from packed_mdl import pack

from convkit.checkpoint import Leaf, TensorSpec, WriteOptions
from convkit.checkpoint.digests import digest_array
from convkit.checkpoint.read import Tensors
from convkit.checkpoint.tensors import value_dtype
from convkit.errors import ConvkitError
from convkit.formats import get_format
from convkit.oracles.tensors import ReadTensors
from convkit.oracles.windows import Rows, Slice, Window


class InMemory(Tensors):
    """Tensors whose elements are decoded in groups; what was read of each is noted."""

    def __init__(self, arrays: Mapping[str, np.ndarray], grain: int = 1) -> None:
        self.arrays, self.grain = dict(arrays), grain
        self.leaves = {key: Leaf(key, TensorSpec(a.shape, a.dtype.name)) for key, a in arrays.items()}
        self.ranges: list[tuple[int, int]] = []

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        whole = self.arrays[key].reshape(-1)
        stop = whole.size if stop is None else min(stop, whole.size)
        self.ranges.append((start, stop))
        return whole[start:stop].view(f"u{whole.itemsize}").copy()

    def granularity(self, key: str) -> int:
        return self.grain


def seen(whole: torch.Tensor, window: Window) -> torch.Tensor:
    """What a window shows, by the plainest means."""
    kept = torch.arange(window.start, window.stop) if isinstance(window, Slice) else window.index.flatten()
    if isinstance(window, Slice):
        return whole.index_select(window.axis, kept)
    mask = torch.zeros(whole.shape[window.axis], dtype=torch.bool)
    mask[kept] = True
    shape = [1] * whole.ndim
    shape[window.axis] = -1
    return torch.where(mask.view(shape), whole, torch.zeros(()))


@st.composite
def windows(draw: st.DrawFn, shape: tuple[int, ...]) -> Window:
    axis = draw(st.integers(0, len(shape) - 1))
    if draw(st.booleans()):
        start = draw(st.integers(0, shape[axis] - 1))
        return Slice(axis, start, draw(st.integers(start + 1, shape[axis])))
    ids = draw(st.lists(st.integers(0, shape[axis] - 1), min_size=1, max_size=6))
    return Rows(axis, torch.tensor(ids))


@given(st.data())
def test_any_part_of_any_tensor(data: st.DataObject) -> None:
    """The same values as a part of the whole, whatever is decoded together; the digest is that of the whole."""
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    dtype = data.draw(st.sampled_from(["float32", "float16", "bfloat16", "float64", "float8_e4m3fn"]))
    array = np.random.default_rng(0).normal(size=shape).astype(value_dtype(dtype))
    tensors = InMemory({"a": array}, data.draw(st.integers(1, 7)))
    read, whole = ReadTensors(tensors), torch.from_numpy(array.astype(np.float32))
    for _ in range(data.draw(st.integers(1, 3))):
        window = data.draw(windows(shape))
        assert torch.equal(read.part("a", window), seen(whole, window))
    assert torch.equal(read["a"], whole)
    assert read.digests == {"a": digest_array("xxh3-128", array)}


def test_slices_in_order_are_digested_and_read_once() -> None:
    array = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    tensors = InMemory({"a": array})
    read = ReadTensors(tensors, algorithm="sha256")
    for start in range(0, 10, 4):
        assert not read.digests
        read.part("a", Slice(0, start, min(start + 4, 10)))
    assert read.digests == {"a": digest_array("sha256", array)}
    assert tensors.ranges == [(0, 12), (12, 24), (24, 30)]


def test_rows_are_read_whole_once_for_the_digest() -> None:
    tensors = InMemory({"a": np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)}, grain=8)
    read, rows = ReadTensors(tensors), Rows(0, torch.tensor([0, 5, 1]))
    read.part("a", rows)
    assert read.digests and sum(stop - start for start, stop in tensors.ranges) == 36
    tensors.ranges.clear()
    read.part("a", rows)
    assert max(stop - start for start, stop in tensors.ranges) <= 36 and len(tensors.ranges) == 1


@pytest.mark.parametrize("slices", [[(0, 8)], [(0, 5), (5, 8)]])
def test_a_tensor_that_changes_while_it_is_read_is_refused(slices: list[tuple[int, int]]) -> None:
    tensors = InMemory({"a": np.ones((8, 2), np.float32)})
    read = ReadTensors(tensors)
    assert torch.equal(read["a"], torch.ones(8, 2)) and torch.equal(read["a"], torch.ones(8, 2))
    tensors.arrays["a"][7, 1] = 2
    with pytest.raises(ConvkitError, match=r"^a: changed while it was read"):
        for start, stop in slices:
            read.part("a", Slice(0, start, stop))


def test_a_large_table_costs_its_rows() -> None:
    """Half a gibibyte of which a few rows are written: the rest is never touched."""
    large = TensorSpec((1 << 17, 1 << 10), "float32")

    class Large(InMemory):
        def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
            return np.full((stop or large.size) - start, np.float32(1).view("u4"))

    tensors = Large({})
    tensors.leaves = {"a": Leaf("a", large)}
    read = ReadTensors(tensors)
    read.digests["a"] = ""  # known: only the rows are read
    before = anonymous()
    table = read.part("a", Rows(0, torch.arange(0, 1 << 17, 1 << 11)))
    assert table.shape == large.shape and table[1 << 11].sum() == 1 << 10 and not table[1].any()
    assert anonymous() - before < 16 << 20
    assert read.alive.bytes == (64 << 10) * 4


def anonymous() -> int:
    """Bytes of this process's memory that are in no file."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) << 10


STORED = {"table": (50, 12), "head": (12, 50), "norm": (12,)}
FORMATS = {
    "cerebras-h5": ("model.mdl", WriteOptions()),
    "t5x": ("checkpoint_1", WriteOptions(compressor="gzip", chunks={"table": (7, 12), "head": (12, 8)})),
    "torch": ("model.bin", WriteOptions()),
}


@pytest.fixture(params=FORMATS)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Tensors, dict[str, np.ndarray]]]:
    name, options = FORMATS[request.param]
    format, path = get_format(request.param), tmp_path / name
    random = np.random.default_rng(0)
    arrays = {f"target.{key}": random.normal(size=shape).astype(np.float32) for key, shape in STORED.items()}
    options = WriteOptions(compressor=options.compressor, chunks={f"target.{k}": v for k, v in options.chunks.items()})
    leaves = [Leaf(key, TensorSpec(array.shape, "float32")) for key, array in arrays.items()]
    writer = format.create(path, leaves, options)
    for key, array in arrays.items():
        writer.write(key, 0, array.reshape(-1).view("u4"))
        writer.finish(key)
    writer.commit()
    writer.close()
    if request.param == "cerebras-h5":
        pack(path, {"target.table": (4, 12), "target.head": (1, 50), "target.norm": (12,)})
    with format.open(path) as checkpoint:
        yield checkpoint, arrays


@pytest.mark.parametrize("order", [("part", "whole"), ("whole", "part")])
def test_parts_of_what_formats_store(stored: tuple[Tensors, dict[str, np.ndarray]], order: tuple[str, ...]) -> None:
    checkpoint, arrays = stored
    read = ReadTensors(checkpoint)
    for step in order:
        for key, array in arrays.items():
            whole = torch.from_numpy(array)
            if step == "whole":
                assert torch.equal(read[key], whole)
                assert read.digests[key] == digest_array("xxh3-128", array)
                continue
            for axis in range(whole.ndim):
                length = whole.shape[axis]
                for window in (Slice(axis, length // 4, length // 2), Rows(axis, torch.tensor([length - 1, 2, 3]))):
                    assert torch.equal(read.part(key, window), seen(whole, window))
