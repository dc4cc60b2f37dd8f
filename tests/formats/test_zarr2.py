from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import tensorstore
from hypothesis import given
from hypothesis import strategies as st

from convkit.checkpoint import TensorSpec
from convkit.checkpoint.tensors import ITEMSIZE, value_dtype
from convkit.errors import ConvkitError, UsageError
from convkit.formats.arrays import zarr2
from convkit.formats.arrays.ranges import chunk_shape
from convkit.formats.arrays.whole_chunks import stored_chunks
from convkit.formats.arrays.zarr2 import Zarray

COMPRESSORS = [None, {"id": "gzip", "level": 1}, {"id": "zstd", "level": 1}, {"id": "zlib", "level": 1}]


def created(folder: Path, data: np.ndarray, chunks: list[int], compressor: dict | None, dtype: str) -> Zarray:
    """An array as tensorstore writes it."""
    metadata = {"shape": data.shape, "chunks": chunks, "compressor": compressor, "dtype": zarr2.zarr_name(dtype)}
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(folder)}, "metadata": metadata}
    tensorstore.open(spec, create=True).result().write(data).result()
    return zarr2.parse((folder / ".zarray").read_bytes(), folder)


@pytest.mark.parametrize("dtype", sorted(ITEMSIZE))
def test_tensorstore_spells_it_the_same(dtype: str, tmp_path: Path) -> None:
    found = created(tmp_path, np.zeros((3, 2), value_dtype(dtype)), [2, 2], COMPRESSORS[1], dtype)
    assert found == Zarray(TensorSpec((3, 2), dtype), (2, 2), COMPRESSORS[1])
    text = json.dumps(found.to_json(), sort_keys=True, separators=(",", ":"))
    assert text == (tmp_path / ".zarray").read_text()


def test_big_endian_is_kept(tmp_path: Path) -> None:
    fields = {**Zarray(TensorSpec((2,), "float32"), (2,)).to_json(), "dtype": ">f4"}
    found = zarr2.from_json(fields, tmp_path)
    assert found.spec.dtype == "float32"
    assert found.to_json()["dtype"] == ">f4"
    assert not found.raw


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"dtype": "uint4"}, "dtype 'uint4' is not supported"),
        ({"dtype": "<f3"}, "dtype '<f3' is not supported"),
        ({"dtype": [["a", "<f4"]]}, "is not supported"),
        ({"dtype": None}, "dtype None is not supported"),
        ({"shape": [2, -1]}, "no shape and chunks"),
        ({"chunks": [0]}, "no shape and chunks"),
        ({"chunks": [1, 1]}, "no shape and chunks"),
        ({"compressor": {"id": "lzma"}}, "compressor {'id': 'lzma'} is not supported"),
        ({"zarr_format": 3}, "isn't an array of zarr version 2"),
    ],
)
def test_what_is_not_read_is_said(change: dict, problem: str) -> None:
    fields = {**Zarray(TensorSpec((2,), "float32"), (2,)).to_json(), **change}
    with pytest.raises(ConvkitError, match=r"a/\.zarray") as refusal:
        zarr2.parse(json.dumps(fields), "a/.zarray")
    assert problem in str(refusal.value)


@given(shape=st.lists(st.integers(0, 40), max_size=4).map(tuple), limit=st.integers(1, 4000))
def test_chunks_are_ranges_within_the_limit(shape: tuple[int, ...], limit: int) -> None:
    chunks = chunk_shape(shape, 1, limit)
    assert len(chunks) == len(shape)
    assert all(1 <= chunk <= max(1, length) for chunk, length in zip(chunks, shape, strict=True))
    if 0 not in shape:
        assert math.prod(chunks) <= limit
        if math.prod(shape) <= limit:
            assert chunks == shape


def test_compressors_are_named_as_users_do() -> None:
    assert zarr2.parse_compressor("none") is None
    assert zarr2.parse_compressor("gzip") == {"id": "gzip", "level": 1}
    assert zarr2.parse_compressor("zstd:22") == {"id": "zstd", "level": 22}
    for wrong in ("lz4", "gzip:10", "zstd:-1", "none:1", ""):
        with pytest.raises(UsageError, match="no compressor is called"):
            zarr2.parse_compressor(wrong)


@pytest.mark.parametrize("compressor", COMPRESSORS, ids=lambda compressor: compressor["id"] if compressor else "none")
@given(values=st.lists(st.integers(0, 3), min_size=1, max_size=3000), where=st.floats(0, 1, exclude_max=True))
def test_a_cut_chunk_shows(
    compressor: dict | None, values: list[int], where: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("array")
    zarray = created(folder, np.array(values, np.int32), [-(-len(values) // 2)], compressor, "int32")
    files = stored_chunks(folder, zarray, "key")
    assert [file.name for file in files] == [str(i) for i in range(min(2, len(values)))]
    whole = files[-1].read_bytes()
    told = compressor is None or compressor["id"] in ("gzip", "zstd")
    files[-1].write_bytes(whole[: int(where * len(whole))] if told else b"")
    with pytest.raises(ConvkitError, match="is truncated or corrupt") as refusal:
        stored_chunks(folder, zarray, "key")
    assert refusal.value.path == str(files[-1])
    assert refusal.value.key == "key"


@pytest.mark.parametrize("compressor", [None, COMPRESSORS[2]])
def test_a_chunk_that_is_too_long_shows(compressor: dict | None, tmp_path: Path) -> None:
    zarray = created(tmp_path, np.arange(9), [9], compressor, "int64")
    (tmp_path / "0").write_bytes((tmp_path / "0").read_bytes() + b"\0")
    with pytest.raises(ConvkitError, match="is truncated or corrupt"):
        stored_chunks(tmp_path, zarray, "key")


def test_a_missing_chunk_is_what_the_fill_value_says(tmp_path: Path) -> None:
    zarray = created(tmp_path, np.ones(4, np.int32), [2], None, "int32")
    (tmp_path / "1").unlink()
    with pytest.raises(ConvkitError, match="chunk 1 is missing"):
        stored_chunks(tmp_path, zarray, "key")
    filled = zarr2.from_json({**zarray.to_json(), "fill_value": 7}, tmp_path)
    assert stored_chunks(tmp_path, filled, "key") == [tmp_path / "0"]


def test_large_zstd_chunks_are_walked_block_by_block(tmp_path: Path) -> None:
    """Raw blocks, compressed ones, and those of one repeated byte."""
    data = np.frombuffer(np.random.default_rng(0).bytes(300_000) + bytes(700_000), np.uint8)
    zarray = created(tmp_path, data, [len(data)], {"id": "zstd", "level": 1}, "uint8")
    assert stored_chunks(tmp_path, zarray, "key") == [tmp_path / "0"]
