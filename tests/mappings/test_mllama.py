"""Llama 3.2 Vision: recorded from the original, which only leads to Cerebras; and the library's own models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from goldens import golden_dir
from recorded import LEFT_OUT, Recorded, arrays
from safetensors.torch import load_file, save_file

from convkit.config import ConfigError
from convkit.execute import convert
from convkit.formats import open_checkpoint
from convkit.generate import generate
from convkit.generate.weights import fill
from convkit.mappings import find_mapping
from convkit.plan import Options, Plan, make_plan, open_source

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def run(source: Path, to: str, target: Path, **options: Any) -> Plan:
    with open_source(source) as opened:
        plan = make_plan(opened, to, options=Options(**options))
        convert(opened, plan, target, threads=1)
    return plan


def bits(path: Path) -> dict[str, tuple[tuple[int, ...], bytes]]:
    with open_checkpoint(path) as checkpoint:
        return {
            key: (leaf.spec.shape, checkpoint.read(key).tobytes())
            for key, leaf in checkpoint.leaves.items()
            if leaf.spec
        }


@pytest.mark.golden
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_as_the_original_and_back(file: str, tmp_path: Path) -> None:
    """The original crashes on the way back."""
    case = Recorded("mllama", "2.9", here=False)
    source = golden_dir("cerebras.tar.gz") / "mllama" / "hf"
    assert run(source / file, "cerebras/mllama", tmp_path / "there.mdl", release=(2, 9)).exact
    theirs = arrays(case.to_cerebras / "flat.npz")
    assert bits(tmp_path / "there.mdl") == {key: (one.shape, one.tobytes()) for key, one in theirs.items()}
    written = yaml.safe_load((tmp_path / "there.yaml").read_text())["model"]
    for section, fields in case.cerebras_config()["model"].items():
        told = {key: value for key, value in fields.items() if key not in LEFT_OUT}
        assert {key: written[section].get(key) for key in told} == told
    for restore in (True, False):
        back = tmp_path / f"back-{restore}"
        assert run(tmp_path / "there.mdl", "hf/mllama", back, restore=restore).exact
        assert bits(back) == bits(source / file)


TEXT = {
    "vocab_size": 23, "hidden_size": 60, "intermediate_size": 14, "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 2, "max_position_embeddings": 40, "cross_attention_layers": [1], "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
VISION = {
    "hidden_size": 24, "intermediate_size": 14, "num_hidden_layers": 2, "num_global_layers": 1, "attention_heads": 4,
    "image_size": 10, "patch_size": 5, "max_num_tiles": 2, "supported_aspect_ratios": [[1, 1], [1, 2]],
    "intermediate_layers_indices": [1], "vision_output_dim": 48,
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A model of the library's."""
    folder = tmp_path_factory.mktemp("mllama") / "hf"
    config = transformers.MllamaConfig(text_config=TEXT, vision_config=VISION, image_token_index=24)
    model = transformers.MllamaForConditionalGeneration(config).eval()
    fill(model, seed=3)
    model.save_pretrained(folder)
    return folder, model


def _shown(model: Any) -> Any:
    """Of a text with an image of two tiles."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.tensor([[1, 24, 5, 7, 11]])
    with torch.no_grad():
        return model(
            input_ids=ids,
            pixel_values=torch.randn(1, 1, 2, 3, 10, 10, generator=generator),
            aspect_ratio_ids=torch.tensor([[2]]),
            aspect_ratio_mask=torch.ones(1, 1, 2, dtype=torch.long),
            cross_attention_mask=torch.ones(1, 5, 1, 2, dtype=torch.long),
        ).logits


@pytest.mark.parametrize("receipt", [True, False], ids=["receipt", "no receipt"])
@pytest.mark.parametrize("respelled", [True, False], ids=["keys of transformers 4.57", "keys as published"])
def test_there_and_back(respelled: bool, receipt: bool, made: tuple[Path, Any], tmp_path: Path) -> None:
    folder, model = made
    if respelled:
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "config.json").write_text((folder / "config.json").read_text())
        tensors = load_file(folder / "model.safetensors")
        save_file({_respelled(key): tensor for key, tensor in tensors.items()}, tmp_path / "new" / "model.safetensors")
        folder = tmp_path / "new"
    run(folder, "cerebras/mllama", tmp_path / "cs.mdl")
    run(tmp_path / "cs.mdl", "hf/mllama", tmp_path / "back", restore=receipt)
    if receipt:
        assert bits(tmp_path / "back") == bits(folder)
    else:  # which no yaml says, and whose default is beyond this vocabulary
        config = json.loads((tmp_path / "back" / "config.json").read_text())
        config["text_config"]["pad_token_id"] = 0
        (tmp_path / "back" / "config.json").write_text(json.dumps(config))
    again, loading = type(model).from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not any(loading.values()), loading
    assert torch.equal(_shown(again.eval()), _shown(model))


def _respelled(key: str) -> str:
    if key == "language_model.lm_head.weight":
        return "lm_head.weight"
    return "model." + key.replace("language_model.model.", "language_model.")


def test_a_generated_one(tmp_path: Path) -> None:
    generate("generated://mllama?kv_heads=3&vision=16&dtype=bfloat16", tmp_path / "hf")
    run(tmp_path / "hf", "cerebras/mllama", tmp_path / "cs.mdl", release=(2, 5))
    run(tmp_path / "cs.mdl", "hf/mllama", tmp_path / "back")
    assert bits(tmp_path / "back") == bits(tmp_path / "hf")


@pytest.mark.parametrize(
    ("section", "change", "key"),
    [
        ("text_config", {"cross_attention_layers": [5]}, "text_config.cross_attention_layers"),
        ("text_config", {"tie_word_embeddings": True}, "text_config.tie_word_embeddings"),
        ("vision_config", {"max_num_tiles": 3}, "vision_config.max_num_tiles"),
        ("vision_config", {"supported_aspect_ratios": [[1]]}, "vision_config.supported_aspect_ratios"),
        ("vision_config", {"hidden_act": "silu_gated"}, "vision_config.hidden_act"),
    ],
)
def test_what_cannot_be_said_is_refused(section: str, change: dict[str, Any], key: str, made: tuple[Path, Any]) -> None:
    config = json.loads((made[0] / "config.json").read_text())
    config[section] |= change
    with pytest.raises(ConfigError) as refused:
        find_mapping("hf/mllama", "cerebras/mllama").config.convert(config)
    assert refused.value.key == key and refused.value.remedy


def test_the_epsilon_of_queries_and_keys(made: tuple[Path, Any]) -> None:
    """transformers has one epsilon for all norms of the text model; ModelZoo's cross-attention has its own."""
    config = json.loads((made[0] / "config.json").read_text())
    table = find_mapping("hf/mllama", "cerebras/mllama").config
    assert "attention_qk_norm_eps" not in _text(table.convert(_with_epsilon(config, 1e-5)))
    written = table.convert(_with_epsilon(config, 3e-5))
    assert _text(written)["attention_qk_norm_eps"] == _text(written)["layer_norm_epsilon"] == 3e-5
    back = find_mapping("cerebras/mllama", "hf/mllama").config
    assert back.convert(written.config).config["text_config"]["rms_norm_eps"] == 3e-5
    del _text(written)["attention_qk_norm_eps"]
    with pytest.raises(ConfigError) as refused:
        back.convert(written.config)
    assert refused.value.key == "text_model.attention_qk_norm_eps" and refused.value.remedy


def _with_epsilon(config: dict[str, Any], epsilon: float) -> dict[str, Any]:
    return config | {"text_config": config["text_config"] | {"rms_norm_eps": epsilon}}


def _text(written: Any) -> dict[str, Any]:
    return written.config["model"]["text_model"]


def test_releases_without_cross_attention(made: tuple[Path, Any]) -> None:
    config = json.loads((made[0] / "config.json").read_text())
    with pytest.raises(ConfigError, match=r"since 2\.5"):
        find_mapping("hf/mllama", "cerebras/mllama").config.convert(config, release=(2, 4))
