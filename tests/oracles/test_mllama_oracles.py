"""Both oracles of Llama 3.2 Vision: against recorded logits of a text, and against each other with images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from goldens import golden_dir
from safetensors.torch import load_file, save_file

from convkit.errors import ConvkitError
from convkit.execute import convert
from convkit.generate import generate
from convkit.oracles import get_oracle
from convkit.oracles.opening import open_model
from convkit.oracles.oracle import Oracle
from convkit.plan import make_plan, open_source
from convkit.testing.stages import check_stages
from convkit.verify.equivalence.check import equivalence

LAYOUTS = ("hf/mllama", "cerebras/mllama")


def _whole(oracle: Oracle) -> Oracle:
    """The same with its tensors in memory."""
    return oracle.rebuilt(tensors={key: oracle.tensors[key].clone() for key in oracle.tensors})


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("mllama")
    generate("generated://mllama?seed=3&vocab=53&positions=24&vision=16&heads=4&image=22", folder / "hf")
    with open_source(folder / "hf") as opened:
        convert(opened, make_plan(opened, "cerebras/mllama"), folder / "cs.mdl", threads=1)
    return {"hf/mllama": folder / "hf", "cerebras/mllama": folder / "cs.mdl"}


@pytest.fixture(scope="module")
def oracles(sides: dict[str, Path]) -> dict[str, Oracle]:
    found = {}
    for layout, path in sides.items():
        with open_model(path) as opened:
            assert opened.layout == layout
            found[layout] = _whole(opened.oracle)
    return found


def _inputs(oracle: Oracle) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "input_ids": torch.randint(oracle.facts.vocab_size, (2, 9), generator=generator),
        "pixel_values": torch.randn(2, *oracle.facts.image, generator=generator),
        "aspect_ratio_ids": torch.tensor([[1], [3]]),
    }


@pytest.mark.golden
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_text_gives_the_recorded_logits(layout: str) -> None:
    folder = golden_dir("cerebras.tar.gz") / "mllama"
    if layout == "hf/mllama":
        config = json.loads((folder / "hf" / "config.json").read_text())
        tensors = load_file(folder / "hf" / "model.safetensors")
    else:
        config = yaml.safe_load((folder / "hf-cs-2.9" / "config_to_cs-2.9.yaml").read_text())["model"]
        tensors = _arrays(folder / "hf-cs-2.9" / "flat.npz")
    recorded = _arrays(golden_dir("cerebras_forward.tar.gz") / "mllama" / "forward_text_only.npz")
    oracle = get_oracle(layout)(config, tensors)
    expected = recorded["hf_logits" if layout == "hf/mllama" else "cs_logits"]
    logits = oracle.run({"input_ids": recorded["input_ids"]}).outputs["lm"]
    assert not oracle.problems
    assert ((logits - expected).abs().max() / expected.abs().max()).item() <= 5e-6


def _arrays(path: Path) -> dict[str, torch.Tensor]:
    with np.load(path) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def test_the_oracle_is_the_whole_model(sides: dict[str, Path], oracles: dict[str, Oracle]) -> None:
    import transformers

    oracle = oracles["hf/mllama"]
    inputs = _inputs(oracle)
    whole = transformers.MllamaForConditionalGeneration.from_pretrained(sides["hf/mllama"], attn_implementation="eager")
    there = torch.tensor([[[1, 0]], [[1, 1]]])
    with torch.no_grad():
        expected = whole.eval()(
            **inputs, aspect_ratio_mask=there, cross_attention_mask=there[:, None].expand(-1, 9, -1, -1)
        ).logits
    assert torch.allclose(oracle.run(inputs).outputs["lm"], expected, rtol=0, atol=1e-6 * expected.abs().max())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_stages(layout: str, oracles: dict[str, Oracle]) -> None:
    oracle = oracles[layout]
    inputs = _inputs(oracle)
    roles = ("tiles_after.weight", "projector.weight", "layers.4.cross_k.weight", "layers.2.gate_ffn")
    planted = check_stages(oracle, inputs, roles)
    assert planted >= {"transpose the patches", "channels of the patches last for first", "wrong rotary"}


def test_both_give_the_same_inside(oracles: dict[str, Oracle]) -> None:
    inputs = _inputs(oracles["hf/mllama"])
    for layer in range(6):
        ours, theirs = (oracle.run(inputs, detail=layer).states for oracle in oracles.values())
        assert list(ours) == list(theirs)
        for name, state in ours.items():
            assert torch.allclose(state, theirs[name], rtol=0, atol=5e-6 * state.abs().max()), name


def test_without_an_image_the_layers_that_read_it_are_left_out(oracles: dict[str, Oracle]) -> None:
    inputs = {"input_ids": _inputs(oracles["hf/mllama"])["input_ids"]}
    for oracle in oracles.values():
        states = oracle.run(inputs).states
        assert "encoded" not in states and torch.equal(states["layers.3"], states["layers.4"])


def test_pixels_need_the_shape_of_the_image(oracles: dict[str, Oracle]) -> None:
    for oracle in oracles.values():
        inputs = _inputs(oracle)
        del inputs["aspect_ratio_ids"]
        with pytest.raises(ConvkitError) as refused:
            oracle.begin(inputs)
        assert refused.value.key == "aspect_ratio_ids" and refused.value.remedy


@pytest.mark.parametrize("back", [False, True], ids=["there", "back"])
def test_it_is_proved(back: bool, sides: dict[str, Path]) -> None:
    verdict = equivalence(*(reversed(sides.values()) if back else sides.values()))
    assert verdict.passed and all(fault.caught for fault in verdict.faults)
    assert {fault.name for fault in verdict.faults} >= {
        "gates left out",
        "gates of the positions left out",
        "other layers attend to the image",
        "hidden states of other layers kept",
        "shift the shapes of an image later",
        "drop the bias of the projector",
        "transpose the patches",
        "channels of the patches last for first",
        "swap k and v of the cross attention",
    }
    assert any("no class of the image's model" in note for note in verdict.details["notes"])


def test_another_epsilon_of_queries_and_keys_is_seen(sides: dict[str, Path], tmp_path: Path) -> None:
    """The original leaves it at its default."""
    config: dict[str, Any] = yaml.safe_load(sides["cerebras/mllama"].with_suffix(".yaml").read_text())
    del config["model"]["text_model"]["attention_qk_norm_eps"]
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(config))
    verdict = equivalence(*sides.values(), target_config=tmp_path / "other.yaml")
    assert not verdict.passed


def test_a_projector_of_other_numbers_is_named(sides: dict[str, Path], tmp_path: Path) -> None:
    key = "model.projection.weight"
    with open_model(sides["cerebras/mllama"]) as opened:
        tensors = {one: opened.oracle.tensors[one].clone() for one in opened.oracle.tensors}
    save_file(tensors | {key: tensors[key] * 1.01}, tmp_path / "cs.safetensors")
    config = sides["cerebras/mllama"].with_suffix(".yaml")
    verdict = equivalence(sides["hf/mllama"], tmp_path / "cs.safetensors", target_config=config)
    assert not verdict.passed
    assert verdict.details["parted"]["state"] == "encoded" and key in verdict.details["parted"]["target"]
