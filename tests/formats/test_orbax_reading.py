"""Orbax checkpoints of all releases are read as they were saved, or refused with a one-line error."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from goldens import golden_dir

from convkit.checkpoint import Checkpoint
from convkit.cli import main
from convkit.errors import ConvkitError
from convkit.formats import detect_format, open_checkpoint
from convkit.formats.orbax.record import KEY, Record
from convkit.state.orbax.layout import ROOT, recognise

OLD = "orbax/old_releases.tar.gz"
COMPAT = "orbax/compat_checkpoints.tar.gz"
RELEASES = ("0.2.7", "0.3.5", "0.4.4", "0.4.8", "0.5.9", "0.6.4", "0.9.1", "0.11.5", "0.11.20", "0.12.0")
#: how the truth calls nodes without leaves; flax's msgpack has a dict for every kind of them
EMPTY = {"None": None, "dict:keys=": {}, "list:0": [], "tuple:0": [], "namedtuple:optax._src.base.EmptyState:": None}
#: the only case in which a class without fields isn't stored as None
RICH = "direct_rich_types"
#: items that the recorded truth doesn't cover: a random key, and JSON that v1 saved as a tree
UNTOLD = ("rng", "meta")


def steps(path: Path) -> Iterator[tuple[str, Path]]:
    """Each checkpoint at a path, and what stands before its leaves in the truth of a manager's root."""
    found = recognise(path)
    if found.kind != ROOT:
        yield "", path
    for step in found.steps:
        yield f"{int(step.name.rpartition('_')[2])}/", step


def by_path(checkpoint: Checkpoint) -> dict[str, str]:
    """The key of each leaf by its item and path, through JSON and back, as a receipt would have it."""
    record = Record.from_json(json.loads(json.dumps(checkpoint.metadata[KEY])))
    return {"/".join([*filter(None, [item]), *node.path]): key for key, item, node in record.nodes()}


@pytest.mark.golden
@pytest.mark.parametrize("release", RELEASES)
def test_every_checkpoint_of_an_old_release_equals_its_truth(release: str) -> None:
    cases = sorted(path.parent for path in golden_dir(OLD, release).glob(f"{release}/*/ckpt"))
    assert len(cases) > 20
    for case in cases:
        truth, said = dict(np.load(case / "truth.npz")), json.loads((case / "meta.json").read_text())
        seen: set[str] = set()
        for prefix, path in steps(case / "ckpt"):
            with open_checkpoint(path) as checkpoint:
                for where, key in by_path(checkpoint).items():
                    # a root of flax has the same tree in each step; an only item has no name in the truth
                    bare = where.partition("/")[2]
                    names = filter(None, (prefix + where, f"{prefix}?/{bare}", where, bare))
                    name = next((name for name in names if name in said["containers"]), None)
                    if name is None:
                        assert where.partition("/")[0] in UNTOLD, f"{path}: {where}"
                        continue
                    seen.add(name)
                    check_leaf(checkpoint, key, said, name, truth.get(name))
        assert seen >= said["leaves"].keys(), f"{case}: {said['leaves'].keys() - seen}"


def check_leaf(checkpoint: Checkpoint, key: str, said: dict, name: str, truth: np.ndarray | None) -> None:
    leaf, told = checkpoint.leaves[key], said["leaves"].get(name)
    blame = f"{checkpoint.path}: {key}"
    if told is None:
        found = EMPTY[said["containers"][name]]
        by_class = checkpoint.path.is_file() or checkpoint.path.parent.name == RICH
        assert leaf.value == found or (leaf.value == {} and by_class), blame
    elif truth is None:
        assert leaf.value == told["str"], blame
    else:
        assert leaf.spec, blame
        assert leaf.spec.shape == truth.shape, blame
        assert leaf.spec.dtype == told["dtype"] or told["dtype"].startswith("key:"), blame
        assert checkpoint.read(key).tobytes() == truth.tobytes(), blame


@pytest.mark.golden
def test_leaf_kinds_key_algorithms_and_shardings_are_known() -> None:
    corpus = golden_dir(OLD, "0.12.0")
    with open_checkpoint(corpus / "0.12.0" / "direct_typed_key" / "ckpt") as checkpoint:
        item = Record.from_json(checkpoint.metadata[KEY]).items[""]
        algorithms = {name: array.key_algorithm for name, array in item.arrays.items() if array.key_algorithm}
        assert set(algorithms.values()) <= {"threefry2x32", "rbg"}
        assert algorithms
    with open_checkpoint(corpus / "0.12.0" / "sharded_v1" / "ckpt") as checkpoint:
        item = Record.from_json(checkpoint.metadata[KEY]).items["state"]
        assert any("NamedSharding" in (array.sharding or "") for array in item.arrays.values())
        assert any(array.chunks != checkpoint.leaves[name].spec.shape for name, array in item.arrays.items())  # type: ignore[union-attr]


@pytest.mark.golden
def test_databases_that_were_never_joined_are_said() -> None:
    case = golden_dir(OLD, "0.4.4") / "0.4.4" / "direct_ocdbt_False_after_True"
    with open_checkpoint(case / "ckpt") as checkpoint:
        assert checkpoint.metadata["notes"] == [
            "the databases of its processes were never merged: they are read as one"
        ]


@pytest.mark.golden
def test_opens_of_the_compatibility_checkpoints_those_that_orbax_loads() -> None:
    """44 of them: a call of either API loads what we open, and none loads what we refuse."""
    recorded = Path(__file__).parents[1] / "orbax" / "recorded" / "compat_checkpoints.csv"
    rows = list(csv.DictReader(recorded.open(encoding="utf-8")))
    assert len(rows) == 44
    for row in rows:
        path = golden_dir(COMPAT) / row["checkpoint"]
        loads = any(text.startswith("OK") for call, text in row.items() if call.startswith(("v1.load", "v0 ")))
        if not loads:
            with pytest.raises(ConvkitError, match=r"(_METADATA|manifest\.ocdbt|: d) is missing") as refusal:
                open_checkpoint(path)
            assert "\n" not in str(refusal.value)
            continue
        with open_checkpoint(path) as checkpoint:
            values = {key: checkpoint.read(key).view("int32").tolist() for key in checkpoint.leaves}
            deleted = row["checkpoint"].endswith("deleted_checkpointable")
            assert values == ({} if deleted else {"a": list(range(8)), "b.c": [1, 2, 3]}), path


def state_of(tmp_path: Path) -> Path:
    """A copy of a step that the newest recorded release wrote; returns the step."""
    step = tmp_path / "steps" / "3"
    shutil.copytree(golden_dir(OLD, "0.12.0") / "0.12.0" / "v1_checkpointer" / "ckpt" / "3", step)
    return step


def cut(name: str) -> Callable[[Path], None]:
    def damage(step: Path) -> None:
        for file in step.glob(name):
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    return damage


@pytest.mark.golden
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda step: shutil.rmtree(step / "state" / "d"), r"state: d is missing \(fetch the checkpoint again\)"),
        (lambda step: (step / "state" / "manifest.ocdbt").unlink(), r"manifest\.ocdbt is missing \(the save was inter"),
        (lambda step: shutil.rmtree(step / "state" / "ocdbt.process_0"), r"ocdbt\.process_0/d is missing"),
        (lambda step: (step / "state" / "_METADATA").unlink(), r"state: _METADATA is missing, and nothing else lists"),
        (cut("state/_METADATA"), r"state/_METADATA: is not valid JSON"),
        (cut("state/_sharding"), r"state/_sharding: is not valid JSON"),
        (cut("_CHECKPOINT_METADATA"), r"_CHECKPOINT_METADATA: is not valid JSON"),
        (cut("state/ocdbt.process_0/d/*"), r"/d/[0-9a-f]+: is truncated: \d+ bytes, of at least \d+"),
        (lambda step: (step / "state").rename(step / "state.orbax-checkpoint-tmp"), r"params"),
    ],
)
def test_damage_is_told_in_a_line(tmp_path: Path, damage: Callable[[Path], None], says: str) -> None:
    step = state_of(tmp_path)
    damage(step)
    if says == "params":  # what is left of the step is whole
        with open_checkpoint(step) as checkpoint:
            assert all(not key.startswith("state") for key in checkpoint.leaves)
        return
    with pytest.raises(ConvkitError, match=says) as refusal:
        open_checkpoint(step)
    assert "\n" not in str(refusal.value)


@pytest.mark.golden
def test_a_root_names_its_steps(tmp_path: Path) -> None:
    root = state_of(tmp_path).parent
    assert detect_format(root)[0].name == "orbax-v1"
    with pytest.raises(
        ConvkitError, match=r"steps: is a root of 1 steps: 3 \(name one of them, .*/steps/3, or take all"
    ):
        open_checkpoint(root)


@pytest.mark.golden
def test_an_item_without_leaves_names_its_step(tmp_path: Path) -> None:
    step = state_of(tmp_path)
    with pytest.raises(ConvkitError, match=r"metrics: is an item of kind metrics .*no leaves \(name its step, .*/3\)"):
        open_checkpoint(step / "metrics")


@pytest.mark.golden
def test_an_unfinished_save_is_named_as_such(tmp_path: Path) -> None:
    step = state_of(tmp_path)
    unfinished = step.rename(step.with_name("4.orbax-checkpoint-tmp"))
    for path, says in [(unfinished, "is an unfinished save"), (unfinished.parent, "holds only an unfinished save, 4")]:
        assert detect_format(path)[0].name == "orbax-v0"
        with pytest.raises(ConvkitError, match=says):
            open_checkpoint(path)


def test_an_empty_or_foreign_folder_is_none_of_orbax(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("hello")
    with pytest.raises(ConvkitError, match="the folder is empty"):
        open_checkpoint(tmp_path / "empty")
    with pytest.raises(ConvkitError, match="holds no checkpoint of a known format"):
        open_checkpoint(tmp_path / "foreign")
    with pytest.raises(ConvkitError, match="holds nothing that Orbax wrote"):
        open_checkpoint(tmp_path / "foreign", "orbax-v1")


@pytest.mark.golden
def test_a_name_that_leads_out_of_the_checkpoint_is_refused(tmp_path: Path) -> None:
    case = golden_dir(OLD, "0.12.0") / "0.12.0" / "direct_zarr3_ocdbt_False" / "ckpt"
    path = tmp_path / "checkpoint"
    shutil.copytree(case, path)
    text = (path / "_METADATA").read_text()
    (path / "_METADATA").write_text(text.replace('"key": "step"', '"key": "../step"'))
    with pytest.raises(ConvkitError, match=r"\.\./step: leads outside the checkpoint"):
        open_checkpoint(path)


@pytest.mark.golden
def test_an_item_alone_has_the_keys_of_its_tree(tmp_path: Path) -> None:
    step = state_of(tmp_path)
    with open_checkpoint(step) as whole, open_checkpoint(step / "state") as item:
        assert {f"state/{key}" for key in item.leaves} == {key for key in whole.leaves if key.startswith("state/")}
        assert item.format == "orbax-v1"


@pytest.mark.golden
def test_inspect_shows_notes(capsys: pytest.CaptureFixture[str]) -> None:
    case = golden_dir(OLD, "0.4.4") / "0.4.4" / "direct_ocdbt_False_after_True"
    assert main(["inspect", str(case / "ckpt")]) == 0
    assert "note     the databases of its processes were never merged" in capsys.readouterr().out
