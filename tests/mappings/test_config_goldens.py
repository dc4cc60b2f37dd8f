"""Configs against some two thousand conversions recorded from the original, ModelZoo 2.10.0's converter.

Rule: every value that the original writes, we write; we may write more. Where the original refuses, we
refuse. All that differs is in ``DEVIATIONS``, each with its reason; a line that no case needs any more
fails the test too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import pytest
from goldens import golden_dir
from recorded import cerebras, with_ours
from recorded import family as family_of

from convkit.config import ConfigTable
from convkit.errors import ConfigError
from convkit.mappings import find_mapping

pytestmark = pytest.mark.golden

#: what the tensors would have shown: the original's user names the model instead
HEADS = {"mlm": False, "nsp": False, "head": False, "qa": False, "pooler": False}
MODELS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-headless": {"lm_head": False, "hf": ""},
    "gpt2": {},
    "gpt2-headless": {"lm_head": False, "hf": ""},
    "bert": HEADS | {"mlm": True, "nsp": True, "pooler": True},
    "bert-sequence-classifier": HEADS | {"head": True, "pooler": True},
    "bert-token-classifier": HEADS | {"head": True},
    "bert-qa": HEADS | {"head": True, "qa": True},
    "gptj": {},
    "gptj-headless": {"lm_head": False, "hf": ""},
    "codegen": {},
    "codegen-headless": {"lm_head": False, "hf": ""},
    "mistral": {},
    "mistral-headless": {"lm_head": False, "hf": ""},
    "mixtral": {},
    "mixtral-headless": {"lm_head": False, "hf": ""},
    "gpt-neox": {},
    "gpt-neox-headless": {"lm_head": False, "hf": ""},
}

#: keys of the original's yaml that 2.10's model classes reject; they say what these models are anyway
LEFT_OUT = {"norm_first", "use_ff_layer1_dropout"}


@dataclass(frozen=True)
class Deviation:
    """``ours``: "refuse", "accept", or what we write in the fields that differ (None: nothing)."""

    model: str
    case: str
    ours: str | dict[str, Any]
    reason: str
    releases: str = "*"


NO_SUCH_SCALING = "releases 2.1 and 2.2 compute linear scaling only (yarn, llama3: 2.3.1; longrope: 2.4)"
MUP = "muP without mup_base_*: the original drops the factor in silence, and the model computes something else"
MUP_LATER = "muP isn't converted yet"
UNEQUAL = "4 heads don't share 25 out, nor 5 heads 24: neither model can be built"
OF_T5 = "fields of another class, which have no effect in this one: they are listed"
NO_ACTIVATION = "2.10 has no activation of that name, or transformers none (gates included): the model can't be built"
TANH_GELU = "gelu_pytorch_tanh is what ModelZoo calls gelu_new; 2.10's classes reject the other name"
CHOOSY = "ModelZoo's BERT classifiers take gelu, gelu_new, relu and silu only (2.3 ... 2.10)"
LOST_ATTENTION = "grouped keys and values, which GPT-2 and BERT of transformers don't have: the original drops them"
OTHER_NAME = "the yaml says that it is another model"
LABELS = "transformers builds the head by id2label, whatever num_labels says"
NO_POOLER = "this task has no pooler, so its activation doesn't matter; ModelZoo's own yamls leave it out"

NO_DROPOUT = "transformers' default is no dropout; the original's is 0.1"
DROPOUTS = dict.fromkeys(("attention_dropout_rate", "embedding_dropout_rate", "residual_dropout_rate"), 0.0)
ROTARY = "the default of a tiny model: more than a head has, or an odd number, of which no framework makes pairs"
SCALED = "transformers' GPT-J and CodeGen know no scaled rotation: the original drops it"

NOT_LLAMA = "the default of transformers' class; the original's is LLaMA's"
DENSE = "the original's yaml has no experts, though the checkpoint has eight"

YARN = {"original_max_position_embeddings": 16, "mscale_a": 0.0, "mscale_b": 1.2}
LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.0, 1.0],
    "long_factor": [2.0, 2.0, 2.0],
    "original_max_position_embeddings": 16,
}
FACTOR = {"attention_factor": math.sqrt(1 + math.log(2.0) / math.log(16))}
BACK = {"type": "longrope", "factor": 2.0, "attention_factor": math.sqrt(1 + math.log(20 / 16) / math.log(16))}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0} | {
    "low_freq_factor": 1,
    "high_freq_factor": 4,
    "original_max_position_embeddings": 8192,
}

CHOOSY_23 = dict.fromkeys(
    ("initializer_range", "mlm_nonlinearity", "position_embedding_type", "share_embedding_weights")
)

# fmt: off
DEVIATIONS = (
    # rotary scalings
    Deviation("[lm]*", 'rope_scaling={"rope_type": "default"}', "accept", "transformers' own way to say: no scaling"),
    Deviation("[lm]*", 'rope_scaling={*yarn*', "refuse", NO_SUCH_SCALING, "cs-2.1"),
    Deviation("[lm]*", 'rope_scaling={*llama3*', "refuse", NO_SUCH_SCALING, "cs-2.1"),
    Deviation("[lm]*", 'rope_scaling={*longrope*', "refuse", NO_SUCH_SCALING, "cs-2.[13]"),
    Deviation("[lm]*", 'rope_scaling={*"attention_factor": 1.2*', {"pos_scaling_extra_args": YARN},
              "the original loses attention_factor, which ModelZoo can say: mscale_a, mscale_b"),
    Deviation("[lm]*", 'rope_scaling={*longrope*', {"pos_scaling_extra_args": LONG | FACTOR},
              "ModelZoo reckons attention from the lengths, transformers from factor: where they differ, it is said"),
    Deviation("[lm]*", 'back: rope_scaling={*longrope*', {"rope_scaling": LONG | BACK},
              "the same on the way back"),
    Deviation("[lm]*", 'rope_scaling={"rope_type": "llama3", "factor": 8.0}', "refuse",
              "transformers requires low_freq_factor and high_freq_factor"),
    Deviation("[lm]*", 'back: rope_scaling={"rope_type": "llama3", "factor": 8.0}', {"rope_scaling": LLAMA3},
              "ModelZoo's defaults are written: transformers has none"),
    Deviation("[lm]*", 'rope_scaling={*linear*', {"pos_scaling_type": None},
              "the field came with 2.3: until then every scaling is linear", "cs-2.[12]"),
    Deviation("[lm]*", "cs:pos_scaling_factor=2.0", "accept", "pos_scaling_type is linear by default (a KeyError)"),
    # llama: heads
    Deviation("[lm]*", "num_key_value_heads=null", "accept", "as many as heads, by default (a TypeError)"),
    Deviation("[lm]*", "head_dim=8", {"rotary_dim": 8},
              "the original ignores head_dim, ModelZoo has attention_inner_dim"),
    Deviation("llama", "hidden_size=36", {"rotary_dim": 6}, "an explicit head_dim counts: see head_dim=8"),
    Deviation("llama", "-hidden_size", {"rotary_dim": 6}, "an explicit head_dim counts: see head_dim=8"),
    Deviation("llama", "-num_attention_heads", {"rotary_dim": 6}, "an explicit head_dim counts: see head_dim=8"),
    Deviation("llama", "back: -num_attention_heads", "refuse", "32 heads in a hidden size of 24: rotary_dim is 0"),
    Deviation("*", "cs:hidden_size=25", "refuse", UNEQUAL),
    Deviation("*", "cs:num_heads=5", "refuse", UNEQUAL),
    # llama: what transformers has
    Deviation("[lm]*", "attention_dropout=0.1", {"attention_dropout_rate": 0.1},
              "transformers' llama drops attention too"),
    Deviation("[lm]*", "cs:attention_dropout_rate=0.1", "accept", "transformers' llama drops attention too"),
    Deviation("llama", "cs:use_ffn_bias=true", "accept", "transformers says it by mlp_bias"),
    Deviation("llama", "cs:-use_ffn_bias", "accept", "transformers says it by mlp_bias"),
    Deviation("[lm]*", 'hidden_act="gelu_*"', "accept", "a declared deviation: ModelZoo's geglu is the exact GELU"),
    # another model
    Deviation("*", 'cs:name="other"', "refuse", OTHER_NAME),
    Deviation("[lm]*", "position_embedding_type=null", "accept", "null says nothing"),
    Deviation("gpt2*", "position_embedding_type=null", "accept", "null says nothing"),
    Deviation("codegen*", "position_embedding_type=null", "accept", "null says nothing"),
    Deviation("*", "cs:+attention_sliding_window_length=8", "refuse", "a Mistral: the original drops the window"),
    Deviation("*", "cs:+moe_params=*", "refuse", "a mixture of experts: the original drops it"),
    Deviation("*", "cs:gqa3", "refuse", LOST_ATTENTION),
    Deviation("[cg]*", "cs:mqa-noextra", "refuse", LOST_ATTENTION),
    Deviation("bert*", "cs:mqa-noextra", "refuse", LOST_ATTENTION),
    # muP
    Deviation("*", "cs:+mup_base_hidden_size=12", "refuse", MUP_LATER),
    Deviation("*", "cs:mup22", "refuse", MUP_LATER),
    Deviation("*", "cs:mup23", "refuse", MUP_LATER),
    Deviation("*", "cs:mup-t5", "accept", OF_T5),
    Deviation("*", "cs:mup-t5", {"tie_word_embeddings": True}, OF_T5),
    Deviation("*", "cs:+embeddings_scale=3.0", "refuse", MUP),
    Deviation("*", "cs:+attention_logits_alpha=1.5", "refuse", MUP),
    # activations; c, g: codegen, gpt2, gptj
    Deviation("[cg]*", 'activation_function="gelu_pytorch_tanh"', {"nonlinearity": "gelu_new"}, TANH_GELU),
    Deviation("[cg]*", 'activation_function="*glu"', "refuse", NO_ACTIVATION),
    Deviation("[cg]*", 'back: activation_function="*glu"', "refuse", NO_ACTIVATION),
    Deviation("[cg]*", 'activation_function="not_an_act"', "refuse", NO_ACTIVATION),
    Deviation("[cg]*", 'back: activation_function="not_an_act"', "refuse", NO_ACTIVATION),
    Deviation("[cg]*", "activation_function=null", "refuse", NO_ACTIVATION),
    Deviation("[cg]*", "back: activation_function=null", "refuse", NO_ACTIVATION),
    Deviation("[cg]*", 'cs:nonlinearity="*glu"', "refuse", NO_ACTIVATION),
    Deviation("[cg]*", 'cs:nonlinearity="bogus"', "refuse", NO_ACTIVATION),
    Deviation("bert*", 'hidden_act="gelu_pytorch_tanh"', {"encoder_nonlinearity": "gelu_new"}, TANH_GELU),
    Deviation("bert*", 'hidden_act="gelu_pytorch_tanh"', {"mlm_nonlinearity": "gelu_new"}, TANH_GELU),
    Deviation("bert*", 'hidden_act="*glu"', "refuse", NO_ACTIVATION),
    Deviation("bert*", 'back: hidden_act="*glu"', "refuse", NO_ACTIVATION),
    Deviation("bert*", 'hidden_act="not_an_act"', "refuse", NO_ACTIVATION),
    Deviation("bert*", 'back: hidden_act="not_an_act"', "refuse", NO_ACTIVATION),
    Deviation("bert*", "hidden_act=null", "refuse", NO_ACTIVATION),
    Deviation("bert*", "back: hidden_act=null", "refuse", NO_ACTIVATION),
    Deviation("bert-*-classifier", 'hidden_act="swish"', {"encoder_nonlinearity": "silu", "mlm_nonlinearity": "silu"},
              "swish is silu, and ModelZoo's classifiers know the second name only (2.3 ... 2.10)"),
    Deviation("bert-*-classifier", 'hidden_act="gelu_fast"', "refuse", CHOOSY),
    Deviation("bert-*-classifier", 'hidden_act="quick_gelu"', "refuse", CHOOSY),
    Deviation("bert-*-classifier", 'hidden_act="tanh"', "refuse", CHOOSY),
    Deviation("bert-*-classifier", 'hidden_act="leaky_relu"', "refuse", CHOOSY),
    # gptj, codegen
    Deviation("gptj*", "only-model_type", DROPOUTS, NO_DROPOUT),
    Deviation("gptj*", "empty", DROPOUTS, NO_DROPOUT),
    Deviation("gptj", "-attn_pdrop", {"attention_dropout_rate": 0.0}, NO_DROPOUT),
    Deviation("gptj", "-embd_pdrop", {"embedding_dropout_rate": 0.0}, NO_DROPOUT),
    Deviation("gptj", "-resid_pdrop", {"residual_dropout_rate": 0.0}, NO_DROPOUT),
    Deviation("gptj", "*rotary_dim=null", "refuse", "transformers would rotate n_embd dimensions of a head"),
    Deviation("*", "*-rotary_dim", "refuse", ROTARY),
    Deviation("*", "cs:rotary_dim=5", "refuse", ROTARY),
    Deviation("gptj", "*-n_head", "refuse", "16 heads in a hidden size of 24: see rotary_dim"),
    Deviation("gptj", "cs:-num_heads", "refuse", "12 heads in a hidden size of 24, with 4 rotated dimensions each"),
    Deviation("[cg]*", "cs:hidden_size=25", "refuse", "4 heads don't share 25 out: neither model can be built"),
    Deviation("[cg]*", "cs:num_heads=5", "refuse", "5 heads don't share 24 out: neither model can be built"),
    Deviation("[cg]*", "cs:+dropout_rate=0.1", "refuse", "another name of residual_dropout_rate, which says 0.0"),
    Deviation("[cg]*", "cs:+fixed_sparse_attention=*", "accept", "the GPT-J class has no such field: it is listed"),
    Deviation("[cg]*", "cs:+pos_scaling_factor=2.0", "refuse", SCALED),
    Deviation("[cg]*", "cs:rope-only-factor", "refuse", SCALED),
    Deviation("[cg]*", "cs:rope-llama3", "refuse", SCALED),
    Deviation("codegen", "cs:*use_bias_in_output*", "accept", "a head without bias, as GPT-J may have it too"),
    Deviation("*-headless", "*", {"use_bias_in_output": False}, "a base model has no head, and no bias of one"),
    # mistral, mixtral
    Deviation("mi*", "*", {"filter_size": 14336}, NOT_LLAMA),
    Deviation("mi*", "*", {"max_position_embeddings": 131072}, NOT_LLAMA),
    Deviation("mixtral*", "*", {"layer_norm_epsilon": 1e-5}, NOT_LLAMA),
    Deviation("mistral", "-num_key_value_heads", "refuse", "4 heads aren't shared out over 8 groups, the default"),
    Deviation("mistral", "*-num_attention_heads", "refuse", "32 heads in a hidden size of 24"),
    Deviation("mi*", "hidden_size=36", "refuse", "heads of size 9, of which no framework makes pairs"),
    Deviation("mistral", "*", "refuse", "ModelZoo has windows since 2.2: 2.1 would see the whole text", "cs-2.1"),
    Deviation("mistral", "sliding_window=null", {"attention_sliding_window_length": None},
              "the field came with 2.2: until then there is no window", "cs-2.1"),
    Deviation("mixtral", 'cs:attention_sliding_window_length="bogus"', "refuse", "no length"),
    Deviation("mi*", "cs:rope-only-factor", "accept", "pos_scaling_type is linear by default (a KeyError)"),
    Deviation("mixtral", "rope_parameters=*", {"rope_theta": 10000.0}, "the original knows rope_theta only"),
    Deviation("mistral-headless", "back: *", {"architectures": ["MistralModel"]},
              "the original names the class with the head that the checkpoint lacks"),
    Deviation("mixtral*", "back: only-model_type", "refuse", DENSE),
    Deviation("mixtral*", "back: empty", "refuse", DENSE),
    Deviation("mixtral", "back: -num_local_experts", "refuse", DENSE),
    Deviation("mixtral", "-router_aux_loss_coef", "accept", "0.001 by default (a KeyError)"),
    Deviation("mixtral-headless", "", "accept", "the original refuses its own name for it"),
    # gpt-neox
    Deviation("gpt-neox*", 'hidden_act="gelu_pytorch_tanh"', {"nonlinearity": "gelu_new"}, TANH_GELU),
    Deviation("gpt-neox*", '*hidden_act="*glu"', "refuse", NO_ACTIVATION),
    Deviation("gpt-neox*", '*hidden_act="not_an_act"', "refuse", NO_ACTIVATION),
    Deviation("gpt-neox*", "*hidden_act=null", "refuse", NO_ACTIVATION),
    Deviation("gpt-neox", 'rope_scaling={*linear*', {"pos_scaling_type": None},
              "the field came with 2.3: until then every scaling is linear", "cs-2.[12]"),
    Deviation("gpt-neox*", 'rope_scaling={"rope_type": *', "accept", "today's spelling of type (a KeyError)"),
    Deviation("gpt-neox*", 'rope_scaling={*"attention_factor": 1.2*', {"pos_scaling_extra_args": YARN},
              "the original loses attention_factor, which ModelZoo can say: mscale_a, mscale_b"),
    Deviation("gpt-neox", "rope_theta=500000.0", "refuse", "rotary_emb_base says something else"),
    Deviation("gpt-neox", "rotary_pct=0.*", "refuse", "partial_rotary_factor says something else"),
    Deviation("gpt-neox", "back: *rotary_pct*", "refuse", ROTARY),
    Deviation("gpt-neox", "-rotary_pct", {"rotary_dim": 2}, "partial_rotary_factor is there"),
    Deviation("gpt-neox", "cs:rotary_dim=3", "refuse", ROTARY),
    Deviation("gpt-neox*", "attention_bias=false",
              {"use_projection_bias_in_attention": False, "use_ffn_bias_in_attention": False},
              "transformers' model has no biases then; the original names some that the checkpoint lacks"),
    Deviation("gpt-neox", "-num_attention_heads", "refuse", "64 heads in a hidden size of 24"),
    Deviation("gpt-neox", "cs:-hidden_size", "accept", "768 by default (a KeyError)"),
    Deviation("gpt-neox", "cs:-num_heads", "accept", "12 by default (a KeyError)"),
    Deviation("gpt-neox-headless", "scale_attn_weights=false", "accept", "GPT-NeoX has no such field: it is listed"),
    # gpt2, bert: the rest
    Deviation("gpt2-headless", "only-model_type", "accept", "n_embd is 768 by default (a KeyError)"),
    Deviation("gpt2-headless", "empty", "accept", "n_embd is 768 by default (a KeyError)"),
    Deviation("bert", "*", {"freeze_ffn_bias_in_glu": None}, "the field came with release 2.3", "cs-2.[12]"),
    Deviation("bert-*-classifier", "*", CHOOSY_23, "2.2's and 2.3's classes don't have them; 2.4's do", "cs-2.[123]"),
    Deviation("bert*", "cs:-max_position_embeddings", "refuse",
              "BertModelConfig has no default, and transformers' 512 needn't be the table's length"),
    Deviation("bert-sequence-classifier", "num_labels=*", {"num_labels": 3}, LABELS),
    Deviation("bert-token-classifier", "num_labels=2", {"num_classes": 5}, LABELS),
    Deviation("bert-qa", "num_labels=5", "accept", LABELS),
    Deviation("bert-sequence-classifier", "cs:-num_labels", "refuse", "the head's size is unknown"),
    Deviation("bert-token-classifier", "cs:-num_classes", "refuse", "the head's size is unknown"),
    Deviation("bert-sequence-classifier", 'cs:problem_type="bogus"', "refuse", "transformers knows three problems"),
    Deviation("bert-token-classifier", "cs:-pooler_nonlinearity", "accept", NO_POOLER),
    Deviation("bert-qa", "cs:-pooler_nonlinearity", "accept", NO_POOLER),
)
# fmt: on


@dataclass(frozen=True)
class Difference:
    model: str
    case: str
    release: str
    ours: str | dict[str, Any]
    theirs: Any

    def reasons(self) -> list[Deviation]:
        """The deviations that apply."""
        return [
            deviation
            for deviation in DEVIATIONS
            if fnmatchcase(self.model, deviation.model)
            and fnmatchcase(self.case, deviation.case)
            and fnmatchcase(self.release, deviation.releases)
            and self._has(deviation.ours)
        ]

    def _has(self, ours: str | dict[str, Any]) -> bool:
        if isinstance(ours, str) or isinstance(self.ours, str):
            return self.ours == ours
        return all(key in self.ours and self.ours[key] == value for key, value in ours.items())

    def explained(self) -> bool:
        """Whether they explain all of it."""
        reasons = self.reasons()
        if isinstance(self.ours, str):
            return bool(reasons)
        return self.ours.keys() == {key for reason in reasons for key in reason.ours}


@pytest.mark.parametrize("model", MODELS)
def test_every_recorded_conversion(model: str) -> None:
    unexplained = [found for found in _differences(model) if not found.explained()]
    assert not unexplained, "\n".join(map(str, unexplained))


def test_every_deviation_is_needed() -> None:
    needed = [reason for model in MODELS for found in _differences(model) for reason in found.reasons()]
    assert [deviation for deviation in DEVIATIONS if deviation not in needed] == []


@cache
def _differences(model: str) -> tuple[Difference, ...]:
    path = golden_dir("cerebras_more.tar.xz", "config/") / "config" / f"{model}.jsonl"
    cases = [json.loads(line) for line in path.read_text().splitlines() if line]
    assert len(cases) > 40
    return tuple(found for case in cases for found in _compare(model, case))


def _compare(model: str, case: dict[str, Any]) -> Iterator[Difference]:
    family = family_of(model)
    table = find_mapping(f"hf/{family}", cerebras(family)).config
    facts = MODELS[model]
    back_facts = {name: value for name, value in facts.items() if name not in ("qa", "hf")}
    back_facts["headless"] = model.endswith("headless")
    name = case["case"].partition("/")[2]
    if case["dir"] == "hf->cs":
        release = case["tgt"]
        theirs = case["output"]["model"] if "output" in case else None
        yield from _difference(model, name, release, theirs, _run(table, case["input"], facts, release))
        if "back" in case:
            ours = _run(table.inverse(), case["output"], back_facts, release)
            yield from _difference(model, f"back: {name}", release, case["back"], ours)
    else:
        release = case["src"]
        ours = _run(table.inverse(), case["input"], back_facts, release)
        yield from _difference(model, name, release, case.get("output"), ours)


def _run(table: ConfigTable, config: dict[str, Any], facts: dict[str, Any], release: str) -> dict[str, Any] | str:
    parsed = tuple(int(part) for part in release.removeprefix("cs-").split("."))
    try:
        out = table.convert(config, facts, parsed).config
    except ConfigError as error:
        assert error.remedy, error
        return str(error)
    return out if table.reverse else out["model"]


def _difference(
    model: str, case: str, release: str, theirs: dict[str, Any] | None, ours: dict[str, Any] | str
) -> Iterator[Difference]:
    if isinstance(ours, str):
        if theirs is not None:
            yield Difference(model, case, release, "refuse", ours)
        return
    if theirs is None:
        yield Difference(model, case, release, "accept", None)
        return
    told = {key: value for key, value in theirs.items() if key not in LEFT_OUT}
    told = with_ours(told)
    wrong = [key for key, value in told.items() if key not in ours or not _same(value, ours[key])]
    if wrong:
        yield Difference(model, case, release, {key: ours.get(key) for key in wrong}, told)


def _same(one: Any, other: Any) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)
