"""The oracles of LLaVA: against the library's whole model, and against each other, stage by stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from convkit.cli import main
from convkit.errors import ConvkitError
from convkit.execute import convert
from convkit.generate import generate
from convkit.oracles import get_oracle
from convkit.oracles.opening import open_model
from convkit.oracles.oracle import Oracle
from convkit.plan import make_plan, open_source
from convkit.testing.stages import check_stages, compared
from convkit.verify.equivalence.check import equivalence

SMALL = "layers=2&heads=4&hidden=24&kv_heads=2&intermediate=14&vocab=29&positions=40&vision=16&image=22"
CS = ("cerebras/llava", "cerebras/multimodal_simple")
LAYOUTS = ("hf/llava", *CS)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each layout: with three of them, what the image's layers end with isn't read."""
    folder = tmp_path_factory.mktemp("llava")
    generate(f"generated://llava?seed=3&{SMALL}", folder / "hf")
    made = {"hf/llava": folder / "hf"}
    for layout in CS:
        made[layout] = folder / layout.rpartition("/")[2] / "m.mdl"
        made[layout].parent.mkdir()
        with open_source(folder / "hf") as opened:
            convert(opened, make_plan(opened, layout), made[layout], threads=1)
    return made


@pytest.fixture(scope="module")
def oracles(sides: dict[str, Path]) -> dict[str, Oracle]:
    found = {}
    for layout, path in sides.items():
        with open_model(path) as opened:
            assert opened.layout == layout and not opened.oracle.problems
            tensors = {key: opened.oracle.tensors[key].clone() for key in opened.oracle.tensors}
            found[layout] = opened.oracle.rebuilt(tensors=tensors)
    return found


def _inputs(oracle: Oracle) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "input_ids": torch.randint(oracle.facts.vocab_size, (2, 9), generator=generator),
        "pixel_values": torch.randn(2, *oracle.facts.image, generator=generator),
    }


def _as_the_library_has_it(folder: Path, strategy: str) -> torch.nn.Module:
    """The library's whole model, with a token more that stands for the image."""
    import transformers

    image, text = (json.loads((folder / name / "config.json").read_text()) for name in ("image_model", "text_model"))
    config = transformers.LlavaConfig(
        vision_config=image,
        text_config={**text, "model_type": "llama", "vocab_size": text["vocab_size"] + 1},
        image_token_index=text["vocab_size"],
        vision_feature_layer=text["mm_vision_select_layer"],
        vision_feature_select_strategy=strategy,
        attn_implementation="eager",
    )
    model = transformers.LlavaForConditionalGeneration(config).eval()
    tensors = {f"model.vision_tower.{key}": value for key, value in load_file(
        folder / "image_model" / "model.safetensors").items()}  # fmt: skip
    for key, value in load_file(folder / "text_model" / "model.safetensors").items():
        name = key.removeprefix("model.")
        for n, linear in ((0, "linear_1"), (2, "linear_2")):
            name = name.replace(f"mm_projector.{n}.", f"multi_modal_projector.{linear}.")
        name = name if name.startswith("multi_modal") or name == "lm_head.weight" else f"language_model.{name}"
        more = torch.zeros(1, *value.shape[1:]) if name.endswith(("embed_tokens.weight", "lm_head.weight")) else None
        whole = value if more is None else torch.cat((value, more))
        tensors[name if name == "lm_head.weight" else f"model.{name}"] = whole
    model.load_state_dict(tensors)
    return model


@pytest.mark.parametrize(("layer", "features"), [(-2, "patch"), (1, "cls_patch"), (-1, "patch")])
def test_the_oracle_is_the_whole_model(layer: int, features: str, tmp_path: Path) -> None:
    generate(f"generated://llava?seed=5&{SMALL}&feature_layer={layer}&features={features}", tmp_path / "hf")
    with open_model(tmp_path / "hf") as opened:
        inputs = _inputs(opened.oracle)
        ours = opened.oracle.run(inputs).outputs["lm"]
        count = opened.oracle.features  # type: ignore[attr-defined]
    whole = _as_the_library_has_it(tmp_path / "hf", "full" if features == "cls_patch" else "default")
    ids = inputs["input_ids"]
    image = torch.full((2, count), whole.config.image_token_index)
    with torch.no_grad():
        expected = whole(
            input_ids=torch.cat((ids[:, :1], image, ids[:, 1:]), 1), pixel_values=inputs["pixel_values"]
        ).logits[..., : ours.shape[-1]]
    assert torch.allclose(ours, expected, rtol=0, atol=2e-6 * expected.abs().max())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_stages(layout: str, oracles: dict[str, Oracle]) -> None:
    oracle = oracles[layout]
    inputs = _inputs(oracle)
    roles = ("projector.1.bias", "norm_encoder.weight", "layers.2.q.weight", "layers.3.q.weight")
    planted = check_stages(oracle, inputs, roles)
    assert planted >= {"transpose the patches", "the class token's position last for first", "wrong rotary"}


def test_all_give_the_same_inside(oracles: dict[str, Oracle]) -> None:
    inputs = _inputs(oracles["hf/llava"])
    for layer in range(5):
        ours, *others = (oracle.run(inputs, detail=layer).states for oracle in oracles.values())
        for theirs in others:
            assert list(ours) == list(theirs)
            for name, state in ours.items():
                assert torch.allclose(state, theirs[name], rtol=0, atol=5e-6 * state.abs().max()), name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_an_image_it_reads_text(layout: str, oracles: dict[str, Oracle]) -> None:
    oracle = oracles[layout]
    inputs = {"input_ids": _inputs(oracle)["input_ids"]}
    text = oracle.text.run(inputs)  # type: ignore[attr-defined]
    whole = oracle.run(inputs)
    assert "encoded" not in whole.states
    assert torch.equal(whole.outputs["lm"], text.outputs["lm"])


@pytest.mark.parametrize("layout", CS)
def test_it_is_proved(layout: str, sides: dict[str, Path]) -> None:
    """Also back, and with the faults that a projector and the choice of features may have."""
    for pair in ((sides["hf/llava"], sides[layout]), (sides[layout], sides["hf/llava"])):
        verdict = equivalence(*pair)
        assert verdict.passed and all(fault.caught for fault in verdict.faults)
        assert {fault.name for fault in verdict.faults} >= {
            "drop the bias of the projector",
            "layers of the projector in another order",
            "transpose the square weights of the projector",
            "features of another layer",
            "the class token among the features, or not",
            "wrong activation of the image's layers",
        }
        assert any("LlavaModel" in note for note in verdict.details["notes"])


def test_what_is_wrong_is_seen_where_it_is(oracles: dict[str, Oracle]) -> None:
    """A converter's mistakes: other features, a projector of which a bias is lost, and its layers' order."""
    ours, theirs = oracles["hf/llava"], oracles["cerebras/llava"]
    inputs, config = _inputs(ours), theirs.config
    keys = [f"model.projector_image_model.ffn.{n}.linear_layer.bias" for n in (0, 1)]
    swapped = {keys[0]: theirs.tensors[keys[1]], keys[1]: theirs.tensors[keys[0]]}
    wrong: dict[str, Oracle] = {
        "encoder.layers.0": theirs.rebuilt({**config, "image_feature_select_layer_idx": 0}),
        "encoder.projection": theirs.rebuilt(tensors={**theirs.tensors, keys[1]: theirs.tensors[keys[1]] * 0}),
        "encoder.projection ": theirs.rebuilt(tensors={**theirs.tensors, **swapped}),
        " encoder.projection": theirs.rebuilt({**config, "image_feature_select_mode": "cls_patch"}),
    }
    for stage, oracle in wrong.items():
        record = compared(ours, oracle, inputs)
        assert next(one.name for one in record.stages if one.problems or (one.max_rel or 0) > 1e-4) == stage.strip()


@pytest.mark.parametrize(
    ("layout", "section", "change", "key"),
    [
        ("hf/llava", "text_model", {"mm_vision_select_layer": 0}, "mm_vision_select_layer"),
        ("hf/llava", "text_model", {"mm_vision_select_layer": 4}, "mm_vision_select_layer"),
        ("hf/llava", "text_model", {"mm_vision_select_feature": "cls"}, "mm_vision_select_feature"),
        ("hf/llava", "text_model", {"mm_projector_type": "linear"}, "mm_projector_type"),
        ("hf/llava", "text_model", {"mm_projector_type": "mlp3x_gelu"}, "text_model.model.mm_projector.4.weight"),
        ("cerebras/llava", "", {"image_feature_select_layer_idx": 3}, "image_feature_select_layer_idx"),
        ("cerebras/llava", "", {"image_feature_select_mode": "cls"}, "image_feature_select_mode"),
        (
            "cerebras/llava",
            "",
            {"projector": {"image_model": {"layers_units": 3}}},
            "projector.image_model.layers_units",
        ),
        ("cerebras/llava", "", {"image_model": None}, "image_model"),
        ("cerebras/llava", "text_model", {"max_position_embeddings": 5}, None),
    ],
)
def test_a_config_of_no_model_is_refused(
    layout: str, section: str, change: dict[str, Any], key: str | None, oracles: dict[str, Oracle]
) -> None:
    config = oracles[layout].config
    changed = {**config, section: {**config[section], **change}} if section else {**config, **change}
    with pytest.raises(ConvkitError) as refused:
        oracles[layout].rebuilt(changed)
    assert refused.value.remedy
    assert key is None or refused.value.key == key


def test_another_tower_has_no_layer_by_default(oracles: dict[str, Oracle]) -> None:
    """Without the field, ModelZoo's model of several towers takes what the last norm leaves."""
    oracle = oracles["cerebras/multimodal_simple"]
    config = yaml.safe_load(yaml.safe_dump(oracle.config))
    del config["image_model_list"]["image_models"][0]["image_encoder"]["image_layer_idx"]
    with pytest.raises(ConvkitError) as refused:
        oracle.rebuilt(config)
    assert refused.value.key == "image_model_list.image_models.0.image_encoder.image_layer_idx"


def test_a_release_may_have_the_tower_elsewhere(oracles: dict[str, Oracle]) -> None:
    oracle = oracles["cerebras/multimodal_simple"]
    config = yaml.safe_load(yaml.safe_dump(oracle.config))
    models = config["image_model_list"]["image_models"]
    models[0] = {"image_model": [models[0]["image_encoder"]]}
    inputs = _inputs(oracle)
    other = get_oracle(oracle.layout)(config, oracle.tensors)
    assert torch.equal(other.run(inputs).outputs["lm"], oracle.run(inputs).outputs["lm"])


def test_logits_of_an_image_and_a_text(sides: dict[str, Path], tmp_path: Path) -> None:
    import numpy as np

    with open_model(sides["hf/llava"]) as opened:
        given = {name: value.numpy() for name, value in _inputs(opened.oracle).items()}
    np.savez(tmp_path / "in.npz", **given)
    outputs = {}
    for n, path in enumerate(sides.values()):
        out = tmp_path / f"{n}.npz"
        assert main(["logits", str(path), "--ids", str(tmp_path / "in.npz"), "--out", str(out)]) == 0
        with np.load(out) as arrays:
            outputs[n] = arrays["lm"]
    for n in (1, 2):
        assert np.abs(outputs[0] - outputs[n]).max() <= 5e-6 * np.abs(outputs[0]).max()
