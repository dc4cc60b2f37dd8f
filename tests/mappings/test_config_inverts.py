"""Config tables are inverted by reading them backwards: any config keeps its meaning there and back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from meaning import meaning

from convkit.config import Converted
from convkit.mappings import find_mapping

transformers = pytest.importorskip("transformers")

TASKS = {
    "BertForPreTraining": "mlm nsp pooler",
    "BertForMaskedLM": "mlm",
    "BertForNextSentencePrediction": "nsp pooler",
    "BertModel": "pooler",
    "BertForSequenceClassification": "head pooler",
    "BertForTokenClassification": "head",
    "BertForQuestionAnswering": "head qa",
}
DROPOUTS = st.sampled_from([0.0, 0.1, 0.25])
DECODER_ACTIVATIONS = ["gelu", "gelu_new", "gelu_fast", "quick_gelu", "relu", "relu2", "silu", "mish", "tanh"]


def sometimes(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any of these fields, or none: what is left out has the default of the class."""
    return st.fixed_dictionaries({}, optional=fields)


@st.composite
def scalings(draw: st.DrawFn, pairs: int) -> dict[str, Any]:
    kind = draw(st.sampled_from(["default", "linear", "yarn", "llama3", "longrope"]))
    factor, original = draw(st.sampled_from([2.0, 4.0])), draw(st.sampled_from([64, 128]))
    out: dict[str, Any] = {"rope_type": kind, "rope_theta": draw(st.sampled_from([1e4, 5e5]))}
    if kind == "default":
        return out
    out["factor"] = factor
    if kind != "linear" and draw(st.booleans()):
        out["original_max_position_embeddings"] = original
    if kind == "yarn":
        options = sometimes(
            attention_factor=st.just(1.3), beta_fast=st.just(8.0), beta_slow=st.just(2.0), truncate=st.booleans()
        )
        out |= draw(options)
    if kind == "llama3":
        out |= {"low_freq_factor": 1.0, "high_freq_factor": draw(st.sampled_from([4.0, 8.0]))}
    if kind == "longrope":
        out |= {"short_factor": [1.0] * pairs, "long_factor": [1.5] * pairs}
        out |= draw(sometimes(attention_factor=st.just(1.1)))
    return out


@st.composite
def llamas(draw: st.DrawFn) -> Any:
    heads, head_dim = draw(st.sampled_from([2, 4, 6])), draw(st.sampled_from([None, 32, 48]))
    fields = sometimes(
        vocab_size=st.integers(1, 99),
        intermediate_size=st.integers(1, 99),
        num_hidden_layers=st.integers(1, 5),
        num_key_value_heads=st.sampled_from([1, 2, heads]),
        hidden_act=st.sampled_from(["silu", "relu", "gelu"]),
        rms_norm_eps=st.sampled_from([1e-5, 1e-6]),
        initializer_range=st.sampled_from([0.02, 0.01]),
        tie_word_embeddings=st.booleans(),
        attention_bias=st.booleans(),
        mlp_bias=st.booleans(),
        attention_dropout=DROPOUTS,
        max_position_embeddings=st.sampled_from([256, 512]),
    )
    rope = draw(scalings((head_dim or 32) // 2))
    return transformers.LlamaConfig(
        num_attention_heads=heads, hidden_size=32 * heads, head_dim=head_dim, rope_parameters=rope, **draw(fields)
    )


@st.composite
def gpt2s(draw: st.DrawFn) -> Any:
    fields = sometimes(
        vocab_size=st.integers(1, 99),
        n_positions=st.integers(1, 99),
        n_layer=st.integers(1, 5),
        n_inner=st.none() | st.integers(1, 99),
        activation_function=st.sampled_from(DECODER_ACTIVATIONS),
        resid_pdrop=DROPOUTS,
        embd_pdrop=DROPOUTS,
        attn_pdrop=DROPOUTS,
        layer_norm_epsilon=st.sampled_from([1e-5, 1e-6]),
        initializer_range=st.sampled_from([0.02, 0.01]),
        scale_attn_weights=st.booleans(),
        tie_word_embeddings=st.booleans(),
    )
    return transformers.GPT2Config(n_head=2, n_embd=draw(st.sampled_from([4, 10])), **draw(fields))


@st.composite
def berts(draw: st.DrawFn) -> tuple[str, Any]:
    task = draw(st.sampled_from(sorted(TASKS)))
    choosy = task in ("BertForSequenceClassification", "BertForTokenClassification")
    labelled = {}
    if choosy:
        labels = st.integers(2, 5) if task.endswith("TokenClassification") else st.integers(1, 5)
        labelled["num_labels"] = draw(labels)
        multi = ["single_label_classification"] if labelled["num_labels"] > 1 else []
        labelled["problem_type"] = draw(st.sampled_from([*multi, "multi_label_classification", "regression"]))
    if task == "BertForTokenClassification":
        del labelled["problem_type"]
    fields = sometimes(
        vocab_size=st.integers(1, 99),
        hidden_size=st.just(12),
        num_hidden_layers=st.integers(1, 5),
        intermediate_size=st.integers(1, 99),
        hidden_act=st.sampled_from(["gelu", "gelu_new", "relu", "silu"] if choosy else DECODER_ACTIVATIONS),
        hidden_dropout_prob=DROPOUTS,
        attention_probs_dropout_prob=DROPOUTS,
        max_position_embeddings=st.integers(1, 99),
        layer_norm_eps=st.sampled_from([1e-12, 1e-5]),
        initializer_range=st.sampled_from([0.02, 0.01]),
        tie_word_embeddings=st.booleans(),
        **({"classifier_dropout": st.none() | DROPOUTS} if choosy else {}),
    )
    return task, transformers.BertConfig(num_attention_heads=4, **labelled, **draw(fields))


def _facts(task: str) -> dict[str, Any]:
    facts = dict.fromkeys(("mlm", "nsp", "head", "qa", "pooler"), False)
    return facts | dict.fromkeys(TASKS[task].split(), True)


def _there_and_back(family: str, config: Any, facts: dict[str, Any]) -> tuple[Converted, Converted]:
    table = find_mapping(f"hf/{family}", f"cerebras/{family}").config
    there = table.convert(config.to_dict() | {"architectures": [facts.pop("architecture")]}, facts)
    back = table.inverse().convert(there.config, {name: facts[name] for name in facts if name != "qa"})
    again = table.convert(back.config, facts)
    assert again.config == there.config  # and there: Cerebras -> HF -> Cerebras
    assert meaning(type(config).from_dict(back.config)) == meaning(config) | {
        "architectures": back.config["architectures"]
    }
    return there, back


PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@settings(PATIENT, max_examples=200)
@given(llamas())
def test_llama(config: Any) -> None:
    _there_and_back("llama", config, {"architecture": "LlamaForCausalLM"})


@PATIENT
@given(gpt2s())
def test_gpt2(config: Any) -> None:
    _there_and_back("gpt2", config, {"architecture": "GPT2LMHeadModel"})


@PATIENT
@given(berts())
def test_bert(found: tuple[str, Any]) -> None:
    task, config = found
    _, back = _there_and_back("bert", config, {"architecture": task} | _facts(task))
    assert back.config["architectures"] == [task]


@PATIENT
@given(berts())
def test_bert_without_tensors(found: tuple[str, Any]) -> None:
    """If only configs are converted, they show the task themselves (except question answering)."""
    task, config = found
    if task in ("BertForQuestionAnswering", "BertForNextSentencePrediction", "BertModel"):
        return
    _, back = _there_and_back("bert", config, {"architecture": task})
    assert back.config["architectures"] == [task]
