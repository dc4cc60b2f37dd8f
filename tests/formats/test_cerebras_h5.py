"""The ``.mdl`` format: recorded files of the original, bad input, and what the laws of formats don't cover."""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the filters
import numpy as np
import pytest
from generated_states import State, states
from goldens import golden_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from packed_mdl import pack

from convkit.checkpoint import Leaf, Opaque, TensorSpec, WriteOptions
from convkit.errors import ConvkitError
from convkit.formats import open_checkpoint
from convkit.formats.cerebras_h5 import skeleton
from convkit.formats.cerebras_h5.format import FORMAT
from convkit.formats.cerebras_h5.records import RTFX_DTYPES
from convkit.state.cerebras import treespec
from convkit.testing import (
    Sample,
    bits,
    check_equal,
    in_a_fresh_process_that_dies,
    in_a_process_that_dies,
    write,
    write_leaf,
)

#: recorded conversions, each a folder <family>/<release> with a .mdl and its tensors in flat.npz
GOLDENS = [
    *(f"{family}/hf-cs-2.9" for family in ("llama_gqa", "llama_mha", "llama_tied", "gpt2", "bert", "bert_qa")),
    *(f"{family}/hf-cs-2.9" for family in ("mixtral", "falcon_7b", "bloom", "t5_gated", "vit", "starcoder")),
    "bloom/hf-cs-2.1",
    "codegen/hf-cs-2.0",
]


def sample() -> Sample:
    """Tensors small and large, wide, empty and of one element; values; a tie."""
    shapes = {"model.w": (3, 5), "model.many": (1500, 300), "model.wide": (2, 3, 300_000), "model.empty": (0, 4)}
    specs = {key: TensorSpec(shape, "bfloat16") for key, shape in shapes.items()}
    specs |= {"model.scalar": TensorSpec((), "float32"), "model.mask": TensorSpec((1000, 1000), "bool")}
    leaves = [Leaf(key, spec) for key, spec in specs.items()]
    data = {key: bits(spec, seed) for seed, (key, spec) in enumerate(specs.items())}
    leaves += [Leaf("model.tied", specs["model.w"], same_as="model.w"), Leaf("step", value=3), Leaf("none")]
    return Sample(tuple(leaves), data | {"model.tied": data["model.w"]})


def make(path: Path, found: Sample | None = None, metadata: dict[str, Any] | None = None) -> Path:
    """A file of ours."""
    found = found or sample()
    writer = FORMAT.create(path, found.leaves, WriteOptions(metadata=metadata or {}))
    for leaf in found.leaves:
        if leaf.same_as is None:
            write_leaf(writer, leaf, found, Random(0))
    writer.commit()
    writer.close()
    return path


# --- files of the original -----------------------------------------------------------------------------------


@pytest.mark.golden
@pytest.mark.parametrize("golden", GOLDENS)
def test_reads_recorded_conversions(golden: str) -> None:
    folder = golden_dir("cerebras.tar.gz") / golden
    (path,) = folder.glob("*.mdl")
    with np.load(folder / "flat.npz") as flat, open_checkpoint(path) as checkpoint:
        assert checkpoint.format == "cerebras-h5"
        # some were recorded without the outermost dict
        prefix = "" if set(checkpoint.leaves) == set(flat.files) else "model."
        assert {key.removeprefix(prefix) for key in checkpoint.leaves} == set(flat.files)
        for key, leaf in checkpoint.leaves.items():
            expected = flat[key.removeprefix(prefix)]
            assert leaf.spec == TensorSpec(expected.shape, expected.dtype.name)
            assert checkpoint.read(key).tobytes() == expected.tobytes()


@pytest.mark.golden
def test_reads_every_kind_of_leaf() -> None:
    path = golden_dir("cerebras.tar.gz") / "_format" / "kinds_native.mdl"
    with open_checkpoint(path) as checkpoint:
        leaves = checkpoint.leaves
        values = {leaf.key: leaf.value for leaf in leaves.values() if leaf.spec is None}
        pickles = {key: values.pop(key) for key in ("np0", "obj")}
        assert values == {
            "optimizer.state.p1.m": None,
            "optimizer.param_groups.0.lr": 0.1,
            "optimizer.param_groups.0.betas.0": 0.9,
            "optimizer.param_groups.0.betas.1": 0.999,
            "optimizer.param_groups.0.tup.0": 1,
            "optimizer.param_groups.0.tup.1": 2,
            "optimizer.param_groups.0.params.0": 0,
            "optimizer.param_groups.0.params.1": 1,
            "optimizer.param_groups.0.names.0": "a",
            "optimizer.param_groups.0.names.1": "b",
            "optimizer.param_groups.0.amsgrad": False,
            "optimizer.param_groups.0.none": None,
            "optimizer.param_groups.0.empty_list": [],
            "optimizer.param_groups.0.empty_dict": {},
            "global_step": 10,
            "lr_scheduler.last_epoch": 10,
            "lr_scheduler._milestones.0": 5,
            "dataloader.samples_streamed": 7,
            "dataloader.seed": 0,
            "big": 2**70,
            "s": "héllo",
            "set.0": 3,
            "__metadata__.0.version": "2.10.0",
            "__metadata__.0.model_name": "",
            "__metadata__.0.params.a": 1,
        }
        assert {key: (leaf.spec.shape, leaf.spec.dtype) for key, leaf in leaves.items() if leaf.spec} == {
            "model.w": ((2, 3), "float32"),
            "model.tied": ((2, 3), "float32"),
            "model.view": ((3, 2), "float32"),
            "model.bf16": ((3,), "bfloat16"),
            "model.half": ((2,), "float16"),
            "model.i64": ((2,), "int64"),
            "model.i32": ((2,), "int32"),
            "model.u8": ((2,), "uint8"),
            "model.bool": ((2,), "bool"),
            "model.scalar0d": ((), "float32"),
            "model.empty": ((0, 4), "float32"),
            "model.slice1": ((4,), "float32"),
            "model.slice2": ((4,), "float32"),
            "model.name/with.slash": ((1,), "float32"),
            "model.f64": ((1,), "float64"),
            "model.noncontig": ((4, 3), "float32"),
            "optimizer.state.0.step": ((), "int64"),
            "optimizer.state.0.exp_avg": ((2, 3), "float32"),
            "np": ((3,), "int16"),
            "full": ((2, 2), "float32"),
        }
        assert {key: leaf.same_as for key, leaf in leaves.items() if leaf.same_as} == {"model.tied": "model.w"}
        assert checkpoint.metadata["numpy_arrays"] == ["np"]
        assert checkpoint.read("model.tied").tolist() == checkpoint.read("model.w").tolist()
        assert checkpoint.read("model.bf16").tolist() == [0x3FC0, 0xC010, 0x4040]
        assert pickles["np0"].data.startswith(b"\x80\x04")
        # its header's checksum is wrong: a path in it was struck out when it was recorded
        with pytest.raises(ConvkitError, match="checksum") as refused:
            _ = pickles["obj"].data
        assert refused.value.key == "obj"


@pytest.mark.golden
@pytest.mark.parametrize("golden", ["llama_tied/hf-cs-2.9", "llama_gqa_bfloat16/hf-cs-2.9", "_oldfmt"])
def test_writes_as_the_original_does(tmp_path: Path, golden: str) -> None:
    """The same attributes, dtypes and links; the data in one piece."""
    folder = golden_dir("cerebras.tar.gz") / golden
    path = folder / "out_iterable.mdl" if golden == "_oldfmt" else next(folder.glob("*.mdl"))
    with open_checkpoint(path) as checkpoint:
        data = {key: checkpoint.read(key) for key, leaf in checkpoint.leaves.items() if leaf.spec}
        ours = make(tmp_path / "ours.mdl", Sample(tuple(checkpoint.leaves.values()), data), checkpoint.metadata)
    with h5py.File(path) as theirs, h5py.File(ours) as mine:
        values = {key for key in theirs.attrs if key.endswith(".__metadata__") and "LinkedObject" in theirs.attrs[key]}
        assert theirs.attrs.keys() == mine.attrs.keys()
        for key in theirs.attrs.keys() - values:
            same_attribute(theirs, mine, key)
        assert theirs.keys() == mine.keys()
        for key in theirs:
            assert theirs[key].dtype == mine[key].dtype
            assert theirs[key][()].tobytes() == mine[key][()].tobytes()
            assert theirs[key].attrs.keys() == mine[key].attrs.keys()
            for name in theirs[key].attrs:
                same_attribute(theirs[key], mine[key], name)


def same_attribute(theirs: h5py.HLObject, mine: h5py.HLObject, name: str) -> None:
    one, other = theirs.attrs.get_id(name), mine.attrs.get_id(name)
    assert (one.dtype, one.shape) == (other.dtype, other.shape), name
    assert np.array_equal(theirs.attrs[name], mine.attrs[name]), name


# --- what we write -------------------------------------------------------------------------------------------


def test_writes_datasets_that_hdf5_reads(tmp_path: Path) -> None:
    found = sample()
    with h5py.File(make(tmp_path / "x.mdl", found)) as file:
        for key in ("model.w", "model.many", "model.wide", "model.empty", "model.scalar", "model.mask"):
            assert file[key][()].tobytes() == found.data[key].tobytes()
            assert file[key].chunks is None
        assert "model.tied" not in file


def test_tensors_lie_as_they_are(tmp_path: Path) -> None:
    found = sample()
    path = make(tmp_path / "x.mdl", found)
    raw = path.read_bytes()
    with FORMAT.open(path) as checkpoint:
        stored = sorted(raw[start:stop] for start, stop in checkpoint.leaf_bytes()[path])
        own = [leaf.key for leaf in found.leaves if leaf.spec and leaf.spec.size]
        assert stored == sorted(found.data[key].tobytes() for key in own)
        assert all(checkpoint.lies_open(key) for key in own)
        starts = [5, 0, 7]
        assert checkpoint.rows("model.w", starts, 4).tolist() == [
            found.data["model.w"][start : start + 4].tolist() for start in starts
        ]


def test_reads_what_is_packed_in_chunks(tmp_path: Path) -> None:
    """As the original stores it."""
    found = sample()
    path = pack(make(tmp_path / "x.mdl", found), {"model.wide": (1, 2, 70_000)})
    with FORMAT.open(path) as checkpoint:
        check_equal(checkpoint, found)
        assert not checkpoint.lies_open("model.wide") and checkpoint.lies_open("model.scalar")
        assert checkpoint.rows("model.w", [2, 0], 3).tolist() == found.data["model.w"][[[2, 3, 4], [0, 1, 2]]].tolist()


def test_nests_as_the_converter_does(tmp_path: Path) -> None:
    with FORMAT.open(make(tmp_path / "x.mdl")) as checkpoint:
        tree = treespec.loads(checkpoint.metadata["spec"])
    assert [str(key) for key in tree.keys] == ["model", "step", "none"]
    assert tree.children[0].keys[:2] == ["w", "many"]


def laid_out(path: Path, leaves: list[Leaf]) -> None:
    """A file with nothing in its tensors."""
    writer = FORMAT.create(path, leaves, WriteOptions())
    writer.commit()
    writer.close()


def test_a_skeleton_has_the_same_bytes_in_any_process_at_any_time(tmp_path: Path) -> None:
    """Many leaves, with groups, objects over and under HDF5's limit of a plain attribute, numbers and ties."""
    started, spec = int(time.time()), TensorSpec((3,), "float32")
    leaves = [Leaf(f"model.layer.{n}/part.{n % 7}", spec) for n in range(300)]
    leaves += [Leaf(f"o.{n}", value=Opaque(bytes([n]) * 10**n, "pickle")) for n in range(1, 6)]
    leaves += [Leaf("step", value=3), Leaf("tied", spec, same_as=leaves[0].key), Leaf("none"), Leaf("empty", value=[])]
    laid_out(tmp_path / "a.mdl", leaves)
    in_a_fresh_process_that_dies(partial(laid_out, tmp_path / "b.mdl", leaves))
    data = (tmp_path / "a.mdl").read_bytes()
    assert data == (tmp_path / "b.mdl").read_bytes()
    times = [second.to_bytes(4, "little") for second in range(started, int(time.time()) + 1)]
    assert not any(second in data for second in times), "HDF5 stores times in this form"
    with FORMAT.open(tmp_path / "a.mdl") as checkpoint:
        assert set(checkpoint.leaves) == {leaf.key for leaf in leaves}


def test_a_skeleton_has_one_dataset_open_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 takes memory for each."""
    opened: list[int] = []

    def add(file: h5py.File, leaf: Leaf) -> h5py.Dataset:
        opened.append(h5py.h5f.get_obj_count(file.id, h5py.h5f.OBJ_DATASET))
        return real(file, leaf)

    real = skeleton._add_dataset
    monkeypatch.setattr(skeleton, "_add_dataset", add)
    laid_out(tmp_path / "a.mdl", [Leaf(f"{n}", TensorSpec((3,), "float32")) for n in range(30)])
    assert len(opened) == 30 and max(opened) == 1


def test_carries_objects_without_unpickling(tmp_path: Path) -> None:
    code = b"cos\nsystem\n(S'echo gotcha'\ntR." + bytes(100_000)
    with FORMAT.open(make(tmp_path / "x.mdl", Sample((Leaf("o", value=Opaque(code, "pickle")),), {}))) as checkpoint:
        assert checkpoint.leaves["o"].value == Opaque(code, "pickle")


@pytest.mark.parametrize(
    ("leaf", "problem"),
    [
        (Leaf("k", TensorSpec((2,), "int8")), "can't hold int8"),
        (Leaf("k", TensorSpec((2,), "float8_e4m3fn")), "can't hold float8_e4m3fn"),
        (Leaf("k", TensorSpec((2,), "complex64")), "can't hold complex64"),
        (Leaf("k", value=[1]), "can't hold a list"),
        (Leaf("k", value=Opaque(b"x", "msgpack")), "kind 'msgpack'"),
        (Leaf("k", TensorSpec((2,), "int32"), same_as="nowhere"), "tied to 'nowhere'"),
        (Leaf("a//b", TensorSpec((2,), "int32")), "can't hold this name"),
        (Leaf(".", TensorSpec((2,), "int32")), "can't hold this name"),
        (Leaf("", TensorSpec((2,), "int32")), "can't hold this name"),
        (Leaf("a\0", value=1), "can't hold this name"),
        (Leaf("w/x", TensorSpec((2,), "int32")), "another tensor"),
        (Leaf("w", TensorSpec((2,), "int32")), "same name"),
    ],
)
def test_refuses_leaves(tmp_path: Path, leaf: Leaf, problem: str) -> None:
    with pytest.raises(ConvkitError, match=problem):
        FORMAT.create(tmp_path / "x.mdl", [Leaf("w", TensorSpec((2,), "int32")), leaf], WriteOptions())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "leaves", [[], [Leaf("a")], [Leaf("a", value=[]), Leaf("b")], [Leaf("a"), Leaf("b"), Leaf("c")]]
)
def test_refuses_a_spec_of_other_leaves(tmp_path: Path, leaves: list[Leaf]) -> None:
    spec = treespec.dumps(treespec.dict_of({"a": treespec.LEAF, "b": treespec.LEAF}))
    with pytest.raises(ConvkitError):
        FORMAT.create(tmp_path / "x.mdl", leaves, WriteOptions(metadata={"spec": spec}))


@pytest.mark.parametrize("dtype", RTFX_DTYPES)
def test_every_dtype(tmp_path: Path, dtype: str) -> None:
    found = Sample((Leaf("w", TensorSpec((7, 3), dtype)),), {"w": bits(TensorSpec((7, 3), dtype), 0)})
    for metadata in ({}, {"numpy_arrays": ["w"]}):
        with FORMAT.open(make(tmp_path / f"{len(metadata)}.mdl", found, metadata)) as checkpoint:
            check_equal(checkpoint, found)


# --- kills ---------------------------------------------------------------------------------------------------


def killed(path: Path, found: Sample, done: list[str], torn: str | None = None, then: Callable | None = None) -> None:
    """What a process leaves that finished some leaves and began another."""

    def work() -> None:
        writer = FORMAT.create(path, found.leaves, WriteOptions())
        for leaf in found.leaves:
            if leaf.key in done:
                write_leaf(writer, leaf, found, Random(0))
        if torn:
            writer.write(torn, 0, found.data[torn][: found.data[torn].size // 2])
        if then:
            then(writer)

    in_a_process_that_dies(work)


def resumed(path: Path, found: Sample, done: list[str]) -> None:
    writer = FORMAT.create(path, found.leaves, WriteOptions(), resume=True)
    assert [other.name for other in path.parent.iterdir()] == [path.name]
    for leaf in found.leaves:
        if leaf.key not in done and leaf.same_as is None:
            write_leaf(writer, leaf, found, Random(0))
    writer.commit()
    writer.close()
    with FORMAT.open(path) as checkpoint:
        check_equal(checkpoint, found)
    assert path.read_bytes() == make(path.with_name("plain.mdl"), found).read_bytes()


def test_resumes_with_what_was_finished(tmp_path: Path) -> None:
    done = ["model.w", "model.wide", "model.scalar", "model.empty"]
    killed(tmp_path / "x.mdl", sample(), done, torn="model.mask")
    resumed(tmp_path / "x.mdl", sample(), done)


def test_resumes_what_was_complete(tmp_path: Path) -> None:
    done = list(sample().data)
    killed(tmp_path / "x.mdl", sample(), [key for key in done if key != "model.tied"], then=lambda w: w.commit())
    resumed(tmp_path / "x.mdl", sample(), done)


@pytest.mark.parametrize("what", ["noise", "cut", "other leaves", "other values"])
def test_what_is_of_another_layout_is_not_resumed(tmp_path: Path, what: str) -> None:
    path, found = tmp_path / "x.mdl", sample()
    if what == "noise":
        path.write_bytes(b"noise")
    elif what == "cut":
        killed(path, found, ["model.many"])
        os.truncate(path, path.stat().st_size // 2)
    elif what == "other leaves":
        killed(path, Sample(found.leaves[:2], found.data), [])
    else:  # of the same size
        killed(path, Sample(tuple(replace(leaf, value=leaf.value and 4) for leaf in found.leaves), found.data), [])
    with pytest.raises(ConvkitError, match="differs from the layout of the output to resume"):
        FORMAT.create(path, found.leaves, WriteOptions(), resume=True)


def test_starts_over_if_it_was_killed_before_anything_was_laid_out(tmp_path: Path) -> None:
    (tmp_path / "x.mdl").write_bytes(bytes(1000))
    resumed(tmp_path / "x.mdl", sample(), [])


def test_what_is_not_committed_is_not_read(tmp_path: Path) -> None:
    FORMAT.create(tmp_path / "x.mdl", sample().leaves, WriteOptions()).close()
    with pytest.raises(ConvkitError, match="__SUCCESS__"):
        FORMAT.open(tmp_path / "x.mdl")


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        found = sample()
        with pytest.raises(ConvkitError, match=r"x\.mdl: can't be written: File too large"):
            write(FORMAT, tmp_path / "x.mdl", Sample(found.leaves[2:3], found.data), Random(0))

    in_a_process_that_dies(work)


# --- bad input -----------------------------------------------------------------------------------------------


def attribute(name: str, value: Any) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__setitem__(name, value)


def notes(key: str, /, **changes: Any) -> Callable[[h5py.File], None]:
    """Changes what the record says."""

    def change(file: h5py.File) -> None:
        name = f"{key}.__metadata__"
        record = json.loads(file.attrs[name])
        record[name] |= changes
        file.attrs[name] = json.dumps(record)

    return change


def chunk(data: bytes, mask: int = 0) -> Callable[[h5py.File], None]:
    return lambda file: file["model.w"].id.write_direct_chunk((0, 0), data, mask)


def replaced(link: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file["model.w"]
        file["model.w"] = link

    return change


def without(name: str) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__delitem__(name)


def linked_in_a_circle(file: h5py.File) -> None:
    for key, target in (("step", "none"), ("none", "step")):
        notes(key, __TYPE__="LinkedObject", key=target)(file)


def spec(*keys: str) -> Callable[[h5py.File], None]:
    node = {"type": None, "context": None, "children_spec": []}
    tree = {"type": "builtins.dict", "context": json.dumps(keys), "children_spec": [node] * len(keys)}
    return attribute("__spec__", json.dumps([None, json.dumps([1, tree])]))


@pytest.mark.parametrize(
    ("damage", "key", "problem"),
    [
        (without("__SUCCESS__"), None, "no __SUCCESS__"),
        (attribute("__SUCCESS__", False), None, "no __SUCCESS__"),
        (without("__spec__"), None, "without the attribute __spec__"),
        (attribute("__spec__", "[null, "), None, "Expecting"),
        (attribute("__spec__", '[null, "[1, {}]"]'), None, "corrupt"),
        (attribute("__spec__", "no"), None, "neither JSON nor"),
        (attribute("__spec__", "[" * 100_000), None, "it is nested too deeply"),
        (spec("step", "step"), "step", "two leaves"),
        (spec("step", "more"), "more", "has no metadata"),
        (attribute("__version__", 0.6), None, "format 0.6, newer"),
        (attribute("__version__", "new"), None, "isn't a format number"),
        (lambda file: file.__delitem__("model.w"), "model.w", "has no dataset"),
        (without("model.w.__metadata__"), "model.w", "has no metadata"),
        (attribute("model.w.__metadata__", "{}"), "model.w", "can't be read"),
        (attribute("model.w.__metadata__", "{"), "model.w", "Expecting"),
        (notes("model.w", shapes=[[5, 3]]), "model.w", "shape"),
        (notes("model.w", shapes=[[-3, -5]]), "model.w", "shape"),
        (notes("model.w", shapes=[]), "model.w", "can't be read"),
        (notes("model.w", dtypes=["torch.float32"]), "model.w", "holds int16, its metadata says float32"),
        (notes("model.w", dtypes=["torch.qint8"]), "model.w", "'qint8' is not supported"),
        (notes("model.w", __TYPE__="NewSerializer"), "model.w", "unknown kind, 'NewSerializer'"),
        (notes("model.w", deferred_object_cls="DeferredObject", path="/etc/x"), "model.w", "another file, '/etc/x'"),
        (notes("model.w", __TYPE__="DeferredSafeTensor", path="y"), "model.w", "another file, 'y'"),
        (notes("model.w", __TYPE__="DeferredFileTensor", filepath="z"), "model.w", "another file, 'z'"),
        (notes("model.w", __TYPE__="DeferredFullTensor", shape=[-1], dtype="torch.int32"), "model.w", "shape"),
        (notes("step", scalar_value=[1]), "step", "holds a list"),
        (notes("step", scalar_value="1"), "step", "holds a str"),
        (notes("step", __TYPE__="LinkedObject", key="nowhere"), "step", "link to 'nowhere'"),
        (linked_in_a_circle, "step", "link to 'none'"),
        (replaced(h5py.SoftLink("/model.many")), "model.w", "is a link"),
        (replaced(h5py.ExternalLink("/etc/passwd", "/x")), "model.w", "is a link"),
        (replaced(h5py.Empty("f")), "model.w", "holds no array"),
        (replaced(np.zeros((3, 5), "f4")), "model.w", "holds float32"),
    ],
)
def test_refuses_damaged_files(
    tmp_path: Path, damage: Callable[[h5py.File], None], key: str | None, problem: str
) -> None:
    path = make(tmp_path / "x.mdl")
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(ConvkitError, match=problem) as refused:
        FORMAT.open(path)
    check_refusal(refused.value, path, key)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (chunk(b"garbage garbage"), "chunk"),
        (chunk(b"\0"), "chunk"),
        (chunk(b"short", 1), "5 bytes for 30"),
        (chunk((30).to_bytes(8, "big") + (30).to_bytes(4, "big") + (3).to_bytes(4, "big") + b"xxx"), "not LZ4"),
    ],
)
def test_refuses_damaged_chunks(tmp_path: Path, damage: Callable[[h5py.File], None], problem: str) -> None:
    path = pack(make(tmp_path / "x.mdl"), {"model.w": (3, 5)})
    with h5py.File(path, "r+") as file:
        damage(file)
    with FORMAT.open(path) as checkpoint:
        checkpoint.read("model.many")
        with pytest.raises(ConvkitError, match=problem) as refused:
            checkpoint.read("model.w")
    check_refusal(refused.value, path, "model.w")


def check_refusal(error: ConvkitError, path: Path, key: str | None) -> None:
    assert (error.path, error.key) == (str(path), key)
    assert error.remedy
    assert "\n" not in str(error)


@settings(max_examples=200, deadline=None)
@given(key=st.sampled_from(["__spec__", "a.__metadata__", "b.__metadata__"]), data=st.data())
def test_any_damage_to_the_json_is_told_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, key: str, data: st.DataObject
) -> None:
    found = Sample((Leaf("a", TensorSpec((4, 3), "int32")), Leaf("b", value="text")), {"a": np.zeros(12, "uint32")})
    path = make(tmp_path_factory.mktemp("damage") / "x.mdl", found)
    with h5py.File(path, "r+") as file:
        text = file.attrs[key]
        start, stop = sorted(data.draw(st.integers(0, len(text))) for _ in range(2))
        file.attrs[key] = text[:start] + data.draw(st.text('[]{}":,0x\\', max_size=5)) + text[stop:]
    try:
        with FORMAT.open(path) as checkpoint:
            for leaf in checkpoint.leaves.values():
                if leaf.spec:
                    checkpoint.read(leaf.key)
    except ConvkitError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)


@settings(max_examples=200, deadline=None)
@given(state=states())
def test_any_state_survives(tmp_path_factory: pytest.TempPathFactory, state: State) -> None:
    path = state.write(tmp_path_factory.mktemp("state") / "x.mdl")
    with FORMAT.open(path) as checkpoint:
        assert checkpoint.metadata["spec"] == treespec.dumps(state.tree)
        assert repr(list(checkpoint.leaves.values())) == repr(list(state.leaves))
        for key, elements in state.data.items():
            assert checkpoint.read(key).tobytes() == elements.tobytes()


def test_detects(tmp_path: Path) -> None:
    assert FORMAT.detect(make(tmp_path / "x.mdl"))
    assert FORMAT.detect((tmp_path / "x.mdl").rename(tmp_path / "x.bin")) == "an HDF5 file with the attribute __spec__"
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["x"] = 1
    assert FORMAT.detect(tmp_path / "weights.h5") is None
