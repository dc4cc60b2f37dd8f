"""The files that describe a tree's arrays, T5X's ``checkpoint`` and Pax's ``metadata``, match what is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine.disk import converted, everything_below
from stored_arrays import read_zarr, read_zarrs, restore_msgpack, restore_t5x
from te_runs import arrays, there_and_back, unpacked

from convkit.cli import main
from convkit.formats import open_checkpoint

pytestmark = pytest.mark.golden

STEP = "checkpoint_00000007"


def genuine(name: str) -> Path:
    """The step folder of a checkpoint that T5X or Paxml wrote."""
    return next(iter(sorted((unpacked("sources") / name).iterdir())))


def te(source: Path, target: Path, *flags: str) -> int:
    return main(["te", f"--input-path={source}", f"--output-path={target}", *flags])


def ends(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The ends of T5X's tree in its order: specs, arrays, values, empty dicts."""
    if isinstance(node, dict) and node and not set(node) >= {"driver", "kvstore", "metadata"}:
        for name, child in node.items():
            yield from ends(child, (*path, name))
    else:
        yield path, node


def assert_describes(tree: Any, folder: Path, source: Any = None) -> None:
    """Each spec matches its folder and, except for chunks and compressor, the source's tree, if there is one."""
    assert tree["version"] == 3
    there = dict(ends(source["optimizer"])) if source else {}
    for path, end in ends(tree["optimizer"]):
        if not isinstance(end, dict) or not end:
            continue
        name = end["kvstore"]["path"]
        stored = json.loads((folder / name / ".zarray").read_text())
        assert name == f"{'.'.join(path)}/"
        assert end["metadata"] == {field: stored[field] for field in ("chunks", "compressor", "shape")}
        assert end["dtype"] == read_zarr(folder / name).dtype.name
        if source:
            for description in (end, was := there[path]):
                del description["metadata"]["chunks"], description["metadata"]["compressor"]
            assert end == was | {"kvstore": was["kvstore"] | {"driver": "file"}}, path


class TestT5X:
    @pytest.mark.parametrize(
        ("name", "flags"),
        [
            ("t5x_adamw", []),
            ("t5x_adamw", ["--t5x-fuse-qkv"]),
            ("t5x_adamw_bf16", ["--t5x-fuse-qkv"]),
            ("t5x_weights", ["--t5x-fuse-qkv"]),
            ("t5x_adafactor", ["--t5x-fuse-qkv", "--weight-only"]),
        ],
        ids=str,
    )
    def test_it_describes_the_tree_there_and_back(self, name: str, flags: list[str]) -> None:
        source, made = genuine(name), there_and_back(name, *flags)
        for folder in (made / "te", made / "fw"):
            loaded = restore_t5x(folder)
            stored = read_zarrs(folder)
            assert stored.keys() <= loaded.keys()
            for key, array in stored.items():
                np.testing.assert_array_equal(loaded[key], array)
            assert_describes(restore_msgpack(folder / "checkpoint"), folder)
            with open_checkpoint(folder) as checkpoint:
                assert checkpoint.metadata["notes"] == []
        there, here = (restore_msgpack(folder / "checkpoint") for folder in (source, made / "fw"))
        assert [path for path, _ in ends(here)] == [path for path, _ in ends(there)]
        for (path, end), (_, was) in zip(ends(here), ends(there), strict=True):
            if not isinstance(end, dict) or not end:
                assert (type(end), getattr(end, "dtype", None)) == (type(was), getattr(was, "dtype", None)), path
                np.testing.assert_array_equal(end, was)
        assert_describes(here, made / "fw", there)

    @pytest.mark.parametrize("folder", ["state", "checkpoint_7"])
    def test_of_a_checkpoint_that_orbax_saved(self, folder: str, tmp_path: Path) -> None:
        """It becomes a native one under any name: inline leaves are there, Orbax's files aren't."""
        target = tmp_path / "te" / folder
        assert te(genuine("t5x_orbax") / "state", target, "--fw=t5x", "--direction=fw2te", "--t5x-fuse-qkv") == 0
        loaded = restore_t5x(target)
        assert loaded["state.step"] == 7
        assert len(loaded) == len(read_zarrs(target)) + 2
        assert {path.name for path in target.iterdir() if path.is_file()} == {"checkpoint"}
        back = tmp_path / "fw" / folder
        assert te(target, back, "--fw=t5x", "--direction=te2fw", "--t5x-fuse-qkv") == 0
        assert_describes(restore_msgpack(back / "checkpoint"), back)
        np.testing.assert_equal(arrays(back), arrays(genuine("t5x_orbax") / "state"))

    def test_a_stale_one_is_set_right(self, tmp_path: Path) -> None:
        """The original copied it unchanged."""
        source = unpacked("golden") / "t5x" / "fused__fw2te" / "dst"
        assert te(source, tmp_path / "fw", "--fw=t5x", "--direction=te2fw", "--t5x-fuse-qkv") == 0
        assert_describes(restore_msgpack(tmp_path / "fw" / "checkpoint"), tmp_path / "fw")


def described(step: Path) -> dict[str, Any]:
    return json.loads((step / "metadata" / "metadata").read_text())


def tree_of(stored: dict[str, np.ndarray]) -> dict[str, Any]:
    """Paxml's tree of the variables among these arrays, as its ``ArrayMetadata`` has them."""
    tree: dict[str, Any] = {}
    for key, array in stored.items():
        *parents, name = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = {
            "_array_metadata_tag": True,
            "dtype": array.dtype.name,
            "is_optax_masked_node": False,
            "unpadded_shape": list(array.shape),
        }
    return tree


PAX = ["pax_norepeat", "pax_repeat", "pax_split", "pax_gqa_real", "pax_split_gated_nobias", "pax_repeat_gated_wo"]


class TestPax:
    @pytest.mark.parametrize("name", [*PAX, "pax_ocdbt", "pax_flax"])
    def test_it_describes_the_tree_there_and_back(self, name: str, tmp_path: Path) -> None:
        """Beside the folder that holds the leaves, in and out."""
        there, here = tmp_path / "te" / STEP, tmp_path / "fw" / STEP
        assert te(genuine(name) / "state", there / "state", "--fw=pax", "--direction=fw2te") == 0
        assert te(there / "state", here / "state", "--fw=pax", "--direction=te2fw") == 0
        for step in (there, here):
            stored = {key: array for key, array in arrays(step / "state").items() if key.startswith("mdl_vars.")}
            assert described(step) == {"version": 1.1, "train_state_metadata": tree_of(stored)}
        assert described(here) == described(genuine(name)) | {"version": 1.1}
        assert {path.name for path in here.iterdir()} == {"state", "metadata", "state.convkit.json"}

    @pytest.mark.parametrize("name", ["pax_norepeat", "pax_ocdbt"])
    def test_a_step_folder_becomes_a_step_folder(self, name: str, tmp_path: Path) -> None:
        receipt = converted(genuine(name), tmp_path / "target", "te/pax")
        assert described(tmp_path / "target")["version"] == 1.1
        assert {path.name for path in (tmp_path / "target").iterdir()} == {"state", "metadata"}
        assert "metadata/metadata" in [entry["name"] for entry in receipt["target"]["files"]]
        converted(tmp_path / "target", tmp_path / "back", "pax/lm")
        assert described(tmp_path / "back") == described(genuine(name)) | {"version": 1.1}

    def test_what_else_it_says_stays(self, tmp_path: Path) -> None:
        source = tmp_path / "source" / STEP
        shutil.copytree(genuine("pax_norepeat"), source)
        more = described(source) | {"more": {"kept": [1]}}
        (source / "metadata" / "metadata").write_text(json.dumps(more))
        assert te(source, tmp_path / STEP / "state", "--fw=pax", "--direction=fw2te") == 0
        assert described(tmp_path / STEP)["more"] == {"kept": [1]}

    def test_the_output_holds_the_leaves_itself_whatever_its_name(self, tmp_path: Path) -> None:
        assert te(genuine("pax_norepeat"), tmp_path / STEP, "--fw=pax", "--direction=fw2te") == 0
        assert not (tmp_path / STEP / "state").exists()
        assert any(path.name.startswith("mdl_vars.") for path in (tmp_path / STEP).iterdir())

    def test_where_the_source_has_none_there_is_none(self, tmp_path: Path) -> None:
        source = tmp_path / "source" / "state"
        shutil.copytree(genuine("pax_norepeat") / "state", source)
        assert te(source, tmp_path / "te" / "state", "--fw=pax", "--direction=fw2te") == 0
        assert {path.name for path in (tmp_path / "te").iterdir()} == {"state", "state.convkit.json"}

    def test_a_folder_of_another_name_holds_the_leaves_alone(self, tmp_path: Path) -> None:
        assert te(genuine("pax_norepeat"), tmp_path / "out", "--fw=pax", "--direction=fw2te") == 0
        assert {path.name for path in tmp_path.iterdir()} == {"out", "out.convkit.json"}
        assert (tmp_path / "out" / "step").is_dir()

    def test_another_one_that_is_there_is_not_replaced_unasked(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "metadata").mkdir()
        (tmp_path / "metadata" / "metadata").write_text("{}")
        command = (genuine("pax_norepeat"), tmp_path / "state", "--fw=pax", "--direction=fw2te")
        assert te(*command) == 2
        assert "metadata: exists" in capfd.readouterr().err
        assert everything_below(tmp_path) == {"metadata/metadata": b"{}"}
        assert te(*command, "--overwrite") == 0
        assert described(tmp_path)["version"] == 1.1
        shutil.rmtree(tmp_path / "state")
        (tmp_path / "state.convkit.json").unlink()
        assert te(*command) == 0  # what is there says the same
