"""``convkit cerebras data-iter-state``: the original's result, and the cases that it didn't handle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from goldens import golden_dir
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.cli import main
from convkit.formats.cerebras_h5.format import FORMAT
from convkit.generate.old_mdl import write_old
from convkit.state.cerebras.loader_state import GLOBAL, Workers, read_workers, write_workers

CARRY = ["cerebras", "data-iter-state"]


def checkpoint(folder: Path, **more: Any) -> Path:
    weight = np.arange(6, dtype="f4").reshape(2, 3)
    write_old(folder / "old.mdl", {"model": {"w": weight}, "global_step": 15, **more}, "1.9")
    return folder / "old.mdl"


def workers(folder: Path, samples: dict[int, int], step: int = 15) -> Path:
    write_workers(folder / "workers", Workers(step, samples))
    return folder / "workers"


def command(folder: Path, *options: str) -> list[str]:
    return [
        *CARRY,
        "-c",
        str(folder / "old.mdl"),
        "-w",
        str(folder / "workers"),
        "-o",
        str(folder / "new.mdl"),
        *options,
    ]


def values(path: Path) -> dict[str, Any]:
    with FORMAT.open(path) as opened:
        return {key: leaf.value for key, leaf in opened.leaves.items() if key.startswith("dataloader")}


def contents(path: Path) -> tuple[str, dict[str, Any]]:
    with FORMAT.open(path) as opened:
        leaves = opened.leaves.items()
        return opened.metadata["spec"], {
            key: opened.read(key).tobytes() if leaf.spec else leaf.value for key, leaf in leaves
        }


def refused(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str, code: int = 3
) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main(arguments) == code
    said = capsys.readouterr().err.strip()
    assert problem in said
    assert "\n" not in said
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.golden
@pytest.mark.parametrize("kind", ["map", "iterable"])
@pytest.mark.parametrize("long", [True, False])
def test_gives_what_the_original_gave(tmp_path: Path, kind: str, long: bool) -> None:
    folder = golden_dir("cerebras.tar.gz") / "_oldfmt"
    short = ["-c", "-w", "-o", "-d", "-s"]
    flags = ["old_checkpoint", "worker_data_iter_files_dir", "output_file", "dataloader_type", "shuffle_seed"]
    given = [str(folder / "r19_fixed.mdl"), str(folder / "dl_r19"), str(tmp_path / "new.mdl"), kind, "42"]
    words = [f"--{flag}" for flag in flags] if long else short
    options = [word for pair in zip(words, given, strict=True) for word in pair]
    assert main([*CARRY, *options, "--allow-missing-workers"]) == 0
    assert contents(tmp_path / "new.mdl") == contents(folder / f"out_{kind}.mdl")


def test_says_what_it_added_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(tmp_path)
    (workers(tmp_path, {0: 5, 1: 7}) / "notes.txt").write_text("unrelated")
    assert main(command(tmp_path, "-s", "3")) == 0
    said = capsys.readouterr()
    assert "all     12" in said.out
    assert "notes.txt isn't a worker's file: ignored" in said.err
    assert values(tmp_path / "new.mdl") == {"dataloader.samples_streamed": 12, "dataloader.seed": 3}


def test_files_of_another_step_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(tmp_path)
    workers(tmp_path, {0: 5}, step=13)
    assert main(command(tmp_path)) == 0
    assert "the files are of data step 13, the checkpoint of global_step 15" in capsys.readouterr().err


def test_missing_workers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(tmp_path)
    workers(tmp_path, {0: 5, 2: 7})
    refused(tmp_path, capsys, command(tmp_path), "has no file of step 15 for worker 1 (")
    assert main(command(tmp_path, "--allow-missing-workers")) == 0
    assert "worker 1 has no file of step 15: left out" in capsys.readouterr().err


def test_wide_gaps_are_named_by_their_ends(tmp_path: Path) -> None:
    """An absurd id doesn't make the code count up to it."""
    folder = workers(tmp_path, {1: 5, 3: 5, 10: 7, 10**12: 1})
    (folder / f"data_iter_state_file_worker_{10**12 + 2}_step_10.txt").write_text("3\n")
    gaps = ("0", "2", "4-9", f"11-{10**12 - 1}", f"{10**12 + 1}-{10**12 + 2}")
    assert read_workers(folder, allow_missing=True).missing == gaps


def test_a_worker_that_was_there_before_is_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(tmp_path)
    (workers(tmp_path, {0: 5}) / "data_iter_state_file_worker_1_step_10.txt").write_text("3\n")
    refused(tmp_path, capsys, command(tmp_path), "for worker 1 (")


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        (GLOBAL, None, f"{GLOBAL}: can't be read"),
        (GLOBAL, "", "first line isn't a number: ''"),
        (GLOBAL, "1.5", "first line isn't a number: '1.5'"),
        (GLOBAL, "16", "no worker's file of step 16: its files are of steps [15]"),
        ("data_iter_state_file_worker_0_step_15.txt", "many", "isn't a number: 'many'"),
        ("data_iter_state_file_worker_0_step_15.txt", "-3", "isn't a number: '-3'"),
        ("data_iter_state_file_worker_0_step_15.txt", "7" * 200, "isn't a number: '777"),
        ("data_iter_state_file_worker_00_step_15.txt", "3", "of the same worker as"),
    ],
)
def test_refuses_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str | None, problem: str
) -> None:
    checkpoint(tmp_path)
    path = workers(tmp_path, {0: 5}) / name
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    refused(tmp_path, capsys, command(tmp_path), problem)


def test_refuses_a_folder_without_workers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(tmp_path)
    refused(tmp_path, capsys, command(tmp_path), "isn't a folder")
    workers(tmp_path, {})
    refused(tmp_path, capsys, command(tmp_path), "no worker's file of step 15: it has no such files")


def test_what_is_there_is_never_replaced_silently(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(tmp_path, dataloader={"samples_streamed": 1, "seed": 0})
    workers(tmp_path, {0: 5})
    refused(tmp_path, capsys, command(tmp_path), "dataloader: already exists")
    assert main(command(tmp_path, "--replace")) == 0
    assert values(tmp_path / "new.mdl")["dataloader.samples_streamed"] == 5
    capsys.readouterr()
    refused(tmp_path, capsys, command(tmp_path, "--replace"), "new.mdl: exists", 2)
    onto_itself = [*command(tmp_path, "--replace", "--overwrite"), "-o", str(tmp_path / "old.mdl")]
    refused(tmp_path, capsys, onto_itself, "old.mdl: is the checkpoint itself", 2)
    onto_all = [*command(tmp_path, "--replace", "--overwrite"), "-o", str(tmp_path)]
    refused(tmp_path, capsys, onto_all, "is a folder", 2)


def test_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(tmp_path)
    refused(tmp_path, capsys, command(tmp_path)[:-2], "--output_file is missing", 2)
    refused(tmp_path, capsys, command(tmp_path, "--reverse"), "leave it out", 2)
    refused(tmp_path, capsys, [*CARRY, "-c", str(tmp_path / "no.mdl"), "-w", "x", "--reverse"], "no such file")


# --- back --------------------------------------------------------------------------------------------------------


def back(folder: Path, source: str = "new.mdl") -> list[str]:
    return [*CARRY, "--reverse", "-c", str(folder / source), "-w", str(folder / "back")]


@pytest.mark.parametrize("kind", ["map", "iterable"])
def test_there_and_back(tmp_path: Path, kind: str) -> None:
    checkpoint(tmp_path)
    files = workers(tmp_path, {0: 5, 1: 7, 2: 0}, step=13)
    assert main(command(tmp_path, "-d", kind)) == 0
    assert main(back(tmp_path)) == 0
    assert {path.name: path.read_bytes() for path in files.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "back").iterdir()
    }


def test_back_is_tried_and_never_replaces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(tmp_path)
    workers(tmp_path, {0: 5, 1: 7})
    assert main(command(tmp_path)) == 0
    assert main([*back(tmp_path), "--dry-run"]) == 0
    assert not (tmp_path / "back").exists()
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "mine.txt").write_text("kept")
    capsys.readouterr()
    refused(tmp_path, capsys, back(tmp_path), "back: exists (name a folder to make)", 2)
    refused(tmp_path, capsys, [*back(tmp_path), "--overwrite"], "back: exists", 2)


def test_a_later_repair_remembers_the_workers(tmp_path: Path) -> None:
    """Of a map loader only records know who streamed what: they hand it on."""
    checkpoint(tmp_path, lr_scheduler={"last_epoch": 0})
    files = workers(tmp_path, {0: 5, 1: 7})
    assert main(command(tmp_path)) == 0
    assert main(["cerebras", "fix-checkpoint-spec", str(tmp_path / "new.mdl")]) == 0
    assert main(back(tmp_path, "new_fixed.mdl")) == 0
    assert read_workers(tmp_path / "back") == read_workers(files)


def test_back_without_the_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An iterable state says enough, with the training's step; a sum doesn't."""
    checkpoint(tmp_path)
    workers(tmp_path, {0: 5, 1: 7}, step=13)
    for kind in ("iterable", "map"):
        assert main(command(tmp_path, "-d", kind)) == 0
        (tmp_path / "new.mdl.convkit.json").unlink()
        (tmp_path / "new.mdl").rename(tmp_path / f"{kind}.mdl")
    assert main(back(tmp_path, "iterable.mdl")) == 0
    assert read_workers(tmp_path / "back") == Workers(15, {0: 5, 1: 7})
    shutil.rmtree(tmp_path / "back")
    capsys.readouterr()
    refused(tmp_path, capsys, back(tmp_path, "map.mdl"), "is the sum of all workers, 12: it doesn't show each")


def test_a_record_of_another_state_is_not_believed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(tmp_path)
    workers(tmp_path, {0: 5, 1: 7})
    assert main(command(tmp_path)) == 0
    path = tmp_path / "new.mdl.convkit.json"
    record = json.loads(path.read_text())
    record["complement"]["workers"]["samples"]["1"] = 8
    path.write_text(json.dumps(record))
    capsys.readouterr()
    refused(tmp_path, capsys, back(tmp_path), "it doesn't show each worker's share")
    path.write_text("{")
    refused(tmp_path, capsys, back(tmp_path), "is not valid JSON")
    path.write_text('{"schema": "convkit.receipt/2", "kind": "repair"}')
    refused(tmp_path, capsys, back(tmp_path), "lacks plan (use the convkit that wrote it)")


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        ({}, "all_worker_states: is missing"),
        ({"dataloader": {"all_worker_states": []}}, "is missing, or holds no worker's state"),
        ({"dataloader": {"all_worker_states": [{"shard_index": 0}]}}, "isn't a worker's state"),
        (
            {"dataloader": {"all_worker_states": 2 * [{"shard_index": 0, "samples_streamed": 1}]}},
            "isn't a worker's state",
        ),
    ],
)
def test_refuses_states(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], state: dict[str, Any], problem: str
) -> None:
    checkpoint(tmp_path, **state)
    refused(tmp_path, capsys, back(tmp_path, "old.mdl"), problem)


@settings(max_examples=25, deadline=None)
@given(
    samples=st.dictionaries(st.integers(0, 300), st.integers(0, 2**70), min_size=1, max_size=8),
    step=st.integers(0, 10**9),
    kind=st.sampled_from(["map", "iterable"]),
)
def test_any_workers_come_back(
    tmp_path_factory: pytest.TempPathFactory, samples: dict[int, int], step: int, kind: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    checkpoint(folder)
    workers(folder, samples, step)
    assert main(command(folder, "-d", kind, "--allow-missing-workers")) == 0
    assert main(back(folder)) == 0
    assert read_workers(folder / "back", allow_missing=True).samples == dict(sorted(samples.items()))
