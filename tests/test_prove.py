"""``convkit prove``: every stage in one command, which goes on where it ended, and a page that says what is so now."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import HERE
from safetensors.numpy import load_file, save_file
from test_schemas import validator

from convkit.cli import main
from convkit.files.receipt import receipt_path
from convkit.generate import generate

SOURCE = HERE / "llama_gqa" / "hf"
#: checks that are quick, and show nothing: whatever is proved then is proved of the round trip alone
QUICK = ("--faults", "none", "--probe-length", "2")
SAID = ("roundtrip", "equivalence")


def prove(source: Path | str, target: Path, *words: str) -> int:
    return main(["prove", str(source), str(target), "--to", "cerebras/llama", *words])


def document(target: Path, stage: str) -> dict[str, Any]:
    return json.loads(target.with_name(f"{target.name}.{stage}.json").read_text())


def row(target: Path) -> dict[str, Any]:
    return document(target, "summary")["rows"][0]


def made_at(target: Path) -> dict[str, tuple[int, int]]:
    """By what was made, when."""
    places = {"target": target, "receipt": receipt_path(target)}
    places |= {stage: target.with_name(f"{target.name}.{stage}.json") for stage in SAID}
    return {name: (path.stat().st_ino, path.stat().st_mtime_ns) for name, path in places.items()}


def changed(before: dict[str, tuple[int, int]], target: Path) -> set[str]:
    return {name for name, now in made_at(target).items() if before[name] != now}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return shutil.copytree(SOURCE, tmp_path / "source")


@pytest.fixture
def target(source: Path, tmp_path: Path) -> Path:
    """An output whose checks were made quickly: its round trip is proved, its equivalence isn't shown."""
    assert prove(source, tmp_path / "made.mdl", *QUICK) == 1
    return tmp_path / "made.mdl"


def test_all_stages_and_their_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "made.mdl"
    assert prove(SOURCE, target, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed.pop("page") == str(target) + ".report.html"
    assert printed == document(target, "summary")
    assert (row(target)["verdict"], row(target)["source"]) == ("yes", str(SOURCE))
    for stage in SAID:
        validator("verdict").validate(document(target, stage))
    validator("receipt").validate(document(target, "convkit"))
    assert not [*tmp_path.glob("made.mdl.plan.json"), *tmp_path.glob("made.mdl.convert.json")]
    before = made_at(target)
    assert prove(SOURCE, target) == 0
    assert not changed(before, target)
    assert "1 of 1 conversion proved" in capsys.readouterr().out


def test_only_what_is_missing_or_asked_for_otherwise_is_made(source: Path, target: Path) -> None:
    before = made_at(target)
    target.with_name("made.mdl.roundtrip.json").unlink()
    assert prove(source, target, *QUICK, "--no-fail") == 0
    assert changed(before, target) == {"roundtrip"}
    before = made_at(target)
    assert prove(source, target, *QUICK, "--stages", "0:0") == 1
    assert changed(before, target) == {"equivalence"}
    assert document(target, "equivalence")["covered"]


def test_other_bytes_than_those_that_were_made_are_never_shown_as_proved(
    source: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = made_at(target)
    data = bytearray(target.read_bytes())
    data[-1] ^= 1
    target.write_bytes(data)
    assert prove(source, target, *QUICK) == 2
    assert "made.mdl: exists, and isn't as it was written" in capsys.readouterr().err
    assert changed(before, target) == {"target"}
    assert prove(source, target, *QUICK, "--overwrite") == 1
    assert changed(before, target) == set(before)
    assert not row(target)["stale"]


def test_another_source_or_plan_needs_leave_to_replace_the_output(
    source: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = made_at(target)
    for words, why in ((["--release", "2.9"], "another plan"), (["--shard-size", "1MB"], "other options")):
        assert prove(source, target, *QUICK, *words) == 2
        assert why in capsys.readouterr().err
    weights = load_file(source / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] + np.float32(1)
    save_file(weights, source / "model.safetensors", {"format": "pt"})
    assert prove(source, target, *QUICK) == 2
    assert "made.mdl: exists, and was made of another source" in capsys.readouterr().err
    assert not changed(before, target)
    assert prove(source, target, *QUICK, "--overwrite") == 1
    assert changed(before, target) == set(before)
    assert document(target, "roundtrip")["passed"]


def test_the_same_source_elsewhere_is_the_same_and_is_checked_again(source: Path, target: Path, tmp_path: Path) -> None:
    before = made_at(target)
    assert prove(source.rename(tmp_path / "moved"), target, *QUICK) == 1
    assert changed(before, target) == set(SAID)


def test_what_was_made_by_hand_is_taken(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "made.mdl"
    assert main(["convert", str(source), str(target), "--to", "cerebras/llama"]) == 0
    with pytest.MonkeyPatch.context() as patch, (tmp_path / "made.mdl.roundtrip.json").open("w") as document:
        patch.setattr("sys.stdout", document)
        assert main(["roundtrip", str(source), str(target), "--json"]) == 0
    (tmp_path / "made.mdl.equivalence.json").write_text('{"schema": "convkit.error/1", "error": "stopped"}')
    before = made_at(target)
    assert prove(source, target, *QUICK) == 1
    assert changed(before, target) == {"equivalence"}
    assert row(target)["roundtrip"]["passed"]


def test_a_plan_that_fails_has_a_page(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, weights = tmp_path / "made.mdl", load_file(source / "model.safetensors")
    missing = {"model.norm.weight": weights.pop("model.norm.weight")}
    save_file(weights, source / "model.safetensors", {"format": "pt"})
    assert prove(source, target, *QUICK) == 3
    printed = capsys.readouterr()
    assert "convkit: plan: " in printed.err
    assert printed.out == f"{target}.report.html\n"
    assert (row(target)["stopped_at"], row(target)["verdict"]) == ("plan", "stopped")
    assert "model.norm.weight" in row(target)["problem"]
    save_file(weights | missing, source / "model.safetensors", {"format": "pt"})
    assert prove(source, target, *QUICK) == 1
    assert row(target)["stopped_at"] is None
    assert not target.with_name("made.mdl.plan.json").exists()


def test_a_conversion_that_fails_has_a_page_with_its_plan(source: Path, tmp_path: Path) -> None:
    target, weights = tmp_path / "made.mdl", load_file(source / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * np.float32(1e9)
    save_file(weights, source / "model.safetensors", {"format": "pt"})
    assert prove(source, target, *QUICK, "--dtype", "float16") == 3
    assert (row(target)["stopped_at"], row(target)["to"]) == ("convert", "cerebras/llama")
    validator("plan").validate(document(target, "plan"))
    assert document(target, "convert")["exit_code"] == 3
    assert not target.exists()


def test_a_command_that_asks_for_what_cannot_be_leaves_nothing(source: Path, target: Path, tmp_path: Path) -> None:
    before = made_at(target)
    assert main(["prove", str(source), str(tmp_path / "new"), "--to", "cerebras/lama"]) == 2
    assert main(["prove", str(source), str(tmp_path / "new"), "--to", "fix-checkpoint-spec"]) == 2
    assert main(["prove", str(tmp_path / "none"), str(target), "--to", "cerebras/llama"]) == 3
    (tmp_path / "new.roundtrip.json").write_text('{"mine": 1}')
    assert prove(source, tmp_path / "new") == 2
    assert {path.name for path in tmp_path.glob("new*")} == {"new.roundtrip.json"}
    assert not changed(before, target)


def test_a_chain_from_a_source_that_is_fetched(tmp_path: Path) -> None:
    target, uri = tmp_path / "made", "generated://llama?layers=1"
    words = ["--to", "hf/llama", "--through", "cerebras/llama", *QUICK]
    assert main(["prove", uri, str(target), *words]) == 1
    assert row(target)["source"] == uri
    assert document(target, "roundtrip")["passed"]
    assert (tmp_path / "made.source.fetch.json").is_file()
    before = made_at(target)
    assert main(["prove", uri, str(target), *words]) == 1
    assert not changed(before, target)


def test_a_migration_that_was_made_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "source").mkdir()
    save_file({"a": np.ones(3, "float32")}, tmp_path / "source" / "model.safetensors")
    paths = [str(tmp_path / "source"), str(tmp_path / "made")]
    assert main(["orbax", "migrate", *paths, "--to", "v1", "--no-restore"]) == 0
    assert main(["prove", *paths, "--format", "orbax-v1"]) == 2
    assert "made: exists, and its receipt doesn't say of which bytes it was made" in capsys.readouterr().err


@pytest.mark.slow
def test_a_migration_of_orbax(tmp_path: Path) -> None:
    generate("generated://orbax-v0", tmp_path / "source")
    words = [str(tmp_path / "source"), str(tmp_path / "made"), "--format", "orbax-v1"]
    assert main(["prove", *words]) == 0
    assert row(tmp_path / "made")["verdict"] == "yes"
    before = document(tmp_path / "made", "roundtrip"), receipt_path(tmp_path / "made").stat().st_mtime_ns
    assert main(["prove", *words]) == 0
    assert before == (document(tmp_path / "made", "roundtrip"), receipt_path(tmp_path / "made").stat().st_mtime_ns)
