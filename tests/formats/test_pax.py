"""Pax checkpoints: genuine ones of all versions, those of the original converter, our own, and damaged ones."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import msgpack
import numpy as np
import pytest
from goldens import golden_dir
from stored_arrays import assert_holds, read_zarrs, restore_msgpack

from convkit.checkpoint import Leaf, TensorSpec, WriteOptions
from convkit.errors import ConvkitError
from convkit.formats import detect_format, open_checkpoint
from convkit.formats.pax import FORMAT
from convkit.testing import Sample, bits, check_equal, write

STEP = "checkpoint_00000007"
SPECS = {
    "mdl_vars.params.lm.final_ln.scale": TensorSpec((5,), "float32"),
    "mdl_vars.params.lm.softmax.logits_ffn.linear.w": TensorSpec((7, 4), "bfloat16"),
    "opt_states_0.p#3#i-1_2.m.params.w": TensorSpec((3, 7), "float32"),
    "opt_states_0_2.count": TensorSpec((), "int32"),
    "step": TensorSpec((), "uint32"),
}


def sample() -> Sample:
    leaves = tuple(Leaf(key, spec) for key, spec in SPECS.items())
    return Sample(leaves, {key: bits(spec, seed) for seed, (key, spec) in enumerate(SPECS.items())})


def written(path: Path, **options: Any) -> Path:
    return write(FORMAT, path, sample(), Random(0), options=WriteOptions(**options))


def sources() -> Path:
    return golden_dir("te/sources.tar.gz")


FOLDERS = ["gqa", "gqa_gated_nobias", "gqa_real", "norepeat", "norepeat_wo", "repeat", "repeat_gated_wo", "repeat_wo"]
FOLDERS += ["split", "split_gated_nobias", "split_gated_nobias_wo", "split_wo"]


@pytest.mark.golden
class TestGenuine:
    """Checkpoints that Paxml itself wrote."""

    @pytest.mark.parametrize("name", FOLDERS)
    def test_folders(self, name: str) -> None:
        path = sources() / f"pax_{name}" / STEP
        expected = read_zarrs(path / "state")
        metadata = json.loads((path / "metadata" / "metadata").read_text())
        for named in (path, path / "state"):
            assert detect_format(named)[0].name == "pax"
            with open_checkpoint(named) as checkpoint:
                assert_holds(checkpoint, expected)
                assert checkpoint.metadata == {
                    "container": "folders",
                    "pax_metadata": metadata,
                    "notes": [],
                    "companions": [],
                }
                assert set(checkpoint.files()) == {file for file in named.rglob("*") if file.is_file()}

    def test_ocdbt_is_read_under_the_names_of_folders(self) -> None:
        ocp = pytest.importorskip("orbax.checkpoint")
        path = sources() / "pax_ocdbt" / STEP
        restored = ocp.PyTreeCheckpointer().restore(path / "state")
        adam = restored["opt_states"][0][2]
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.metadata["container"] == "ocdbt"
            assert checkpoint.metadata["pax_metadata"]["version"] == 1.2
            assert set(checkpoint.leaves) == set(read_zarrs(sources() / "pax_norepeat" / STEP / "state"))
            for key, array in {
                "step": restored["step"],
                "opt_states_0_2.count": adam["count"],
                "opt_states_0_2.m.params.lm.final_ln.scale": adam["m"]["params"]["lm"]["final_ln"]["scale"],
                "mdl_vars.params.lm.softmax.logits_ffn.linear.w": restored["mdl_vars"]["params"]["lm"]["softmax"][
                    "logits_ffn"
                ]["linear"]["w"],
            }.items():
                found = checkpoint.leaves[key].spec
                assert found == TensorSpec(array.shape, array.dtype.name)
                assert checkpoint.read(key).tobytes() == np.asarray(array).tobytes(), key
            assert checkpoint.leaf_files("step") is None

    def test_flax_is_read_under_the_names_of_folders(self) -> None:
        path = sources() / "pax_flax" / "checkpoint_7"
        arrays = restore_msgpack(path / "state" / "checkpoint")["flattened_state"]
        arrays = [arrays[str(i)] for i in range(len(arrays))] if isinstance(arrays, dict) else arrays
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.metadata["container"] == "flax"
            shapes = {key: leaf.spec for key, leaf in checkpoint.leaves.items()}
            with open_checkpoint(sources() / "pax_norepeat" / STEP) as folders:
                assert shapes == {key: leaf.spec for key, leaf in folders.leaves.items()}
            assert_holds(checkpoint, dict(zip(checkpoint.leaves, arrays, strict=True)))
            assert list(checkpoint.leaves)[:2] == ["step", "mdl_vars.params.lm.final_ln.bias"]
        for named in (path / "state", path / "state" / "checkpoint"):
            with open_checkpoint(named) as checkpoint:
                assert set(checkpoint.leaves) == set(shapes)

    @pytest.mark.parametrize("name", ["norepeat", "repeat", "ocdbt", "flax"])
    def test_what_we_write_of_it_is_what_pax_writes(self, name: str, tmp_path: Path) -> None:
        """Every ``.zarray`` and the metadata byte by byte."""
        step = "checkpoint_7" if name == "flax" else STEP
        genuine = sources() / ("pax_repeat" if name == "repeat" else "pax_norepeat") / STEP
        with open_checkpoint(sources() / f"pax_{name}" / step) as checkpoint:
            out = tmp_path / "out"
            options = WriteOptions(metadata={"pax_metadata": checkpoint.metadata["pax_metadata"]})
            writer = FORMAT.create(out, list(checkpoint.leaves.values()), options)
            for key in checkpoint.leaves:
                writer.write(key, 0, checkpoint.read(key))
                writer.finish(key)
            writer.commit()
            writer.close()
            assert_holds(checkpoint, read_zarrs(out / "state"))
        assert (out / "metadata" / "metadata").read_bytes() == (genuine / "metadata" / "metadata").read_bytes()
        described = {file.parent.name: file.read_bytes() for file in genuine.glob("state/*/.zarray")}
        assert {file.parent.name: file.read_bytes() for file in out.glob("state/*/.zarray")} == described


@pytest.mark.golden
@pytest.mark.slow
def test_all_of_the_original_are_readable() -> None:
    folders = sorted((golden_dir("te/golden.tar.gz") / "pax").glob("*/*/"))
    assert len(folders) > 60
    for path in folders:
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.format == "pax"
            for key, array in read_zarrs(path).items():
                assert checkpoint.read(key).tobytes() == array.tobytes(), (path, key)


class TestWriting:
    def test_a_step_folder_has_its_metadata(self, tmp_path: Path) -> None:
        path = written(tmp_path / STEP)
        assert {entry.name for entry in path.iterdir()} == {"state", "metadata"}
        assert {entry.name for entry in (path / "state").iterdir()} == {*SPECS, "_sharding"}
        arrays = read_zarrs(path / "state")
        for key, data in sample().data.items():
            assert arrays[key].tobytes() == data.tobytes()
        metadata = json.loads((path / "metadata" / "metadata").read_text())
        variables = metadata["train_state_metadata"]["mdl_vars"]["params"]["lm"]
        assert metadata["version"] == 1.1
        assert variables["final_ln"]["scale"]["unpadded_shape"] == [5]
        assert variables["softmax"]["logits_ffn"]["linear"]["w"]["dtype"] == "bfloat16"
        with open_checkpoint(path) as checkpoint:
            check_equal(checkpoint, sample())
            assert checkpoint.metadata["pax_metadata"] == metadata

    def test_what_is_a_step_folder(self, tmp_path: Path) -> None:
        """By its name, unless the options say it."""
        metadata = {"version": 1.0}
        assert (written(tmp_path / "state") / "step").is_dir()
        assert (written(tmp_path / "other") / "step").is_dir()
        assert (written(tmp_path / "a" / "other", metadata={"pax_metadata": metadata}) / "state").is_dir()
        assert (written(tmp_path / "a" / STEP, metadata={"pax_metadata": None}) / "step").is_dir()
        assert json.loads((tmp_path / "a" / "other" / "metadata" / "metadata").read_text()) == metadata

    def test_zstd_is_the_default(self, tmp_path: Path) -> None:
        path = written(tmp_path / "state")
        assert json.loads((path / "step" / ".zarray").read_text())["compressor"] == {"id": "zstd", "level": 1}

    def test_folders_of_t5x_can_be_copied(self, tmp_path: Path) -> None:
        from convkit.formats.t5x.format import FORMAT as T5X

        key = "mdl_vars.params.lm.softmax.logits_ffn.linear.w"
        leaf = Leaf(key, SPECS[key])
        source = write(T5X, tmp_path / "source", Sample((leaf,), {key: sample().data[key]}), Random(0))
        writer = FORMAT.create(tmp_path / "out", [leaf], WriteOptions())
        with open_checkpoint(source) as checkpoint:
            assert writer.copy_leaf(key, checkpoint.leaf_files(key) or {})
        writer.commit()
        writer.close()
        with open_checkpoint(tmp_path / "out") as again:
            assert again.format == "pax"
            assert again.read(key).tobytes() == sample().data[key].tobytes()

    @pytest.mark.parametrize(
        ("leaf", "problem"),
        [
            (Leaf("a.b", value=1), "is a value, and Pax holds arrays only"),
            (Leaf("state", TensorSpec((2,), "int8")), "is a name that Pax reserves"),
            (Leaf("_sharding", TensorSpec((2,), "int8")), "is a name that Pax reserves"),
            (Leaf("a/b", TensorSpec((2,), "int8")), "can't be the name of a folder"),
        ],
    )
    def test_what_pax_has_no_place_for_is_refused(self, leaf: Leaf, problem: str, tmp_path: Path) -> None:
        with pytest.raises(ConvkitError, match=problem) as refusal:
            FORMAT.create(tmp_path / "out", [leaf], WriteOptions())
        assert refusal.value.key == leaf.key


def flax_file(path: Path, arrays: Any, text: str) -> Path:
    """Pax's msgpack."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgpack.packb({"flattened_state": arrays, "str_pytree_state": text}))
    return path


ONE = msgpack.ExtType(1, msgpack.packb(([1], "int8", b"1"), use_bin_type=True))


class TestBadInput:
    KEY = "mdl_vars.params.lm.final_ln.scale"

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            (lambda state: os.truncate(state / TestBadInput.KEY / "0", 5), "scale/0: .* is truncated or corrupt"),
            (lambda state: (state / TestBadInput.KEY / "0").unlink(), "scale: chunk 0 is missing"),
            (lambda state: (state / TestBadInput.KEY / ".zarray").unlink(), r"scale: has no \.zarray"),
            (lambda state: (state / "_sharding").write_text("{"), "_sharding: is not valid JSON"),
            (lambda state: (state.parent / "metadata" / "metadata").write_text("{"), "metadata: is not valid JSON"),
            (lambda state: (state.parent / "metadata" / "metadata").write_text("{}"), "metadata: names no version"),
            (lambda state: (state / "ocdbt.process_0").mkdir(), "manifest.ocdbt is missing"),
            (
                lambda state: (state / "manifest.ocdbt").write_bytes(b"noise"),
                "can't be read",
            ),
            (lambda state: (shutil.rmtree(state), state.mkdir()), "holds no Pax arrays"),
            (
                lambda state: flax_file(state / "checkpoint", [ONE], "PyTreeDef({'a': *"),
                "isn't a tree as jax prints it",
            ),
            (
                lambda state: flax_file(state / "checkpoint", [ONE], "PyTreeDef({'a': *, 'b': *})"),
                "2 names, its flattened_state 1 arrays",
            ),
            (lambda state: flax_file(state / "checkpoint", [7], "PyTreeDef({'a': *})"), "isn't a list of arrays"),
            (
                lambda state: flax_file(state / "checkpoint", {"b": ONE}, "PyTreeDef({'a': *})"),
                "isn't a list of arrays",
            ),
        ],
    )
    def test_one_line_says_what_is_wrong(self, change: Callable[[Path], object], problem: str, tmp_path: Path) -> None:
        path = written(tmp_path / STEP)
        change(path / "state")
        with pytest.raises(ConvkitError, match=problem) as refusal:
            open_checkpoint(path, "pax")
        assert "\n" not in str(refusal.value)
        assert str(refusal.value).startswith(str(path))

    @pytest.mark.golden
    def test_a_damaged_database_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / STEP
        shutil.copytree(sources() / "pax_ocdbt" / STEP, path)
        for file in (path / "state" / "d").iterdir():
            file.write_bytes(file.read_bytes()[:-20] + bytes(20))
        with pytest.raises(ConvkitError, match="can't be read") as refusal:
            open_checkpoint(path)
        assert "\n" not in str(refusal.value)
        (path / "state" / "manifest.ocdbt").unlink()
        with pytest.raises(ConvkitError, match=r"manifest\.ocdbt is missing"):
            open_checkpoint(path)

    def test_an_unfinished_save_is_refused(self, tmp_path: Path) -> None:
        for name in (f"{STEP}.orbax-checkpoint-tmp-123", f"tmp_123.{STEP}"):
            with pytest.raises(ConvkitError, match="is an unfinished save"):
                open_checkpoint(written(tmp_path / name), "pax")

    def test_a_folder_of_steps_is_refused(self, tmp_path: Path) -> None:
        written(tmp_path / STEP)
        with pytest.raises(ConvkitError, match="name the step folder"):
            open_checkpoint(tmp_path, "pax")

    def test_other_folders_are_not_taken(self, tmp_path: Path) -> None:
        hf = tmp_path / "hf"
        (hf / "state").mkdir(parents=True)
        (hf / "config.json").write_text("{}")
        (hf / "_sharding").write_text("{}")
        assert FORMAT.detect(hf) is None
        assert FORMAT.detect(hf / "config.json") is None
        other = tmp_path / "orbax"
        other.mkdir()
        (other / "manifest.ocdbt").touch()
        (other / "_METADATA").write_text(json.dumps({"tree_metadata": {"('params', 'w')": {}}}))
        assert FORMAT.detect(other) is None

    def test_what_lies_beside_is_a_companion(self, tmp_path: Path) -> None:
        path = written(tmp_path / STEP)
        (path / "train_input").mkdir()
        (path / "state" / "notes.txt").touch()
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.metadata["companions"] == ["state/notes.txt", "train_input"]
