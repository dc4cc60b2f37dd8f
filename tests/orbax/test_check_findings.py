"""Findings on what Orbax gets wrong or hides."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import layouts
import pytest
from goldens import golden_dir

from convkit.orbax.check.check import Check, check

Layout = Callable[[str], Path]


@pytest.fixture
def copy(layout: Layout, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a layout, to be changed."""

    def make(name: str) -> Path:
        return Path(shutil.copytree(layout(name), tmp_path / "copy" / name, symlinks=True))

    return make


def findings(checked: Check) -> str:
    return "\n".join(f"{finding.where}: {finding.what} -> {finding.remedy}" for finding in checked.findings)


@pytest.mark.parametrize(
    "name", ["v0_direct_pytree", "v1_save", "v0_manager_root", "v1_checkpointer_root", "v1_random_keys"]
)
def test_nothing_is_wrong(layout: Layout, name: str) -> None:
    assert findings(check(layout(name))) == ""


def test_two_leaves_of_one_storage_name(layout: Layout) -> None:
    assert "2 leaves have one storage name, a.b" in findings(check(layout("v0_same_names")))
    assert "state: 2 leaves have one storage name, a.b" in findings(check(layout("v1_same_names")))


def test_random_keys_that_come_back_as_numbers(copy: Callable[[str], Path]) -> None:
    path = copy("v0_random_keys")
    shutil.rmtree(path / "array_metadatas")
    checked = check(path)
    assert "if batch, raw, rbg and 1 more were typed random keys" in findings(checked)
    loaded = {call.text: answer.value for call, answer in zip(checked.calls, checked.predicted, strict=True)}
    assert loaded["v1.load(p)"]["typed"] == "jax.Array uint32[2]"


def test_random_keys_that_are_whole(layout: Layout) -> None:
    checked = check(layout("v0_random_keys"))
    loaded = {call.text: answer.value for call, answer in zip(checked.calls, checked.predicted, strict=True)}
    assert loaded["v1.load(p)"]["typed"] == "jax.Array key<threefry2x32>[]"


def test_shardings(copy: Callable[[str], Path], layout: Layout) -> None:
    path = copy("v1_save")
    (path / "state" / "_sharding").unlink()
    assert "state: no _sharding" in findings(check(path))
    assert check(path).to_use("v1").text == "v1.load(p, abstract)"
    four = layout("v0_sharded")
    assert "both, rows, whole: saved on devices [0, 1, 2, 3]" in findings(check(four))
    assert findings(check(four, devices=layouts.DEVICES)) == ""


def test_a_device_of_another_machine(copy: Callable[[str], Path]) -> None:
    path = copy("v0_direct_pytree")
    text = (path / "_sharding").read_text().replace("cpu:0", "cuda:0")
    (path / "_sharding").write_text(text)
    assert "a: saved on device cuda:0" in findings(check(path))


def test_steps_that_are_not_found_by_name(layout: Layout) -> None:
    checked = check(layout("v1_checkpointer_prefix"))
    format_ = "standard_name_format(step_prefix='step', step_format_fixed_length=8)"
    assert "2 steps (step_00000000 .. step_00001234) aren't found" in findings(checked)
    assert format_ in findings(checked)
    assert checked.to_use("v1").text == "v1.training.Checkpointer(p, step_name_format=f).load() (latest)"


def test_some_steps_are_not_found(copy: Callable[[str], Path]) -> None:
    root = copy("v0_manager_root")
    (root / "0").rename(root / "old_0")
    assert ": 1 steps (old_0) aren't found" in findings(check(root))


def test_unfinished_saves(copy: Callable[[str], Path]) -> None:
    root = copy("v0_manager_root")
    shutil.copytree(root / "1234", root / "9.orbax-checkpoint-tmp")
    (root / "1234" / "state.orbax-checkpoint-tmp-7").mkdir()
    found = findings(check(root))
    assert "9.orbax-checkpoint-tmp: is an unfinished save" in found
    assert "1234/state.orbax-checkpoint-tmp-7: is an unfinished save" in found


def test_an_unfinished_save_itself(copy: Callable[[str], Path]) -> None:
    path = copy("v1_save")
    path = path.rename(path.with_name("v1_save.orbax-checkpoint-tmp"))
    checked = check(path)
    assert "unfinished save" in str(checked.problem)
    assert not checked.to_use("v1")


def test_a_deletion_record_hides_an_item(copy: Callable[[str], Path]) -> None:
    path = copy("v1_checkpointables")
    before = json.loads((path / "_CHECKPOINT_METADATA").read_text())
    after = {**before, "item_handlers": {k: v for k, v in before["item_handlers"].items() if k != "state"}}
    record = {"operation_id": "0" * 32, "checkpointable_name": "state", "destination": None}
    (path / "_CHECKPOINT_DELETION").write_text(
        json.dumps({**record, "original_metadata": before, "updated_metadata": after})
    )
    checked = check(path)
    assert "state: its deletion began and didn't finish" in findings(checked)
    results = {call.text: answer for call, answer in zip(checked.calls, checked.predicted, strict=True)}
    assert results["v1.load(p, checkpointable_name='state')"].result == "DeletionInProgressError"
    assert results["v1.load_checkpointables(p)"].value.keys() == {"pytree", "my_json_data"}


def test_items_that_v1_can_not_load(layout: Layout) -> None:
    checked = check(layout("v0_composite_checkpointer"))
    assert "rng: is a random key's item" in findings(checked)
    assert "arr: is an ArraySave item" in findings(checked)
    assert "v1.load_checkpointables(p) fails for all items" in findings(checked)
    assert checked.to_use("v1").text == "v1.load_checkpointables(p, dict(arr=None, meta=None, state=None))"


def test_silent_emptiness(layout: Layout) -> None:
    found = findings(check(layout("safetensors_dir")))
    assert "v1.load_checkpointables(p) returns nothing, without an error" in found
    assert "v1.is_orbax_checkpoint(p) says True, but v1.load loads nothing of it" in found


def test_python_bools_break_the_metadata(layout: Layout) -> None:
    found = findings(check(layout("v1_leaves")))
    assert "bool: a Python bool, for which v1.metadata fails" in found
    assert "v1.metadata(p) returns None, without an error" in found


def test_data_that_is_gone(copy: Callable[[str], Path]) -> None:
    path = copy("v0_large")
    for file in (path / "ocdbt.process_0" / "d").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert "one, two: their bytes lie in a file that is missing or cut" in findings(check(path))
    shutil.rmtree(path / "ocdbt.process_0")
    checked = check(path)
    results = {call.text: answer.result for call, answer in zip(checked.calls, checked.predicted, strict=True)}
    assert results["v1.load(p)"] == "Exception"
    assert results["v1.load(p, abstract np)"] == "ValueError"


def test_a_chunk_that_is_gone(copy: Callable[[str], Path]) -> None:
    path = copy("v0_direct_noocdbt_zarr2")
    (path / "b.c" / "0.0").unlink()
    assert "b.c: chunks are missing" in findings(check(path))


@pytest.mark.golden
@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("0.9.1/direct_zarr3_ocdbt_True", "zeros: chunks that aren't stored"),
        ("0.4.4/direct_aggregate_mixed", "in the file checkpoint, which only v0's PyTreeCheckpointer reads"),
        ("0.4.4/direct_ocdbt_False_after_True", "ocdbt.process_0: never merged"),
        ("0.3.5/direct_standard", "no _sharding: jax arrays aren't loaded without a target"),
        ("0.2.7/direct_pytree", "no _METADATA"),
        ("0.9.1/manager_legacy", "1..3/meta: no metadata says that it is JSON"),
    ],
)
def test_old_releases(case: str, expected: str) -> None:
    assert expected in findings(check(golden_dir("orbax/old_releases.tar.gz") / case / "ckpt"))


def test_64_bit_arrays_of_jax(layout: Layout) -> None:
    checked = check(layout("v1_wide"))
    assert "state: float, int: 64-bit jax arrays, which both APIs silently cut to 32 bits" in findings(checked)
    assert checked.predicted[1].value == {"float": "jax.Array float32[3]", "int": "jax.Array int32[1]"}


def test_a_database_before_its_release_and_a_root_that_no_call_loads(tmp_path: Path) -> None:
    """Migration doesn't help there, and isn't advised."""
    step = tmp_path / "root" / "1"
    step.mkdir(parents=True)
    (step / "checkpoint").write_bytes(b"\x81\xa1a\xafPLACEHOLDER://a")
    (step / "manifest.ocdbt").write_bytes(bytes.fromhex("0cdb3a2a000128b52ffd") + bytes(60))
    found = findings(check(tmp_path / "root"))
    assert "1: an OCDBT database from before tensorstore 0.1.36" in found
    assert "migrate --to v1" not in found
    assert f"no call loads it as a root -> convkit orbax check {step}" in found
