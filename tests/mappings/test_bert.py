"""hf/bert <-> cerebras/bert, at the level of rules: which task a checkpoint has, and which leaves."""

from __future__ import annotations

import json
from typing import Any

import pytest
from keys_only import carried, plan, refused, specs
from mappings.recorded_keys import check_inverse, check_keys, check_pairs
from recorded import HERE, MODELS, Recorded

from convkit.checkpoint import TensorSpec
from convkit.errors import ConfigError
from convkit.plan import Plan

GOLDENS = [Recorded(model, release, here=False) for model in ("bert", "bert_qa") for release in MODELS[model]]
HF = HERE / "bert" / "hf"
CONFIG: dict[str, Any] = json.loads((HF / "config.json").read_text())
PRETRAINING = specs(HF / "model.safetensors")
HIDDEN = CONFIG["hidden_size"]

BODY = {key: spec for key, spec in PRETRAINING.items() if key.startswith("bert.") and "pooler" not in key}
POOLER = {key: spec for key, spec in PRETRAINING.items() if "pooler" in key}
MLM = {key: spec for key, spec in PRETRAINING.items() if key.startswith("cls.predictions")}
NSP = {key: spec for key, spec in PRETRAINING.items() if key.startswith("cls.seq_relationship")}


def head(name: str, labels: int) -> dict[str, TensorSpec]:
    return {
        f"{name}.weight": TensorSpec((labels, HIDDEN), "float32"),
        f"{name}.bias": TensorSpec((labels,), "float32"),
    }


#: class: leaves, further config, name in the yaml
TASKS: dict[str, tuple[dict[str, TensorSpec], dict[str, Any], str]] = {
    "BertForPreTraining": (PRETRAINING, {}, "bert"),
    "BertForMaskedLM": (BODY | MLM, {}, "bert"),
    "BertForNextSentencePrediction": (BODY | POOLER | NSP, {}, "bert"),
    "BertModel": (BODY | POOLER, {}, "bert"),
    "BertForSequenceClassification": (
        BODY | POOLER | head("classifier", 2),
        {"problem_type": "single_label_classification"},
        "bert/classifier",
    ),
    "BertForTokenClassification": (
        BODY | head("classifier", 5),
        {"id2label": {str(i): f"tag {i}" for i in range(5)}},
        "bert/token_classifier",
    ),
    "BertForQuestionAnswering": (BODY | head("qa_outputs", 2), {}, "bert"),
}


def there(task: str, **config: Any) -> Plan:
    leaves, more, _ = TASKS[task]
    return plan(leaves, CONFIG | {"architectures": [task]} | more | config, "cerebras/bert")


def back(made: Plan, **options: Any) -> Plan:
    return plan({key: leaf.spec for key, leaf in made.target_leaves.items()}, made.target_config, "hf/bert", **options)


def test_inverse() -> None:
    check_inverse("bert")


@pytest.mark.parametrize(
    "case",
    [
        *(pytest.param(case, marks=pytest.mark.golden) for case in GOLDENS),
        Recorded("bert", "2.9", here=True),
        Recorded("bert_qa", "2.9", here=True),
    ],
    ids=str,
)
def test_every_recorded_key_has_one_rule(case: Recorded) -> None:
    check_keys(case)


@pytest.mark.golden
@pytest.mark.parametrize("case", GOLDENS, ids=str)
def test_keys_go_where_the_original_sends_them(case: Recorded) -> None:
    check_pairs(case)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("release", [(2, 1), (2, 9)])
def test_task_there_and_back(task: str, release: tuple[int, ...]) -> None:
    leaves, more, name = TASKS[task]
    made = plan(leaves, CONFIG | {"architectures": [task]} | more, "cerebras/bert", release=release)
    assert made.target_config["model"].get("name") == (name if release >= (2, 4) else None)
    trunk = "bert." if any(key.startswith(("classifier", "qa_outputs")) for key in leaves) else "bert_encoder."
    assert f"model.{trunk}embed_ln_f.weight" in made.target_leaves
    again = back(made)
    assert again.target_config["architectures"] == [task]
    prefix = "" if task == "BertModel" else "bert."
    extra = (
        {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
        if "cls.predictions.bias" in leaves
        else set()
    )
    assert set(again.target_leaves) == {key.replace("bert.", prefix, 1) for key in leaves} | extra


@pytest.mark.parametrize("task", [task for task in TASKS if task not in ("BertForTokenClassification", "BertModel")])
def test_the_keys_tell_the_task(task: str) -> None:
    """Hub checkpoints leave ``architectures`` out, or name what they were before."""
    assert there(task).names == there(task, architectures=None).names
    other = there(task, architectures=["BertForMaskedLM"])
    assert back(other).target_config["architectures"] == [task]


def test_only_a_pooler_tells_classifiers_apart() -> None:
    """Old token classifiers have a pooler that nothing uses: ``architectures`` says what they are."""
    leaves = BODY | POOLER | head("classifier", 2)
    config = CONFIG | {"problem_type": "single_label_classification"}
    assert plan(leaves, config, "cerebras/bert").names["sequence"]
    made = plan(leaves, config | {"architectures": ["BertForTokenClassification"]}, "cerebras/bert")
    assert made.names["token"]
    assert made.bound.left_behind == dict.fromkeys(POOLER, "this task has no pooler")
    assert not any("pooler" in key for key in made.target_leaves)


def test_a_classifier_of_sequences_needs_its_pooler() -> None:
    config = CONFIG | {"architectures": ["BertForSequenceClassification"], "problem_type": "regression"}
    assert "pooler.dense.weight: is missing" in refused(BODY | head("classifier", 2), config, "cerebras/bert")


def test_multiple_choice_is_refused() -> None:
    leaves = BODY | POOLER | head("classifier", 1)
    with pytest.raises(ConfigError, match="multiple-choice"):
        plan(leaves, CONFIG | {"architectures": ["BertForMultipleChoice"]}, "cerebras/bert")


def test_the_decoder_is_complete_though_tied_models_save_half_of_it() -> None:
    made = there("BertForPreTraining")
    assert "cls.predictions.decoder.weight" not in made.source_leaves
    assert {pair for pair in carried(made) if "bert_mlm_head.classifier" in pair[1]} == {
        ("bert.embeddings.word_embeddings.weight", "model.bert_mlm_head.classifier.ffn.0.linear_layer.weight"),
        ("cls.predictions.bias", "model.bert_mlm_head.classifier.ffn.0.linear_layer.bias"),
    }


def test_an_untied_decoder_is_its_own() -> None:
    decoder = {
        "cls.predictions.decoder.weight": PRETRAINING["bert.embeddings.word_embeddings.weight"],
        "cls.predictions.decoder.bias": PRETRAINING["cls.predictions.bias"],
    }
    made = plan(PRETRAINING | decoder, CONFIG | {"tie_word_embeddings": False}, "cerebras/bert")
    assert "cls.predictions.bias" in made.bound.left_behind  # transformers doesn't compute with it
    old = {key: spec for key, spec in (PRETRAINING | decoder).items() if key != "cls.predictions.decoder.bias"}
    made = plan(old, CONFIG | {"tie_word_embeddings": False}, "cerebras/bert")  # transformers 4: one parameter
    assert ("cls.predictions.bias", "model.bert_mlm_head.classifier.ffn.0.linear_layer.bias") in carried(made)


def test_spellings_of_tensorflow() -> None:
    spelled = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): spec
        for key, spec in PRETRAINING.items()
    }
    made = plan(spelled, CONFIG, "cerebras/bert")
    assert (made.variant["scale"], made.variant["shift"]) == ("gamma", "beta")
    assert set(made.target_leaves) == set(there("BertForPreTraining").target_leaves)


@pytest.mark.parametrize("pooler", [True, False])
def test_base_model_without_prefix_and_with_positions(pooler: bool) -> None:
    """As sentence embedders are published."""
    leaves = {key.removeprefix("bert."): spec for key, spec in (BODY | (POOLER if pooler else {})).items()}
    positions = {"embeddings.position_ids": TensorSpec((1, CONFIG["max_position_embeddings"]), "int64")}
    made = plan(leaves | positions, CONFIG | {"architectures": ["BertModel"]}, "cerebras/bert")
    assert made.variant["hf"] == ""
    assert [leaf.key for leaf in made.bound.derived] == list(positions)
    assert all(key.startswith("model.bert_encoder.") for key in made.target_leaves)
    written = made.target_config["model"]
    assert ("disable_nsp" in written, "num_segments" in written) == (not pooler, not pooler)
    again = back(made)
    assert set(again.target_leaves) == set(leaves)
    assert again.variant["hf"] == ""


def test_masked_language_model_has_no_pooler_in_its_yaml() -> None:
    written = there("BertForMaskedLM").target_config["model"]
    assert written["disable_nsp"] is True
    assert written["num_segments"] == 2  # which disable_nsp would make none


def test_question_answering_says_that_nothing_loads_it() -> None:
    assert any("question answering" in warning for warning in there("BertForQuestionAnswering").warnings)


def test_headless_keeps_the_body() -> None:
    for task in ("BertForPreTraining", "BertForSequenceClassification", "BertForTokenClassification"):
        again = back(there(task), headless=True)
        body = {key.removeprefix("bert.") for key in TASKS[task][0] if key.startswith("bert.")}
        assert set(again.target_leaves) == body
        assert set(again.bound.left_behind.values()) == {"a base model has no head"}


def test_a_yaml_that_contradicts_its_tensors() -> None:
    made = there("BertForPreTraining")
    leaves = {key: leaf.spec for key, leaf in made.target_leaves.items()}
    config = {"model": made.target_config["model"] | {"disable_nsp": True}}
    with pytest.raises(ConfigError, match="disable_nsp: is True"):
        plan(leaves, config, "hf/bert")


def test_an_unknown_head_is_refused() -> None:
    other = head("dense", 3)
    assert "dense." in refused(BODY | POOLER | other, CONFIG, "cerebras/bert")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hidden_act": "gelu_10"}, "hidden_act"),
        ({"is_decoder": True}, "is_decoder"),
        ({"type_vocab_size": 3}, "type_vocab_size"),
        ({"num_attention_heads": 5}, "num_attention_heads: 5 heads don't divide"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
    ],
    ids=str,
)
def test_what_cerebras_cannot_say(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        plan(PRETRAINING, CONFIG | change, "cerebras/bert")
    assert caught.value.remedy


def test_the_tensors_know_the_number_of_labels() -> None:
    leaves = BODY | head("classifier", 5)
    made = plan(leaves, CONFIG, "cerebras/bert")  # which has no names of labels, and so 2 of them
    assert made.target_config["model"]["num_classes"] == 5
    assert "the config says num_labels = 2, the checkpoint has 5: corrected" in made.warnings
    yaml = {"model": {key: value for key, value in made.target_config["model"].items() if key != "num_classes"}}
    cs = {key: leaf.spec for key, leaf in made.target_leaves.items()}
    assert plan(cs, yaml, "hf/bert").target_config["num_labels"] == 5


def test_labels_are_a_section_of_names() -> None:
    with pytest.raises(ConfigError, match="id2label: is 5"):
        plan(BODY | head("classifier", 5), CONFIG | {"id2label": 5}, "cerebras/bert")


def test_problem_type() -> None:
    leaves, _, _ = TASKS["BertForSequenceClassification"]
    with pytest.raises(ConfigError, match=r"problem_type: is null \(add it to the config"):
        plan(leaves, CONFIG, "cerebras/bert")
    one = BODY | POOLER | head("classifier", 1)
    made = plan(one, CONFIG | {"id2label": {"0": "score"}}, "cerebras/bert")
    assert made.target_config["model"]["problem_type"] == "regression"
