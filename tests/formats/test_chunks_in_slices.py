"""Chunks decoded in slices: every range, every compressor, damage; a huge chunk in little memory."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.checkpoint import TensorSpec
from convkit.errors import ConvkitError
from convkit.formats.arrays import store as array_store
from convkit.formats.arrays import streamed
from convkit.formats.arrays.store import ArrayReader, StoredArray, file_store
from convkit.formats.arrays.zarr import ZarrArray
from convkit.formats.arrays.zarr2 import Zarray
from convkit.formats.arrays.zarr3 import orbax_array

SHAPE = (12, 50)
PACKED: dict[str, dict[str, Any] | None] = {
    "none": None,
    "gzip": {"id": "gzip", "level": 1},
    "zlib": {"id": "zlib", "level": 1},
    "bz2": {"id": "bz2", "level": 1},
    "zstd": {"id": "zstd", "level": 1},
}


def stored(zarray: ZarrArray, data: np.ndarray, kvstore: dict[str, Any]) -> ArrayReader:
    """A reader of an array that tensorstore has written."""
    spec = {"driver": zarray.driver, "kvstore": kvstore, "metadata": zarray.to_json()}
    tensorstore.open(spec, create=True).result().write(data).result()
    return ArrayReader({"a": StoredArray(zarray, kvstore)})


def numbers() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 9, SHAPE, np.int32)


def chunked(packed: str, chunks: tuple[int, int] = (5, 50)) -> Zarray:
    return Zarray(TensorSpec(SHAPE, "int32"), chunks, PACKED[packed])


def test_doctests() -> None:
    result = doctest.testmod(streamed)
    assert result.attempted and not result.failed


@pytest.mark.parametrize("packed", PACKED)
@settings(max_examples=40, deadline=None)
@given(ranges=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 600)), min_size=1, max_size=30))
def test_any_ranges(packed: str, ranges: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    data = numbers()
    reader = stored(chunked(packed), data, file_store(tmp_path_factory.mktemp("array")))
    assert reader.continues("a")
    for start, stop in (sorted(edges) for edges in ranges):
        assert reader.read("a", start, stop).tolist() == data.reshape(-1)[start:stop].tolist()
    reader.close()


@pytest.mark.parametrize("driver", ["file", "ocdbt"])
@pytest.mark.parametrize("packed", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("version", [2, 3])
def test_large_chunks_are_decoded_in_slices_wherever_they_lie(
    version: int, packed: str, driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("SMALL", "LARGE"):
        monkeypatch.setattr(array_store, limit, 100)
    data = numbers()
    zarray = (
        chunked(packed) if version == 2 else orbax_array(TensorSpec(SHAPE, "int32"), (5, 50), compressor=PACKED[packed])
    )
    kvstore = file_store(tmp_path)
    if driver == "ocdbt":
        kvstore = {"driver": "ocdbt", "base": kvstore, "path": "a/"}
    reader = stored(zarray, data, kvstore)
    monkeypatch.setattr(tensorstore.TensorStore, "read", None)
    for start in range(0, 600, 7):
        assert reader.read("a", start, min(600, start + 7)).tolist() == data.reshape(-1)[start : start + 7].tolist()


def test_ranges_that_follow_one_another_decode_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = stored(chunked("zstd"), numbers(), file_store(tmp_path))
    opened: list[str] = []
    chunk = ArrayReader._chunk
    monkeypatch.setattr(
        reader._streams, "_opened", lambda key, name: (opened.append(name), chunk(reader, key, name))[1]
    )
    for start in range(0, 600, 8):
        reader.read("a", start, start + 8)
    assert opened == ["0.0", "1.0", "2.0"]


@pytest.mark.parametrize("chunks", [(5, 20), (2, 25), (1, 30)])
def test_other_chunks_are_left_to_tensorstore(chunks: tuple[int, int], tmp_path: Path) -> None:
    data = numbers()
    reader = stored(chunked("zstd", chunks), data, file_store(tmp_path))
    assert not reader.continues("a")
    assert reader.read("a", 30, 333).tolist() == data.reshape(-1)[30:333].tolist()


@pytest.mark.parametrize("with_isal", [True, False])
@pytest.mark.parametrize("packed", ["gzip", "zlib", "bz2", "zstd"])
@pytest.mark.parametrize("change", ["cut off", "longer", "shorter", "damaged"])
def test_damage_is_refused_in_one_line(
    change: str, packed: str, with_isal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not with_isal:
        monkeypatch.setitem(sys.modules, "isal", None)
    rows = {"longer": 15, "shorter": 9}.get(change, SHAPE[0])
    data = np.random.default_rng(3).integers(0, 1 << 30, (rows, SHAPE[1]), np.int32)
    written = Zarray(TensorSpec((rows, SHAPE[1]), "int32"), (rows, SHAPE[1]), PACKED[packed])
    stored(written, data, file_store(tmp_path)).close()
    raw = bytearray((tmp_path / "0.0").read_bytes())
    if change == "damaged":
        # zstd as tensorstore writes it has no checksum: its first bytes say what it is
        raw[len(raw) // 2 if packed != "zstd" else 1] ^= 0x10
    (tmp_path / "0.0").write_bytes(raw[:-30] if change == "cut off" else raw)
    reader = ArrayReader({"a": StoredArray(chunked(packed, SHAPE), file_store(tmp_path))})
    with pytest.raises(ConvkitError) as refused:
        for start in range(0, 600, 100):
            reader.read("a", start, start + 100)
    assert str(tmp_path / "0.0") in str(refused.value) and "a" in str(refused.value)


HUGE = """
import sys
from pathlib import Path
import numpy as np, tensorstore
from convkit.checkpoint import TensorSpec
from convkit.execute.making import anonymous_bytes
from convkit.formats.arrays.store import ArrayReader, StoredArray, file_store
from convkit.formats.arrays.zarr2 import Zarray
from convkit.formats.arrays.zarr3 import orbax_array

kind, packed, folder = sys.argv[1:]
size, step = 96 << 20, 2 << 20
spec = TensorSpec((size,), "uint8")
compressor = {"id": packed, "level": 1}
zarray = orbax_array(spec, (size,), compressor=compressor) if kind == "orbax" else Zarray(spec, (size,), compressor)
kvstore = file_store(folder)
if kind != "folder":
    kvstore = {"driver": "ocdbt", "base": kvstore, "path": "a/"}
part = np.random.default_rng(1).integers(0, 256, step, np.uint8)
if not any(Path(folder).iterdir()):
    written = {"driver": zarray.driver, "kvstore": kvstore, "metadata": zarray.to_json()}
    tensorstore.open(written, create=True).result().write(np.tile(part, size // step)).result()
else:
    reader = ArrayReader({"a": StoredArray(zarray, kvstore)})
    reader.read("a", 0, 1)
    before, peak = anonymous_bytes(), 0
    for start in range(0, size, step):
        assert np.array_equal(reader.read("a", start, start + step), part)
        peak = max(peak, anonymous_bytes() - before)
    print(peak)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="measured through /proc")
@pytest.mark.parametrize(
    ("kind", "packed"), [("folder", "gzip"), ("folder", "zstd"), ("database", "zstd"), ("orbax", "zstd")]
)
def test_a_huge_chunk_takes_little_memory(kind: str, packed: str, tmp_path: Path) -> None:
    """96 MiB in one chunk, written by one process and read by another."""
    for _ in range(2):
        command = [sys.executable, "-c", HUGE, kind, packed, str(tmp_path)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    print(f"{kind}, {packed}: {int(said) / 2**20:.0f} MiB beyond what was there")
    assert int(said) <= 24 << 20
