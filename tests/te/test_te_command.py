"""``convkit te`` on disk, with the original's own flags; and the checks on its outputs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from te_runs import Run, arrays, cases, recorded, there_and_back, unpacked
from test_te_goldens import WRONG_AMAX, failed, rightly, rightly_converted, same_dtype_aside

from convkit.cli import main

pytestmark = pytest.mark.golden

#: as the original's gated results are
OLD = "--te-release=1.7"


def te(source: Path, target: Path, *flags: str) -> int:
    return main(["te", f"--input-path={source}", f"--output-path={target}", *flags])


@pytest.mark.parametrize("run", cases(rightly_converted), ids=str)
def test_the_original_s_command_line_gives_the_original_s_result(run: Run, tmp_path: Path) -> None:
    release = "--te-release=2.2" if "--gen-fp8-meta" in run.flags else OLD
    assert te(run.folder / "src", tmp_path / "dst", *run.flags, release) == 0
    found = {key: array for key, array in arrays(tmp_path / "dst").items() if not WRONG_AMAX.match(key)}
    same_dtype_aside(found, rightly(run), run.source())


@pytest.mark.parametrize("run", cases(failed), ids=str)
def test_the_command_lines_that_the_original_failed_on_convert(run: Run, tmp_path: Path) -> None:
    assert te(run.folder / "src", tmp_path / "dst", *run.flags, OLD) == 0
    assert main(["roundtrip", str(run.folder / "src"), str(tmp_path / "dst")]) == 0


@pytest.mark.parametrize("run", cases(lambda run: rightly_converted(run) and "chunk4" in run.name), ids=str)
def test_chunks_are_the_original_s(run: Run, tmp_path: Path) -> None:
    assert te(run.folder / "src", tmp_path / "dst", *run.flags, OLD) == 0
    for path in sorted((run.folder / "dst").glob("*/.zarray")):
        theirs = json.loads(path.read_text())
        ours = json.loads((tmp_path / "dst" / path.parent.name / ".zarray").read_text())
        assert ours["chunks"] == theirs["chunks"], path.parent.name


SOURCES = {
    "pax_norepeat": [
        [],
        ["--te-qkv-layout=kv_packed"],
        ["--te-norm-scale=stored"],
        ["--te-norm-scale=direct"],
        ["--weight-only"],
        ["--skip-ln"],
    ],
    "pax_repeat": [[], ["--te-qkv-layout=kv_packed"], ["--skip-bias"], ["--skip-bias", "--te-norm-scale=direct"]],
    "pax_split": [[], ["--te-qkv-layout=kv_packed"]],
    "pax_split_gated_nobias": [[], ["--te-release=1.7"], ["--kernel-chunk-size=4"]],
    "pax_gqa": [[]],
    "pax_gqa_real": [[]],
    "pax_repeat_gated_wo": [[]],
    "t5x_adamw": [[], ["--t5x-fuse-qkv"], ["--t5x-fuse-qkv", "--weight-only"], ["--skip-ln"]],
    "t5x_adamw_bf16": [["--t5x-fuse-qkv"]],
    "t5x_weights": [["--t5x-fuse-qkv"]],
}


@pytest.mark.parametrize(
    ("name", "flags"), [(name, flags) for name, cases in SOURCES.items() for flags in cases], ids=str
)
def test_there_and_back_is_exact(name: str, flags: list[str]) -> None:
    """And the round trip, from the plan alone, says so."""
    step = next(iter(sorted((unpacked("sources") / name).iterdir())))
    source = step / "state" if (step / "state").is_dir() else step
    folder = there_and_back(name, *flags)
    there, again = arrays(source), arrays(folder / "fw")
    assert sorted(there) == sorted(again)
    for key, array in there.items():
        assert (array.dtype, array.shape, array.tobytes()) == (again[key].dtype, again[key].shape, again[key].tobytes())
    assert main(["roundtrip", str(source), str(folder / "te")]) == 0


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("t5x_adamw", ["--t5x-fuse-qkv"]),
        ("pax_norepeat", []),
        ("pax_norepeat", ["--te-norm-scale=direct"]),
        ("pax_split_gated_nobias", []),
    ],
    ids=str,
)
def test_equivalence_from_the_command_line(name: str, flags: list[str], tmp_path: Path) -> None:
    step = next(iter(sorted((unpacked("sources") / name).iterdir())))
    source = step / "state" if (step / "state").is_dir() else step
    assert te(source, tmp_path / "te", f"--fw={name.partition('_')[0]}", "--direction=fw2te", *flags) == 0
    assert main(["equivalence", str(source), str(tmp_path / "te"), "--probe-length=64"]) == 0


def pax(name: str) -> Path:
    return next(iter((unpacked("sources") / name).iterdir())) / "state"


@pytest.mark.parametrize(
    ("flags", "code", "why"),
    [
        (["--direction=fw2tw"], 2, "the original's manual misspells te2fw"),
        (["--direction=te2fw"], 2, "is pax/lm, but --direction te2fw needs a TE checkpoint (--direction fw2te)"),
        (["--direction=fw2te", "--pax-repeat"], 2, "--pax-repeat, but pax/lm has a subtree per layer"),
        (["--direction=fw2te", "--num-of-layer=3"], 3, "says layers = 2"),
        (["--direction=fw2te", "--num-of-head=3"], 3, "says heads = 2"),
        (["--direction=fw2te", "--head-dim=3"], 3, "says head_dim = 4"),
        (["--direction=fw2te", "--mlp-intermediate-dim=11"], 3, "says mlp = 10"),
        (["--direction=fw2te", "--embed-dim=9"], 3, "says embed = 8"),
        (["--direction=fw2te", "--num-gqa-groups=1"], 3, "has 2 heads of keys and values, not 1"),
        (["--direction=fw2te", "--num-of-layer=0"], 2, "--num-of-layer 0 (at least 1)"),
        (["--direction=fw2te", "--gen-fp8-meta", "--amax-history-len=0"], 2, "--amax-history-len 0 (at least 1)"),
        (["--direction=fw2te", "--te-release=new"], 2, "isn't a release"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    flags: list[str], code: int, why: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert te(pax("pax_norepeat"), tmp_path / "te", "--fw=pax", *flags) == code
    said = capfd.readouterr().err.strip()
    assert why in said
    assert "\n" not in said
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "te").mkdir()
    assert te(pax("pax_norepeat"), tmp_path / "te", "--fw=pax", "--direction=fw2te") == 2
    assert "exists" in capfd.readouterr().err


def test_a_te_checkpoint_without_its_receipt_needs_the_heads(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = pax("pax_norepeat")
    assert te(source, tmp_path / "te", "--fw=pax", "--direction=fw2te") == 0
    (tmp_path / "te.convkit.json").unlink()
    assert te(tmp_path / "te", tmp_path / "fw", "--fw=pax", "--direction=te2fw") == 3
    assert "add --num-of-head" in capfd.readouterr().err
    assert te(tmp_path / "te", tmp_path / "fw", "--fw=pax", "--direction=te2fw", "--num-of-head=2") == 0
    np.testing.assert_equal(arrays(tmp_path / "fw"), arrays(source))


def test_a_mixed_tree_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "mixed"
    shutil.copytree(recorded("t5x/fused__fw2te").folder / "src", source)
    other = recorded("t5x/fused__fw2te").folder / "dst"
    shutil.copytree(other / "target.encoder.layers_1.mlp.wi_kernel", source / "target.encoder.layers_1.mlp.wi_kernel")
    assert te(source, tmp_path / "te", "--fw=t5x", "--direction=fw2te") == 3
    assert "mixes the leaves of t5x/t5, te/t5" in capfd.readouterr().err


def test_the_step_folder_of_pax_will_do(tmp_path: Path) -> None:
    step = pax("pax_norepeat").parent
    assert te(step, tmp_path / "te", "--fw=pax", "--direction=fw2te") == 0
    assert te(pax("pax_norepeat"), tmp_path / "same", "--fw=pax", "--direction=fw2te") == 0
