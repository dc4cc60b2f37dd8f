"""Arrays written into one OCDBT database: read by tensorstore and by Orbax, resumed after a kill."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import pytest
import tensorstore
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.checkpoint import TensorSpec
from convkit.checkpoint.tensors import ITEMSIZE, value_dtype
from convkit.errors import ConvkitError
from convkit.formats.arrays import ocdbt_writer
from convkit.formats.arrays.folders import LeafFolderWriter, read_leaf
from convkit.formats.arrays.ocdbt import database, read_arrays
from convkit.formats.arrays.ocdbt_writer import OcdbtWriter
from convkit.formats.arrays.store import ArrayReader
from convkit.formats.arrays.zarr import ZarrArray
from convkit.formats.arrays.zarr2 import Zarray
from convkit.formats.arrays.zarr3 import orbax_array
from convkit.testing import bits, check_bits, in_a_fresh_process_that_dies

ZSTD = {"id": "zstd", "level": 1}
#: some that are small, some that aren't, one without elements, and one at the root
SOME: dict[str, ZarrArray] = {
    "params.w": orbax_array(TensorSpec((64, 30), "float32"), (16, 30)),
    "params.b": orbax_array(TensorSpec((30,), "bfloat16"), (30,)),
    "a/b": Zarray(TensorSpec((50, 50), "float64"), (50, 50), ZSTD),
    "": Zarray(TensorSpec((), "int32"), (), ZSTD),
    "empty": orbax_array(TensorSpec((0, 3), "int4"), (1, 3)),
}


#: so that small samples have large arrays, and more small ones than are taken over at once
FEW_BYTES = {"SMALL": 200, "_BATCH": 100}


@pytest.fixture(autouse=True)
def _few_bytes_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, few in FEW_BYTES.items():
        monkeypatch.setattr(ocdbt_writer, name, few)


def sample(arrays: dict[str, ZarrArray]) -> dict[str, np.ndarray]:
    return {name: bits(array.spec, number) for number, (name, array) in enumerate(arrays.items())}


def write_leaf(writer: OcdbtWriter, name: str, data: np.ndarray) -> None:
    grain = writer.granularity(name)
    for start in range(0, data.size, grain):
        writer.write(name, start, data[start : start + grain])
    writer.finish(name)


def write(folder: Path, arrays: dict[str, ZarrArray], data: dict[str, np.ndarray], threads: int = 1) -> None:
    writer = OcdbtWriter(folder, arrays)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda name: write_leaf(writer, name, data[name]), arrays))
    writer.commit()
    writer.close()


def check(folder: Path, arrays: dict[str, ZarrArray], data: dict[str, np.ndarray]) -> None:
    """The database is whole, by our reader and by tensorstore alone, and holds nothing besides."""
    found = read_arrays(folder, complete=True)
    assert {name: array.zarray for name, array in found.items()} == arrays
    reader = ArrayReader(found)
    for name, array in arrays.items():
        if array.spec.size:
            check_bits(reader.read(name, 0, array.spec.size), data[name], name)
        spec = {"driver": array.driver, "kvstore": database(folder, f"{name}/" if name else "")}
        stored = tensorstore.open(spec, open=True).result().read().result()
        assert (stored.dtype.name, stored.shape) == (array.spec.dtype, array.spec.shape)
        assert stored.tobytes() == data[name].tobytes()
    assert {file.name for file in folder.iterdir()} == {"d", "manifest.ocdbt"}


@st.composite
def generated(draw: st.DrawFn) -> dict[str, ZarrArray]:
    """Arrays of both versions, of any dtype and grid."""
    arrays: dict[str, ZarrArray] = {}
    for number in range(draw(st.integers(1, 6))):
        shape = draw(st.lists(st.integers(0, 20), max_size=3).map(tuple))
        chunks = tuple(draw(st.integers(1, max(1, length))) for length in shape)
        spec = TensorSpec(shape, draw(st.sampled_from(sorted(ITEMSIZE))))
        third = draw(st.booleans())
        name = draw(st.sampled_from(["x", "a.b", "c/d", "é ", "0"])) + str(number)
        arrays[name] = orbax_array(spec, chunks) if third else Zarray(spec, chunks, draw(st.sampled_from([None, ZSTD])))
    return arrays


@settings(max_examples=30, deadline=None)
@given(arrays=generated(), threads=st.integers(1, 3))
def test_any_arrays_are_written(
    arrays: dict[str, ZarrArray], threads: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("database") / "item"
    data = sample(arrays)
    write(folder, arrays, data, threads)
    check(folder, arrays, data)


def test_small_arrays_share_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocdbt_writer, "_BATCH", 1 << 20)
    arrays: dict[str, ZarrArray] = {
        f"layer.{i}": orbax_array(TensorSpec((25,), "float64"), (25,), compressor=None) for i in range(100)
    }
    data = sample(arrays)
    write(tmp_path, arrays, data)
    check(tmp_path, arrays, data)
    assert len(list((tmp_path / "d").iterdir())) == 1


def write_some(folder: Path, finished: list[str]) -> None:
    """Finish these, and leave of each other one a chunk that is wrong. Done in a process of its own."""
    vars(ocdbt_writer).update(FEW_BYTES)
    data, writer = sample(SOME), OcdbtWriter(folder, SOME)
    for name, array in SOME.items():
        if name in finished:
            write_leaf(writer, name, data[name])
        elif array.spec.size:
            writer.write(name, 0, bits(array.spec, 99)[: writer.granularity(name)])


def die_in_commit(folder: Path, step: str) -> None:
    """Write all, and die before the last array is taken over, or when all of them are."""
    vars(ocdbt_writer).update(FEW_BYTES)
    original = getattr(OcdbtWriter, step)

    def deadly(writer: OcdbtWriter, *args: object) -> None:
        if args[:1] != ("empty",):
            original(writer, *args)
        if step == "_join" or args[:1] == ("empty",):
            os._exit(0)

    setattr(OcdbtWriter, step, deadly)
    write(folder, SOME, sample(SOME))
    raise AssertionError("it should have died")


@pytest.mark.parametrize("finished", [[], ["params.w", "params.b"], ["a/b", ""], list(SOME)])
def test_what_was_finished_survives_a_kill(finished: list[str], tmp_path: Path) -> None:
    """What wasn't is written anew, and leaves nothing; a chunk of it may have been stored, and wrong."""
    data, folder = sample(SOME), tmp_path / "item"

    in_a_fresh_process_that_dies(partial(write_some, folder, finished))
    writer = OcdbtWriter(folder, SOME)
    for name in SOME:
        if name not in finished:
            write_leaf(writer, name, data[name])
    writer.commit()
    writer.close()
    check(folder, SOME, data)
    found = read_arrays(folder)
    stored = {file for array in found.values() for file in array.files}
    assert all(file in stored for file in (folder / "d").iterdir() if "-" in file.name)


@pytest.mark.parametrize("step", ["_take_over", "_join"])
def test_a_kill_while_it_is_completed_costs_nothing(step: str, tmp_path: Path) -> None:
    data, folder = sample(SOME), tmp_path / "item"
    in_a_fresh_process_that_dies(partial(die_in_commit, folder, step))
    assert (folder / ".convkit-parts").is_dir()
    writer = OcdbtWriter(folder, SOME)
    writer.commit()
    check(folder, SOME, data)
    OcdbtWriter(folder, SOME).commit()
    check(folder, SOME, data)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    writer, data = OcdbtWriter(tmp_path, SOME), sample(SOME)
    for name in SOME:
        if name != "a/b":
            write_leaf(writer, name, data[name])
    with pytest.raises(ConvkitError, match="a/b: was not written in full"):
        writer.commit()
    write_leaf(writer, "a/b", data["a/b"])
    writer.commit()
    check(tmp_path, SOME, data)


def test_arrays_in_folders_are_copied_as_they_are(tmp_path: Path) -> None:
    data, arrays = sample(SOME), {name: array for name, array in SOME.items() if name}
    folders = LeafFolderWriter(tmp_path / "folders", arrays)
    for name in arrays:
        write_leaf(folders, name, data[name])
    folders.commit()
    folders.close()
    writer = OcdbtWriter(tmp_path / "database", arrays)
    for name in arrays:
        leaf = read_leaf(tmp_path / "folders" / name)
        files = {file.relative_to(leaf.folder).as_posix(): file for file in leaf.files}
        assert writer.copy_leaf(name, files)
        assert not writer.copy_leaf("params.w" if name != "params.w" else "params.b", files)
    writer.commit()
    check(tmp_path / "database", arrays, data)


def test_no_arrays_make_no_database(tmp_path: Path) -> None:
    OcdbtWriter(tmp_path, {}).commit()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("plain", [False, True], ids=["database", "folders"])
@pytest.mark.parametrize("version", [2, 3])
def test_orbax_loads_it(version: int, plain: bool, tmp_path: Path) -> None:
    """By v0 and by v1, of a checkpoint that is completed by hand; zeros too."""
    ocp = pytest.importorskip("orbax.checkpoint")
    v1 = pytest.importorskip("orbax.checkpoint.experimental.v1")
    specs = {dtype: TensorSpec((6, 4), dtype) for dtype in sorted(ITEMSIZE)}
    specs |= {"zeros": TensorSpec((6, 4), "float32"), "large": TensorSpec((900, 70), "float32")}
    arrays: dict[str, ZarrArray] = {
        name: orbax_array(spec, spec.shape) if version == 3 else Zarray(spec, (5, 4), ZSTD)
        for name, spec in specs.items()
    }
    data = sample(arrays) | {"zeros": np.zeros(24, np.uint32)}
    folder = tmp_path / "checkpoint" / "state"
    writer = (LeafFolderWriter if plain else OcdbtWriter)(folder, arrays)
    for name in Random(version).sample(sorted(arrays), len(arrays)):
        write_leaf(writer, name, data[name])
    writer.commit()
    writer.close()
    complete_by_hand(folder, specs, plain, version)
    for found in (ocp.PyTreeCheckpointer().restore(folder), v1.load(folder.parent)):
        assert set(found) == set(specs)
        for name, array in found.items():
            assert array.dtype == value_dtype(specs[name].dtype)
            assert np.asarray(array).tobytes() == data[name].tobytes(), name
    shutil.rmtree(folder)


def complete_by_hand(folder: Path, specs: dict[str, TensorSpec], plain: bool, version: int) -> None:
    """Orbax's metadata of a dict of arrays."""
    tree = {
        f"('{name}',)": {
            "key_metadata": [{"key": name, "key_type": 2}],
            "value_metadata": {"value_type": "np.ndarray", "skip_deserialize": False},
        }
        for name in specs
    }
    metadata = {"tree_metadata": tree, "use_ocdbt": not plain, "use_zarr3": version == 3}
    metadata |= {"store_array_data_equal_to_fill_value": True, "custom_metadata": None}
    (folder / "_METADATA").write_text(json.dumps(metadata))
    handler = "orbax.checkpoint.experimental.v1._src.handlers.pytree_handler.PyTreeHandler"
    (folder.parent / "_CHECKPOINT_METADATA").write_text(json.dumps({"item_handlers": {"state": handler}}))
    (folder.parent / "orbax.checkpoint").touch()
