"""The real cerebras.pytorch 2.10 reads what we write, and we read what it writes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from generated_states import State, states
from goldens import golden_dir
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.checkpoint import Checkpoint, Leaf, Opaque, WriteOptions
from convkit.cli import main
from convkit.errors import ConvkitError
from convkit.formats.cerebras_h5.format import FORMAT
from convkit.formats.cerebras_h5.records import RTFX_DTYPES
from convkit.generate.old_mdl import TensorScalarDict, write_old
from convkit.state.cerebras import treespec
from convkit.testing import Sample, holdable, samples, write

pytestmark = pytest.mark.interop

HERE = Path(__file__).parent
PYTHON = HERE.parent.parent / ".venv-interop" / "bin" / "python"

Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def reference() -> Iterator[Ask]:
    """Asks the real library."""
    if not PYTHON.exists():
        pytest.skip("no .venv-interop: make test-interop makes it")
    command = [str(PYTHON), str(HERE / "reference.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout

        def ask(**request: str) -> dict[str, Any]:
            print(json.dumps(request), file=process.stdin, flush=True)
            reply = json.loads(process.stdout.readline())
            assert "error" not in reply, reply["error"]
            return reply

        yield ask
        process.stdin.close()


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """As ``reference.py`` describes a state."""
    return {
        "spec": checkpoint.metadata["spec"],
        "leaves": {
            leaf.key: describe_leaf(checkpoint, leaf)
            for leaf in checkpoint.leaves.values()
            if leaf.spec is not None or leaf.value not in ([], {})
        },
    }


def describe_leaf(checkpoint: Checkpoint, leaf: Leaf) -> dict[str, Any]:
    if leaf.same_as:
        return {"same_as": leaf.same_as}
    if leaf.spec is None:
        return {"value": repr(leaf.value)}
    is_numpy = leaf.key in checkpoint.metadata["numpy_arrays"]
    dtype = {"numpy": leaf.spec.dtype} if is_numpy else {"torch": f"torch.{leaf.spec.dtype}"}
    return {**dtype, "shape": list(leaf.spec.shape), "bits": checkpoint.read(leaf.key).tobytes().hex()}


def rewrite(source: Path, target: Path) -> Path:
    """Through our reader and writer."""
    with FORMAT.open(source) as checkpoint:
        leaves = list(checkpoint.leaves.values())
        writer = FORMAT.create(target, leaves, WriteOptions(metadata=checkpoint.metadata))
        for leaf in leaves:
            if leaf.spec is not None and leaf.same_as is None:
                writer.write(leaf.key, 0, checkpoint.read(leaf.key))
                writer.finish(leaf.key)
        writer.commit()
        writer.close()
    return target


@pytest.mark.parametrize("state", ["dtypes", "nested", "full", "large"])
def test_reads_and_rewrites_what_it_saves(reference: Ask, tmp_path: Path, state: str) -> None:
    saved = reference(save=str(tmp_path / "theirs.mdl"), state=state)
    with FORMAT.open(tmp_path / "theirs.mdl") as checkpoint:
        ours = describe(checkpoint)
        pickled = {key: leaf for key, leaf in checkpoint.leaves.items() if isinstance(leaf.value, Opaque)}
    assert set(pickled) == ({"object"} if state == "nested" else set())
    for key in pickled:
        ours["leaves"][key] = saved["leaves"][key]
    assert ours == saved
    assert reference(load=str(rewrite(tmp_path / "theirs.mdl", tmp_path / "ours.mdl"))) == saved


@pytest.mark.golden
@pytest.mark.parametrize("family", ["llama_tied", "llama_gqa_bfloat16", "bert", "mixtral"])
def test_loads_rewritten_goldens(reference: Ask, tmp_path: Path, family: str) -> None:
    (golden,) = (golden_dir("cerebras.tar.gz") / family / "hf-cs-2.9").glob("*.mdl")
    with FORMAT.open(golden) as checkpoint:
        ours = describe(checkpoint)
    theirs = reference(load=str(golden))
    assert ours == theirs
    assert reference(load=str(rewrite(golden, tmp_path / "ours.mdl"))) == theirs


@given(sample=samples(), seed=st.integers())
@settings(max_examples=100, deadline=None)
def test_loads_what_we_write(reference: Ask, sample: Sample, seed: int) -> None:
    with TemporaryDirectory() as folder:
        sample = holdable(FORMAT, sample)
        path = write(FORMAT, Path(folder) / "ours.mdl", sample, Random(seed))
        loaded = reference(load=str(path))
        with FORMAT.open(path) as checkpoint:
            assert loaded == describe(checkpoint)
        assert loaded["leaves"].keys() == {
            leaf.key for leaf in sample.leaves if leaf.spec or leaf.value not in ([], {})
        }


@given(state=states())
@settings(max_examples=200, deadline=None)
def test_loads_any_state(reference: Ask, state: State) -> None:
    with TemporaryDirectory() as folder:
        path = state.write(Path(folder) / "x.mdl")
        with FORMAT.open(path) as checkpoint:
            assert reference(load=str(path)) == describe(checkpoint)


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0./"), min_size=1, max_size=5)


def trees() -> st.SearchStrategy[treespec.Tree]:
    """Nested containers whose leaves have names of their own, int keys among them."""

    def containers(inner: st.SearchStrategy[treespec.Tree]) -> st.SearchStrategy[treespec.Tree]:
        children = st.lists(inner, max_size=3).map(tuple)
        keys = st.lists(NAMES | st.integers(0, 9), max_size=3, unique_by=str)
        dicts = st.tuples(st.sampled_from(["builtins.dict", "collections.OrderedDict"]), keys, inner)
        lists = st.tuples(st.sampled_from(["builtins.list", "builtins.tuple"]), children)
        return st.one_of(
            dicts.map(lambda drawn: treespec.Tree(drawn[0], json.dumps(drawn[1]), (drawn[2],) * len(drawn[1]))),
            lists.map(lambda drawn: treespec.Tree(drawn[0], "null", drawn[1])),
        )

    return containers(st.recursive(st.just(treespec.LEAF), containers, max_leaves=8))


@given(tree=trees())
@settings(max_examples=100, deadline=None)
def test_restores_the_structure_that_we_write(reference: Ask, tree: treespec.Tree) -> None:
    leaves = [
        Leaf(key, value=number if node.type is None else node.empty)
        for number, (key, node) in enumerate(treespec.terminals(tree))
    ]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "ours.mdl"
        writer = FORMAT.create(path, leaves, WriteOptions(metadata={"spec": treespec.dumps(tree)}))
        writer.commit()
        loaded = reference(load=str(path))
    assert loaded["spec"] == treespec.dumps(tree)
    assert loaded["leaves"] == {leaf.key: {"value": repr(leaf.value)} for leaf in leaves if leaf.value not in ([], {})}


def test_refuses_data_in_another_file(reference: Ask, tmp_path: Path) -> None:
    reference(save=str(tmp_path / "data.mdl"), state="large")
    reference(load=str(tmp_path / "data.mdl"), link=str(tmp_path / "links.mdl"))
    with pytest.raises(ConvkitError, match="another file") as refused:
        FORMAT.open(tmp_path / "links.mdl")
    assert refused.value.key == "noise"
    assert "data.mdl" in str(refused.value)


@pytest.mark.golden
@pytest.mark.parametrize("name", ["r17_tensorscalardict", "r17_tensorscalardict_fixed", "r19", "r19_fixed"])
def test_loads_repaired_files(reference: Ask, tmp_path: Path, name: str) -> None:
    """Release 2.10 doesn't load what the original script makes of release 1.7's; of 1.9's only with torch 2.4."""
    folder = golden_dir("cerebras.tar.gz") / "_oldfmt"
    fixed = str(tmp_path / "fixed.mdl")
    command = ["cerebras", "fix-checkpoint-spec", str(folder / f"{name}.mdl"), "--fixed_checkpoint_path", fixed]
    assert main([*command, "--copy-healthy"]) == 0
    with FORMAT.open(folder / "r19_fixed.mdl") as checkpoint:
        right = describe(checkpoint)
    found = reference(load=fixed)
    assert found["spec"] == right["spec"]
    # release 1.9's file holds every copy
    copies = {key: leaf["same_as"] for key, leaf in found["leaves"].items() if "same_as" in leaf}
    assert {**found["leaves"], **{key: found["leaves"][of] for key, of in copies.items()}} == right["leaves"]


@pytest.mark.golden
@pytest.mark.parametrize("kind", ["map", "iterable"])
def test_loads_loader_states(reference: Ask, tmp_path: Path, kind: str) -> None:
    folder = golden_dir("cerebras.tar.gz") / "_oldfmt"
    command = ["cerebras", "data-iter-state", "-c", str(folder / "r19_fixed.mdl"), "-w", str(folder / "dl_r19")]
    options = ["-o", str(tmp_path / "new.mdl"), "-d", kind, "-s", "42", "--allow-missing-workers"]
    assert main([*command, *options]) == 0
    assert reference(load=str(tmp_path / "new.mdl")) == reference(load=str(folder / f"out_{kind}.mdl"))


def test_loads_a_repaired_state_of_every_dtype(reference: Ask, tmp_path: Path) -> None:
    arrays = {name: np.arange(30).reshape(5, 3, 2).astype(name) for name in RTFX_DTYPES if name != "bfloat16"}
    arrays |= {"half": np.arange(6).astype(ml_dtypes.bfloat16), "scalar": np.array(3.5, "f4"), "none": np.zeros((0, 3))}
    write_old(tmp_path / "x.mdl", {"model": TensorScalarDict(arrays), "global_step": 3, "a/b": {0: [(1, "x")]}}, "1.7")
    assert main(["cerebras", "fix-checkpoint-spec", str(tmp_path / "x.mdl")]) == 0
    with FORMAT.open(tmp_path / "x_fixed.mdl") as checkpoint:
        assert describe(checkpoint) == reference(load=str(tmp_path / "x_fixed.mdl"))


@pytest.mark.golden
@pytest.mark.parametrize(
    ("model", "releases"),
    [
        ("gpt2", ("1.8", "2.0", "2.10")),
        ("bert", ("1.6", "2.10")),
        ("t5", ("1.6", "1.7", "2.2")),
        ("bloom", ("1.9", "2.9")),
        ("falcon_7b", ("2.5", "2.1", "2.10")),
    ],
)
def test_loads_what_upgrades_write(reference: Ask, tmp_path: Path, model: str, releases: tuple[str, ...]) -> None:
    """A whole training checkpoint, release by release: model, optimizer, schedulers, loader."""
    first, *others = releases
    path = golden_dir("cerebras_more.tar.xz", f"upgrade/{model}/") / "upgrade" / model / "state" / f"cs-{first}.mdl"
    with FORMAT.open(path) as checkpoint:
        before = set(treespec.template(treespec.loads(checkpoint.metadata["spec"])))
    for before_it, release in zip(releases, others, strict=False):
        target = tmp_path / f"{release}.mdl"
        command = ["upgrade", str(path), str(target), "--release", release, "--from-release", before_it, "-q"]
        assert main(command) == 0
        path = target
    loaded = reference(load=str(path))
    with FORMAT.open(path) as checkpoint:
        assert loaded == describe(checkpoint)
    assert set(treespec.template(treespec.loads(loaded["spec"]))) == {*before, "__metadata__"}
