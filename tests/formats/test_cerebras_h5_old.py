"""``.mdl`` files before format 0.5: the reconstructed ones, generated states, and pickles that want to run."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from goldens import golden_dir
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.checkpoint import Leaf, Opaque, TensorSpec, WriteOptions
from convkit.errors import ConvkitError
from convkit.formats.cerebras_h5.format import FORMAT
from convkit.generate.old_mdl import VERSIONS, TensorScalarDict, flatten, pickled_spec, write_old
from convkit.state.cerebras import pickled_treespec, treespec

RELEASES = pytest.mark.parametrize("release", VERSIONS)
W, HEAD = "model.embedding_layer.word_embeddings.weight", "model.lm_head.weight"


def state() -> dict[str, Any]:
    """A training state of every kind of leaf."""
    weight = np.arange(12, dtype="f4").reshape(4, 3)
    return {
        "model": OrderedDict(
            {"embedding_layer.word_embeddings.weight": weight, "lm_head.weight": weight, "a/b %": weight}
        ),
        "optimizer": {
            "state": {0: TensorScalarDict(step=np.array(4.0, "f4"), beta=0.9)},
            "groups": [{"lr": 1e-3, "n": None}],
        },
        "lr_scheduler": {"last_epoch": 3, "empty": [], "none": {}, "pair": (1, "text")},
        "global_step": 7,
        "half": np.arange(5).astype(ml_dtypes.bfloat16),
        "flag": True,
    }


def make(path: Path, release: str = "1.7", left_out: tuple[str, ...] = (HEAD,), **more: Any) -> Path:
    write_old(path, state() | more, release, left_out)
    return path


# --- what is read ------------------------------------------------------------------------------------------------


@pytest.mark.golden
@pytest.mark.parametrize("name", ["r17_tensorscalardict", "r17_tensorscalardict_fixed", "r19", "r19_fixed"])
def test_reads_the_reconstructed_files(name: str) -> None:
    folder = golden_dir("cerebras.tar.gz") / "_oldfmt"
    with FORMAT.open(folder / f"{name}.mdl") as checkpoint, h5py.File(folder / f"{name}.mdl") as file:
        assert checkpoint.metadata["version"] == (0.1 if name.startswith("r17") else 0.3)
        assert checkpoint.metadata["cstorch_version"] == ("1.7" if name.startswith("r17") else "1.9")
        left_out = (
            {"model.model.lm_head.weight", "model.model.ln_f.weight"} if name == "r17_tensorscalardict" else set()
        )
        assert set(checkpoint.metadata["left_out"]) == left_out
        assert set(checkpoint.leaves) == set(file) | left_out
        assert checkpoint.metadata["tensor_scalar_dicts"] == ([] if "fixed" in name else ["optimizer.state.p0"])
        for key in file:
            leaf = checkpoint.leaves[key]
            if leaf.spec:
                assert checkpoint.read(key).tobytes() == file[key][()].tobytes()
            elif file[key].shape is not None:
                assert leaf.value == file[key][()]


@RELEASES
def test_reads_every_kind_of_leaf(tmp_path: Path, release: str) -> None:
    objects = {"object": Opaque(b"\x80\x04.", "pickle")} if release in ("1.9", "2.0") else {}
    with FORMAT.open(make(tmp_path / "x.mdl", release, **objects)) as checkpoint:
        expected = dict(flatten(state() | objects))
        assert [key for key in checkpoint.leaves if key not in ("lr_scheduler.empty", "lr_scheduler.none")] == list(
            expected
        )
        assert checkpoint.leaves[HEAD] == Leaf(HEAD, TensorSpec((4, 3), "float32"), same_as=W)
        for key, value in expected.items():
            leaf = checkpoint.leaves[key]
            if isinstance(value, np.ndarray):
                assert leaf.spec == TensorSpec(value.shape, value.dtype.name)
                assert checkpoint.read(key).tobytes() == value.tobytes()
            else:
                assert (leaf.spec, leaf.value, type(leaf.value)) == (None, value, type(value))
        assert checkpoint.leaves["lr_scheduler.none"].value == {}
        assert checkpoint.metadata["tensor_scalar_dicts"] == ["optimizer.state.0"]


def test_a_file_without_version_is_told_by_its_spec(tmp_path: Path) -> None:
    path = tmp_path / "x.mdl"
    writer = FORMAT.create(path, [Leaf("step", value=3)], WriteOptions())
    writer.commit()
    with h5py.File(path, "r+") as file:
        del file.attrs["__version__"]
    with FORMAT.open(path) as checkpoint:
        assert checkpoint.leaves == {"step": Leaf("step", value=3)}


def test_two_names_of_one_dataset_are_one_tensor(tmp_path: Path) -> None:
    path = make(tmp_path / "x.mdl")
    with h5py.File(path, "r+") as file:
        file[HEAD] = file[W]
    with FORMAT.open(path) as checkpoint:
        assert checkpoint.leaves[HEAD].same_as == W
        assert checkpoint.metadata["left_out"] == []


def test_later_kinds_of_tensors(tmp_path: Path) -> None:
    path = make(tmp_path / "x.mdl", "2.0", full=0, again=0, mine=0)
    with h5py.File(path, "r+") as file:
        for name in ("full", "again", "mine"):
            del file[name]
        full = file.create_dataset("full", data=h5py.Empty("i2"))
        full.attrs.update(
            {"__H5_TYPE__": "DeferredFullTensor", "shape": [2, 3], "fill_value": 0.1, "is_bfloat16": True}
        )
        again = file.create_dataset("again", data=h5py.Empty("f"))
        again.attrs.update({"__H5_TYPE__": "DeferredH5Tensor", "key": "half", "link_to_self": True})
        mine = file.create_dataset("mine", data=np.arange(3, dtype="u4"))
        mine.attrs.update({"__H5_TYPE__": "NumpyArrayH5Type", "is_bfloat16": False})
    with FORMAT.open(path) as checkpoint:
        assert checkpoint.leaves["full"].spec == TensorSpec((2, 3), "bfloat16")
        assert checkpoint.read("full").tobytes() == np.full(6, 0.1).astype(ml_dtypes.bfloat16).tobytes()
        assert checkpoint.leaves["again"] == Leaf("again", TensorSpec((5,), "bfloat16"), same_as="half")
        assert checkpoint.metadata["numpy_arrays"] == ["mine"]


def keys() -> st.SearchStrategy[str | int]:
    return (
        st.text(st.characters(exclude_characters="\0.", exclude_categories=["Cs"]), min_size=1, max_size=6)
        | st.integers()
    )


def states() -> st.SearchStrategy[Any]:
    numbers = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
    text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
    dtypes = st.sampled_from(["f4", "f2", "f8", "i8", "u1", "?", ml_dtypes.bfloat16])
    arrays = st.builds(lambda dtype, shape: np.ones(shape).astype(dtype), dtypes, st.sampled_from([(), (0,), (3, 2)]))

    def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        dicts = st.dictionaries(keys(), inner, max_size=3)
        lists = st.lists(inner, max_size=3)
        return dicts | dicts.map(OrderedDict) | dicts.map(TensorScalarDict) | lists | lists.map(tuple)

    leaf = st.none() | numbers | text | arrays
    return st.dictionaries(keys(), st.recursive(leaf, containers, max_leaves=8), max_size=4)


def unique(state: Any) -> bool:
    names = [key for key, _ in flatten(state)]
    return len(set(names)) == len(names) and all(name for name in names)


@settings(max_examples=60, deadline=None)
@given(made=states().filter(unique), release=st.sampled_from(sorted(VERSIONS)))
def test_any_state_is_read_as_it_was(made: dict[str, Any], release: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.mdl"
        write_old(path, made, release)
        with FORMAT.open(path) as checkpoint:
            for key, value in flatten(made):
                leaf = checkpoint.leaves[key]
                if isinstance(value, np.ndarray):
                    assert leaf.spec == TensorSpec(value.shape, value.dtype.name)
                    assert checkpoint.read(key).tobytes() == value.tobytes()
                else:
                    assert (leaf.value, type(leaf.value)) == (value, type(value))


@settings(deadline=None)
@given(made=states())
def test_the_pickled_spec_is_torchs_own(made: dict[str, Any]) -> None:
    pytree = pytest.importorskip("torch.utils._pytree")

    def plain(node: Any) -> Any:
        if isinstance(node, TensorScalarDict):
            return {key: plain(inner) for key, inner in node.items()}
        if isinstance(node, dict):
            return type(node)((key, plain(inner)) for key, inner in node.items())
        return type(node)(map(plain, node)) if isinstance(node, list | tuple) else 0

    tree, _ = pickled_treespec.loads(pickled_spec(made))
    assert treespec.dumps(tree) == pytree.treespec_dumps(pytree.tree_structure(plain(made)))


# --- what is refused ---------------------------------------------------------------------------------------------


class Runs:
    """A pickle of it makes a folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


def bomb() -> bytes:
    """A tree of 2**60 leaves in a few bytes: every node has the one before it twice."""
    leaf = b"ctorch.utils._pytree\nLeafSpec\n)\x81}(X\x04\0\0\0typeNX\x07\0\0\0contextNX\x0e\0\0\0children_specs]ubq\0"
    node = (
        b"ctorch.utils._pytree\nTreeSpec\n)\x81}(X\x04\0\0\0typec__builtin__\nlist\n"
        b"X\x07\0\0\0contextNX\x0e\0\0\0children_specs](h\0h\0eubq\0"
    )
    return b"\x80\x02" + leaf + node * 60 + b"."


def endless() -> bytes:
    """A tree spec that is its own child."""
    return (
        b"\x80\x02ctorch.utils._pytree\nTreeSpec\n)\x81q\0}(X\x04\0\0\0typec__builtin__\nlist\n"
        b"X\x07\0\0\0contextNX\x0e\0\0\0children_specs](h\0eub."
    )


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "would run os.system"),
        (b"cos\nsystem\n(X\x02\0\0\0lstR.", "would run os.system"),
        (b"ctorch.utils._pytree\nTreeSpec\n)R.", "calls torch.utils._pytree.TreeSpec"),
        (b"cdill._dill\n_load_type\nX\x08\0\0\0CodeType\x85R.", "calls dill._dill._load_type of"),
        (b"(X\x02\0\0\0lsios\nsystem\n.", "uses INST"),
        (b"\x80\x02\x82\x01.", "uses EXT1"),
        (b"P1\n.", "uses PERSID"),
        (b"c__builtin__\ndict\n)\x81.", "makes __builtin__.dict"),
        (b"](K\x01}b.", "sets the state"),
        (bomb(), "over 64 levels|over 524288 leaves"),
        (endless(), "over 64 levels|over 524288 leaves"),
        (b"N.", "corrupt"),
        (b"", "corrupt"),
        (b"\x80\x04", "corrupt"),
        (b"0.", "uses POP"),
        (b"hello", "corrupt"),
    ],
)
def test_a_spec_that_is_no_tree_spec_is_refused(tmp_path: Path, spec: bytes, problem: str) -> None:
    path = make(tmp_path / "x.mdl")
    with h5py.File(path, "r+") as file:
        file.attrs["__spec__"] = spec.hex()
    check_refused(path, problem)


def test_nothing_is_run(tmp_path: Path) -> None:
    made = tmp_path / "made by the pickle"
    path = make(tmp_path / "x.mdl")
    for protocol in range(6):
        with h5py.File(path, "r+") as file:
            file.attrs["__spec__"] = pickle.dumps({"type": Runs(str(made))}, protocol).hex()
        check_refused(path, "would run|uses|pickle")
    assert not made.exists()


@given(data=st.binary(max_size=60))
def test_any_bytes_are_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(ConvkitError) as refused:
        pickled_treespec.loads(data)
    assert "\n" not in str(refused.value)


@settings(deadline=None)
@given(data=st.data())
def test_a_damaged_spec_is_read_or_refused(data: st.DataObject) -> None:
    spec = bytearray(pickled_spec(state()))
    for at in data.draw(st.lists(st.integers(0, len(spec) - 1), min_size=1, max_size=4)):
        spec[at] = data.draw(st.integers(0, 255))
    try:
        pickled_treespec.loads(bytes(spec))
    except ConvkitError as error:
        assert "\n" not in str(error)


def changed(name: str, **attributes: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        for attribute, value in attributes.items():
            file[name].attrs[attribute] = value

    return change


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda file: file.__delitem__(W), "in the spec and not in the file, and no copy"),
        (lambda file: file.__delitem__("global_step"), "global_step: is in the spec and not in the file"),
        (changed("half", __H5_TYPE__="Surprise"), "unknown kind, 'Surprise'"),
        (changed("half", __H5_TYPE__="DeferredGraphTensor"), "traced graph"),
        (changed("half", __H5_TYPE__="DeferredFileTensor", filepath="/etc/x"), "another file, '/etc/x'"),
        (changed("half", __H5_TYPE__="DeferredH5Tensor", filepath="y.mdl", key="k"), "another file, 'y.mdl'"),
        (changed("half", __H5_TYPE__="DeferredH5Tensor", link_to_self=True, key="nowhere"), "link to 'nowhere'"),
        (changed("half", filepath="z"), "another file, 'z'"),
        (changed("half", __H5_TYPE__="ObjectH5Type", object_value="no hex"), "non-hexadecimal"),
        (changed("half", __H5_TYPE__="StringH5Type"), "holds a NoneType"),
        (changed("half", __H5_TYPE__="ScalarH5Type"), "its dataset has the shape"),
        (changed("half", is_none=False, is_scalar=True), "its dataset has the shape"),
        (changed(W, is_bfloat16=True), "holds float32, its metadata says bfloat16"),
    ],
)
def test_refuses_damaged_files(tmp_path: Path, damage: Callable[[h5py.File], None], problem: str) -> None:
    path = make(tmp_path / "x.mdl")
    with h5py.File(path, "r+") as file:
        damage(file)
    check_refused(path, problem)


@pytest.mark.parametrize(
    ("attribute", "value", "problem"),
    [
        ("__version__", "0.3", "__version__ is '0.3', which isn't a format number"),
        ("__version__", [0.1, 0.2], "isn't a format number"),
        ("__version__", float("nan"), "isn't a format number"),
        ("__version__", -1, "isn't a format number"),
        ("__version__", 0.6, "is of format 0.6, newer than 0.5"),
        ("__spec__", 3, "its __spec__ isn't text"),
        ("__spec__", "what", "neither JSON nor a pickle in hex"),
    ],
)
def test_refuses_attributes_of_the_file(tmp_path: Path, attribute: str, value: Any, problem: str) -> None:
    path = make(tmp_path / "x.mdl")
    with h5py.File(path, "r+") as file:
        file.attrs[attribute] = value
    check_refused(path, problem)


def test_refuses_a_truncated_file(tmp_path: Path) -> None:
    path = make(tmp_path / "x.mdl")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    check_refused(path, "truncated|can't be read")


def check_refused(path: Path, problem: str) -> None:
    with pytest.raises(ConvkitError, match=problem) as refused:
        FORMAT.open(path)
    assert refused.value.path == str(path)
    assert "\n" not in str(refused.value)
    assert refused.value.remedy
