"""The predicted tables against the installed Orbax: every call made, results and values compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import layouts
import pytest

from convkit.errors import ConvkitError
from convkit.orbax.check.check import check, confirmed

pytest.importorskip("orbax.checkpoint")

Layout = Callable[[str], Path]

#: those that differ most; the others are slow
_FEW = ("v0_manager_metrics_prefix", "v0_items", "v1_items", "v1_large")
_BELOW = (
    "v0_composite_checkpointer/arr",
    "v0_manager_root/1234",
    "v0_manager_root/1234/state",
    "v1_checkpointer_root/0",
    "v1_save/state",
)


def assert_confirmed(path: Path, devices: int = 1) -> None:
    checked = confirmed(check(path, devices))
    assert checked.ran is not None
    assert [(call.text, guess, real) for call, guess, real in checked.disagreeing] == []


@pytest.mark.parametrize("name", _FEW)
def test_layouts(layout: Layout, name: str) -> None:
    assert_confirmed(layout(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*(name for name in layouts.WRITERS if name not in _FEW), *_BELOW, "nope"])
def test_all_layouts(layout: Layout, name: str) -> None:
    assert_confirmed(layout(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v0_sharded", "v1_sharded"])
def test_on_several_devices(layout: Layout, name: str) -> None:
    assert_confirmed(layout(name), layouts.DEVICES)


def _without(*names: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        for name in names:
            shutil.rmtree(path / name) if (path / name).is_dir() else (path / name).unlink()

    return damage


def _renamed(old: str, new: str) -> Callable[[Path], None]:
    return lambda path: (path / old).rename(path / new) and None


def _written(name: str, text: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        (path / name).write_text(text)

    return damage


def _cut(name: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        for file in (path / name).rglob("*"):
            if file.is_file():
                file.write_bytes(file.read_bytes()[:100])

    return damage


def _deleting(path: Path) -> None:
    before = json.loads((path / "_CHECKPOINT_METADATA").read_text())
    after = {**before, "item_handlers": {k: v for k, v in before["item_handlers"].items() if k != "state"}}
    record = {"operation_id": "0" * 32, "checkpointable_name": "state", "destination": None}
    text = json.dumps({**record, "original_metadata": before, "updated_metadata": after})
    (path / "_CHECKPOINT_DELETION").write_text(text)


_DAMAGED: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a deletion that isn't finished": ("v1_checkpointables", _deleting),
    "no data files": ("v1_large", _without("state/ocdbt.process_0")),
    "no data files of numpy's arrays": ("v1_large_numpy", _without("state/ocdbt.process_0")),
    "data files cut": ("v0_large", _cut("ocdbt.process_0/d")),
    "no index": ("v0_direct_pytree", _without("d")),
    "no manifest": ("v1_save", _without("state/manifest.ocdbt")),
    "no shardings": ("v1_save", _without("state/_sharding")),
    "no array metadata": ("v1_random_keys", _without("state/array_metadatas")),
    "no checkpoint metadata": ("v0_manager_root", _without("1234/_CHECKPOINT_METADATA")),
    "no indicator": ("v1_checkpointables", _without("orbax.checkpoint")),
    "no tree": ("v0_manager_root", _without("1234/state/_METADATA")),
    "a chunk missing": ("v0_direct_noocdbt_zarr2", _without("b.c/0.0")),
    "a tree that isn't JSON": ("v1_save", _written("state/_METADATA", "{")),
    "array metadata that isn't JSON": ("v1_random_keys", _written("state/array_metadatas/process_0", "{")),
    "shardings that aren't JSON": ("v0_direct_standard", _written("_sharding", "{")),
    "texts that aren't JSON": ("v1_leaves", _written("state/_strings.json", "{")),
    "an aggregate file cut": ("v0_legacy_msgpack_only", _written("checkpoint", "")),
    "metrics that aren't JSON": ("v0_manager_metrics", _written("0/metrics/metrics", "{")),
    "checkpoint metadata that isn't JSON": ("v0_composite_checkpointer", _written("_CHECKPOINT_METADATA", "{")),
    "an item of another name": ("v1_save", _renamed("state", "weights")),
    "an item of a reserved name": ("v0_manager_root/1234", _renamed("state", "AUTO")),
    "an item as if unnamed": ("v0_manager_root", _renamed("1234/state", "1234/default")),
    "an unfinished item": ("v0_manager_root/1234", _renamed("state", "state.orbax-checkpoint-tmp")),
    "padded and other steps": ("v0_manager_root", _renamed("0", "0000")),
    "a root with an indicator": ("v0_manager_root", _written("orbax.checkpoint", "")),
    "a root with checkpoint metadata": ("v1_checkpointer_root", _written("_CHECKPOINT_METADATA", "{}")),
    "a tensor file cut": ("safetensors_dir", _cut("")),
    "an unnamed step": ("v0_manager_root", _renamed("1234", "step_1234")),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", _DAMAGED)
def test_damaged(layout: Layout, tmp_path: Path, damage: str) -> None:
    name, change = _DAMAGED[damage]
    path = Path(shutil.copytree(layout(name), tmp_path / name))
    change(path)
    assert_confirmed(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["metrics", "state", "run.partial_save"])
def test_a_folder_of_a_telling_name(layout: Layout, tmp_path: Path, name: str) -> None:
    """v1 chooses the handler of a checkpoint without items by the folder's name."""
    assert_confirmed(Path(shutil.copytree(layout("v0_direct_pytree"), tmp_path / name)))


@pytest.mark.slow
def test_direct_checkpoints_as_steps(layout: Layout, tmp_path: Path) -> None:
    for step, name in (("0", "v0_direct_pytree"), ("7", "v0_direct_standard")):
        shutil.copytree(layout(name), tmp_path / "root" / step)
    assert_confirmed(tmp_path / "root")


@pytest.mark.slow
def test_links(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "link.orbax-checkpoint-tmp").symlink_to(layout("v1_save"))
    assert_confirmed(tmp_path / "link.orbax-checkpoint-tmp")


@pytest.mark.slow
def test_folders_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "below").mkdir(parents=True)
    (tmp_path / "other" / "text.txt").write_text("text")
    for path in (tmp_path / "empty", tmp_path / "other", tmp_path / "other" / "text.txt"):
        assert_confirmed(path)


def test_two_of_the_damaged(layout: Layout, tmp_path: Path) -> None:
    for damage in ("a deletion that isn't finished", "no data files"):
        test_damaged(layout, tmp_path / damage, damage)


def test_the_checkpoint_stays_as_it_is(layout: Layout, tmp_path: Path) -> None:
    """Managers make folders, and here they would make one of metadata."""
    path = Path(shutil.copytree(layout("v0_manager_single_default"), tmp_path / "root"))
    shutil.rmtree(path / "metadata", ignore_errors=True)
    before = sorted(path.rglob("*"))
    confirmed(check(path))
    assert sorted(path.rglob("*")) == before


@pytest.mark.parametrize("text", ["raise ImportError('absent')", "import os; os._exit(9)"])
def test_orbax_that_can_not_be_imported(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "orbax").mkdir()
    (tmp_path / "orbax" / "__init__.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ConvkitError, match="Orbax can't be imported"):
        confirmed(check(layout("v1_save")))
