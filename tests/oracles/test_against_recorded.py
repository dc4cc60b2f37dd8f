"""The oracles against recorded logits of the real models, on weights that expose a wrong forward pass."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from goldens import golden_dir
from torch import Tensor

from convkit.oracles import get_oracle
from convkit.oracles.cerebras.decoder import CerebrasDecoder, CerebrasParallelDecoder
from convkit.oracles.cerebras.encoder import CerebrasBert
from convkit.oracles.cerebras.model import CerebrasOracle
from convkit.oracles.cerebras.t5 import CerebrasT5
from convkit.oracles.cerebras.vision import CerebrasClip, CerebrasVision
from convkit.oracles.oracle import Oracle, Trace
from convkit.testing.reading import check_that_reading_is_enough
from convkit.testing.stages import (
    check_that_a_fault_shows_in_its_stage,
    check_that_faults_show_in_their_stage,
    check_that_roles_are_read_where_said,
    check_that_stages_are_the_run,
    check_that_wrong_configs_show_where_said,
)

pytestmark = pytest.mark.golden

#: Agreeing float32 runs differ by less than 1e-6; the smallest wrong setting (a norm's epsilon) shows as 2e-5.
BOUND = 5e-6
FAMILIES = ["llama_gqa", "llama_mha", "llama_tied", "gpt2", "bert", "roberta"]
#: recorded model -> its layout, where it isn't called as its family is
NAMES = {
    "clip_vit": "hf/clip_vision_model",
    "falcon_7b": "hf/falcon",
    "starcoder": "hf/gpt_bigcode",
    "gpt_neox": "hf/gpt_neox",
}
HF = [
    *FAMILIES,
    "gptj",
    "codegen",
    "gpt_neox",
    "bloom",
    "falcon_7b",
    "falcon_rw7b",
    "gemma2",
    "mistral",
    "mixtral",
    "starcoder",
    "vit",
    "clip_vit",
    "t5_gated",
]
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids", "pixel_values")


def tensors(path: Path) -> dict[str, Tensor]:
    with np.load(path) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def check(oracle: Oracle, recorded: dict[str, Tensor], side: str) -> None:
    assert not oracle.problems
    assert error(oracle, recorded, side) <= BOUND


def error(oracle: Oracle, recorded: dict[str, Tensor], side: str) -> float:
    """The largest relative difference of any head's logits."""
    torch.set_num_threads(1)
    outputs = oracle.run({name: recorded[name] for name in INPUTS if name in recorded}).outputs
    expected = [recorded[name] for name in (f"{side}_logits", f"{side}_logits2") if name in recorded]
    # of BERT in muP only the first head is recorded
    assert len(outputs) == len(expected) or (len(expected) == 1 and oracle.config.get("mup_base_hidden_size"))
    pairs = zip(outputs.values(), expected, strict=False)
    return max(((value - one).abs().max() / one.abs().max()).item() for value, one in pairs)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_cerebras_oracle_is_the_real_cerebras_model(family: str) -> None:
    folder = golden_dir("cerebras_forward.tar.gz") / family / "strong"
    config = yaml.safe_load((folder / "params.yaml").read_text())["model"]
    layout = "cerebras/" + family.split("_", maxsplit=1)[0]
    check(get_oracle(layout)(config, tensors(folder / "cs.npz")), tensors(folder / "forward.npz"), "cs")


@dataclass(frozen=True)
class Recorded:
    """A recorded model: its family, the class that runs it, and where its weights and its yaml lie."""

    family: str
    oracle: type[CerebrasOracle] = CerebrasDecoder
    weights: str = "strong"
    params: str = "params"

    def __str__(self) -> str:
        return f"{self.family}-{self.weights}-{self.params}"

    def build(self, **changes: Any) -> Oracle:
        """The oracle of its tensors and its yaml, whose bias flags the tensors may correct."""
        folder = golden_dir("cerebras_forward.tar.gz") / self.family / self.weights
        config = yaml.safe_load((folder / f"{self.params}.yaml").read_text())["model"] | changes
        weights = tensors(folder / "cs.npz")
        return self.oracle(self.oracle.reconcile(config, weights)[0], weights)

    @property
    def recorded(self) -> dict[str, Tensor]:
        name = self.params.replace("params", "forward")
        return tensors(golden_dir("cerebras_forward.tar.gz") / self.family / self.weights / f"{name}.npz")


#: Models of families without a mapping so far, and those with an option that no other has.
OPTIONS = [
    Recorded("gptj", CerebrasParallelDecoder),
    Recorded("codegen", CerebrasParallelDecoder),
    Recorded("gpt_neox", CerebrasParallelDecoder),
    Recorded("falcon_7b", CerebrasParallelDecoder),
    Recorded("falcon_rw7b", CerebrasParallelDecoder),
    Recorded("bloom"),
    Recorded("bloom", params="params_fixed"),
    Recorded("btlm"),
    Recorded("mistral"),
    Recorded("mixtral"),
    Recorded("gemma2"),
    Recorded("gemma2", params="params_fixed"),
    Recorded("starcoder"),
    Recorded("santacoder"),
    Recorded("gpt2", weights="mupstrong"),
    Recorded("llama_gqa", weights="mupstrong"),
    Recorded("mistral", weights="mupstrong"),
    Recorded("t5_gated", CerebrasT5),
    Recorded("vit", CerebrasVision),
    Recorded("clip_vit", CerebrasClip),
    Recorded("t5_gated", CerebrasT5, params="params_fixed"),
    Recorded("bert", CerebrasBert, weights="mupstrong"),
    Recorded("t5_gated", CerebrasT5, weights="mupstrong"),
]


@pytest.mark.parametrize("model", OPTIONS, ids=str)
def test_every_option_is_what_a_real_model_computed(model: Recorded) -> None:
    check(model.build(), model.recorded, "cs")


#: faults that few families have
FAULTS = {
    "bloom": {"slopes in reverse", "the embedding's norm not loaded"},
    "gemma2": {"swap the norms before and after attention", "swap the norms before and after the feed-forward part"},
    "gptj": {"wrong rotary", "wrong head count"},
    "mixtral": {"experts off by one", "swap two rows of the router", "swap gate and up of the experts"},
    "t5_gated": {"relative positions of the other stack"},
}


@pytest.mark.parametrize("family", ["bloom", "gemma2", "gptj", "mixtral", "t5_gated", "clip_vit"])
def test_their_stages(family: str, tmp_path: Path) -> None:
    model = next(one for one in OPTIONS if one.family == family)
    oracle = model.build()
    inputs = {name: model.recorded[name] for name in INPUTS if name in model.recorded}
    check_that_stages_are_the_run(oracle, inputs)
    check_that_roles_are_read_where_said(oracle, inputs)
    check_that_a_fault_shows_in_its_stage(oracle, inputs, f"layers.{oracle.facts.layers - 1}.v.weight")
    check_that_wrong_configs_show_where_said(oracle, inputs)
    assert FAULTS.get(family, set()) <= check_that_faults_show_in_their_stage(oracle, inputs)
    check_that_reading_is_enough(oracle, inputs, tmp_path)


def test_stacked_experts_show_in_the_keys() -> None:
    """The original's yaml doesn't name the implementation, and the default is another."""
    model = Recorded("mixtral")
    check(model.build(moe={"num_experts": 4, "top_k": 2}), model.recorded, "cs")


def test_the_converters_name_of_an_activation() -> None:
    """The original writes transformers' name, which ModelZoo doesn't know: it was run under its own."""
    model = Recorded("starcoder")
    check(model.build(nonlinearity="gelu_pytorch_tanh"), model.recorded, "cs")


WRONG = [
    (Recorded("bloom"), {"embedding_layer_norm": False}),
    (Recorded("bloom"), {"position_embedding_type": None}),
    (Recorded("btlm"), {"embeddings_scale": 1.0}),
    (Recorded("btlm"), {"output_logits_scale": None}),
    (Recorded("btlm"), {"scale_qk_dot_by_d": False}),
    (Recorded("btlm"), {"pos_scaling_factor": 2.0}),
    (Recorded("mistral"), {"attention_sliding_window_length": 15}),
    (Recorded("mistral"), {"attention_sliding_window_length": None}),
    (Recorded("mixtral"), {"moe": {"num_experts": 4, "top_k": 1, "moe_implementation": "optimized"}}),
    (Recorded("gemma2"), {"sliding_window_every_other_decoder_layer_pattern": "sliding_window_first"}),
    (Recorded("gemma2"), {"sliding_window_every_other_decoder_layer": False}),
    (Recorded("gemma2"), {"attention_logit_softcapping": None}),
    (Recorded("gemma2"), {"final_logit_softcapping": None}),
    (Recorded("gemma2"), {"norm_first_sandwich": False}),
    (Recorded("gpt2", weights="mupstrong"), {"attention_logits_alpha": 1.0}),
    (Recorded("gpt2", weights="mupstrong"), {"output_logits_alpha": 1.0}),
    (Recorded("gpt2", weights="mupstrong"), {"scale_qk_dot_by_d": False}),
    (Recorded("llama_gqa", weights="mupstrong"), {"scale_output_logits_by_d": True}),
    (Recorded("bert", CerebrasBert, weights="mupstrong"), {"mup_base_hidden_size": 32}),
    (Recorded("t5_gated", CerebrasT5, weights="mupstrong"), {"embeddings_alpha": 1.0}),
    (Recorded("t5_gated", CerebrasT5, weights="mupstrong"), {"output_logits_alpha": 1.0}),
    (Recorded("t5_gated", CerebrasT5, weights="mupstrong"), {"scale_output_logits_by_d": True}),
    (Recorded("t5_gated", CerebrasT5, weights="mupstrong"), {"scale_encoder_qk_dot_by_d": False}),
    (Recorded("t5_gated", CerebrasT5, weights="mupstrong"), {"scale_decoder_qk_dot_by_d": False}),
    (Recorded("t5_gated", CerebrasT5, weights="mupstrong"), {"mup_base_d_kv": 4}),
    (Recorded("gpt_neox", CerebrasParallelDecoder), {"use_untied_layer_norm": False}),
    (Recorded("gpt_neox", CerebrasParallelDecoder), {"rotary_dim": 4}),
    (Recorded("gptj", CerebrasParallelDecoder), {"rotary_dim": 8}),
    (Recorded("falcon_7b", CerebrasParallelDecoder), {"rope_theta": 11000}),
    (Recorded("vit", CerebrasVision), {"nonlinearity": "gelu_new"}),
    (Recorded("vit", CerebrasVision), {"layer_norm_epsilon": 1e-5}),
    (Recorded("clip_vit", CerebrasClip), {"nonlinearity": "gelu"}),
    (Recorded("clip_vit", CerebrasClip), {"num_heads": 2}),
    (Recorded("t5_gated", CerebrasT5), {"encoder_nonlinearity": "swiglu", "decoder_nonlinearity": "swiglu"}),
    (Recorded("t5_gated", CerebrasT5), {"share_embedding_weights": True}),
    (Recorded("t5_gated", CerebrasT5), {"layer_norm_epsilon": 1e-5}),
]


@pytest.mark.parametrize(("model", "change"), WRONG, ids=str)
def test_no_option_can_be_wrong_unseen(model: Recorded, change: dict[str, Any]) -> None:
    assert error(model.build(**change), model.recorded, "cs") > 4 * BOUND


def hf_model(family: str) -> tuple[Oracle, dict[str, Tensor]]:
    """A recorded model of transformers, and what it computed."""
    folder = golden_dir("cerebras_forward.tar.gz") / family / "strong"
    config = json.loads((golden_dir("cerebras.tar.gz") / family / "hf" / "config.json").read_text())
    layout = NAMES.get(family, "hf/" + family.split("_", maxsplit=1)[0])
    return get_oracle(layout)(config, tensors(folder / "hf.npz")), tensors(folder / "forward.npz")


@pytest.mark.parametrize("family", HF)
def test_the_hf_oracle_is_the_real_hf_model(family: str) -> None:
    check(*hf_model(family), "hf")


def test_the_exact_gelu_of_transformers_t5() -> None:
    """Said by ``dense_act_fn``, which goes before ``feed_forward_proj``."""
    folder = golden_dir("cerebras_forward.tar.gz") / "t5_gated" / "strong"
    config = json.loads((golden_dir("cerebras.tar.gz") / "t5_gated" / "hf" / "config.json").read_text())
    recorded, weights = tensors(folder / "forward_fixed.npz"), tensors(folder / "hf.npz")
    check(get_oracle("hf/t5")(config | {"dense_act_fn": "gelu"}, weights), recorded, "hf")
    assert error(get_oracle("hf/t5")(config, weights), recorded, "hf") > 4 * BOUND


def test_a_head_that_is_the_scaled_embedding_may_be_called_tied() -> None:
    """As a muP model's is that was made of a tied T5: both configs are the same model, and no fault of one another."""
    model, fault = Recorded("t5_gated", CerebrasT5), "scale before the head wrong"
    for oracle in (hf_model("t5_gated")[0], model.build()):
        assert fault in oracle.wrong_configs()
        words = oracle.part("embedding.weight")
        scaled = {**oracle.tensors, oracle.roles["head.lm.weight"].key: words * words.shape[1] ** -0.5}
        assert fault not in oracle.rebuilt(tensors=scaled).wrong_configs()


def loaded_at_once(oracle: Any) -> Any:
    """The model of the library as anybody loads it."""
    weights, kind = dict(oracle.tensors), type(oracle.model)
    return kind.from_pretrained(None, config=oracle.parsed, state_dict=weights, attn_implementation="eager")


@pytest.mark.parametrize("family", HF)
def test_the_stages_of_an_hf_model_are_the_model(family: str, tmp_path: Path) -> None:
    oracle, recorded = hf_model(family)
    inputs = {name: recorded[name] for name in INPUTS if name in recorded}
    with torch.no_grad():
        whole = loaded_at_once(oracle)(**inputs)
        given = [value for name, value in whole.items() if name.endswith(("logits", "image_embeds"))]
        trace, own = Trace(), oracle.begin(inputs)
        state = own
        for name in oracle.stages:
            again, state = oracle.stage(name, own.fed(state), Trace()), oracle.stage(name, state, trace)
            assert again.flow.keys() == state.flow.keys()
            assert all(torch.equal(value, state.flow[flowing]) for flowing, value in again.flow.items())
    assert all(torch.equal(one, other) for one, other in zip(trace.outputs.values(), given, strict=True))
    assert set(oracle.tensors) - {part.key for part in oracle.roles.values()} == set(oracle.twins)
    check_that_wrong_configs_show_where_said(oracle, inputs)
    assert check_that_faults_show_in_their_stage(oracle, inputs)
    check_that_reading_is_enough(oracle, inputs, tmp_path)


def test_question_answering() -> None:
    """Only the weak weights are recorded here: they show the wiring of the heads, not much more."""
    recorded = tensors(golden_dir("cerebras_forward.tar.gz") / "bert_qa" / "forward.npz")
    folder = golden_dir("cerebras.tar.gz") / "bert_qa" / "hf-cs-2.9"
    config = yaml.safe_load((folder / "config_to_cs-2.9.yaml").read_text())["model"]
    check(get_oracle("cerebras/bert")(config, tensors(folder / "flat.npz")), recorded, "cs")
