"""The oracles recognise layouts by themselves: by names, by tensors and fields, by receipts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from paired_models import llama
from safetensors.torch import save_file

from convkit.errors import ConvkitError
from convkit.oracles.opening import detect_layout, open_model

WORDS = "model.embedding_layer.word_embeddings.weight"
PRE = [WORDS, *(f"model.transformer_decoder.layers.0.norm{i}.weight" for i in (1, 3))]
PARALLEL = PRE[:2]
TWO_STACKS = [f"model.{stack}_embeddings.word_embeddings.weight" for stack in ("encoder", "decoder")]
ENCODER = [WORDS, "model.transformer_encoder.layers.0.norm1.weight"]
PATCHES = "model.vit_model.embedding_layer.cls_embedding"
TURNED = {"position_embedding_type": "rotary", "norm_type": "rmsnorm"}


@pytest.mark.parametrize(
    ("keys", "config", "layout"),
    [
        (PRE, {"name": "llama"}, "cerebras/llama"),
        (PRE, {"name": "gpt2", **TURNED}, "cerebras/gpt2"),
        (PARALLEL, {"name": "gptj"}, "cerebras/gptj"),
        (PRE, {"name": "gpt-neox", "use_untied_layer_norm": True}, "cerebras/gpt-neox"),
        (ENCODER, {"name": "bert/sequence_classifier"}, "cerebras/bert"),
        (PRE, {}, "cerebras/gpt2"),
        (PRE, TURNED, "cerebras/llama"),
        (PRE, {"use_untied_layer_norm": True, "rotary_dim": 2}, "cerebras/gptj"),
        (PARALLEL, {"use_untied_layer_norm": False, "rotary_dim": 4}, "cerebras/gptj"),
        (PARALLEL, {**TURNED}, "cerebras/gptj"),
        (ENCODER, {}, "cerebras/bert"),
        (["model.ctx_encoder.embedding_layer.word_embeddings.weight"], {"name": "bert_model"}, "cerebras/dpr"),
        (ENCODER, {"name": "esm2", "mask_padding_in_positional_embed": True}, "cerebras/esm-2"),
        (ENCODER, {"token_dropout": True, "mask_padding_in_positional_embed": True}, "cerebras/esm-2"),
        (ENCODER, {"mask_padding_in_positional_embed": True}, "cerebras/roberta"),
        (ENCODER, {"name": "bert", "mask_padding_in_positional_embed": True}, "cerebras/roberta"),
        (ENCODER, {"name": "bert", "mask_padding_in_positional_embed": False}, "cerebras/bert"),
        ([*ENCODER, *PRE], {"norm_type": "rmsnorm"}, "cerebras/t5"),
        ([PATCHES], {"name": "vision_transformer", "use_post_embed_layer_norm": True}, "cerebras/clip-vit"),
        ([PATCHES], {"name": "vision_transformer"}, "cerebras/vit"),
        ([PATCHES], {"use_post_embed_layer_norm": False}, "cerebras/vit"),
        (TWO_STACKS, {}, "cerebras/t5"),
        (TWO_STACKS, {"name": "transformer"}, "cerebras/t5"),
        (["transformer.wte.weight"], {"model_type": "codegen"}, "hf/codegen"),
        (["wte.weight"], {"model_type": "gpt2", "attention_head_type": "multiquery"}, "hf/santacoder"),
        (["wte.weight"], {"model_type": "gpt2", "attention_head_type": "multihead"}, "hf/gpt2"),
        (["transformer.word_embeddings.weight"], {"model_type": "RefinedWebModel"}, "hf/falcon"),
    ],
)
def test_layouts_are_recognised(keys: list[str], config: dict[str, Any], layout: str) -> None:
    assert detect_layout(keys, config, Path("config")) == layout


def test_a_receipt_names_the_layout_of_a_source_as_well(tmp_path: Path) -> None:
    pair = llama()
    tmp_path.joinpath("cs").mkdir()
    save_file({key: value.clone() for key, value in pair.cs.items()}, tmp_path / "cs" / "model.safetensors")
    (tmp_path / "cs" / "params.yaml").write_text(yaml.safe_dump({"model": {**pair.cs_config, "name": "gpt2"}}))
    assert open_model(tmp_path / "cs").layout == "cerebras/gpt2"
    receipt: dict[str, Any] = {
        "schema": "convkit.receipt/1",
        "plan_digest": "",
        "source": {},
        "target": {},
        "complement": {},
    }
    written = tmp_path / "cs.convkit.json"
    written.write_text(json.dumps({**receipt, "plan": {"target": {"layout": "cerebras/llama"}}}))
    opened = open_model(tmp_path / "cs")
    assert opened.layout == "cerebras/llama"
    assert torch.equal(opened.oracle.part("embedding.weight"), pair.cs[WORDS])
    assert open_model(tmp_path / "cs", layout="cerebras/gpt2").layout == "cerebras/gpt2"
    written.write_text(json.dumps({**receipt, "plan": {"target": {"layout": "cerebras/nonesuch"}}}))
    with pytest.raises(ConvkitError, match="no oracle runs cerebras/nonesuch"):
        open_model(tmp_path / "cs")
    written.write_text(json.dumps({**receipt, "plan": {"target": ["cerebras/llama"]}}))
    assert open_model(tmp_path / "cs").layout == "cerebras/gpt2"


def test_opening_reads_no_tensor(tmp_path: Path) -> None:
    pair = llama(tied=True)
    save_file({key: value.bfloat16() for key, value in pair.hf.items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **pair.hf_config}))
    norm = "model.layers.0.input_layernorm.weight"
    with pytest.raises(ConvkitError, match="missing key"):
        open_model(tmp_path, without={norm})
    with open_model(tmp_path) as opened:
        assert opened.layout == "hf/llama" and opened.stored == {"bfloat16": len(pair.hf)}
        assert opened.parameters == sum(value.numel() for value in pair.hf.values())
        assert opened.read.alive.peak == 0 and not opened.read.digests
        opened.oracle.run({"input_ids": torch.tensor([[1, 2, 3]])})
        assert opened.tensors["model.norm.weight"] is opened.tensors["model.norm.weight"]
        assert opened.read.digests.keys() == pair.hf.keys()
    assert not [*opened.tensors.holding()]
