"""What is said of a checkpoint whose layout isn't known: what lies there, instead of a config that nobody has."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keys_only import KeysOnly, refused, specs
from recorded import HERE
from safetensors.numpy import load_file, save_file

from convkit.checkpoint import TensorSpec
from convkit.cli import main
from convkit.errors import ConvkitError
from convkit.plan import Source
from convkit.plan.detect import detect_layout

SPEC = TensorSpec((2, 2), "float32")
LLAMA: dict[str, Any] = json.loads((HERE / "llama_gqa" / "hf" / "config.json").read_text())


def said(
    keys: list[str], config: dict[str, Any] | None = None, *, format: str = "t5x", named: str | None = None
) -> str:
    checkpoint = KeysOnly(dict.fromkeys(keys, SPEC))
    checkpoint.format = format
    source = Source(Path("keys-only"), checkpoint, config, Path("config.json") if config else None, {})
    with pytest.raises(ConvkitError) as error:
        detect_layout(source, named or None)
    assert error.value.remedy
    return str(error.value)


@pytest.mark.parametrize("stack", ["encoder.encoder", "decoder.layers"])
def test_scanned_layers_of_t5x(stack: str) -> None:
    found = said([f"target.{stack}.mlp.wo.kernel", "target.token_embedder.embedding"])
    assert "is Scalable T5" in found
    assert "--config" not in found


@pytest.mark.parametrize("format", ["t5x", "pax", "orbax-v0", "orbax-v1"])
def test_formats_without_a_config(format: str) -> None:
    found = said(["params.Dense_0.kernel", "step"], format=format)
    assert "don't show a known layout: params.Dense_0.kernel, step" in found
    assert "config" not in found


def test_formats_with_a_config_name_it() -> None:
    assert "--config" in said(["model.norm.weight"], format="safetensors")


@pytest.mark.parametrize(
    ("config", "named", "words"),
    [
        ({"model_type": "falcon_mamba", "hidden_size": 8}, "", "isn't of a known model family (model 'falcon_mamba')"),
        ({"model_type": "falcon_mamba", "hidden_size": 8}, "hf/llama", "it names the model 'falcon_mamba'"),
        (
            {"model_type": "llava", "text_config": {"model_type": "llama"}, "vision_config": {"model_type": "clip"}},
            "",
            "several parts (model 'llava'): text_config is 'llama', vision_config is 'clip'",
        ),
        ({"dim": 8, "n_layers": 2}, "hf/llama", "it has fields that such a config hasn't got: dim, n_layers"),
        ({"trainer": [{"init": {}}, {"init": {}}]}, "", "trainer is a list of 2 runs"),
    ],
)
def test_configs(config: dict[str, Any], named: str | None, words: str) -> None:
    assert words in said(["a.weight"], config, named=named)


def test_leaves_of_which_none_is_of_the_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"encoder.block.{number}.layer.q" for number in range(5)]
    problem = refused(dict.fromkeys(names, SPEC), LLAMA, "cerebras/llama")
    assert "none of its 5 tensors is called as those of hf/llama, such as model.embed_tokens.weight" in problem
    assert "encoder.block.0.layer.q, encoder.block.1.layer.q, encoder.block.2.layer.q, ..." in problem
    shutil.copyfile(HERE / "llama_gqa" / "hf" / "config.json", tmp_path / "config.json")
    for keys, layout, count in (
        (names, None, "none of 5 leaves"),
        ([*names, "model.norm.weight"], "hf/llama", "1 of 6"),
    ):
        save_file({key: np.zeros((2, 2), np.float32) for key in keys}, tmp_path / "model.safetensors")
        assert main(["inspect", str(tmp_path), "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown["layout"] == layout
        assert count in shown["layout_reason"]


def test_a_buffer_that_contradicts_its_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rotary frequencies of another theta than the config's are named once, with what the config says."""
    source = tmp_path / "source"
    shutil.copytree(HERE / "llama_gqa" / "hf", source)
    arrays = load_file(source / "model.safetensors")
    layers, dim = LLAMA["num_hidden_layers"], LLAMA["hidden_size"] // LLAMA["num_attention_heads"]
    other = (1.0 / 123456.0 ** (np.arange(0, dim, 2) / dim)).astype(np.float32)
    buffers = {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": other for layer in range(layers)}
    save_file(arrays | buffers, source / "model.safetensors")
    assert main(["convert", str(source), str(tmp_path / "out.mdl"), "--to", "cerebras"]) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "inv_freq" in line]
    assert len(warnings) == 1
    assert (
        f"(and {layers - 1} more): isn't what the config makes of it ('inverse frequencies' of theta = " in warnings[0]
    )
    assert specs(tmp_path / "out.mdl")
