"""Chunks that are packed by zstd in the source go packed into the target, and nothing else does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
from hypothesis import given, settings
from hypothesis import strategies as st
from restored import by_v0, by_v1, described
from test_migrate_resume import files, killed

from convkit.checkpoint import TensorSpec
from convkit.checkpoint.digests import digest_array
from convkit.checkpoint.tensors import ITEMSIZE, value_dtype
from convkit.errors import ConvkitError
from convkit.formats import open_checkpoint
from convkit.formats.arrays import frames, ocdbt_layout
from convkit.formats.arrays.chunk_encoder import ChunkEncoder
from convkit.formats.arrays.store_writer import ArrayWriter
from convkit.migrate.orbax.migrate import migrate
from convkit.migrate.orbax.request import Encoding, Request
from convkit.testing import bits

Layout = Callable[[str], Path]

ZSTD = {"id": "zstd", "level": 1}
#: bytes at the end of a shard of one inner chunk: where it lies, and a checksum of that
INDEX = 20


@pytest.fixture(autouse=True)
def _few_bytes_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that small chunks are carried over, and small arrays have data files of their own, several each."""
    monkeypatch.setattr(frames, "LEAST", 1)
    monkeypatch.setattr(ocdbt_layout, "SMALL", 100)
    monkeypatch.setattr(ocdbt_layout, "SEGMENT_BYTES", 130)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arrays of which chunks are packed from now on."""
    found: list[str] = []
    for owner, name in ((ChunkEncoder, "encode"), (ArrayWriter, "write")):
        monkeypatch.setattr(owner, name, noted(vars(owner)[name], found))
    return found


def noted(call: Callable[..., None], found: list[str]) -> Callable[..., None]:
    """A method that notes the key that it is called with."""

    def method(self: Any, key: str, *rest: Any) -> None:
        found.append(key)
        call(self, key, *rest)

    return method


def saved(folder: Path, array: np.ndarray, *, ocdbt: bool = True, **metadata: Any) -> Path:
    """A checkpoint of one leaf, saved by Orbax, whose array tensorstore wrote again, stored otherwise."""
    import orbax.checkpoint as ocp

    source = folder / "source"
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=ocdbt)) as checkpointer:
        checkpointer.save(source, {"w": array})
    if metadata:
        file = {"driver": "file", "path": f"{source}/"}
        kvstore = {"driver": "ocdbt", "base": file, "path": "w/"} if ocdbt else {**file, "path": f"{source}/w/"}
        found = {"compressor": ZSTD, **metadata}
        spec = {"driver": "zarr", "kvstore": kvstore, "metadata": found, "store_data_equal_to_fill_value": True}
        tensorstore.open(spec, create=True, delete_existing=True, dtype=array.dtype, shape=array.shape).result().write(
            array
        ).result()
    return source


def stored(item: Path, name: str = "w") -> dict[str, bytes]:
    """Every key below an array's name, as tensorstore lists them: in a database, or in a folder."""
    spec: dict[str, Any] = {"driver": "file", "path": f"{item}/"}
    if (item / "manifest.ocdbt").exists():
        spec = {"driver": "ocdbt", "base": spec}
    store = tensorstore.KvStore.open(spec).result()
    keys = [key.decode() for key in store.list().result()]
    return {
        key.removeprefix(f"{name}/"): bytes(store.read(key).result().value)
        for key in keys
        if key.startswith(f"{name}/")
    }


def payloads(item: Path, name: str = "w") -> dict[str, bytes]:
    """The packed bytes of each chunk, by its place: of zarr 2, or of a shard of one inner chunk."""
    found = stored(item, name)
    shards = "zarr.json" in found
    chunks = {key: value for key, value in found.items() if key not in (".zarray", "zarr.json")}
    return {
        key.removeprefix("c/").replace("/", ".") if shards else key: value[:-INDEX] if shards else value
        for key, value in chunks.items()
    }


def check(source: Path, target: Path, array: np.ndarray, receipt: dict[str, Any]) -> None:
    """Both of Orbax's APIs restore the array, and the receipt has the digest of its bytes."""
    expected = (str(array.dtype), array.shape, array.tobytes())
    for tree in (by_v1(target, "state"), by_v0(target / "state")):
        restored = np.asarray(tree["w"])
        assert (str(restored.dtype), restored.shape, restored.tobytes()) == expected
    (item,) = receipt["parts"][0]["items"].values()
    assert [leaf["digest"] for leaf in item["leaves"].values()] == [digest_array("xxh3-128", array)]


@pytest.mark.parametrize("ocdbt", [True, False], ids=["database", "folders"])
@pytest.mark.parametrize("grid", [((7, 5), [3, 5]), ((7, 5), [3, 2]), ((7, 5), [7, 5]), ((9,), [4])], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "bool", "int64"])
def test_they_are_the_same_in_the_target(
    tmp_path: Path, encoded: list[str], dtype: str, grid: tuple[tuple[int, ...], list[int]], ocdbt: bool
) -> None:
    shape, chunks = grid
    array = values(shape, dtype)
    source = saved(tmp_path, array, ocdbt=ocdbt, chunks=chunks)
    request = Request("v1", "rewrite", encoding=Encoding(ocdbt=ocdbt))
    receipt = migrate(source, tmp_path / "target", request, restored=False)
    assert not encoded
    assert payloads(tmp_path / "target" / "state") == payloads(source)
    check(source, tmp_path / "target", array, receipt)
    migrate(tmp_path / "target", tmp_path / "back", Request("v0", "rewrite"), restored=False)
    assert not encoded
    assert payloads(tmp_path / "back" / "state") == payloads(source)


@pytest.mark.parametrize(
    "stored_as",
    [
        {"order": "F"},
        {"dtype": ">f4"},
        {"compressor": None},
        {"compressor": {"id": "gzip", "level": 1}},
        {"compressor": {"id": "zlib", "level": 1}},
        {"compressor": {"id": "blosc", "cname": "zstd", "clevel": 5, "shuffle": 1, "blocksize": 0}},
    ],
    ids=lambda stored_as: "-".join(map(str, stored_as.values()))[:12],
)
def test_chunks_of_other_bytes_are_packed_anew(tmp_path: Path, encoded: list[str], stored_as: dict[str, Any]) -> None:
    array = values((7, 5), "float32")
    source = saved(tmp_path, array, chunks=[3, 5], **stored_as)
    receipt = migrate(source, tmp_path / "target", Request("v1", "rewrite"), restored=False)
    assert set(encoded) == {"w"}
    check(source, tmp_path / "target", array, receipt)


@pytest.mark.parametrize(
    "asked", [Encoding(compressor="zstd:1"), Encoding(compressor="gzip"), Encoding(chunk_size=20)], ids=str
)
def test_what_a_user_asks_for_is_packed_anew(tmp_path: Path, encoded: list[str], asked: Encoding) -> None:
    array = values((7, 5), "float32")
    source = saved(tmp_path, array, chunks=[3, 5])
    receipt = migrate(source, tmp_path / "target", Request("v1", "rewrite", encoding=asked), restored=False)
    assert set(encoded) == {"w"}
    check(source, tmp_path / "target", array, receipt)


@pytest.mark.parametrize("ocdbt", [True, False], ids=["database", "folders"])
def test_an_array_that_lacks_chunks_is_packed_anew(tmp_path: Path, encoded: list[str], ocdbt: bool) -> None:
    """What isn't stored is the fill value."""
    array = values((7, 5), "float32")
    source = saved(tmp_path, array, ocdbt=ocdbt, chunks=[3, 5], dtype="<f4", fill_value=1.5)
    array[3:6] = 1.5
    if ocdbt:
        base = {"driver": "file", "path": f"{source}/"}
        tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result().write("w/1.0", None).result()
    else:
        (source / "w" / "1.0").unlink()
    described_as = json.loads((source / "_METADATA").read_text())
    described_as["store_array_data_equal_to_fill_value"] = False
    (source / "_METADATA").write_text(json.dumps(described_as))
    receipt = migrate(source, tmp_path / "target", Request("v1", "rewrite"), restored=False)
    assert set(encoded) == {"w"}
    check(source, tmp_path / "target", array, receipt)


@pytest.mark.parametrize("ocdbt", [True, False], ids=["database", "folders"])
def test_a_damaged_chunk_is_named_and_nothing_is_published(tmp_path: Path, ocdbt: bool) -> None:
    array = np.random.default_rng(0).integers(0, 50, (64, 256)).astype("float32")
    source = saved(tmp_path, array, ocdbt=ocdbt, chunks=[32, 256])
    chunk = stored(source)["1.0"]
    for damaged in (b"\xff" * len(chunk), chunk[:-2] + b"\xff\xff", chunk[:8] + b"\x00" * (len(chunk) - 8)):
        files = [path for path in source.rglob("*") if path.is_file()]
        (file,) = [path for path in files if chunk in path.read_bytes()]
        whole = file.read_bytes()
        file.write_bytes(whole.replace(chunk, damaged))
        with pytest.raises(ConvkitError) as caught:
            migrate(source, tmp_path / "target", Request("v1", "rewrite"), restored=False)
        assert "w" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "target").exists()
        assert not list(tmp_path.glob("target*.json"))
        file.write_bytes(whole)


def test_small_chunks_are_packed_anew(tmp_path: Path, encoded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    array = values((7, 5), "float32")
    source = saved(tmp_path, array, chunks=[3, 5])
    monkeypatch.setattr(frames, "LEAST", 3 * 5 * 4 + 1)
    receipt = migrate(source, tmp_path / "target", Request("v1", "rewrite"), restored=False)
    assert set(encoded) == {"w"}
    check(source, tmp_path / "target", array, receipt)


def test_scalars_and_every_kind_of_leaf(layout: Layout, tmp_path: Path, encoded: list[str]) -> None:
    """Of a checkpoint of all kinds of leaves, which Orbax itself restores from both."""
    migrate(layout("v0_leaves"), tmp_path / "target", Request("v1", "rewrite"))
    assert not encoded
    assert described(by_v1(tmp_path / "target", "state")) == described(by_v0(layout("v0_leaves")))


@pytest.mark.parametrize("stored_in", ["database", "folders"])
def test_threads_and_kills_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored_in: str) -> None:
    import orbax.checkpoint as ocp

    monkeypatch.undo()  # a process of its own knows nothing of it
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    source, random = tmp_path / "source", np.random.default_rng(0)
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(source, {f"w{i}": random.integers(0, 50, (160, 128)).astype("float32") for i in range(5)})
    request = Request("v1", "rewrite", encoding=Encoding(ocdbt=stored_in == "database"))
    migrate(source, tmp_path / "one", request, restored=False, threads=1)
    assert payloads(tmp_path / "one" / "state", "w3") == payloads(source, "w3")
    migrate(source, tmp_path / "three", request, restored=False, threads=3)
    assert files(tmp_path / "three") == files(tmp_path / "one")
    for at in (2, 4):
        killed(source, tmp_path / f"killed{at}", at, stored_in)
        assert migrate(source, tmp_path / f"killed{at}", request, restored=False)["resumed"]
        assert files(tmp_path / f"killed{at}") == files(tmp_path / "one")


@st.composite
def any_array(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, ...]]:
    shape = draw(st.lists(st.integers(1, 12), max_size=3).map(tuple))
    return values(shape, draw(st.sampled_from(sorted(ITEMSIZE)))), tuple(draw(st.integers(1, n + 2)) for n in shape)


@settings(max_examples=40, deadline=None)
@given(one=any_array(), compressor=st.sampled_from([ZSTD, None]), order=st.sampled_from("CF"), ocdbt=st.booleans())
def test_any_array(
    one: tuple[np.ndarray, tuple[int, ...]],
    compressor: dict[str, Any] | None,
    order: str,
    ocdbt: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """What is carried over packed and what is packed anew hold the same, by tensorstore alone and by ourselves."""
    folder = tmp_path_factory.mktemp("any")
    array, chunks = one
    order = order if array.ndim > 1 else "C"  # as tensorstore has it
    source = saved(folder, array, ocdbt=ocdbt, chunks=list(chunks), compressor=compressor, order=order)
    for name, encoding in (("carried", Encoding()), ("anew", Encoding(compressor="zstd:3"))):
        migrate(source, folder / name, Request("v1", "rewrite", encoding=encoding), restored=False)
        item = folder / name / "state"
        kvstore = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{item}/"}, "path": "w/"}
        read = tensorstore.open({"driver": "zarr3", "kvstore": kvstore}, open=True).result().read().result()
        assert (read.dtype, read.shape, read.tobytes()) == (array.dtype, array.shape, array.tobytes())
        with open_checkpoint(folder / name) as opened:
            assert opened.read("w").tobytes() == array.tobytes()
    same = {path.name for path in (folder / "carried").rglob("*")} - {"d"}
    assert stored(folder / "carried" / "state")["zarr.json"] == stored(folder / "anew" / "state")["zarr.json"]
    assert {"_METADATA", "orbax.checkpoint"} <= same


def values(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Arbitrary bits."""
    return bits(TensorSpec(shape, dtype), 1).view(value_dtype(dtype)).reshape(shape)
