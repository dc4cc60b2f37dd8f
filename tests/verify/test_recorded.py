"""A reference that is wrong is found out by logits that the framework itself recorded: it never says yes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from goldens import golden_dir
from paired_models import Pair, llama
from safetensors.torch import save_file

from convkit.cli import main
from convkit.errors import ConvkitError
from convkit.oracles.cerebras import decoder
from convkit.verify.equivalence.check import equivalence
from convkit.verify.equivalence.recorded import BOUND
from convkit.verify.equivalence.walk import Choices

torch.set_num_threads(1)

NO_FAULTS = Choices(faults="none")


class WithoutHalfOfTheRotation(decoder.CerebrasDecoder):
    """A reference made wrong on purpose: it rotates half of the dims, whatever the yaml says."""

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Any], path: Path | None = None) -> None:
        super().__init__({**config, "rotary_dim": config["rotary_dim"] // 2}, tensors, path)

    def rebuilt(self, config: Any = None, tensors: Any = None) -> decoder.CerebrasDecoder:
        config = config or self.config
        return type(self)({**config, "rotary_dim": 2 * config["rotary_dim"]}, tensors or self.tensors, self.path)


@pytest.fixture
def wrong_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "CerebrasDecoder", WithoutHalfOfTheRotation)


def write(folder: Path, tensors: Mapping[str, Any], config: dict[str, Any]) -> Path:
    """A checkpoint of Cerebras, or of transformers."""
    folder.mkdir()
    save_file({key: torch.as_tensor(value).clone() for key, value in tensors.items()}, folder / "model.safetensors")
    if "model_type" in config:
        (folder / "config.json").write_text(json.dumps(config))
    else:
        (folder / "params.yaml").write_text(yaml.safe_dump({"model": config}))
    return folder


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path, Path, dict[str, np.ndarray]]:
    """A recorded model in both layouts, a file of what Cerebras computed, and its arrays."""
    folder = golden_dir("cerebras_forward.tar.gz") / "llama_gqa" / "strong"
    hf_config = golden_dir("cerebras.tar.gz") / "llama_gqa" / "hf" / "config.json"
    cs_config = yaml.safe_load((folder / "params.yaml").read_text())["model"]
    hf = write(tmp_path / "hf", dict(np.load(folder / "hf.npz")), json.loads(hf_config.read_text()))
    cs = write(tmp_path / "cs", dict(np.load(folder / "cs.npz")), cs_config)
    found = np.load(folder / "forward.npz")
    arrays = {"input_ids": found["input_ids"], "lm": found["cs_logits"]}
    np.savez(tmp_path / "recorded.npz", **arrays)
    return hf, cs, tmp_path / "recorded.npz", arrays


@pytest.mark.golden
def test_a_right_reference_agrees(models: tuple[Path, Path, Path, dict[str, np.ndarray]]) -> None:
    hf, cs, file, _ = models
    verdict = equivalence(hf, cs, recorded={"source": file, "target": file})
    assert verdict.state == "yes" and not verdict.problems
    for name in ("source_recorded_max_rel", "target_recorded_max_rel"):
        assert 0 <= verdict.measured[name] < verdict.bound[name] == BOUND


@pytest.mark.golden
@pytest.mark.usefixtures("wrong_reference")
def test_a_wrong_reference_never_says_yes(
    models: tuple[Path, Path, Path, dict[str, np.ndarray]], capsys: pytest.CaptureFixture[str]
) -> None:
    hf, cs, file, _ = models
    # judged by another reference, the model isn't the same; judged by itself alone, nobody would know
    assert equivalence(hf, cs, choices=NO_FAULTS).state == "no"
    assert equivalence(cs, cs, choices=Choices(faults="spread")).state == "yes"
    for side in ("source", "target"):
        verdict = equivalence(cs, cs, recorded={side: file})
        assert verdict.state == "reference in doubt" and not verdict.passed
        (problem,) = verdict.problems
        assert problem.startswith(f"the reference of the {side} disagrees with the recorded lm: max_rel 0.")
        assert verdict.measured[f"{side}_recorded_max_rel"] > 100 * BOUND
    assert equivalence(hf, cs, choices=NO_FAULTS, recorded={"target": file}).state == "no"
    assert main(["equivalence", str(cs), str(cs), "--faults", "none", "--source-recorded", str(file)]) == 1
    assert capsys.readouterr().out.startswith("equivalence: REFERENCE IN DOUBT: ")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    made: Pair = llama(layers=1)
    folder = tmp_path_factory.mktemp("pair")
    return write(folder / "hf", made.hf, made.hf_config), write(folder / "cs", made.cs, made.cs_config)


def test_what_the_command_logits_writes_can_be_held_against(pair: tuple[Path, Path], tmp_path: Path) -> None:
    hf, cs = pair
    ids, out = tmp_path / "ids.npz", tmp_path / "out.npz"
    np.savez(ids, input_ids=np.arange(20)[None])
    assert main(["logits", str(cs), "--ids", str(ids), "--out", str(out)]) == 0
    recorded = {"input_ids": np.arange(20)[None], **np.load(out)}
    for lm, doubt in ((recorded["lm"], ""), (recorded["lm"][..., 1:], "shapes"), (recorded["lm"] * np.nan, "finite")):
        np.savez(tmp_path / "both.npz", **recorded | {"lm": lm})
        verdict = equivalence(hf, cs, choices=NO_FAULTS, recorded={"source": tmp_path / "both.npz"})
        assert verdict.state == ("reference in doubt" if doubt else "not shown")
        assert any("disagrees with the recorded lm" in problem for problem in verdict.problems) == bool(doubt)


def test_a_file_that_is_no_recording(pair: tuple[Path, Path], tmp_path: Path) -> None:
    hf, cs = pair
    ids, file = {"input_ids": np.arange(20)[None]}, tmp_path / "recorded.npz"
    for arrays, said in (
        (ids, "no output is recorded"),
        ({"lm": np.zeros((1, 20, 23))}, "input_ids: missing"),
        ({**ids, "logits": np.zeros((1, 20, 23))}, "logits: the model neither takes nor gives it"),
    ):
        np.savez(file, **arrays)
        with pytest.raises(ConvkitError, match=said) as caught:
            equivalence(hf, cs, recorded={"target": file})
        assert caught.value.path == str(file) and caught.value.remedy
