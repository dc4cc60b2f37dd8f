"""Arrays written into one OCDBT database: read by tensorstore and by Orbax, resumed after a kill, always the same."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import tensorstore
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.checkpoint import TensorSpec
from convkit.checkpoint.tensors import ITEMSIZE, value_dtype
from convkit.errors import ConvkitError
from convkit.formats.arrays import ocdbt_layout, ocdbt_tree, ocdbt_writer
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


#: so that small samples have large arrays of several segments, several shared files, and a tree of several levels
FEW_BYTES = {ocdbt_layout: {"SMALL": 200, "SEGMENT_BYTES": 4000}, ocdbt_tree: {"FILE_BYTES": 3000, "NODE_BYTES": 1500}}
#: the time of every database
NOON = 1_700_000_000 * 10**9


@pytest.fixture(autouse=True)
def _few_bytes_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, few in FEW_BYTES.items():
        for name, nbytes in few.items():
            monkeypatch.setattr(module, name, nbytes)


def use_few_bytes() -> None:
    """The same, in a process of its own."""
    for module, few in FEW_BYTES.items():
        vars(module).update(few)


def sample(arrays: dict[str, ZarrArray]) -> dict[str, np.ndarray]:
    return {name: bits(array.spec, number) for number, (name, array) in enumerate(arrays.items())}


def write_leaf(writer: OcdbtWriter, name: str, data: np.ndarray) -> None:
    grain = writer.granularity(name)
    for start in range(0, data.size, grain):
        writer.write(name, start, data[start : start + grain])
    writer.finish(name)


@pytest.mark.parametrize("name", ["a/b", ""])
def test_chunks_that_are_written_again_at_once_are_the_last_ones(tmp_path: Path, name: str) -> None:
    """tensorstore makes one of writes that follow on each other, of which only one can be taken."""
    array = SOME[name]
    for attempt in range(100):
        folder = tmp_path / f"{attempt}"
        writer = OcdbtWriter(folder, {name: array}, NOON)
        for number in range(3):
            writer.write(name, 0, bits(array.spec, number))
        writer.finish(name)
        writer.commit()
        writer.close()
        found = ArrayReader(read_arrays(folder)).read(name, 0, array.spec.size)
        check_bits(found, bits(array.spec, 2), name)


def write(folder: Path, arrays: dict[str, ZarrArray], data: dict[str, np.ndarray], threads: int = 1) -> None:
    writer = OcdbtWriter(folder, arrays, NOON)
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
    monkeypatch.setattr(ocdbt_tree, "FILE_BYTES", 1 << 20)
    monkeypatch.setattr(ocdbt_tree, "NODE_BYTES", 1 << 20)
    arrays: dict[str, ZarrArray] = {
        f"layer.{i}": orbax_array(TensorSpec((25,), "float64"), (25,), compressor=None) for i in range(100)
    }
    data = sample(arrays)
    write(tmp_path, arrays, data)
    check(tmp_path, arrays, data)
    assert len(list((tmp_path / "d").iterdir())) == 1


def write_some(folder: Path, finished: list[str]) -> None:
    """Finish these, and leave of each other one a chunk that is wrong. Done in a process of its own."""
    use_few_bytes()
    data, writer = sample(SOME), OcdbtWriter(folder, SOME, NOON)
    for name, array in SOME.items():
        if name in finished:
            write_leaf(writer, name, data[name])
        elif array.spec.size:
            writer.write(name, 0, bits(array.spec, 99)[: writer.granularity(name)])


def die_in_commit(folder: Path, step: str) -> None:
    """Write all, and die in the commit: once the tree is written, or the manifest, or all but what is removed last."""
    use_few_bytes()
    data, writer = sample(SOME), OcdbtWriter(folder, SOME, NOON)
    for name in SOME:
        write_leaf(writer, name, data[name])
    module, called = {"tree": (ocdbt_tree, "write_file"), "manifest": (os, "scandir"), "all": (ocdbt_writer, "remove")}[
        step
    ]
    setattr(module, called, lambda *args: os._exit(0))
    writer.commit()
    raise AssertionError("it should have died")


@pytest.mark.parametrize("finished", [[], ["params.w", "params.b"], ["a/b", ""], list(SOME)])
def test_what_was_finished_survives_a_kill(finished: list[str], tmp_path: Path) -> None:
    """What wasn't is written anew, and leaves nothing; a chunk of it may have been stored, and wrong."""
    data, folder = sample(SOME), tmp_path / "item"

    in_a_fresh_process_that_dies(partial(write_some, folder, finished))
    writer = OcdbtWriter(folder, SOME, NOON)
    for name in SOME:
        if name not in finished:
            write_leaf(writer, name, data[name])
    writer.commit()
    writer.close()
    check(folder, SOME, data)
    write(tmp_path / "at once", SOME, data)
    assert contents(folder) == contents(tmp_path / "at once")


@pytest.mark.parametrize("step", ["tree", "manifest", "all"])
def test_a_kill_while_it_is_completed_costs_nothing(step: str, tmp_path: Path) -> None:
    data, folder = sample(SOME), tmp_path / "item"
    in_a_fresh_process_that_dies(partial(die_in_commit, folder, step))
    assert (folder / ".convkit-parts").is_dir() == (step != "all")
    writer = OcdbtWriter(folder, SOME, NOON)
    assert writer.committed == (step == "all")
    writer.commit()
    check(folder, SOME, data)
    write(tmp_path / "at once", SOME, data)
    assert contents(folder) == contents(tmp_path / "at once")
    OcdbtWriter(folder, SOME, NOON).commit()
    check(folder, SOME, data)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def write_mixed(folder: Path, arrays: dict[str, ZarrArray], data: dict[str, np.ndarray], random: Random) -> None:
    """Rows of chunks of all arrays in any order, by several threads."""
    writer = OcdbtWriter(folder, arrays, NOON)
    parts = [
        (name, start, min(data[name].size, start + grain))
        for name in arrays
        for grain in [writer.granularity(name)]
        for start in range(0, data[name].size, grain)
    ]
    with ThreadPoolExecutor(4) as pool:
        random.shuffle(parts)
        list(pool.map(lambda part: writer.write(part[0], part[1], data[part[0]][part[1] : part[2]]), parts))
        list(pool.map(writer.finish, random.sample(sorted(arrays), len(arrays))))
    writer.commit()
    writer.close()


@settings(max_examples=30, deadline=None)
@given(arrays=generated(), seed=st.integers())
def test_the_same_bytes_in_any_order(
    arrays: dict[str, ZarrArray], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    one, other, data = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other"), sample(arrays)
    write(one, arrays, data)
    write_mixed(other, arrays, data, Random(seed))
    assert contents(one) == contents(other)


def test_other_values_have_other_names(tmp_path: Path) -> None:
    """OCDBT's readers keep what they read of a data file, as if none ever changed."""
    arrays: dict[str, ZarrArray] = {"w": orbax_array(TensorSpec((64, 30), "float32"), (16, 30), compressor=None)}
    for number, folder in enumerate((tmp_path / "one", tmp_path / "other")):
        write(folder, arrays, {"w": bits(arrays["w"].spec, number)})
    one, other = (set(contents(tmp_path / folder)) for folder in ("one", "other"))
    assert one & other == {"manifest.ocdbt"}


def write_part(folder: Path, names: list[str]) -> None:
    """Write some arrays of a database that others write, too. Done in a process of its own."""
    use_few_bytes()
    data, writer = sample(SOME), OcdbtWriter(folder, SOME, NOON)
    for name in names:
        write_leaf(writer, name, data[name])
    writer.close()


def test_several_processes_write_one(tmp_path: Path) -> None:
    """Each its arrays, at a time; then one that writes none completes it."""
    fresh, folder = multiprocessing.get_context("forkserver"), tmp_path / "item"
    parts = [[name for number, name in enumerate(SOME) if number % 3 == part] for part in range(3)]
    processes = [fresh.Process(target=write_part, args=(folder, names)) for names in parts]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    OcdbtWriter(folder, SOME, NOON).commit()
    check(folder, SOME, sample(SOME))
    write(tmp_path / "alone", SOME, sample(SOME))
    assert contents(folder) == contents(tmp_path / "alone")


def test_what_was_written_of_other_arrays_is_nothing(tmp_path: Path) -> None:
    """A log of arrays that were cut otherwise isn't read, and goes."""
    others = SOME | {"a/b": Zarray(TensorSpec((50, 50), "float64"), (10, 50), ZSTD)}
    data = sample(SOME)
    writer = OcdbtWriter(tmp_path, others, NOON)
    for name in others:
        write_leaf(writer, name, data[name])
    writer.close()
    with pytest.raises(ConvkitError, match="not written in full"):
        OcdbtWriter(tmp_path, SOME, NOON).commit()
    write(tmp_path, SOME, data)
    check(tmp_path, SOME, data)


@pytest.mark.parametrize("compressor", [None, {"id": "gzip", "level": 1}, ZSTD])
@pytest.mark.parametrize("dtype", sorted(ITEMSIZE))
def test_what_is_stored_is_what_tensorstore_stores(
    dtype: str, compressor: dict[str, Any] | None, tmp_path: Path
) -> None:
    """The metadata, and where it has no freedom, which gzip has, each chunk; also with inner chunks, and at borders."""
    spec = TensorSpec((7, 5), dtype)
    arrays: dict[str, ZarrArray] = {
        "2": Zarray(spec, (3, 2), compressor),
        "3": orbax_array(spec, (4, 4), inner=(2, 4), compressor=compressor),
    }
    data = sample(arrays)
    write(tmp_path, arrays, data)
    check(tmp_path, arrays, data)
    for name, array in arrays.items():
        memory = tensorstore.open(
            {"driver": array.driver, "kvstore": "memory://", "metadata": array.to_json()}
            | {"store_data_equal_to_fill_value": True},
            create=True,
            context=tensorstore.Context(),
        ).result()
        memory.write(data[name].view(value_dtype(dtype)).reshape(spec.shape)).result()
        own = tensorstore.KvStore.open(database(tmp_path, f"{name}/")).result()
        for key in memory.kvstore.list().result():
            if compressor is None or compressor["id"] == "zstd" or key.decode() == array.name:
                assert own[key] == memory.kvstore[key], key


def test_a_name_that_no_key_can_have(tmp_path: Path) -> None:
    array = orbax_array(TensorSpec((2,), "int8"), (2,))
    assert OcdbtWriter(tmp_path, {"x" * 65_500: array}, NOON)
    with pytest.raises(ConvkitError, match="over 65535 bytes"):
        OcdbtWriter(tmp_path, {"x" * 65_530: array}, NOON)


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the thread of the caller, where the write or the next one was called; the disk is a stand-in."""

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ocdbt_tree.DataFile, "append", full)
    for name in ("a/b", "params.w"):
        writer = OcdbtWriter(tmp_path / name, SOME, NOON)
        with pytest.raises(ConvkitError, match=f"{name}: can't be written: No space left on device"):
            write_leaf(writer, name, sample(SOME)[name])
        writer.close()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    writer, data = OcdbtWriter(tmp_path, SOME, NOON), sample(SOME)
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
    writer = OcdbtWriter(tmp_path / "database", arrays, NOON)
    for name in arrays:
        leaf = read_leaf(tmp_path / "folders" / name)
        files = {file.relative_to(leaf.folder).as_posix(): file for file in leaf.files}
        assert writer.copy_leaf(name, files)
        assert not writer.copy_leaf("params.w" if name != "params.w" else "params.b", files)
    writer.commit()
    check(tmp_path / "database", arrays, data)


def test_no_arrays_make_no_database(tmp_path: Path) -> None:
    OcdbtWriter(tmp_path, {}, NOON).commit()
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
    writer = LeafFolderWriter(folder, arrays) if plain else OcdbtWriter(folder, arrays, NOON)
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
