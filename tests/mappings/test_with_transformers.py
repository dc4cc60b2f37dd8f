"""Checkpoints converted back from Cerebras load strictly in transformers, and compute the same.

Models of every class are made by the library itself, go to Cerebras and back, with and without the
receipt, and give the logits that they gave before: bit by bit, since the tensors are the same. Where norms were
rounded and no receipt says what was lost, they give nearly the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from meaning import meaning
from recorded import ROUNDED, cerebras

from convkit.execute import convert
from convkit.generate.weights import fill
from convkit.plan import Options, Plan, make_plan, open_source

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

LLAMA = {
    "vocab_size": 23,
    "hidden_size": 60,
    "intermediate_size": 14,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "max_position_embeddings": 40,
}
GPT2 = {"vocab_size": 23, "n_embd": 60, "n_layer": 2, "n_head": 6, "n_positions": 40}
BIGCODE = GPT2 | {"activation_function": "gelu_new"}  # its default is the same function, rounded otherwise
BLOOM = {"vocab_size": 23, "hidden_size": 60, "n_layer": 2, "n_head": 6}
GEMMA = LLAMA | {"head_dim": 14, "num_key_value_heads": 2, "query_pre_attn_scalar": 18, "sliding_window": 3} | {
    "hidden_activation": "gelu"
}  # fmt: skip
FALCON = {name: size for name, size in LLAMA.items() if name != "intermediate_size"}
FALCON |= {"ffn_hidden_size": 14, "num_kv_heads": 1}
GROUPED = {"new_decoder_architecture": True, "num_kv_heads": 2, "multi_query": False}
BERT = LLAMA | {"hidden_dropout_prob": 0.2}
VIT = {
    "hidden_size": 60,
    "intermediate_size": 14,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "image_size": 10,
    "patch_size": 5,
}
T5 = {"vocab_size": 23, "d_model": 20, "d_kv": 6, "d_ff": 14, "num_layers": 2, "num_decoder_layers": 1, "num_heads": 4}
ESM = BERT | {"pad_token_id": 1, "mask_token_id": 7, "token_dropout": True}

#: class, config, arguments of the class
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", LLAMA, {}),
    "llama grouped": ("LlamaForCausalLM", LLAMA | {"num_key_value_heads": 2}, {}),
    "llama one key": ("LlamaForCausalLM", LLAMA | {"num_key_value_heads": 1}, {}),
    "llama tied": ("LlamaForCausalLM", LLAMA | {"tie_word_embeddings": True}, {}),
    "llama biased": ("LlamaForCausalLM", LLAMA | {"attention_bias": True, "mlp_bias": True}, {}),
    "llama long heads": ("LlamaForCausalLM", LLAMA | {"head_dim": 14, "num_key_value_heads": 3}, {}),
    "llama scaled": (
        "LlamaForCausalLM",
        LLAMA | {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.3, "beta_fast": 16}},
        {},
    ),
    "llama base": ("LlamaModel", LLAMA, {}),
    "llama base tied": ("LlamaModel", LLAMA | {"tie_word_embeddings": True}, {}),
    "mistral": ("MistralForCausalLM", LLAMA | {"sliding_window": 3, "num_key_value_heads": 2}, {}),
    "mixtral": (
        "MixtralForCausalLM",
        LLAMA | {"intermediate_size": 16, "num_local_experts": 3, "num_key_value_heads": 2},
        {},
    ),
    "mixtral base": (
        "MixtralModel",
        LLAMA | {"intermediate_size": 16, "num_local_experts": 2, "num_key_value_heads": 6},
        {},
    ),
    "gemma2": ("Gemma2ForCausalLM", GEMMA | {"rope_theta": 5000.0}, {}),
    "gemma2 windows": (
        "Gemma2ForCausalLM",
        GEMMA | {"layer_types": ["full_attention", "sliding_attention"], "attn_logit_softcapping": None},
        {},
    ),
    "gemma2 biased": ("Gemma2ForCausalLM", GEMMA | {"attention_bias": True, "tie_word_embeddings": False}, {}),
    "gemma2 base": ("Gemma2Model", GEMMA, {}),
    "gpt_neox": ("GPTNeoXForCausalLM", LLAMA | {"rotary_pct": 0.4}, {}),
    "gpt_neox base": ("GPTNeoXModel", LLAMA | {"rotary_pct": 1.0, "attention_bias": False}, {}),
    "bloom": ("BloomForCausalLM", BLOOM, {}),
    "bloom untied": ("BloomForCausalLM", BLOOM | {"tie_word_embeddings": False, "hidden_dropout": 0.1}, {}),
    "bloom base": ("BloomModel", BLOOM | {"n_head": 5}, {}),
    "gpt_bigcode": ("GPTBigCodeForCausalLM", BIGCODE, {}),
    "gpt_bigcode all keys": ("GPTBigCodeForCausalLM", BIGCODE | {"multi_query": False}, {}),
    "gpt_bigcode untied": ("GPTBigCodeForCausalLM", BIGCODE | {"tie_word_embeddings": False, "n_inner": 14}, {}),
    "gpt_bigcode base": ("GPTBigCodeModel", BIGCODE | {"activation_function": "relu"}, {}),
    "falcon": ("FalconForCausalLM", FALCON, {}),
    "falcon grouped": ("FalconForCausalLM", FALCON | GROUPED | {"bias": True}, {}),
    "falcon grouped behind one norm": (
        "FalconForCausalLM",
        FALCON | GROUPED | {"num_ln_in_parallel_attn": 1, "tie_word_embeddings": False},
        {},
    ),
    "falcon one key of two norms": (
        "FalconForCausalLM",
        FALCON | GROUPED | {"num_kv_heads": 1, "multi_query": True},
        {},
    ),
    "falcon a key for each head": ("FalconForCausalLM", FALCON | {"multi_query": False, "num_kv_heads": 6}, {}),
    "falcon base": ("FalconModel", FALCON, {}),
    "gpt2": ("GPT2LMHeadModel", GPT2, {}),
    "gpt2 untied": ("GPT2LMHeadModel", GPT2 | {"tie_word_embeddings": False, "n_inner": 14}, {}),
    "gpt2 unscaled": ("GPT2LMHeadModel", GPT2 | {"scale_attn_weights": False, "activation_function": "relu"}, {}),
    "gpt2 base": ("GPT2Model", GPT2, {}),
    "gpt2 base untied": ("GPT2Model", GPT2 | {"tie_word_embeddings": False}, {}),
    "bert": ("BertForPreTraining", BERT, {}),
    "bert untied": ("BertForPreTraining", BERT | {"tie_word_embeddings": False}, {}),
    "bert masked": ("BertForMaskedLM", BERT, {}),
    "bert next sentence": ("BertForNextSentencePrediction", BERT, {}),
    "bert sequence": (
        "BertForSequenceClassification",
        BERT | {"num_labels": 5, "problem_type": "multi_label_classification"},
        {},
    ),
    "bert token": ("BertForTokenClassification", BERT | {"num_labels": 7, "classifier_dropout": 0.3}, {}),
    "bert questions": ("BertForQuestionAnswering", BERT, {}),
    "bert base": ("BertModel", BERT, {}),
    "bert base without pooler": ("BertModel", BERT, {"add_pooling_layer": False}),
    "roberta": ("RobertaForMaskedLM", BERT, {}),
    "roberta untied": ("RobertaForMaskedLM", BERT | {"tie_word_embeddings": False, "pad_token_id": 3}, {}),
    "roberta one segment": ("RobertaForMaskedLM", BERT | {"type_vocab_size": 1, "hidden_act": "relu"}, {}),
    "roberta base without pooler": ("RobertaModel", BERT, {"add_pooling_layer": False}),
    "vit": ("ViTForImageClassification", VIT | {"num_labels": 5}, {}),
    "vit unbiased": ("ViTForImageClassification", VIT | {"qkv_bias": False, "hidden_act": "silu"}, {}),
    "vit oblong": ("ViTForImageClassification", VIT | {"image_size": [8, 12], "patch_size": [4, 2]}, {}),
    "vit base": ("ViTModel", VIT, {}),
    "vit base without pooler": ("ViTModel", VIT, {"add_pooling_layer": False}),
    "clip_vision_model": ("CLIPVisionModelWithProjection", VIT | {"projection_dim": 7}, {}),
    "clip_vision_model base": ("CLIPVisionModel", VIT, {}),
    "t5": ("T5ForConditionalGeneration", T5, {}),
    "t5 deep decoder": ("T5ForConditionalGeneration", T5 | {"num_layers": 1, "num_decoder_layers": 2}, {}),
    "t5 unscaled": ("T5ForConditionalGeneration", T5 | {"tie_word_embeddings": False}, {}),
    "t5 gated": ("T5ForConditionalGeneration", T5 | {"feed_forward_proj": "gated-silu"}, {}),
    "t5 exact": (
        "T5ForConditionalGeneration",
        T5 | {"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu", "relative_attention_num_buckets": 12},
        {},
    ),
    "dpr": ("DPRQuestionEncoder", BERT, {}),
    "dpr context": ("DPRContextEncoder", BERT | {"projection_dim": 60, "hidden_act": "relu"}, {}),
    "esm": ("EsmForMaskedLM", ESM | {"position_embedding_type": "rotary", "rope_theta": 3000.0}, {}),
    "esm untied": ("EsmForMaskedLM", ESM | {"tie_word_embeddings": False, "emb_layer_norm_before": True}, {}),
    "esm base without pooler": ("EsmModel", ESM | {"token_dropout": False}, {"add_pooling_layer": False}),
}
#: what Cerebras doesn't have, and transformers makes anew where no receipt has it
MADE_ANEW = {"esm": ("contact_head.regression.weight", "contact_head.regression.bias", "rotary_embeddings.inv_freq")}


@pytest.fixture(scope="module")
def there_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Any, Plan]]:
    """A model, and the folder where it lies as ``hf`` and on Cerebras' side as ``cs.mdl``, with the plan; made once."""

    @cache
    def made(name: str) -> tuple[Path, Any, Plan]:
        architecture, config, arguments = MODELS[name]
        cls, folder = getattr(transformers, architecture), tmp_path_factory.mktemp("there")
        model = cls(cls.config_class(**config), **arguments).eval()
        fill(model, seed=3)
        model.save_pretrained(folder / "hf")
        return folder, model, _convert(folder / "hf", cerebras(name.partition(" ")[0]), folder / "cs.mdl")

    return made


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("receipt", [True, False], ids=["receipt", "no receipt"])
def test_there_and_back(name: str, receipt: bool, there_of: Callable[..., Any], tmp_path: Path) -> None:
    architecture, _, arguments = MODELS[name]
    cls = getattr(transformers, architecture)
    family = name.partition(" ")[0]
    folder, model, there = there_of(name)
    rounded = family in ROUNDED
    assert there.exact != rounded
    tied_base = not receipt and family != "bert" and "base" in name  # which no Cerebras checkpoint can show
    back = _convert(folder / "cs.mdl", f"hf/{family}", tmp_path / "back", restore=receipt, headless=tied_base)
    assert json.loads((tmp_path / "back" / "config.json").read_text())["architectures"] == [architecture]
    again, loading = cls.from_pretrained(tmp_path / "back", output_loading_info=True, **arguments)
    loading["missing_keys"] = {
        key for key in loading["missing_keys"] if receipt or not key.endswith(MADE_ANEW.get(family, ()))
    }
    assert not any(loading.values()), loading
    with torch.no_grad():
        for ours, theirs in zip(_outputs(again.eval()), _outputs(model), strict=True):
            if receipt or not rounded:
                assert torch.equal(ours, theirs)
            else:
                torch.testing.assert_close(ours, theirs)
    assert meaning(again.config) == meaning(model.config)
    if receipt:
        assert set(back.target_leaves) == set(there.source_leaves)
        before = json.loads((folder / "hf" / "config.json").read_text())
        after = json.loads((tmp_path / "back" / "config.json").read_text())
        assert before.keys() <= after.keys()


def _outputs(model: Any) -> list[Any]:
    if model.main_input_name == "pixel_values":
        sides = model.config.image_size
        shape = (2, 3, *(sides if isinstance(sides, list) else [sides, sides]))
        out = model(pixel_values=torch.randn(shape, generator=torch.Generator().manual_seed(1)))
    else:
        ids = torch.arange(60).reshape(2, 30) % 23
        decoder = {"decoder_input_ids": ids[:, :20]} if model.config.is_encoder_decoder else {}
        out = model(input_ids=ids, **decoder)
    return [value for value in out.to_tuple() if isinstance(value, torch.Tensor)]


def _convert(source: Path, to: str, target: Path, **options: Any) -> Plan:
    with open_source(source) as opened:
        plan = make_plan(opened, to, options=Options(**options))
        convert(opened, plan, target, threads=2)
    return plan


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("llama", "LlamaModel"),
        ("llama tied", "LlamaModel"),
        ("gpt2", "GPT2Model"),
        ("gpt2 untied", "GPT2Model"),
        ("bert", "BertModel"),
        ("bert untied", "BertModel"),
        ("bert sequence", "BertModel"),
    ],
)
def test_headless(name: str, base: str, tmp_path: Path) -> None:
    """``--headless``: the base model's own keys, and its hidden states."""
    architecture, config, _ = MODELS[name]
    family = name.partition(" ")[0]
    cls = getattr(transformers, architecture)
    model = cls(cls.config_class(**config)).eval()
    fill(model, seed=3)
    model.save_pretrained(tmp_path / "hf")
    _convert(tmp_path / "hf", cerebras(family), tmp_path / "cs.mdl")
    plan = _convert(tmp_path / "cs.mdl", f"hf/{family}", tmp_path / "back", headless=True, restore=False)
    wanted = set(getattr(transformers, base)(cls.config_class(**config)).state_dict())
    assert set(plan.target_leaves) == {key for key in wanted if not key.endswith("position_ids")}
    assert plan.target_config["architectures"] == [base]
    again, loading = transformers.AutoModel.from_pretrained(tmp_path / "back", output_loading_info=True)
    assert type(again).__name__ == base
    assert not any(loading.values()), loading
    with torch.no_grad():
        ours = again.eval()(input_ids=torch.arange(30)[None] % 23).last_hidden_state
        theirs = model(input_ids=torch.arange(30)[None] % 23, output_hidden_states=True).hidden_states[-1]
    assert torch.equal(ours, theirs)
