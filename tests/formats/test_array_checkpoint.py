"""Arrays of any grid, order and codec: read and written against tensorstore and numpy."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_arrays import read_zarr

from convkit.checkpoint import Leaf, TensorSpec, WriteOptions
from convkit.checkpoint.tensors import ITEMSIZE
from convkit.errors import ConvkitError
from convkit.formats import open_checkpoint
from convkit.formats.arrays import store as array_store
from convkit.formats.arrays.store import IN_FLIGHT
from convkit.formats.arrays.zarr2 import Zarray
from convkit.formats.pax import FORMAT
from convkit.testing import Sample, bits, check_bits, write

KEY = "mdl_vars.x"


@st.composite
def grids(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape, and chunks that need not divide it."""
    shape = draw(st.lists(st.integers(1, 9), max_size=4).map(tuple))
    return shape, tuple(draw(st.integers(1, length)) for length in shape)


@pytest.fixture(params=[IN_FLIGHT, 64], ids=["all at once", "piece by piece"])
def bounded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_store, "IN_FLIGHT", request.param)


@pytest.mark.usefixtures("bounded")
@settings(max_examples=60, deadline=None)
@given(
    grid=grids(),
    dtype=st.sampled_from(sorted(ITEMSIZE)),
    compressor=st.sampled_from(["none", "gzip", "zstd"]),
    seed=st.integers(0, 2**32),
)
def test_any_grid_is_written_and_read(
    grid: tuple[tuple[int, ...], tuple[int, ...]],
    dtype: str,
    compressor: str,
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    random = Random(seed)
    shape, chunks = grid
    spec = TensorSpec(shape, dtype)
    data = bits(spec, seed)
    options = WriteOptions(compressor=compressor, chunks={KEY: chunks})
    leaves = Sample((Leaf(KEY, spec),), {KEY: data})
    path = write(FORMAT, tmp_path_factory.mktemp("grid") / "state", leaves, random, options=options)
    assert read_zarr(path / KEY).tobytes() == data.tobytes()
    with open_checkpoint(path) as checkpoint:
        check_bits(checkpoint.read(KEY), data, KEY)
        for _ in range(3):
            start, stop = sorted(random.choices(range(spec.size + 1), k=2))
            check_bits(checkpoint.read(KEY, start, stop), data[start:stop], KEY)
        files = checkpoint.leaf_files(KEY) or {}
        assert len(files) == 1 + int(np.prod([-(-n // c) for n, c in zip(shape, chunks, strict=True)]))


def by_hand(folder: Path, array: np.ndarray, chunks: tuple[int, ...], **fields: Any) -> Path:
    """An uncompressed zarr array, written without tensorstore."""
    metadata = {**Zarray(TensorSpec(array.shape, array.dtype.name), chunks).to_json(), **fields}
    (folder / KEY).mkdir(parents=True)
    (folder / KEY / ".zarray").write_text(json.dumps(metadata))
    for corner in itertools.product(*(range(0, n, c) for n, c in zip(array.shape, chunks, strict=True))):
        inside = array[tuple(slice(start, start + c) for start, c in zip(corner, chunks, strict=True))]
        whole = np.zeros(chunks, array.dtype)
        whole[tuple(slice(n) for n in inside.shape)] = inside
        position = metadata["dimension_separator"].join(str(i // c) for i, c in zip(corner, chunks, strict=True))
        file = folder / KEY / position
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(whole.astype(metadata["dtype"]).tobytes(metadata["order"]))
    return folder


@pytest.mark.parametrize("chunks", [(2, 3), (5, 4)])
@pytest.mark.parametrize("fields", [{"order": "F"}, {"dtype": ">f4"}, {"dimension_separator": "/"}])
def test_what_others_may_write_is_read(fields: dict[str, Any], chunks: tuple[int, int], tmp_path: Path) -> None:
    array = np.arange(20, dtype=np.float32).reshape(5, 4)
    with open_checkpoint(by_hand(tmp_path, array, chunks, **fields)) as checkpoint:
        check_bits(checkpoint.read(KEY), array.reshape(-1).view(np.uint32), KEY)
        check_bits(checkpoint.read(KEY, 3, 14), array.reshape(-1)[3:14].view(np.uint32), KEY)
        files = checkpoint.leaf_files(KEY) or {}
        assert all((tmp_path / KEY / name) == file for name, file in files.items())


def test_a_chunk_that_is_missing_is_the_fill_value(tmp_path: Path) -> None:
    array = np.ones((4, 2), np.float32)
    path = by_hand(tmp_path, array, (2, 2), fill_value=7)
    (path / KEY / "1.0").unlink()
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.read(KEY).view(np.float32).tolist() == [1] * 4 + [7] * 4
    described = json.loads((path / KEY / ".zarray").read_text())
    (path / KEY / ".zarray").write_text(json.dumps({**described, "fill_value": None}))
    with pytest.raises(ConvkitError, match=r"chunk 1\.0 is missing"):
        open_checkpoint(path)


def test_a_full_disk_is_said_in_one_line(tmp_path: Path) -> None:
    """A limit on the length of files does what a full disk does."""
    import resource

    spec = TensorSpec((100, 100), "float32")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for compressor in ("gzip", "zstd", "none"):
        writer = FORMAT.create(tmp_path / compressor, [Leaf(KEY, spec)], WriteOptions(compressor=compressor))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            with pytest.raises(ConvkitError, match=r"can't be written: .*File too large") as refusal:
                writer.write(KEY, 0, bits(spec, 0))
                writer.finish(KEY)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            writer.close()
        assert str(refusal.value).startswith(str(tmp_path / compressor / KEY))
        assert "\n" not in str(refusal.value)
        assert "os_error_code" not in str(refusal.value)
