"""Quantised weights and adapters: refused as what they are, unless a mapping knows them; shown by ``inspect``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from convkit.cli import main
from convkit.config import ConfigTable, Field
from convkit.errors import PlanError
from convkit.mapping import LeftBehind, Rule, Verbatim, inverse
from convkit.mappings import get_layout, unchanged
from convkit.plan.encoded import encoding_of
from engine.disk import write
from engine.memory import Memory, mapping_of, plan_of, source_of

WEIGHT = "layers.0.q.weight"
PLAIN = mapping_of(Rule("layers.{i}.q.weight", "h.{i}.q.weight"), Rule("norm.scale", "n.scale", optional=True))
FLOAT, NARROW = np.ones((4, 4), np.float32), np.ones((4, 4), np.int8)
FP8 = np.ones((4, 4), ml_dtypes.float8_e4m3fn)

#: of each way: the last parts of keys, the array of the weight beside them, and how it is called
NAMES = [
    (["weight_scale_inv"], FP8, "fp8"),
    (["weight_scale"], FP8, "scaled weights"),
    (["weight_scale", "weight_zero_point", "weight_packed"], None, "scaled weights"),
    (["SCB", "weight_format"], NARROW, "int8, bitsandbytes"),
    (["weight.absmax", "weight.quant_map", "weight.quant_state.bitsandbytes__nf4"], NARROW, "4 bits, bitsandbytes"),
    (["weight.quant_state.bitsandbytes__fp4"], NARROW, "4 bits, bitsandbytes"),
    (["weight.nested_absmax"], NARROW, "4 bits, bitsandbytes"),
    (["qweight", "qzeros", "scales", "g_idx"], None, "GPTQ or AWQ"),
    (["scales", "biases"], NARROW, "GPTQ or AWQ"),
    (["W_q"], None, "HQQ"),
    (["q_weight", "q_scale", "q_groups"], None, "EXL2"),
    (["Qidxs"], None, "codebooks"),
    (["codebooks", "codes"], None, "codebooks"),
    (["w_quantized_scale"], NARROW, "scaled weights"),
    (["qrhs.frozen.qvalue"], None, "scaled weights"),
    (["weight._data", "weight._scale"], None, "scaled weights"),
    (["input_scale", "output_scale"], FLOAT, "scaled activations or KV cache"),
    (["act_scale"], FLOAT, "scaled activations or KV cache"),
    (["k_scale", "v_scale"], FLOAT, "scaled activations or KV cache"),
    (["kv_scale"], FLOAT, "scaled activations or KV cache"),
    (["gate_up_proj_blocks", "gate_up_proj_scales"], FLOAT, "blocks of 4 bits"),
]
ADAPTERS = [
    (["lora_A.weight", "lora_B.weight"], "LoRA r=2"),
    (["lora_A.default.weight", "base_layer.weight"], "LoRA r=2"),
    (["lora_embedding_A", "lora_embedding_B"], "LoRA r=2"),
    (["lora_magnitude_vector.weight"], "LoRA r=2"),
    (["lora_down.weight", "lora_up.weight", "alpha"], "LoRA r=2"),
    (["lora_a", "lora_b"], "LoRA r=2"),
    (["base_layer.weight"], "peft"),
    (["modules_to_save.default.weight", "original_module.weight"], "peft"),
    (["adapter_down.0.weight", "adapter_up.weight"], "bottleneck"),
    (["hada_w1_a"], "LoHa"),
    (["lokr_w1"], "LoKr"),
    (["ia3_l"], "IA3"),
    (["oft_R"], "OFT"),
    (["vera_lambda_b"], "VeRA"),
]
CONFIGS = [
    ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8, block 128x128"),
    ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "gptq, 4 bits, groups of 128"),
    ({"load_in_8bit": True, "load_in_4bit": False}, "8 bits"),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes, 4 bits"),
    ({"quant_method": ["odd"], "bits": "four", "weight_block_size": [None]}, "as its config says"),
]


def beside(names: list[str], weight: np.ndarray | None, of: np.ndarray) -> dict[str, Any]:
    """A layer's weight, if it is there, and what else the layer holds."""
    found = {} if weight is None else {WEIGHT: weight}
    return found | {f"layers.0.q.{name}": of for name in names}


@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize(("names", "weight", "words"), NAMES)
def test_quantised_weights_are_refused_as_such(names: list[str], weight: np.ndarray | None, words: str, separator: str):
    arrays = {key.replace(".", separator): array for key, array in beside(names, weight, FLOAT[0]).items()}
    problem = rf"is quantised \({words}\) \(dequantise it first"
    added = [key for key in arrays if not key.endswith("q.weight")]
    for options in ({}, {"dtype": "float32"}, {"drop": tuple(added)}, {"drop": tuple(added), "dtype": "float32"}):
        with pytest.raises(PlanError, match=problem) as refused:
            plan_of(PLAIN, arrays, **options)
        assert "--drop" not in str(refused.value)
    assert encoding_of(source_of(Memory(arrays))).what == f"quantised ({words})"


@pytest.mark.parametrize(("names", "words"), ADAPTERS)
def test_adapters_are_refused_as_such(names: list[str], words: str):
    arrays = beside(names, FLOAT, FLOAT[:2])
    added = tuple(key for key in arrays if key != WEIGHT)
    for options in ({}, {"drop": added}):
        with pytest.raises(PlanError, match=rf"is an adapter \({words}\) \(merge the adapter first") as refused:
            plan_of(PLAIN, arrays, **options)
        assert "--drop" not in str(refused.value)
    assert encoding_of(source_of(Memory(arrays))).what == f"an adapter ({words})"


@pytest.mark.parametrize("at", ["quantization_config", "compression_config", "text_config.quantization_config"])
@pytest.mark.parametrize(("said", "words"), CONFIGS)
def test_a_config_that_says_so_is_believed(said: dict[str, Any], words: str, at: str):
    section, _, field = at.rpartition(".")
    config = {section: {field: said}} if section else {field: said}
    with pytest.raises(PlanError, match=rf"{at}: is quantised \({words}\)"):
        plan_of(PLAIN, {WEIGHT: FLOAT}, config)


@pytest.mark.parametrize("said", [None, {}, [], {"load_in_8bit": False, "load_in_4bit": False}])
def test_a_config_that_says_otherwise_is_believed_too(said: Any):
    plan_of(PLAIN, {WEIGHT: FLOAT}, {"quantization_config": said})


def test_narrow_weights_without_scales_are_not_cast():
    for array in (FP8, NARROW, FLOAT.astype(ml_dtypes.float8_e5m2)):
        for dtype in (None, "float32"):
            with pytest.raises(PlanError, match=r"quantised \(\w+, without its scales\)"):
                plan_of(PLAIN, {WEIGHT: array}, dtype=dtype)


def test_a_mapping_that_knows_them_is_left_to_itself():
    """By its rules, or by its config table; what it doesn't name is refused still."""
    arrays = beside(["weight_scale"], NARROW, FLOAT[0])
    config = {"quantization_config": {"quant_method": "fp8"}}
    rules = (Rule("layers.{i}.q.{p:weight|weight_scale}", "h.{i}.{p}"),)
    quantised = mapping_of(*rules, config=ConfigTable((Field("quantization_config", "quant"),)))
    plan = plan_of(quantised, arrays, config)
    assert plan.target_leaves.keys() == {"h.0.weight", "h.0.weight_scale"}
    there = {"h.0.weight": NARROW, "h.0.weight_scale": FLOAT[0]}
    assert plan_of(inverse(quantised), there, {"quant": {}}).target_leaves.keys() == arrays.keys()
    assert plan_of(mapping_of(*rules), arrays).target_leaves.keys() == {"h.0.weight", "h.0.weight_scale"}
    with pytest.raises(PlanError, match="quantization_config: is quantised"):
        plan_of(mapping_of(*rules), arrays, config)
    with pytest.raises(PlanError, match=r"SCB: is quantised"):
        plan_of(quantised, arrays | {"layers.0.q.SCB": FLOAT[0]}, config)
    behind = mapping_of(*PLAIN.rules, LeftBehind("left", "layers.{i}.q.lora_{p:A|B}", "merged elsewhere"))
    plan_of(behind, beside(["lora_A", "lora_B"], FLOAT, FLOAT[:2]))


def test_a_rule_for_any_text_knows_nothing():
    for rest in (Verbatim("{rest:*}"), LeftBehind("left", "{rest:*}", "not the model")):
        with pytest.raises(PlanError, match=r"lora_A: is an adapter"):
            plan_of(mapping_of(*PLAIN.rules, rest), beside(["lora_A"], FLOAT, FLOAT[:2]))
    optimizer = mapping_of(*PLAIN.rules, Verbatim("{rest:*}"))
    plan_of(
        optimizer, {WEIGHT: FLOAT, "fp8_metas.layers.0.q.weight_scale": FLOAT[0], "grad_scaler._scale": np.ones(())}
    )


def test_a_change_of_format_alone_keeps_them():
    arrays = beside(["weight_scale"], FP8, FLOAT[0])
    same = unchanged(get_layout("hf/llama"))
    config = {"quantization_config": {"quant_method": "fp8"}}
    assert plan_of(same, arrays, config).target_leaves.keys() == arrays.keys()
    for options in ({"dtype": "float32"}, {"drop": ("layers.0.q.weight_scale",)}):
        with pytest.raises(PlanError, match="is quantised"):
            plan_of(same, arrays, config, **options)


@pytest.mark.parametrize("format", ["safetensors", "torch"])
def test_the_folder_of_an_adapter(tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str):
    folder = tmp_path / "adapter"
    written = write(folder, beside(["lora_A.weight"], None, FLOAT[:2]), format=format)
    name = {"safetensors": "model.safetensors", "torch": "pytorch_model.bin"}[format]
    adapter = written / name.replace("model", "adapter_model").replace("pytorch_", "")
    (written / name).rename(adapter)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8}))
    assert main(["inspect", str(folder)]) == 0
    assert "an adapter (LoRA r=8)" in capsys.readouterr().out
    for path in (folder, adapter):
        assert main(["plan", str(path), "--to", "cerebras/llama"]) == 3
        refused = f"convkit: {path}: is an adapter (LoRA r=8) (merge the adapter first"
        assert capsys.readouterr().err.startswith(refused)
    adapter.rename(written / name)
    assert main(["plan", str(folder), "--to", "cerebras/llama"]) == 3
    assert "is an adapter (LoRA r=8)" in capsys.readouterr().err
