"""OCDBT databases that tensorstore and Orbax wrote, whole and damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
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
from convkit.formats.arrays.ocdbt import database, is_database, is_unmerged, read_arrays, read_unmerged
from convkit.formats.arrays.ocdbt_entries import read_entries
from convkit.formats.arrays.store import ArrayReader, StoredArray
from convkit.formats.arrays.zarr import ZarrArray
from convkit.formats.arrays.zarr2 import Zarray
from convkit.formats.arrays.zarr3 import orbax_array
from convkit.testing import bits, check_bits

LARGE = TensorSpec((40, 30), "float32")


def by_tensorstore(
    folder: Path, name: str, array: ZarrArray, data: np.ndarray, rows: slice = slice(None), **settings: Any
) -> None:
    """Some rows of an array, or all, in a database."""
    store = {**database(folder, f"{name}/" if name else ""), **settings}
    spec = {"driver": array.driver, "kvstore": store, "metadata": array.to_json()}
    opened = tensorstore.open({**spec, "store_data_equal_to_fill_value": True}, create=True, open=True).result()
    values = data.view(value_dtype(array.spec.dtype)).reshape(array.spec.shape)
    if array.spec.shape:
        opened, values = opened[rows], values[rows]
    opened.write(values).result()


def values(array: StoredArray) -> np.ndarray:
    """All elements."""
    return ArrayReader({"": array}).read("", 0, array.zarray.spec.size)


@st.composite
def arrays(draw: st.DrawFn) -> ZarrArray:
    """An array of either version, of any dtype and grid."""
    shape = draw(st.lists(st.integers(1, 20), max_size=3).map(tuple))
    chunks = tuple(draw(st.integers(1, length)) for length in shape)
    spec = TensorSpec(shape, draw(st.sampled_from(sorted(ITEMSIZE))))
    if draw(st.booleans()):
        return Zarray(spec, chunks, {"id": "zstd", "level": 1})
    return orbax_array(spec, chunks)


@settings(max_examples=40, deadline=None)
@given(
    found=st.dictionaries(st.text("ab.é/ ", min_size=1, max_size=5).filter(lambda x: x.strip("/") == x), arrays()),
    node=st.sampled_from([400, 100_000_000]),
    inline=st.sampled_from([0, 1024]),
)
def test_whatever_tensorstore_writes_is_read(
    found: dict[str, ZarrArray], node: int, inline: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In trees of one node and of many, with the values within and without."""
    folder = tmp_path_factory.mktemp("database")
    config = {"max_decoded_node_bytes": node, "max_inline_value_bytes": inline}
    found["a.b"] = orbax_array(TensorSpec((), "int4"), ())
    found = {name: array for name, array in found.items() if "//" not in name}
    for name, array in found.items():
        by_tensorstore(folder, name, array, bits(array.spec, len(name)), config=config)
    read = read_arrays(folder, complete=True)
    assert {name: array.zarray for name, array in read.items()} == found
    for name, array in read.items():
        check_bits(values(array), bits(array.zarray.spec, len(name)), name)
        assert all(file.is_file() for file in array.files)


def test_an_array_at_the_root_has_no_name(tmp_path: Path) -> None:
    array = Zarray(TensorSpec((3,), "int64"), (2,))
    by_tensorstore(tmp_path, "", array, bits(array.spec, 0))
    (found,) = read_arrays(tmp_path).items()
    assert found[0] == ""
    check_bits(values(found[1]), bits(array.spec, 0), "")


@pytest.mark.parametrize("version", [2, 3])
def test_databases_of_processes_are_joined(version: int, tmp_path: Path) -> None:
    """Each holds some chunks of one array, and an array of its own."""
    array = orbax_array(LARGE, (10, 30)) if version == 3 else Zarray(LARGE, (10, 30))
    data = bits(LARGE, 0)
    for process in range(3):
        folder = tmp_path / f"ocdbt.process_{process}"
        by_tensorstore(folder, "shared", array, data, slice(10 * process, 10 * process + 10))
        by_tensorstore(folder, f"own.{process}", array, bits(LARGE, process))
    assert is_database(tmp_path)
    assert is_unmerged(tmp_path)
    if version == 2:
        with pytest.raises(ConvkitError, match=r"shared: chunk 3\.0 is missing"):
            read_unmerged(tmp_path)
    else:
        with pytest.raises(ConvkitError, match="shared: chunk c/3/0 is missing"):
            read_unmerged(tmp_path, complete=True)
        filled = values(read_unmerged(tmp_path)["shared"])
        check_bits(filled, np.where(np.arange(LARGE.size) < 30 * 30, data, 0), "shared")
    by_tensorstore(tmp_path / "ocdbt.process_1", "shared", array, data, slice(30, 40))
    found = read_unmerged(tmp_path, complete=True)
    check_bits(values(found["shared"]), data, "shared")
    assert {file.parent.parent.name for file in found["shared"].files} == {f"ocdbt.process_{i}" for i in range(3)}
    assert [bool((values(found[f"own.{i}"]) == bits(LARGE, i)).all()) for i in range(3)] == [True] * 3
    with pytest.raises(ConvkitError, match=r"manifest\.ocdbt is missing"):
        read_arrays(tmp_path)


def test_databases_in_folders_below_belong_to_it(tmp_path: Path) -> None:
    """As Orbax 0.4.1 wrote a name with a slash."""
    array = Zarray(LARGE, (40, 30))
    by_tensorstore(tmp_path, "a", array, bits(LARGE, 0))
    by_tensorstore(tmp_path / "c", "d", array, bits(LARGE, 1))
    found = read_arrays(tmp_path)
    assert list(found) == ["a", "c/d"]
    check_bits(values(found["c/d"]), bits(LARGE, 1), "c/d")


def data_file(folder: Path) -> Path:
    return max((folder / "d").iterdir(), key=lambda file: file.stat().st_size)


def older(folder: Path) -> None:
    """The head of a manifest as tensorstore 0.1.35 wrote it."""
    (folder / "manifest.ocdbt").write_bytes(bytes.fromhex("0cdb3a2a000128b52ffd") + bytes(60))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda folder: (folder / "manifest.ocdbt").unlink(), r": manifest\.ocdbt is missing \("),
        (older, r"manifest\.ocdbt: is of the OCDBT format before its release, .* up to 0\.1\.35"),
        (lambda folder: (folder / "manifest.ocdbt").write_bytes(b"noise"), r"manifest\.ocdbt: can't be read"),
        (lambda folder: (folder / "manifest.ocdbt").write_bytes(b""), r"manifest\.ocdbt: can't be read"),
        (lambda folder: shutil.rmtree(folder / "d"), ": d is missing"),
        (lambda folder: data_file(folder).unlink(), r"/d/\w{32}: is missing"),
        (lambda folder: cut(data_file(folder)), r"/d/\w{32}: is truncated: \d+ bytes, of at least \d+"),
        (lambda folder: spoil(data_file(folder)), r"can't be read"),
    ],
)
def test_damage_is_told_in_one_line(damage: Callable[[Path], Any], problem: str, tmp_path: Path) -> None:
    by_tensorstore(tmp_path, "x", orbax_array(LARGE, (20, 30)), bits(LARGE, 0))
    damage(tmp_path)
    with pytest.raises(ConvkitError, match=problem) as refusal:
        values(read_arrays(tmp_path)["x"])
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith(str(tmp_path))


def cut(file: Path) -> None:
    """To its first half, as its end may be of an older version of the tree."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def spoil(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def test_a_database_without_arrays_is_refused(tmp_path: Path) -> None:
    tensorstore.KvStore.open(database(tmp_path)).result()["x"] = b"y"
    assert read_entries(tmp_path)["x"].value() == b"y"
    with pytest.raises(ConvkitError, match="holds no zarr array"):
        read_arrays(tmp_path)


@pytest.mark.golden
@pytest.mark.parametrize(
    ("release", "case"),
    [
        ("0.2.7", "direct_ocdbt_True"),
        ("0.2.7", "direct_ocdbt_False_after_True"),
        ("0.3.5", "direct_ocdbt_True_trainstate"),
        ("0.4.4", "direct_ocdbt_False_after_True"),
        ("0.4.4", "direct_odd_keys"),
        ("0.9.1", "direct_zarr3_ocdbt_True"),
        ("0.9.1", "direct_big"),
        ("0.11.20", "direct_zarr3_ocdbt_True"),
        ("0.12.0", "sharded_zarr3"),
    ],
)
def test_what_releases_of_orbax_wrote_is_read(release: str, case: str) -> None:
    folder = golden_dir("orbax/old_releases.tar.gz") / release / case
    found = (read_unmerged if is_unmerged(folder / "ckpt") else read_arrays)(folder / "ckpt")
    truth = np.load(folder / "truth.npz")
    leaves = json.loads((folder / "meta.json").read_text())["leaves"]
    stored = [path for path in truth.files if leaves[path]["dtype"] != "object"]
    assert len(stored) > 0
    for path in stored:
        array = found[path if path in found else path.replace("/", ".")]
        spec = TensorSpec(tuple(leaves[path]["shape"]), array.zarray.spec.dtype)
        assert array.zarray.spec == spec, path
        assert values(array).tobytes() == truth[path].tobytes(), path


def test_a_database_without_its_manifest_is_one(tmp_path: Path) -> None:
    """A folder of arrays isn't a database, even if an array has the name of a database's data folder."""
    by_tensorstore(tmp_path / "db", "a", Zarray(LARGE, (40, 30)), bits(LARGE, 0))
    (tmp_path / "db" / "manifest.ocdbt").unlink()
    with pytest.raises(ConvkitError, match=r"manifest\.ocdbt is missing"):
        read_arrays(tmp_path / "db")
    assert is_database(tmp_path / "db")
    (tmp_path / "leaves" / "d").mkdir(parents=True)
    (tmp_path / "leaves" / "d" / ".zarray").touch()
    assert not is_database(tmp_path / "leaves")
