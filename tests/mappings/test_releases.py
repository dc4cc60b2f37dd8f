"""From release to release: layouts by their releases, the state of a training, the way back, and the same model."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import pytest
from goldens import golden_dir

from convkit.cli import main
from convkit.errors import UsageError
from convkit.mapping import inverse
from convkit.mappings import find_mapping, get_layout, layouts, releases_of, upgrade
from convkit.plan import open_source
from convkit.state.cerebras import treespec


@cache
def recorded(model: str) -> Path:
    """The folder of a recorded model."""
    return golden_dir("cerebras_more.tar.xz", f"upgrade/{model}/") / "upgrade" / model


def test_the_optimizer_follows_its_parameters() -> None:
    """The original renames the model alone: its optimizer's state is then of parameters that aren't there."""
    mapping = upgrade("cerebras/gpt2", (2, 0), (2, 1))
    text = " ".join(map(str, mapping.rules))
    assert "{at:*}embedding_layer.position_embeddings.weight.{slot:*}" in text


def test_a_release_is_part_of_a_layouts_name() -> None:
    layout = get_layout("cerebras/gpt2@1.8")
    assert (layout.name, layout.releases) == ("cerebras/gpt2@1.8", ((1, 8),))
    assert layout.name not in layouts()
    mapping = find_mapping("cerebras/gpt2@1.8", "cerebras/gpt2@2.10")
    assert mapping is upgrade("cerebras/gpt2", (1, 8), (2, 10))
    assert inverse(mapping).name == upgrade("cerebras/gpt2", (2, 10), (1, 8)).name
    for name, says in (
        ("cerebras/gemma2@2.2", "release 2.2 isn't supported for cerebras/gemma2"),
        ("cerebras/llama@1.8", "releases 1.9 ... 2.10"),
        ("hf/gpt2@2.2", "the same in every release"),
        ("cerebras/gpt3@2.2", "no layout is called 'cerebras/gpt3'"),
    ):
        with pytest.raises(UsageError, match=says):
            get_layout(name)


@pytest.mark.parametrize("layout", [name for name in layouts() if releases_of(get_layout(name))])
def test_every_release_leads_to_every_other(layout: str) -> None:
    known = releases_of(get_layout(layout))
    first, last = upgrade(layout, known[0], known[-1]), upgrade(layout, known[-1], known[0])
    assert inverse(first).rules == last.rules
    assert inverse(inverse(first)).rules == first.rules


# --- training state -------------------------------------------------------------------------------------------------


def upgraded(source: Path, target: Path, release: str, *more: str) -> Path:
    assert main(["upgrade", str(source), str(target), "--release", release, "-q", *more]) == 0
    return target


def leaves(path: Path) -> dict[str, Any]:
    """Every leaf: bits, or a value; and the structure."""
    with open_source(path) as source:
        found = {
            key: (leaf.spec, source.checkpoint.read(key).tobytes() if leaf.spec else leaf.value)
            for key, leaf in source.checkpoint.leaves.items()
        }
        tree = treespec.loads(source.checkpoint.metadata["spec"])
        return found | {"structure": treespec.template(tree), "config": source.config}


@pytest.mark.golden
@pytest.mark.parametrize(
    ("model", "first"),
    [("gpt2", "1.8"), *(pytest.param(*one, marks=pytest.mark.slow) for one in (("bert", "1.6"), ("t5", "1.6")))],
)
def test_up_and_down_again_is_exact(model: str, first: str, tmp_path: Path) -> None:
    start = recorded(model) / "state" / f"cs-{first}.mdl"
    for ends in (("2.10",), ("2.1", "2.10", "2.1")):
        made = [start]
        for number, release in enumerate((*ends, first)):
            options = ("--from-release", first) if number == 0 else ()
            made.append(upgraded(made[-1], tmp_path / f"{len(ends)}-{number}.mdl", release, *options))
        assert leaves(made[-1]) == leaves(start)
        assert main(["roundtrip", str(start), str(made[1]), "-q"]) == 0


@pytest.mark.golden
def test_the_state_follows(tmp_path: Path) -> None:
    """Parameters are called otherwise in the optimizer too; schedulers are at the training's step; the record grows."""
    start = recorded("gpt2") / "state" / "cs-1.8.mdl"
    before, after = leaves(start), leaves(upgraded(start, tmp_path / "new.mdl", "2.10", "--from-release", "1.8"))
    old, new = (f"embedding_layer.position_embeddings.{name}weight" for name in ("", "embed."))
    groups = [key for key in before if key.startswith("optimizer.param_groups.")]
    assert [after[key] for key in groups] == [(None, new) if before[key][1] == old else before[key] for key in groups]
    assert (None, new) in [after[key] for key in groups]
    for slot in ("exp_avg", "exp_avg_sq"):
        assert after[f"optimizer.state.{new}.{slot}"] == before[f"optimizer.state.{old}.{slot}"]
    # global_step is 37; the second scheduler began at 12
    steps = [after[f"lr_scheduler.{key}last_epoch"][1] for key in ("", "_schedulers.0.", "_schedulers.1.")]
    assert steps == [37, 37, 25]
    assert after["__metadata__.0.version"][1] == "2.10.0"
    assert list(after["structure"]) == [*before["structure"], "__metadata__"]
    assert after["structure"]["__metadata__"] == [{"version": "*", "model_name": "*"}]
    assert after["structure"]["lr_scheduler"] == before["structure"]["lr_scheduler"]
    assert new in after["structure"]["optimizer"]["state"]


@pytest.mark.golden
def test_what_was_trained_on_is_not_undone(tmp_path: Path) -> None:
    """The receipt still fits, but the scheduler has gone on: its step stays."""
    start = recorded("gpt2") / "state" / "cs-1.8.mdl"
    new = upgraded(start, tmp_path / "new.mdl", "2.10", "--from-release", "1.8")
    with h5py.File(new, "r+") as file:
        name = "lr_scheduler.last_epoch.__metadata__"
        file.attrs[name] = str(file.attrs[name]).replace("37", "39")
    assert leaves(upgraded(new, tmp_path / "old.mdl", "1.8"))["lr_scheduler.last_epoch"][1] == 39


THROUGH = ("gpt2", "bert", "t5", "bloom")


@pytest.mark.golden
@pytest.mark.parametrize(
    "model", [pytest.param(one, marks=() if one == "gpt2" else pytest.mark.slow) for one in THROUGH]
)
def test_from_transformers_through_an_old_release_and_back(model: str, tmp_path: Path) -> None:
    """An upgrade keeps what the conversion before it lost; the way back passes over it."""
    source, first = recorded(model) / "hf", "1.9" if model == "bloom" else "1.8"
    old, new = tmp_path / "old.mdl", tmp_path / "new.mdl"
    assert main(["convert", str(source), str(old), "--to", "cerebras", "--release", first, "-q"]) == 0
    upgraded(old, new, "2.10")
    for number, path in enumerate((old, new)):
        back = tmp_path / f"hf-{number}"
        assert main(["convert", str(path), str(back), "--to", "hf", "-q"]) == 0
        assert main(["diff", str(source), str(back), "-q"]) == 0
        assert json.loads((back / "config.json").read_text()) == json.loads((source / "config.json").read_text())
        for one, other in ((source, old), (old, new), (path, back)):
            assert main(["roundtrip", str(one), str(other), "-q"]) == 0


# --- the same model -----------------------------------------------------------------------------------------------


OLDEST = (
    *(("gpt2", "1.8"), ("bert", "1.6"), ("bert-sequence-classifier", "1.6"), ("t5", "1.6"), ("bloom", "1.9")),
    ("llama", "1.9"),
)


@pytest.mark.golden
@pytest.mark.parametrize(
    ("model", "release"), [pytest.param(*one, marks=() if one[0] == "gpt2" else pytest.mark.slow) for one in OLDEST]
)
def test_both_sides_are_the_same_model(model: str, release: str, tmp_path: Path) -> None:
    """Oracles open an old release by what it called otherwise; every planted fault is caught."""
    start = recorded(model) / "state" / f"cs-{release}.mdl"
    new = upgraded(start, tmp_path / "new.mdl", "2.10", "--from-release", release)
    assert main(["equivalence", str(start), str(new), "--probe-length", "12", "-q"]) == 0
