"""Tensors that a checkpoint lacks are drawn from a seed: asked for, reproducible, recorded, and proved as drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from convkit.checkpoint.drawn import Drawn
from convkit.cli import main
from convkit.formats import open_checkpoint
from convkit.generate import generate

#: of the seed and the key in the test: the definition, which no release may change
FIRST = [0.28147101402282715, -0.49773603677749634, 0.3847910761833191]
PROJECTOR = "text_model.model.mm_projector"


@pytest.fixture
def lacking(tmp_path: Path) -> Path:
    """A LLaVA without a projector, as its parts are before they are trained together."""
    generate("generated://llava?layers=1&vision_layers=1&feature_layer=-1&hidden=12&heads=2&vocab=29", tmp_path / "hf")
    file = tmp_path / "hf" / "text_model" / "model.safetensors"
    from safetensors.numpy import load_file, save_file

    save_file({key: value for key, value in load_file(file).items() if "mm_projector" not in key}, file)
    return tmp_path / "hf"


def _all(path: Path) -> dict[str, bytes]:
    with open_checkpoint(path) as checkpoint:
        return {key: checkpoint.read(key).tobytes() for key, leaf in checkpoint.leaves.items() if leaf.spec}


def test_numbers_are_uniform_and_their_own() -> None:
    drawn = Drawn("a", (40, 25), "float32", 0.5, 7)
    values = drawn.values(0, 1000).view("<f4")
    assert -0.5 <= values.min() < -0.45 and 0.45 < values.max() < 0.5 and abs(values.mean()) < 0.03
    assert drawn.values(300, 400).tobytes() == values[300:400].tobytes()
    others = (Drawn("b", (40, 25), "float32", 0.5, 7), Drawn("a", (40, 25), "float32", 0.5, 8))
    assert all(not np.array_equal(other.values(0, 1000).view("<f4"), values) for other in others)
    # the stream that the documentation promises
    assert values[:3].tolist() == pytest.approx(FIRST, abs=1e-7)


def test_without_a_seed_it_is_refused(lacking: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(lacking), str(tmp_path / "m.mdl"), "--to", "cerebras/llava"]) == 3
    said = capsys.readouterr().err
    assert f"{PROJECTOR}.0.weight: is missing" in said and "draw it: --seed N" in said and said.count("\n") == 1


@pytest.mark.parametrize("layout", ["cerebras/llava", "cerebras/multimodal_simple"])
def test_with_a_seed_it_is_made_and_proved(
    layout: str, lacking: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, again, other = (tmp_path / name for name in ("m.mdl", "again.mdl", "other.mdl"))
    for path, seed in ((made, 5), (again, 5), (other, 6)):
        assert main(["convert", str(lacking), str(path), "--to", layout, "--seed", str(seed)]) == 0
    assert "lacks 4 tensors" in capsys.readouterr().err
    assert _all(made) == _all(again) != _all(other)
    receipt = json.loads((tmp_path / "m.mdl.convkit.json").read_text())
    drawn = receipt["plan"]["source"]["wrapped"]["drawn"]
    assert [one["key"] for one in drawn] == [f"{PROJECTOR}.{n}.{end}" for n in (0, 2) for end in ("weight", "bias")]
    assert {one["seed"] for one in drawn} == {5} and drawn[0]["bound"] == 28**-0.5
    assert any("drawn from seed 5" in warning for warning in receipt["warnings"])
    for check in ("roundtrip", "equivalence"):
        capsys.readouterr()
        assert main([check, str(lacking), str(made), "--json"]) == 0
        verdict = json.loads(capsys.readouterr().out)
        assert all(fault["caught"] for fault in verdict["faults"])
    assert sum("drawn from seed 5" in note for note in verdict["details"]["notes"]) == 4
    # what comes back has the projector, and without it nothing else than the source
    assert main(["convert", str(made), str(tmp_path / "back"), "--to", "hf"]) == 0
    came = _all(tmp_path / "back")
    assert {key: value for key, value in came.items() if "mm_projector" not in key} == _all(lacking)
    assert sum("mm_projector" in key for key in came) == 4
    assert main(["roundtrip", str(made), str(tmp_path / "back")]) == 0


def test_through_the_tools_own_command(lacking: Path, tmp_path: Path) -> None:
    words = ["--model", "llava", "--src-fmt", "hf", "--tgt-fmt", "cs-2.9", "--config", str(lacking)]
    assert main(["cerebras", "convert", str(lacking), *words, "--output-dir", str(tmp_path / "out")]) == 3
    words += ["--seed", "5", "--output-dir", str(tmp_path / "out")]
    assert main(["cerebras", "convert", str(lacking), *words]) == 0
    assert main(["convert", str(lacking), str(tmp_path / "m.mdl"), "--to", "cerebras/llava", "--seed", "5"]) == 0
    assert _all(tmp_path / "out" / "pytorch_model_to_cs-2.9.mdl") == _all(tmp_path / "m.mdl")


def test_a_seed_that_draws_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate("generated://llava?layers=1&vision_layers=1&feature_layer=-1", tmp_path / "llava")
    generate("generated://llama?layers=1", tmp_path / "llama")
    for name, why in (("llava", "it has all tensors that could be drawn"), ("llama", "no tensor of it can be drawn")):
        words = ["--to", f"cerebras/{name}", "--seed", "1"]
        assert main(["convert", str(tmp_path / name), str(tmp_path / "m.mdl"), *words]) == 2
        assert f"--seed 1: {why}" in capsys.readouterr().err
