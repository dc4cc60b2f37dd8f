from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorstore

from convkit.checkpoint import TensorSpec
from convkit.formats.arrays.packing import packed_chunks
from convkit.formats.arrays.zarr2 import Zarray

SHAPE = (128, 512)


def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    weights = random.standard_normal(SHAPE, np.float32)
    half = weights.copy()
    half[::2] = 1
    return {
        "weights": weights,
        "second moments": weights**2,
        "weights of 16 bits, as 32": (weights.view(np.uint32) & 0xFFFF0000).view(np.float32),
        "nothing": np.zeros(SHAPE, np.float32),
        "one number": np.ones(SHAPE, np.float32),
        "the same row": np.tile(weights[0], (SHAPE[0], 1)),
        "half of it one number": half,
        "numbers in order": np.arange(weights.size, dtype=np.float32).reshape(SHAPE),
    }


ARRAYS = arrays()


def packed(data: np.ndarray, level: int, folder: Path) -> bytes:
    """The only chunk of an array, which tensorstore reads."""
    zarray = Zarray(TensorSpec(data.shape, "float32"), data.shape, {"id": "gzip", "level": level})
    ((name, pieces),) = packed_chunks(zarray, tuple(slice(0, side) for side in data.shape), data)
    chunk = b"".join(pieces)
    (folder / name).write_bytes(chunk)
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(folder)}, "metadata": zarray.to_json()}
    stored = tensorstore.open(spec, open=True, assume_metadata=True).result().read().result()
    assert stored.tobytes() == data.tobytes()
    return chunk


@pytest.mark.parametrize("level", [0, 1, 6, 9])
@pytest.mark.parametrize("name", ARRAYS)
def test_a_chunk_is_as_small_as_zlib_makes_it(name: str, level: int, tmp_path: Path) -> None:
    """Also where only a sample of it was tried."""
    chunk = packed(ARRAYS[name], level, tmp_path)
    usual = zlib.compress(ARRAYS[name].tobytes(), level, 31)
    assert len(chunk) <= 1.01 * len(usual)


@pytest.mark.parametrize("name", ["weights", "second moments"])
def test_nothing_is_sought_in_weights(name: str, tmp_path: Path) -> None:
    packer = zlib.compressobj(1, wbits=31, strategy=zlib.Z_RLE)
    assert packed(ARRAYS[name], 1, tmp_path) == packer.compress(ARRAYS[name].tobytes()) + packer.flush()


@pytest.mark.parametrize("name", ["weights", "one number"])
def test_the_header_is_that_of_tensorstore(name: str, tmp_path: Path) -> None:
    """No time, no name, the fastest method, and Unix."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    ours.mkdir()
    metadata = {"shape": SHAPE, "chunks": SHAPE, "compressor": {"id": "gzip", "level": 1}, "dtype": "<f4"}
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(theirs)}, "metadata": metadata}
    tensorstore.open(spec, create=True).result().write(ARRAYS[name]).result()
    assert packed(ARRAYS[name], 1, ours)[:10] == (theirs / "0.0").read_bytes()[:10]
