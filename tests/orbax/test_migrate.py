"""Migration between Orbax's two APIs: there and back to the same files, restored by the real Orbax."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jsonschema
import numpy as np
import pytest
from layouts import CUSTOM, WRITERS

from convkit.cli import main
from convkit.errors import ConvkitError, UsageError
from convkit.files.receipt import read_receipt, receipt_path
from convkit.migrate.orbax import checks, real
from convkit.migrate.orbax.carry_out import CarryOut
from convkit.migrate.orbax.migrate import migrate
from convkit.migrate.orbax.request import Request, plan_migration
from convkit.migrate.orbax.restore import job
from convkit.orbax.check.real import Maker
from convkit.state.orbax.layout import recognise
from convkit.verify.files import verify_files

Layout = Callable[[str], Path]

#: these take processes of their own; of two leaves with one name one is lost
LAYOUTS = [
    name for name in WRITERS if not any(part in name for part in ("safetensors", "sharded", "same_names", "msgpack"))
]
#: each kind of item, root, leaf and random key, in both directions
RESTORED = (
    "v0_items",
    "v1_items",
    "v0_manager_metrics_prefix",
    "v1_checkpointer_prefix",
    "v0_leaves",
    "v1_random_keys",
)


def other(api: str) -> str:
    return "v0" if api == "v1" else "v1"


def files(folder: Path) -> dict[str, bytes | None]:
    """Everything that lies there; None for folders."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def moved(source: Path, target: Path, **asked: Any) -> dict[str, Any]:
    """Migrate to the other API without asking the real Orbax."""
    to = asked.pop("to", other(recognise(source).api))
    return migrate(source, target, Request(to, **asked), restored=False)


def copied(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


@pytest.mark.parametrize("name", LAYOUTS)
def test_there_and_back(layout: Layout, tmp_path: Path, name: str) -> None:
    """And there again: whichever side it began on, the receipt keeps what the other has no word for."""
    source = layout(name)
    api = recognise(source).api
    moved(source, tmp_path / "there")
    assert recognise(tmp_path / "there").api == other(api)
    moved(tmp_path / "there", tmp_path / "back", to=api)
    assert files(tmp_path / "back") == files(source)
    moved(tmp_path / "back", tmp_path / "again", to=other(api))
    assert files(tmp_path / "again") == files(tmp_path / "there")


@pytest.mark.parametrize(
    "name",
    [
        name if name in RESTORED else pytest.param(name, marks=pytest.mark.slow)
        for name in WRITERS
        if "same_names" not in name and "safetensors" not in name
    ],
)
def test_the_real_orbax_restores(layout: Layout, tmp_path: Path, name: str) -> None:
    source = layout(name)
    receipt = migrate(source, tmp_path / "there", Request(other(recognise(source).api)))
    assert receipt["restored"]["measured"]["leaves"] > 0
    assert receipt["restored"]["measured"]["different"] == 0
    assert all(caught for _, caught in receipt["restored"]["faults"])


@pytest.mark.parametrize("name", ["v0_items", "v0_direct_standard"])
def test_dual_is_loaded_by_both(layout: Layout, tmp_path: Path, name: str) -> None:
    receipt = migrate(layout(name), tmp_path / "both", Request("v1", dual=True))
    once = migrate(layout(name), tmp_path / "one", Request("v1"))
    assert receipt["restored"]["measured"]["leaves"] == 2 * once["restored"]["measured"]["leaves"]
    assert (tmp_path / "both" / "orbax.checkpoint").is_file()
    moved(tmp_path / "both", tmp_path / "back", to="v0")
    assert files(tmp_path / "back") == files(layout(name))


def test_checks_of_a_migration(layout: Layout, tmp_path: Path) -> None:
    source, target = layout("v0_manager_metrics"), tmp_path / "target"
    receipt = moved(source, target)
    for verdict in (
        checks.roundtrip(source, target, receipt),
        checks.equivalence(source, target, receipt),
        verify_files(target, receipt),
    ):
        assert verdict.passed, verdict.problems
        assert verdict.faults
        assert all(fault.caught for fault in verdict.faults)


@pytest.mark.parametrize(
    ("name", "file", "leaf"),
    [("v0_direct_noocdbt_zarr2", "state/b.c/0.0", "b.c"), ("v1_save_noocdbt", "state/a/c/0", "a")],
)
def test_a_flipped_bit_is_named_with_its_leaf(layout: Layout, tmp_path: Path, name: str, file: str, leaf: str) -> None:
    receipt = moved(layout(name), tmp_path / "target")
    path = tmp_path / "target" / file
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    verdict = verify_files(tmp_path / "target", receipt)
    assert not verdict.passed
    assert verdict.problems == (f"{file}: its digest differs from the receipt (it holds {leaf})",)


def test_a_flipped_bit_in_a_database(tmp_path: Path) -> None:
    """Large enough to lie in a data file, and to be linked; the leaf is named."""
    ocp = pytest.importorskip("orbax.checkpoint")
    noise = np.random.default_rng(0).normal(size=40_000)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "source", {"deep": {"noise": noise}, "small": np.arange(3)})
    receipt = moved(tmp_path / "source", tmp_path / "target", copy=True)
    big = max((p for p in (tmp_path / "target").rglob("d/*")), key=lambda path: path.stat().st_size)
    assert big.stat().st_nlink == 1
    data = bytearray(big.read_bytes())
    data[len(data) // 2] ^= 1
    big.write_bytes(data)
    verdict = verify_files(tmp_path / "target", receipt)
    assert [
        line.endswith("its digest differs from the receipt (it holds deep.noise)") for line in verdict.problems
    ] == [True]
    assert not checks.equivalence(tmp_path / "source", tmp_path / "target", receipt).passed
    with pytest.raises(ConvkitError, match="has changed since it was migrated"):
        moved(tmp_path / "target", tmp_path / "back")
    moved(tmp_path / "source", tmp_path / "linked")
    assert max(path.stat().st_nlink for path in (tmp_path / "linked").rglob("d/*")) >= 1


def test_metadata_at_three_levels(layout: Layout, tmp_path: Path) -> None:
    """Custom metadata, times, unknown keys, unknown items, of a step, an item and a root."""
    source = copied(layout("v0_manager_metrics"), tmp_path / "source")
    file = source / "1234" / "_CHECKPOINT_METADATA"
    told = json.loads(file.read_text()) | {"performance_metrics": {"x": 1.5}, "unheard_of": [1, None]}
    told["item_handlers"]["mine"] = "my.own.Handler"
    file.write_text(json.dumps(told))
    (source / "1234" / "mine").mkdir()
    (source / "1234" / "mine" / "blob").write_bytes(b"\x00\xff")
    (source / "1234" / "notes").mkdir()
    receipt = moved(source, tmp_path / "target")
    after = json.loads((tmp_path / "target" / "1234" / "_CHECKPOINT_METADATA").read_text())
    assert after["custom_metadata"] == CUSTOM
    assert after["item_handlers"]["mine"] == "my.own.Handler"
    assert all(".v1." in typestr for name, typestr in after["item_handlers"].items() if name != "mine")
    for name in ("performance_metrics", "unheard_of", "init_timestamp_nsecs", "commit_timestamp_nsecs"):
        assert after[name] == told[name]
    assert (tmp_path / "target" / "1234" / "mine" / "blob").read_bytes() == b"\x00\xff"
    assert (tmp_path / "target" / "1234" / "metrics" / "metrics").is_file()
    assert json.loads((tmp_path / "target" / "metadata" / "_ROOT_METADATA").read_text())["custom_metadata"] == CUSTOM
    assert any("mine is of an unknown kind" in warning for warning in receipt["warnings"])
    moved(tmp_path / "target", tmp_path / "back")
    assert files(tmp_path / "back") == files(source)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata", {"lr": 0.1}),
        ("_ROOT_METADATA", {"custom": {"lr": 0.1}}),
        ("_ROOT_METADATA", {"custom_metadata": {"lr": 0.1}}),
    ],
)
def test_root_metadata_of_every_release(layout: Layout, tmp_path: Path, name: str, content: dict[str, Any]) -> None:
    source = copied(layout("v0_manager_root"), tmp_path / "source")
    shutil.rmtree(source / "metadata", ignore_errors=True)
    (source / "metadata").mkdir()
    (source / "metadata" / name).write_text(json.dumps(content))
    migrate(source, tmp_path / "target", Request("v1"))
    made = json.loads((tmp_path / "target" / "metadata" / "_ROOT_METADATA").read_text())
    assert made["custom_metadata"] == {"lr": 0.1}
    moved(tmp_path / "target", tmp_path / "back")
    assert files(tmp_path / "back") == files(source)


def test_some_steps_and_what_is_no_step(layout: Layout, tmp_path: Path) -> None:
    source = copied(layout("v0_manager_root"), tmp_path / "source")
    shutil.copytree(source / "0", source / "5.orbax-checkpoint-tmp")
    (source / "plots").mkdir()
    receipt = moved(source, tmp_path / "target", steps=(1234,))
    assert sorted(path.name for path in (tmp_path / "target").iterdir() if path.is_dir()) == ["1234"]
    assert "5.orbax-checkpoint-tmp is an unfinished save: left out" in receipt["warnings"]
    assert "plots isn't a step: left out" in receipt["warnings"]
    with pytest.raises(UsageError, match=r"has no step 7 \(its steps: 0, 1234\)"):
        moved(source, tmp_path / "other", steps=(7,))
    verdict = checks.roundtrip(source, tmp_path / "target", receipt)
    assert verdict.passed, verdict.problems


def test_steps_that_came_later_are_migrated_afresh(layout: Layout, tmp_path: Path) -> None:
    source = layout("v0_manager_root")
    moved(source, tmp_path / "there")
    shutil.copytree(layout("v1_save"), tmp_path / "there" / "2000")
    edited = tmp_path / "there" / "0" / "my_json_data" / "data.json"
    edited.write_text('{"x": 2}')
    receipt = moved(tmp_path / "there", tmp_path / "back", to="v0")
    assert {part["name"]: part["given_back"] for part in receipt["parts"]} == {
        "": True,
        "0": False,
        "1234": True,
        "2000": False,
    }
    assert files(tmp_path / "back" / "1234") == files(source / "1234")
    assert json.loads((tmp_path / "back" / "0" / "my_json_data" / "metadata").read_text()) == {"x": 2}
    unrestored = "isn't as it was migrated: its state before that migration isn't restored"
    assert f"0: my_json_data/data.json {unrestored}" in receipt["warnings"]
    afresh = moved(tmp_path / "there", tmp_path / "afresh", to="v0", afresh=True)
    assert not any(part["given_back"] for part in afresh["parts"])


def test_an_item_that_is_being_deleted_is_left_out(layout: Layout, tmp_path: Path) -> None:
    source = copied(layout("v1_checkpointables"), tmp_path / "source")
    (source / "_CHECKPOINT_DELETION").write_text(json.dumps({"checkpointable_name": "pytree", "operation_id": "1"}))
    receipt = moved(source, tmp_path / "target")
    assert not (tmp_path / "target" / "pytree").exists()
    assert receipt["parts"][0]["left_out"] == {"pytree": "is being deleted", "_CHECKPOINT_DELETION": "is being deleted"}
    assert "pytree" not in json.loads((tmp_path / "target" / "_CHECKPOINT_METADATA").read_text())["item_handlers"]


def test_command(layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = str(layout("v0_direct_standard")), str(tmp_path / "target")
    assert main(["orbax", "migrate", source, target, "--to", "v1", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["summary"]["source_leaves"] == 2
    assert not (tmp_path / "target").exists()
    assert main(["orbax", "migrate", source, target, "--to", "v1"]) == 0
    assert "Orbax restores 2 leaves and nodes, equal bit by bit" in capsys.readouterr().out
    for check in (["verify", target], ["roundtrip", source, target], ["equivalence", source, target]):
        assert main(check) == 0
    receipt = read_receipt(tmp_path / "target")
    assert receipt is not None
    assert receipt["restored"]["measured"]["leaves"] == 2


def test_convert_without_a_layout_migrates(layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(layout("v1_save"))
    assert main(["plan", source, "--format", "orbax-v0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["target"]["format"] == "orbax-v0"
    assert main(["convert", source, str(tmp_path / "target"), "--format", "orbax-v0"]) == 0
    assert receipt_path(tmp_path / "target").is_file()
    assert main(["convert", source, str(tmp_path / "other"), "--format", "orbax-v0", "--dtype", "bfloat16"]) == 2
    assert "--dtype without --to" in capsys.readouterr().err
    assert main(["convert", source, str(tmp_path / "other")]) == 2
    assert "--to is missing" in capsys.readouterr().err


def test_without_the_real_orbax_it_is_said(layout: Layout, tmp_path: Path) -> None:
    assert moved(layout("v1_save"), tmp_path / "target")["restored"] == {"skipped": "--no-restore"}


@pytest.mark.parametrize("name", ["v0_direct_pytree", "v1_random_keys", "v0_items"])
@pytest.mark.parametrize("to", ["v0", "v1"])
def test_a_large_tree_is_restored_in_batches(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, to: str
) -> None:
    """Few leaves at a time, the others placeholders; all are compared, and a change of one is seen."""
    migration = plan_migration(layout(name), Request(to, dual=True))
    migrate(layout(name), tmp_path / "target", Request(to, dual=True), restored=False)
    monkeypatch.setattr(real, "BATCH", 8)
    with jax.enable_x64(True):
        *_, answer = real.answers(job(migration, tmp_path / "target"), Maker(tmp_path))
    assert answer["problems"] == []
    assert answer["measured"]["leaves"] > 2
    assert all(caught for _, caught in answer["faults"])


def test_arrays_of_other_devices_are_restored_on_this_one(layout: Layout, tmp_path: Path) -> None:
    source = copied(layout("v1_random_keys"), tmp_path / "source")
    file = source / "state" / "_sharding"
    file.write_text(file.read_text().replace("cpu:0", "cuda:0"))
    receipt = migrate(source, tmp_path / "target", Request("v0"))
    assert receipt["restored"]["measured"] == {"leaves": 4, "different": 0, "bytes": 56}
    assert files(tmp_path / "target")["state/_sharding"] == file.read_bytes()


@pytest.mark.parametrize("name", ["v0_items", "v0_manager_metrics_prefix", "v0_legacy_msgpack_only"])
def test_the_receipt_obeys_its_schema(layout: Layout, tmp_path: Path, name: str) -> None:
    moved(layout(name), tmp_path / "target")
    document = json.loads(receipt_path(tmp_path / "target").read_text())
    schema = json.loads((resources.files("convkit") / "schemas" / "migration.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(document)
    next(iter(document["parts"][-1]["files"].values()))["digest"] = "none"
    assert not validator.is_valid(document)


def test_the_report_shows_a_migration(layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = layout("v0_items"), tmp_path / "target"
    migrate(source, target, Request("v1"))
    for check in ("roundtrip", "equivalence"):
        assert main([check, str(source), str(target), "--json"]) == 0
        (tmp_path / f"{check}.json").write_text(capsys.readouterr().out)
    assert main(["report", str(tmp_path)]) == 0
    (row,) = json.loads((tmp_path / "summary.json").read_text())["rows"]
    assert (row["verdict"], row["from"], row["to"]) == ("yes", "orbax-v0", "orbax-v1")
    assert row["leaves"]["source"] == row["leaves"]["target"] > 0


@pytest.mark.parametrize("copy", [False, True])
def test_a_source_that_changes_meanwhile_fails_it(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copy: bool
) -> None:
    """Hard links to the source's files count as no change of them: the migration makes them itself."""
    source = shutil.copytree(layout("v0_leaves"), tmp_path / "source")
    assert moved(source, tmp_path / "sound", copy=copy)
    run, metadata = CarryOut.run, next(source.rglob("_METADATA"))

    def changing(self: CarryOut) -> Any:
        found = run(self)
        metadata.write_bytes(metadata.read_bytes() + b" ")
        return found

    monkeypatch.setattr(CarryOut, "run", changing)
    with pytest.raises(ConvkitError, match="_METADATA: changed while it was read"):
        moved(source, tmp_path / "there", copy=copy)
    assert not (tmp_path / "there").exists()
