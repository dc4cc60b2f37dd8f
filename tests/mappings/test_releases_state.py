"""The state of a training from release to release: recorded cases of the original, its mistakes, and the way back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from goldens import golden_dir

from convkit.cli import main
from convkit.errors import PlanError
from convkit.generate.old_mdl import write_old
from convkit.mapping.layout import parse_release
from convkit.plan import Options, Plan, make_plan, open_source

#: why values and tensors differ from the original's, by what is in their names
DEVIATIONS = {
    "_schedulers.": "the original leaves the steps of inner schedulers as they were",
    "state.embedding_layer.position_embeddings": "the original forgets the optimizer's state of a renamed parameter",
    "param_groups.0.params.": "the original forgets that an optimizer lists its parameters by name",
    "weight_mask": "masks lie in the model since 2.2: the original moves them at every edge",
    "sparsity": "as masks; and the index of a schedule is a number, where the original has a tensor of one",
    "not.in.model": "the original drops masks of parameters that the model doesn't have",
    "__metadata__": "the record doesn't repeat the yaml, which lies beside",
}
#: cases that are worth seeing in every run
ALWAYS = (
    "dl_GptHDF5DataProcessor",
    "none_alias__cs-1.9_cs-2.0",
    "sparsity_opt__cs-2.1_cs-2.2",
    "sched_3__cs-1.9_cs-2.0",
)


@cache
def special() -> Path:
    return golden_dir("cerebras_more.tar.xz", "upgrade/_special/") / "upgrade" / "_special"


def cases() -> list[str]:
    """The recorded cases, as far as this can be said without the archive."""
    edges = ("cs-1.8_cs-1.9", "cs-1.9_cs-2.0", "cs-2.0_cs-2.1", "cs-2.1_cs-2.2")
    return [
        *("dl_GptHDF5DataProcessor", "dl_GptHDF5MapDataProcessor", "dl_already_there", "none_alias_unshared"),
        *(f"{name}__{edges[1]}" for name in ("alias_absent", "extra_top", "model_only", "no_step", "none_alias")),
        *(f"{name}__{edges[1]}" for name in ("none_alias2", "none_both", "sched_equal", "sched_none", "step_int")),
        *(f"{name}__{edge}" for name in ("meta", "sched_3", "sched_plain", "unmatched") for edge in edges[:3]),
        *(f"{name}__{edge}" for name in ("sparsity_opt", "sparsity_opt_empty") for edge in edges[1:]),
    ]


def source_of(case: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """A copy of a case's input, with its yaml and the loader's files, and what the original did with it."""
    result = json.loads((special() / case / "result.json").read_text())
    name = Path(result["input"][0]).stem
    for path in (special() / "state").glob(f"{name}.*"):
        shutil.copy(path, folder)
    shutil.copytree(special() / "dl_r19", folder / "dl_r19")
    return folder / f"{name}.mdl", result


def planned(path: Path, before: str, after: str) -> Plan:
    options = Options(release=parse_release(after), from_release=parse_release(before), restore=False)
    with open_source(path) as source:
        return make_plan(source, "cerebras/gpt2", "cerebras/gpt2", options)


@pytest.mark.golden
@pytest.mark.parametrize(
    "case", [pytest.param(one, marks=() if one in ALWAYS else pytest.mark.slow) for one in cases()]
)
def test_recorded_cases(case: str, tmp_path: Path) -> None:
    path, result = source_of(case, tmp_path)
    plan = planned(path, result["src"], result["tgt"])
    wanted = json.loads((special() / case / "out.scalars.json").read_text())
    made = special() / case / "out.npz"
    theirs: dict[str, Any] = dict.fromkeys(np.load(made if made.exists() else path.with_suffix(".npz")), "a tensor")
    theirs |= {key: value for key, value in wanted.items() if value not in ([], {})}
    ours = {
        key: "a tensor" if leaf.spec else leaf.value
        for key, leaf in plan.target_leaves.items()
        if leaf.spec or leaf.value not in ([], {})
    }
    differing = [key for key in ours.keys() | theirs.keys() if ours.get(key, "none") != theirs.get(key, "none")]
    assert [key for key in differing if not any(part in key for part in DEVIATIONS)] == []


def contents(path: Path) -> Iterator[tuple[str, Any]]:
    with open_source(path) as source:
        for key, leaf in source.checkpoint.leaves.items():
            yield key, source.checkpoint.read(key).tobytes() if leaf.spec else leaf.value


@pytest.mark.golden
@pytest.mark.parametrize(
    "case", [pytest.param(one, marks=() if one in ALWAYS else pytest.mark.slow) for one in cases()]
)
def test_down_again_is_exact(case: str, tmp_path: Path) -> None:
    path, result = source_of(case, tmp_path)
    before = result["src"].removeprefix("cs-")
    new, old = tmp_path / "new.mdl", tmp_path / "old.mdl"
    assert main(["upgrade", str(path), str(new), "--release", "2.10", "--from-release", before, "-q"]) == 0
    assert main(["roundtrip", str(path), str(new), "-q"]) == 0
    assert main(["upgrade", str(new), str(old), "--release", before, "-q"]) == 0
    assert dict(contents(old)) == dict(contents(path))


@pytest.mark.golden
def test_a_loader_that_cant_be_read_is_left_for_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The original stops at an unknown kind of loader, and at a folder that isn't there."""
    path, _ = source_of("dl_GptHDF5DataProcessor", tmp_path)
    yaml = path.with_suffix(".yaml")
    text = yaml.read_text()
    for name, other, says in (
        ("GptHDF5DataProcessor", "AnotherProcessor", "whether AnotherProcessor is a map-style loader isn't known"),
        ("dl_r19", "elsewhere", "there is no folder elsewhere"),
    ):
        yaml.write_text(text.replace(name, other))
        assert (
            main(["upgrade", str(path), str(tmp_path / f"{other}.mdl"), "--release", "2.0", "--from-release", "1.9"])
            == 0
        )
        assert says in capsys.readouterr().err


def test_steps_of_sparsity_that_an_older_release_cant_say_are_named(tmp_path: Path) -> None:
    """Without a receipt: 2.1 has them by groups of parameters."""
    path = written(tmp_path, sparsity={"sparsity": {"w": {"index": 3}}})
    for release, expected in (((2, 1), 1), ((2, 4), 0)):
        with open_source(path) as source:
            options = Options(release=release, from_release=(2, 2), restore=False)
            plan = make_plan(source, "cerebras/gpt2", "cerebras/gpt2", options)
        assert len([one for one in plan.warnings if one.startswith("sparsity.sparsity.w.index: ")]) == expected


# --- steps in tensors ---------------------------------------------------------------------------------------------


def written(folder: Path, **more: Any) -> Path:
    """A training checkpoint of release 1.9 with its yaml."""
    weight = np.arange(12, dtype="f4").reshape(4, 3)
    state = {"model": {"embedding_layer.word_embeddings.weight": weight}, "global_step": np.array(15)}
    write_old(folder / "old.mdl", state | more, "1.9", [])
    (folder / "old.yaml").write_text("model: {hidden_size: 3, vocab_size: 4, num_hidden_layers: 0}\n")
    return folder / "old.mdl"


def test_a_step_in_a_tensor_is_set(tmp_path: Path) -> None:
    """Its shape and dtype stay; the number before comes back, unless the training has gone on since."""
    inner = [{"last_epoch": np.array(1, "i4")}, {"last_epoch": np.array([2.0], "f4")}]
    old = written(tmp_path, lr_scheduler={"last_epoch": np.array(1), "_milestones": [10], "_schedulers": inner})
    new, back = tmp_path / "new.mdl", tmp_path / "back.mdl"
    way = ("--from", "cerebras/gpt2", "-q")
    assert main(["upgrade", str(old), str(new), "--release", "2.10", "--from-release", "1.9", *way]) == 0
    after = dict(contents(new))
    wanted = {"": np.array(15), "_schedulers.0.": np.array(15, "i4"), "_schedulers.1.": np.array([5.0], "f4")}
    for key, array in wanted.items():
        assert after[f"lr_scheduler.{key}last_epoch"] == array.tobytes()
    assert main(["roundtrip", str(old), str(new), "-q"]) == 0
    assert main(["upgrade", str(new), str(back), "--release", "1.9", *way]) == 0
    assert dict(contents(back)) == dict(contents(old))
    with h5py.File(new, "r+") as file:
        file["lr_scheduler.last_epoch"][()] = 16
    again = tmp_path / "again.mdl"
    assert main(["upgrade", str(new), str(again), "--release", "1.9", *way]) == 0
    assert dict(contents(again)) == dict(contents(old)) | {"lr_scheduler.last_epoch": np.array(16).tobytes()}


@pytest.mark.golden
def test_an_older_release_that_nothing_shows_is_asked_for(tmp_path: Path) -> None:
    """On the way to transformers, too; a file that its own release wrote shows it."""
    path, _ = source_of("sched_plain__cs-1.9_cs-2.0", tmp_path)
    with open_source(path) as source:
        with pytest.raises(PlanError, match=r"before 2\.1, say it: --from-release 1\.7, 1\.8, 1\.9 or 2\.0"):
            make_plan(source, "hf/gpt2", "cerebras/gpt2")
        source.checkpoint.metadata["cstorch_version"] = "1.9.1"
        assert make_plan(source, "hf/gpt2", "cerebras/gpt2").through[0].mapping.left.name == "cerebras/gpt2@1.9"


# --- a yaml that only the way back refuses --------------------------------------------------------------------------

WINDOW = """model: {hidden_size: 8, vocab_size: 4, num_heads: 2, num_hidden_layers: 0,
  attention_sliding_window_length: 8, norm_type: rmsnorm, position_embedding_type: rotary, rotary_dim: 4}
"""


def test_a_yaml_that_its_release_refuses_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the receipt, as it was; not without it, and not where it was edited since."""
    old, new, back = written(tmp_path), tmp_path / "new.mdl", tmp_path / "back.mdl"
    old.with_suffix(".yaml").write_text(WINDOW)
    way = ("--from", "cerebras/mistral", "-q")
    assert main(["upgrade", str(old), str(new), "--release", "2.10", "--from-release", "2.1", *way]) == 0
    down = ["upgrade", str(new), str(back), "--release", "2.1", *way]
    assert main([*down, "--no-restore", "--from-release", "2.10"]) != 0
    assert "attention_sliding_window_length" in capsys.readouterr().err
    assert main(down) == 0
    with open_source(old) as one, open_source(back) as other:
        assert one.config == other.config
    assert main(["roundtrip", str(new), str(back), "-q"]) == 0
    edited = new.with_suffix(".yaml")
    edited.write_text(edited.read_text().replace("hidden_size: 8", "hidden_size: 16"))
    assert main([*down, "--overwrite"]) != 0
    assert "attention_sliding_window_length" in capsys.readouterr().err
