"""What ``--overwrite`` replaces, what it refuses to, and paths without a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from convkit.cli import main


@pytest.fixture
def model(tmp_path: Path) -> Path:
    assert main(["fetch", "generated://llama?layers=1", str(tmp_path / "model")]) == 0
    return tmp_path / "model"


def to_cerebras(source: Path, target: Path, *options: str) -> int:
    return main(["convert", str(source), str(target), "--to", "cerebras/llama", "--overwrite", *options])


def test_never_the_source_nor_what_holds_it(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for target in (model, tmp_path):
        assert to_cerebras(model, target, "--format", "safetensors") == 2
        assert "is the source, or holds it" in capsys.readouterr().err
    assert (model / "config.json").is_file()


def test_never_a_folder_of_others(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious.txt").touch()
    assert to_cerebras(model, other, "--format", "safetensors") == 2
    assert (other / "precious.txt").is_file()


def test_a_file_gives_way_to_a_folder_and_back(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    for options in (["--format", "cerebras-h5"], ["--format", "safetensors"], ["--format", "cerebras-h5"]):
        assert to_cerebras(model, target, *options) == 0
        assert target.is_dir() == (options[1] == "safetensors")
        assert main(["verify", str(target)]) == 0


def test_here(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model)
    assert main(["convert", ".", "../made.mdl", "--to", "cerebras/llama"]) == 0
    assert main(["roundtrip", ".", "../made.mdl"]) == 0
    assert main(["inspect", "."]) == 0


def test_headless_wins_over_the_receipt(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, back = tmp_path / "made.mdl", tmp_path / "back"
    assert to_cerebras(model, made) == 0
    assert main(["convert", str(made), str(back), "--to", "hf/llama", "--headless"]) == 0
    capsys.readouterr()
    assert main(["inspect", str(back)]) == 0
    shown = capsys.readouterr().out
    assert "\nembed_tokens.weight" in shown and "lm_head" not in shown.split("leaves")[1]
    assert main(["equivalence", str(made), str(back)]) == 0


def test_a_dropped_leaf_is_no_disagreement(model: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(model / "model.safetensors")
    save_file(weights | {"extra.foo": weights["model.norm.weight"]}, model / "model.safetensors")
    assert to_cerebras(model, tmp_path / "made.mdl", "--drop", "extra.*") == 0
    assert main(["roundtrip", str(model), str(tmp_path / "made.mdl")]) == 0
    assert main(["equivalence", str(model), str(tmp_path / "made.mdl")]) == 0


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A checkpoint of release 1.7 of three layers, with its config."""
    assert main(["fetch", "generated://cerebras-old?release=1.7", str(tmp_path / "old")]) == 0
    return tmp_path / "old" / "model.mdl"


def repair(source: Path, target: Path) -> int:
    return main(["cerebras", "fix-checkpoint-spec", str(source), "--fixed_checkpoint_path", str(target), "--overwrite"])


def beside(target: Path) -> set[str]:
    return {path.name for path in target.parent.glob(f"{target.stem}*")}


def test_a_repair_over_a_conversion_has_its_own_config(model: Path, old: Path, tmp_path: Path) -> None:
    made = tmp_path / "made.mdl"
    assert to_cerebras(model, made) == 0
    assert beside(made) == {"made.mdl", "made.yaml", "made.mdl.convkit.json", "made.mdl.companions"}
    assert repair(old, made) == 0
    assert (tmp_path / "made.yaml").read_bytes() == (old.parent / "params.yaml").read_bytes()
    assert beside(made) == {"made.mdl", "made.yaml", "made.mdl.convkit.json"}


def test_nothing_is_left_of_a_conversion_to_a_file(model: Path, old: Path, tmp_path: Path) -> None:
    made = tmp_path / "made.mdl"
    assert to_cerebras(model, made) == 0
    assert main(["convert", str(old), str(made), "--to", "hf/llama", "--overwrite"]) == 0
    kept = {"made.mdl", "made.mdl.convkit.json", "made.mdl.complement.safetensors"}
    assert beside(made) == kept
    assert main(["fetch", str(old), str(made), "--overwrite"]) == 0
    assert beside(made) == {"made.mdl", "made.mdl.fetch.json"}
    assert to_cerebras(model, made) == 0
    assert "made.mdl.fetch.json" not in beside(made)
    assert main(["fetch", str(model), str(made), "--overwrite"]) == 0
    assert beside(made) == {"made.mdl", "made.mdl.fetch.json"}


def test_a_config_that_was_edited_stays(model: Path, old: Path, tmp_path: Path) -> None:
    made = tmp_path / "made.mdl"
    assert to_cerebras(model, made) == 0
    edited = (tmp_path / "made.yaml").read_text() + "mine: 1\n"
    (tmp_path / "made.yaml").write_text(edited)
    assert main(["fetch", str(old), str(made), "--overwrite"]) == 0
    assert (tmp_path / "made.yaml").read_text() == edited


@pytest.mark.parametrize("journal", ["5\n", "[]\n", '{"schema": []}\n[1]\n', "\x00", "\udcff\n"])
def test_a_journal_that_is_none_is_no_obstacle(journal: str, model: Path, tmp_path: Path) -> None:
    part = tmp_path / ".made.mdl.convkit-part"
    (part / "out").mkdir(parents=True)
    (part / "journal.jsonl").write_bytes(journal.encode(errors="surrogateescape"))
    assert to_cerebras(model, tmp_path / "made.mdl") == 0
    assert main(["verify", str(tmp_path / "made.mdl")]) == 0
