"""The round trip of a repair: what it passes, and the faults that it must catch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from convkit.cli import main
from convkit.files.receipt import receipt_path
from convkit.generate.old_mdl import write_old
from convkit.state.cerebras.loader_state import Workers, write_workers


@pytest.fixture
def repaired(tmp_path: Path) -> tuple[Path, Path]:
    weight = np.arange(12, dtype="f4").reshape(4, 3)
    state: dict[str, Any] = {
        "model": {"embedding_layer.word_embeddings.weight": weight, "lm_head.weight": weight, "b": np.ones(3)},
        "lr_scheduler": {"last_epoch": 1},
        "global_step": 15,
    }
    source, target = tmp_path / "old.mdl", tmp_path / "new.mdl"
    write_old(source, state, "1.7", ["model.lm_head.weight"])
    assert main(["cerebras", "fix-checkpoint-spec", str(source), "--fixed_checkpoint_path", str(target)]) == 0
    return source, target


def judged(source: Path, target: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    code = main(["roundtrip", str(source), str(target), "--json"])
    verdict: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == (0 if verdict["passed"] else 1)
    return verdict


def test_passes_a_repair(repaired: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    verdict = judged(*repaired, capsys)
    assert verdict["passed"]
    assert verdict["measured"] == {"leaves": 5, "changed": 2, "different": 0}
    assert verdict["sensitivity"] == "caught 6 of 6"


def test_passes_a_loader_state(repaired: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    source, target = repaired
    files = source.parent / "files"
    files.mkdir()
    (files / "data_iter_checkpoint_state_file_global").write_text("15\n")
    (files / "data_iter_state_file_worker_0_step_15.txt").write_text("7\n")
    again = source.parent / "again.mdl"
    assert main(["cerebras", "data-iter-state", "-c", str(target), "-w", str(files), "-o", str(again)]) == 0
    verdict = judged(target, again, capsys)
    assert verdict["passed"]
    assert verdict["measured"]["changed"] == 2


def bits(file: h5py.File) -> None:
    file["model.b"][0] = 2


def epoch(file: h5py.File) -> None:
    name = "lr_scheduler.last_epoch.__metadata__"
    record = json.loads(file.attrs[name])
    record[name]["scalar_value"] = 14
    file.attrs[name] = json.dumps(record)


def untied(file: h5py.File) -> None:
    name = "model.lm_head.weight.__metadata__"
    record = json.loads(file.attrs[name])
    record[name]["key"] = "model.b"
    file.attrs[name] = json.dumps(record)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (bits, "model.b: its bits differ from model.b in the source"),
        (epoch, "lr_scheduler.last_epoch: is 14, but should be 15"),
        (untied, "model.lm_head.weight: differs from model.embedding_layer.word_embeddings.weight in the source"),
    ],
)
def test_catches(
    repaired: tuple[Path, Path], capsys: pytest.CaptureFixture[str], damage: Callable[[h5py.File], None], problem: str
) -> None:
    with h5py.File(repaired[1], "r+") as file:
        damage(file)
    verdict = judged(*repaired, capsys)
    assert not verdict["passed"]
    assert verdict["problems"] == [problem]


def test_catches_what_the_record_does_not_say(repaired: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = receipt_path(repaired[1])
    record = json.loads(path.read_text())
    record["repairs"] = []
    path.write_text(json.dumps(record))
    verdict = judged(*repaired, capsys)
    assert verdict["problems"] == ["lr_scheduler.last_epoch: differs from lr_scheduler.last_epoch in the source"]


# --- by the record alone, at any later time --------------------------------------------------------------------------


def verified(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    code = main(["verify", str(path), "--json"])
    verdict: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == (0 if verdict["passed"] else 1)
    return verdict


def test_a_repair_is_what_its_record_says(repaired: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    verdict = verified(repaired[1], capsys)
    assert verdict["passed"], verdict["problems"]
    assert verdict["measured"]["leaves_total"] == 5
    assert verdict["source"] == str(repaired[0])
    assert verdict["sensitivity"] == "caught 8 of 8"


def test_a_loader_state_is_what_its_record_says(
    repaired: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = repaired
    files, made = source.parent / "files", source.parent / "made.mdl"
    write_workers(files, Workers(15, dict.fromkeys(range(12), 7)))
    carry = ["cerebras", "data-iter-state", "-c", str(target), "-w", str(files), "-o", str(made), "-d", "iterable"]
    assert main(carry) == 0
    assert verified(made, capsys)["passed"]


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (bits, "model.b: its digest differs from the receipt"),
        (epoch, "lr_scheduler.last_epoch: its digest differs from the receipt"),
        (untied, "model.lm_head.weight: is float64[3], the receipt says float32[4, 3]"),
    ],
)
def test_a_damaged_repair_is_found_out(
    repaired: tuple[Path, Path], capsys: pytest.CaptureFixture[str], damage: Callable[[h5py.File], None], problem: str
) -> None:
    with h5py.File(repaired[1], "r+") as file:
        damage(file)
    problems = verified(repaired[1], capsys)["problems"]
    assert [line for line in problems if not line.startswith("new.mdl: ")] == [problem]


def test_an_edited_record_is_found_out(repaired: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = receipt_path(repaired[1])
    record = json.loads(path.read_text())
    record["plan"]["repairs"] = []
    path.write_text(json.dumps(record))
    assert "it was edited" in verified(repaired[1], capsys)["problems"][0]
