"""Arrays of zarr 3 in folders: written and read against tensorstore, and as old Orbax releases wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import tensorstore
from goldens import golden_dir
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.checkpoint import TensorSpec
from convkit.checkpoint.tensors import ITEMSIZE, value_dtype
from convkit.errors import ConvkitError
from convkit.formats.arrays import zarr3
from convkit.formats.arrays.folders import LeafFolderWriter, read_leaf
from convkit.formats.arrays.ranges import block
from convkit.formats.arrays.store import ArrayReader, file_store
from convkit.formats.arrays.whole_chunks import stored_chunks
from convkit.formats.arrays.zarr3 import Zarr3Array, orbax_array
from convkit.testing import bits, check_bits

COMPRESSORS = [None, {"id": "gzip", "level": 1}, {"id": "zstd", "level": 3}]
VALID = orbax_array(TensorSpec((4, 2), "float32"), (2, 2)).to_json()
SHARD = VALID["codecs"][0]["configuration"]


@st.composite
def arrays(draw: st.DrawFn) -> Zarr3Array:
    """An array of any dtype, in shards that need not divide it, of chunks that divide those."""
    spec = TensorSpec(draw(st.lists(st.integers(1, 9), max_size=3).map(tuple)), draw(st.sampled_from(sorted(ITEMSIZE))))
    inner = tuple(draw(st.integers(1, length)) for length in spec.shape)
    outer = tuple(part * draw(st.integers(1, 3)) for part in inner)
    array = orbax_array(spec, outer, inner=inner, compressor=draw(st.sampled_from(COMPRESSORS)))
    if draw(st.booleans()):
        return array
    plain = tuple(array.codecs[0]["configuration"]["codecs"])
    return Zarr3Array(spec, outer, plain, array.fill_value, *draw(st.sampled_from([("default", "/"), ("v2", ".")])))


def by_tensorstore(folder: Path, array: Zarr3Array, data: np.ndarray, **more: Any) -> None:
    """The array as tensorstore writes it."""
    spec = {"driver": "zarr3", "kvstore": file_store(str(folder)), "metadata": array.to_json(), **more}
    values = data.view(value_dtype(array.spec.dtype)).reshape(array.spec.shape)
    tensorstore.open(spec, create=True).result().write(values).result()


def read_by_tensorstore(folder: Path) -> np.ndarray:
    spec = {"driver": "zarr3", "kvstore": file_store(str(folder))}
    return tensorstore.open(spec, open=True).result().read().result()


@settings(max_examples=150, deadline=None)
@given(array=arrays(), seed=st.integers(0, 2**32))
def test_tensorstore_reads_what_is_written(
    array: Zarr3Array, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("written")
    data = bits(array.spec, seed)
    writer = LeafFolderWriter(folder, {"a/b": array})
    grain = writer.granularity("a/b")
    for start in Random(seed).sample(range(0, data.size, grain), len(range(0, data.size, grain))):
        writer.write("a/b", start, data[start : start + grain])
    writer.finish("a/b")
    writer.commit()
    writer.close()
    found = read_by_tensorstore(folder / "a/b")
    assert (found.dtype.name, found.shape) == (array.spec.dtype, array.spec.shape)
    assert found.tobytes() == data.tobytes()
    assert len(read_leaf(folder / "a/b", complete=True).files) == 1 + len(list(array.chunk_names()))


@settings(max_examples=150, deadline=None)
@given(array=arrays(), seed=st.integers(0, 2**32))
def test_what_tensorstore_writes_is_read(
    array: Zarr3Array, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("read")
    random, data = Random(seed), bits(array.spec, seed)
    by_tensorstore(folder, array, data)
    leaf = read_leaf(folder)
    assert leaf.zarray == array
    reader = ArrayReader({"x": leaf})
    check_bits(reader.read("x", 0, data.size), data, "x")
    for _ in range(3):
        start, stop = sorted(random.sample(range(data.size + 1), 2))
        check_bits(reader.read("x", start, stop), data[start:stop], "x")
    if leaf.zarray.raw and len(leaf.files) > 1:  # a chunk that holds nothing except the fill value isn't stored
        assert leaf.files[1].read_bytes() == data.tobytes()


@pytest.mark.parametrize("dtype", sorted(ITEMSIZE))
def test_tensorstore_spells_it_the_same(dtype: str, tmp_path: Path) -> None:
    array = orbax_array(TensorSpec((3, 2), dtype), (2, 2), inner=(1, 2))
    by_tensorstore(tmp_path, array, bits(array.spec, 0))
    text = (tmp_path / "zarr.json").read_text()
    assert text == json.dumps(array.to_json(), sort_keys=True, separators=(",", ":"))
    assert zarr3.parse(text, tmp_path) == array
    assert array.compressor == {"id": "zstd", "level": 3}


@pytest.mark.golden
@pytest.mark.parametrize("release", ["0.5.9", "0.9.1", "0.11.20"])
def test_old_releases_wrote_the_same(release: str) -> None:
    """Also chunks of zeros, which 0.5.9 and 0.9.1 didn't store."""
    case = golden_dir("orbax/old_releases.tar.gz") / release
    case = case / "direct_zarr3_ocdbt_False"
    truth = np.load(case / "truth.npz")
    for path in truth.files:
        leaf = read_leaf(case / "ckpt" / path.replace("/", "."))
        array = leaf.zarray
        assert array == orbax_array(array.spec, array.chunks), path
        found = ArrayReader({path: leaf}).read(path, 0, array.spec.size)
        assert found.tobytes() == truth[path].tobytes(), path
        if path == "zeros" and release != "0.11.20":
            with pytest.raises(ConvkitError, match="zeros: chunk c/0/0 is missing"):
                read_leaf(leaf.folder, complete=True)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"data_type": "uint4"}, "dtype 'uint4' is not supported"),
        ({"data_type": {"name": "x"}}, "is not supported"),
        ({"shape": [4, -2]}, "no shape and regular chunks"),
        ({"chunk_grid": {"name": "rectilinear"}}, "no shape and regular chunks"),
        ({"chunk_grid": None}, "no shape and regular chunks"),
        ({"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}}}, "no shape and regular chunks"),
        ({"chunk_key_encoding": {"name": "other"}}, "chunks named by {'name': 'other'} are not supported"),
        ({"chunk_key_encoding": {"name": "v2", "configuration": {"separator": "|"}}}, "are not supported"),
        ({"codecs": []}, "codecs [] are not supported"),
        ({"codecs": [{"name": "vlen-utf8"}]}, "are not supported"),
        ({"codecs": [{"name": "bytes", "configuration": 1}]}, "don't have zarr's form"),
        ({"codecs": [{"name": "sharding_indexed"}]}, "don't have zarr's form"),
        ({"codecs": [VALID["codecs"][0], {"name": "zstd"}]}, "don't have zarr's form"),
        ({"codecs": [{"name": "sharding_indexed", "configuration": {**SHARD, "chunk_shape": [2, 3]}}]}, "don't divide"),
        ({"codecs": [{"name": "sharding_indexed", "configuration": {**SHARD, "codecs": None}}]}, "are not supported"),
        ({"codecs": [{"name": "sharding_indexed", "configuration": {"chunk_shape": [1, 1]}}]}, "are not supported"),
        ({"zarr_format": 2}, "isn't an array of zarr version 3"),
        ({"node_type": "group"}, "isn't an array of zarr version 3"),
    ],
)
def test_what_is_not_read_is_said(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConvkitError, match=r"a/zarr\.json") as refusal:
        zarr3.parse(json.dumps({**VALID, **change}), "a/zarr.json")
    assert problem in str(refusal.value)


@settings(max_examples=100, deadline=None)
@given(array=arrays(), where=st.floats(0, 1, exclude_max=True), seed=st.integers(0, 2**32))
def test_a_cut_chunk_shows(
    array: Zarr3Array, where: float, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    by_tensorstore(folder, array, bits(array.spec, seed), store_data_equal_to_fill_value=True)
    file = stored_chunks(folder, array, "key", complete=True)[-1]
    whole = file.read_bytes()
    file.write_bytes(whole[: int(where * len(whole))])
    with pytest.raises(ConvkitError, match="is truncated or corrupt") as refusal:
        stored_chunks(folder, array, "key")
    assert (refusal.value.path, refusal.value.key) == (str(file), "key")


def test_a_chunk_is_read_once_however_small_the_pieces_are(tmp_path: Path) -> None:
    """An array that is one chunk of 1 MB, read by rows."""
    array = orbax_array(TensorSpec((256, 1024), "float32"), (256, 1024))
    data = bits(array.spec, 0)
    by_tensorstore(tmp_path, array, data)
    reader = ArrayReader({"x": read_leaf(tmp_path)})
    before, size = bytes_read(), (tmp_path / "c/0/0").stat().st_size
    for start in range(0, data.size, 1024):
        check_bits(reader.read("x", start, start + 1024), data[start : start + 1024], "x")
    assert size <= bytes_read() - before < 1.1 * size


def bytes_read() -> int:
    """What tensorstore has read of files."""
    metrics = tensorstore.experimental_collect_matching_metrics("/tensorstore/kvstore/file/bytes_read")
    return sum(value["value"] for metric in metrics for value in metric["values"])


@pytest.mark.parametrize(("inner", "piece"), [((2, 8), 16), ((1, 4), 4)])
def test_small_chunks_of_a_shard_are_read_by_themselves(inner: tuple[int, int], piece: int) -> None:
    array = orbax_array(TensorSpec((16, 8), "int8"), (8, 8), inner=inner)
    assert (block(array.spec.shape, array.decoded), block(array.spec.shape, array.chunks)) == (piece, 64)


def test_a_leaf_is_copied_only_if_it_is_stored_just_so(tmp_path: Path) -> None:
    array = orbax_array(TensorSpec((4, 2), "int32"), (2, 2))
    by_tensorstore(tmp_path / "source", array, bits(array.spec, 0))
    files = {"zarr.json": tmp_path / "source/zarr.json", "c/0/0": tmp_path / "source/c/0/0"}
    files["c/1/0"] = tmp_path / "source/c/1/0"
    other = orbax_array(array.spec, (4, 2))
    writer = LeafFolderWriter(tmp_path / "target", {"x": array, "x/y": array, "other": other})
    assert writer.copy_leaf("x/y", files)
    assert not writer.copy_leaf("x", files), "it lies above another one"
    assert not writer.copy_leaf("other", files)
    assert (tmp_path / "target/x/y/c/1/0").read_bytes() == files["c/1/0"].read_bytes()
    with pytest.raises(ConvkitError, match="x: was not written in full"):
        writer.commit()
    writer.close()
