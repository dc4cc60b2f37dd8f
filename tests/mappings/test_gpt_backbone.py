"""ModelZoo's GPT backbone: a GPT-2 whose yaml has sections, and where each layer may have its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from convkit.config import ConfigError
from convkit.execute import convert
from convkit.formats import open_checkpoint
from convkit.mappings import find_mapping
from convkit.oracles import get_oracle
from convkit.plan import Options, make_plan, open_source
from convkit.verify.roundtrip import roundtrip

GPT2 = {"name": "gpt2", "hidden_size": 8, "num_heads": 2, "filter_size": 6, "num_hidden_layers": 3, "vocab_size": 5,
        "max_position_embeddings": 9, "embedding_dropout_rate": 0.1, "nonlinearity": "gelu", "dropout_rate": 0.2,
        "share_embedding_weights": True, "initializer_range": 0.02, "scale_qk_dot_by_d": True}  # fmt: skip
EVERY_OTHER = "sliding_window_every_other_decoder_layer"
WINDOWED = GPT2 | {"attention_sliding_window_length": 2, EVERY_OTHER: True}


def there(model: dict[str, Any], release: tuple[int, ...] = ()) -> dict[str, Any]:
    return find_mapping("cerebras/gpt2", "cerebras/gpt_backbone").config.convert({"model": model}, {}, release).config


def back(config: dict[str, Any], release: tuple[int, ...] = ()) -> dict[str, Any]:
    return find_mapping("cerebras/gpt_backbone", "cerebras/gpt2").config.convert(config, {}, release).config


def test_each_field_is_in_the_section_that_uses_it() -> None:
    model = there(GPT2)["model"]
    assert model == {
        "name": "gpt_backbone",
        "hidden_size": 8,
        "initializer_range": 0.02,
        "scale_qk_dot_by_d": True,
        "embedding_layer": {
            "vocab_size": 5,
            "max_position_embeddings": 9,
            "share_embedding_weights": True,
            "embd_pdrop": 0.1,
        },
        "transformer_decoder": {
            "num_hidden_layers": 3,
            "dropout_rate": 0.2,
            "layers": {"filter_size": 6, "nonlinearity": "gelu", "self_attn": {"num_heads": 2}},
        },
    }
    assert back({"model": model})["model"] == GPT2


@pytest.mark.parametrize(("pattern", "windows"), [(None, [None, 2, None]), ("sliding_window_first", [2, None, 2])])
def test_windows_on_every_second_layer_give_each_its_section(pattern: str | None, windows: list[int | None]) -> None:
    model = WINDOWED | ({f"{EVERY_OTHER}_pattern": pattern} if pattern else {})
    config = there(model)
    layers = config["model"]["transformer_decoder"]["layers"]
    assert [layer["self_attn"]["attention_sliding_window_length"] for layer in layers] == windows
    assert back(config)["model"] == model


def test_the_first_layer_has_a_window_since_2_10_only() -> None:
    config = there(WINDOWED | {f"{EVERY_OTHER}_pattern": "sliding_window_first"})
    with pytest.raises(ConfigError, match=r"--release 2\.10"):
        back(config, (2, 4))


@pytest.mark.parametrize("change", [{"filter_size": 7}, {"self_attn": {"num_heads": 1}}, None], ids=str)
def test_layers_that_differ_otherwise_are_refused(change: dict[str, Any] | None) -> None:
    config = there(WINDOWED)
    layers = config["model"]["transformer_decoder"]["layers"]
    layers[1:2] = [layers[1] | change] if change is not None else []
    config["model"]["transformer_decoder"]["layers"] = layers if change is not None else []
    with pytest.raises(ConfigError, match=r"transformer_decoder\.layers"):
        back(config)


def test_what_stands_beside_the_model_stays() -> None:
    config = {"trainer": {"init": {"model": GPT2, "seed": 1}, "fit": {"csx.flag": 2}}}
    found = find_mapping("cerebras/gpt2", "cerebras/gpt_backbone").config.convert(config).config
    assert found["trainer"]["fit"] == {"csx.flag": 2} and found["trainer"]["init"]["seed"] == 1
    assert found["trainer"]["init"]["model"]["name"] == "gpt_backbone"
    assert back(found) == config


def test_fields_without_a_place_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_extra_input_vocab_tokens"):
        there(GPT2 | {"num_extra_input_vocab_tokens": 3})


def checkpoint(folder: Path) -> Path:
    safetensors = pytest.importorskip("safetensors.numpy")
    folder.mkdir()
    linear = {f"self_attn.proj_{one}_dense_layer": (8, 8) for one in ("q", "k", "v", "output")}
    linear |= {"ffn.ffn.0.linear_layer": (6, 8), "ffn.ffn.1.linear_layer": (8, 6)}
    shapes = {f"{name}.weight": shape for name, shape in linear.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in linear.items()}
    shapes |= {f"{norm}.{end}": (8,) for norm in ("norm1", "norm3") for end in ("weight", "bias")}
    keys = {f"transformer_decoder.layers.{i}.{name}": shape for i in range(3) for name, shape in shapes.items()}
    keys |= {f"transformer_decoder.norm.{end}": (8,) for end in ("weight", "bias")}
    keys |= {
        "embedding_layer.word_embeddings.weight": (5, 8),
        "embedding_layer.position_embeddings.embed.weight": (9, 8),
    }
    random = np.random.default_rng(0)
    model = {f"model.{key}": random.standard_normal(shape).astype("float32") for key, shape in keys.items()}
    safetensors.save_file(model | {"optimizer.step": np.ones(1, "float32")}, folder / "model.safetensors")
    (folder / "params.yaml").write_text(yaml.safe_dump({"model": WINDOWED | {"scale_qk_dot_by_d": False}}))
    return folder


def test_the_tensors_stay_and_the_model_is_the_same(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "source")
    with open_source(source) as opened:
        plan = make_plan(opened, "cerebras/gpt_backbone", options=Options(format="safetensors"))
        receipt = convert(opened, plan, tmp_path / "out", threads=1)
    assert roundtrip(source, tmp_path / "out", receipt["plan"], receipt=receipt).passed
    tensors = {}
    for side in (source, tmp_path / "out"):
        with open_checkpoint(side) as found:
            tensors[side] = {key: torch.from_numpy(found.read(key).view("float32").reshape(leaf.spec.shape))
                             for key, leaf in found.leaves.items() if leaf.spec}  # fmt: skip
    assert all(torch.equal(one, tensors[source][key]) for key, one in tensors[tmp_path / "out"].items())
    ids = {"input_ids": torch.arange(8)[None] % 5}
    outputs = []
    for side, layout in ((source, "cerebras/gpt2"), (tmp_path / "out", "cerebras/gpt_backbone")):
        config = yaml.safe_load(next(side.glob("*.yaml")).read_text())["model"]
        oracle = get_oracle(layout)(config, tensors[side])
        assert not oracle.problems
        outputs.append(oracle.run(ids).outputs["lm"])
        shifted = oracle.rebuilt(oracle.wrong_configs()["window on the wrong layers"])
        assert not torch.equal(shifted.run(ids).outputs["lm"], outputs[0])
    assert torch.equal(*outputs)
