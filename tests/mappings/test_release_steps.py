"""Single steps of yamls from release to release: what becomes of each thing, and what is refused by name."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from convkit.config.tree import dig
from convkit.errors import ConfigError
from convkit.mappings.cerebras.releases.yaml import yaml_table

Section = dict[str, Any]

OLD = {
    "model": {"hidden_size": 24, "filter_size": 28, "use_rms_norm": False, "precision_opt_level": 1},
    "optimizer": {
        "optimizer_type": "adamw", "beta1": 0.9, "beta2": 0.95, "weight_decay_rate": 0.1,
        "learning_rate": [
            {"scheduler": "Linear", "initial_learning_rate": 0.0, "end_learning_rate": 0.1, "decay_steps": 3},
            {"scheduler": "CosineDecay", "learning_rate": 0.1, "end_learning_rate": 0.0, "steps": 9},
        ]},
    "runconfig": {"max_steps": 12, "num_replicas": 2, "is_pretrained_checkpoint": True, "mode": "train"},
    "csconfig": {}, "description": "mine",
}  # fmt: skip


def test_with_the_yaml_that_was_converted_only_what_changed_since_changes() -> None:
    table = yaml_table("gpt2", (1, 9), (2, 10))
    there = table.convert(OLD).config
    there["trainer"]["init"]["loop"]["max_steps"] = 100
    there["trainer"]["init"]["optimizer"]["adamw"]["amsgrad"] = True
    del there["trainer"]["init"]["callbacks"]
    back = table.inverse().convert(there).config
    table.inverse().respelled(back, OLD)
    expected = deepcopy(OLD)
    expected["runconfig"]["max_steps"] = 100
    expected["optimizer"]["amsgrad"] = True
    del expected["runconfig"]["is_pretrained_checkpoint"]
    assert back == expected


def test_what_the_trainer_has_no_place_for_is_said() -> None:
    there = yaml_table("gpt2", (2, 2), (2, 3)).convert(
        {"model": {"hidden_size": 8}, "runconfig": {"not_a_key": 1, "mode": "train"}, "description": "mine"}
    )
    assert list(there.warnings) == ["the trainer of 2.3 has no place for runconfig.not_a_key, description: left out"]


def test_what_yamls_before_2_3_have_no_place_for_is_said() -> None:
    trainer = {
        "init": {"model": {"hidden_size": 8}, "callbacks": [{"KeepNCheckpoints": {"n": 3}}, {"Mine": {"a": 1}}]},
        "fit": {"val_dataloader": {"batch_size": 1}},
        "validate": {"val_dataloader": {"batch_size": 2}},
    }
    there = yaml_table("gpt2", (2, 3), (2, 2)).convert({"trainer": trainer})
    assert there.config == {
        "model": {"hidden_size": 8}, "runconfig": {"max_checkpoints": 3}, "eval_input": {"batch_size": 1}
    }  # fmt: skip
    [warning] = there.warnings
    assert "trainer.init.callbacks (Mine)" in warning
    assert "trainer.validate.val_dataloader.batch_size" in warning


def test_a_trainer_of_2_10_as_people_write_it_goes_down() -> None:
    linear, cosine = ({"LinearLR": {"total_iters": 12}}, {"CosineDecayLR": {"total_iters": 88}})
    init = {
        "device": "CSX",
        "model": {"name": "gpt2", "attention_dropout_rate": 0.1},
        "optimizer": {"AdamW": {"betas": [0.9, 0.95]}},
        "schedulers": [{"SequentialLR": {"schedulers": [linear, cosine], "milestones": [12]}}],
        "precision": {"loss_scaling_factor": "dynamic"},
    }
    there = yaml_table("gpt2", (2, 10), (2, 2)).convert({"trainer": {"init": init}})
    assert not there.warnings
    assert there.config == {
        "model": {"attention_dropout_rate": 0.1, "mixed_precision": True, "fp16_type": "float16"},
        "optimizer": {
            "optimizer_type": "AdamW", "betas": [0.9, 0.95], "loss_scaling_factor": "dynamic",
            "learning_rate": [{"scheduler": "LinearLR", "total_iters": 12},
                              {"scheduler": "CosineDecayLR", "total_iters": 88}]},
        "runconfig": {"target_device": "CSX"},
    }  # fmt: skip


def test_precision_that_nobody_says_stays_what_it_was() -> None:
    yaml = {"model": {"hidden_size": 8}, "runconfig": {"precision_opt_level": 1}}
    there = yaml_table("gpt2", (2, 2), (2, 3)).convert(yaml).config
    assert there["trainer"]["init"]["precision"] == {"precision_opt_level": 1, "enabled": False}
    yaml["model"]["mixed_precision"] = True
    there = yaml_table("gpt2", (2, 2), (2, 3)).convert(yaml).config
    assert there["trainer"]["init"]["precision"]["fp16_type"] == "bfloat16"


def test_fields_that_the_classes_of_2_4_reject_are_said() -> None:
    there = yaml_table("gpt2", (2, 3), (2, 10)).convert({"model": {"hidden_size": 8, "mine": 1}})
    assert there.warnings == ("GPT2ModelConfig has no field mine: since 2.4 it rejects them",)


def test_a_run_of_2_3_may_have_the_sections_of_2_2() -> None:
    yaml = MUP_RUN | {"runconfig": {"max_steps": 100}}
    table = yaml_table("gpt2", (2, 3), (2, 4))
    there = table.convert(yaml).config
    assert there == yaml_table("gpt2", (2, 2), (2, 4)).convert(yaml).config
    back = table.inverse().convert(there).config
    assert "trainer" in back  # which 2.3 reads as well
    table.inverse().respelled(back, yaml)
    assert back == yaml


def test_a_yaml_of_2_0_with_the_names_of_2_1_gets_those_of_1_9() -> None:
    new = {"optimizer_type": "AdamW", "betas": [0.9, 0.95], "learning_rate": {"scheduler": "Linear", "total_iters": 3}}
    there = yaml_table("gptj", (2, 0), (1, 9)).convert({"model": {}, "optimizer": new}).config
    assert there["optimizer"] == {
        "optimizer_type": "AdamW", "beta1": 0.9, "beta2": 0.95, "learning_rate": {"scheduler": "Linear", "steps": 3}
    }  # fmt: skip


def test_a_field_that_the_release_before_did_not_read_is_said() -> None:
    model = {"attention_sliding_window_length": 8}
    there = yaml_table("mistral", (2, 1), (2, 2)).convert({"model": model})
    assert there.config == {"model": model}
    assert there.warnings == ("attention_sliding_window_length = 8: release 2.1 doesn't read it, 2.2 does",)


def test_several_loaders_are_a_list_there_and_back() -> None:
    yaml = {
        "model": {},
        "eval_input": [{"data_dir": "./a", "micro_batch_size": 2}, {"data_dir": "./b", "micro_batch_size": 2}],
    }
    table = yaml_table("gpt2", (2, 2), (2, 3))
    there = table.convert(yaml).config
    trainer = there["trainer"]
    assert trainer["validate_all"]["val_dataloaders"] == [{"data_dir": "./a"}, {"data_dir": "./b"}]
    assert "validate" not in trainer  # which takes one
    assert table.inverse().convert(there).config == yaml


def test_trainers_of_a_list_are_upgraded_each() -> None:
    yaml = {"trainer": [{"trainer": {"init": {"model": {"hidden_size": size}}}} for size in (8, 16)]}
    there = yaml_table("llama", (2, 3), (2, 4)).convert(yaml).config
    assert [one["trainer"]["init"]["model"]["name"] for one in there["trainer"]] == ["llama", "llama"]


def test_a_trainer_alone_in_a_list_becomes_one_yaml() -> None:
    yaml = {"trainer": [{"trainer": {"init": {"model": {"hidden_size": 8}, "seed": 1}}}]}
    there = yaml_table("gpt2", (2, 3), (2, 2)).convert(yaml).config
    assert there == {"model": {"hidden_size": 8}, "runconfig": {"seed": 1}}


MUP = {
    **{"hidden_size": 24, "filter_size": 48, "num_hidden_layers": 2, "attention_dropout_rate": 0.1},
    **{"scale_qk_dot_by_d": True, "embeddings_scale": 10.0, "output_logits_scale": 0.25},
    "initializer": {"name": "normal", "std": 0.02},
    "output_layer_initializer": {"name": "truncated_normal", "std": 0.01},
}
MUP_RUN = {
    "model": MUP,
    "optimizer": {"optimizer_type": "AdamW", "learning_rate": 0.1, "adjust_learning_rate": {"decoder_kernel": 0.25}},
}


def test_mup_there_and_back() -> None:
    table = yaml_table("gpt2", (2, 2), (2, 10))
    found = table.convert(MUP_RUN)
    assert not found.warnings
    there = found.config
    model = there["trainer"]["init"]["model"]
    assert (model["mup_base_hidden_size"], model["mup_base_filter_size"]) == (6.0, 12.0)
    assert (model["output_logits_alpha"], model["initializer"]["std"]) == (1.0, 0.04)
    assert model["output_layer_initializer"]["std"] == pytest.approx(0.04)
    assert "output_logits_scale" not in model
    assert "adjust_learning_rate" not in there["trainer"]["init"]["optimizer"]["AdamW"]
    back = table.inverse().convert(there).config
    deep = back["model"]["output_layer_initializer"]
    assert deep == {
        "name": "truncated_normal",
        **{k: pytest.approx(v) for k, v in (("std", 0.01), ("a", -0.02), ("b", 0.02))},
    }
    back["model"]["output_layer_initializer"] = MUP["output_layer_initializer"]
    assert back == MUP_RUN


SANDWICH = "sliding_window_every_other_decoder_layer"
BASES = {"hidden_size": 24, "filter_size": 48, "mup_base_hidden_size": 6, "mup_base_filter_size": 6}
REFUSED: tuple[tuple[str, str, Section, str], ...] = (
    ("gpt2", "2.1>2.2", {"optimizer": {}}, "model"),
    ("gpt2", "2.3>2.4", {"trainer": {"init": {}}}, "model"),
    ("gpt2", "2.3>2.4", {"trainer": ["x"]}, "trainer.0"),
    ("gpt2", "2.3>2.2", {"trainer": [{"trainer": {"init": {"model": {}}}}] * 2}, "trainer"),
    ("gpt2", "2.0>2.1", {"model": {"precision_opt_level": 1}, "runconfig": "x"}, "runconfig"),
    ("gpt2", "2.1>2.2", {"model": {}, "runconfig": {"use_cs_grad_accum": "yes"}}, "runconfig.use_cs_grad_accum"),
    ("gpt2", "2.2>2.3", {"model": {}, "optimizer": ["AdamW"]}, "optimizer"),
    ("gpt2", "2.2>2.3", {"model": {}, "optimizer": {"betas": [0.9, 0.9]}}, "optimizer.optimizer_type"),
    ("gpt2", "2.1>2.2", {"model": {}, "sparsity": {"param_name_patterns": 5}}, "sparsity.param_name_patterns"),
    ("gpt2", "2.1>2.2", {"model": {}, "sparsity": {"sparsity_schedule": 5}}, "sparsity.sparsity_schedule"),
    ("gpt2", "2.2>2.1", {"model": {}, "sparsity": [{"sparsity": 0.1}, {"sparsity": 0.2}]}, "sparsity"),
    ("gpt2", "2.2>2.3", {"model": {}, "eval_input": [{"micro_batch_size": 1}, {"micro_batch_size": 2}]},
     "eval_input.micro_batch_size"),
    ("gpt2", "2.2>2.3", {"model": {}, "runconfig": {"experimental": {"listeners": [{"params": []}]}}},
     "runconfig.experimental.listeners.0.listener_type"),
    ("gpt2", "2.0>1.9", {"model": {"norm_type": "biasless-layernorm"}}, "norm_type"),
    ("gptj", "2.0>1.9", {"model": {"norm_type": "rmsnorm"}}, "norm_type"),
    ("bert", "1.8>1.7", {"model": {"pooler_nonlinearity": "tanh"}}, "pooler_nonlinearity"),
    ("bert", "1.8>1.7", {"model": {"mlm_nonlinearity": "relu"}}, "mlm_nonlinearity"),
    ("gpt2", "2.2>2.3", {"model": {"scale_qk_dot_by_d": True}}, "model.embeddings_scale"),
    ("gpt2", "2.2>2.3", {"model": MUP}, "optimizer.adjust_learning_rate.decoder_kernel"),
    ("gpt2", "2.3>2.2", {"model": {"mup_base_hidden_size": 6}}, "mup_base_filter_size"),
    ("gpt2", "2.3>2.2", {"model": BASES}, "mup_base_filter_size"),
    ("gpt2", "2.3>2.2", {"model": BASES | {"mup_base_filter_size": 12, "scale_qk_dot_by_d": False}},
     "scale_qk_dot_by_d"),
    ("t5", "2.3>2.2", {"model": {"mup_base_d_model": 8}}, "mup_base_d_model"),
    ("gpt2", "2.3>2.2", {"model": {"final_logit_softcapping": 30.0}}, "final_logit_softcapping"),
    ("llama", "2.4>2.3", {"model": {"attention_sink_tokens": 4}}, "attention_sink_tokens"),
    ("gemma2", "2.10>2.9", {"model": {
        "attention_sliding_window_length": 8, SANDWICH: True, f"{SANDWICH}_pattern": "sliding_window_first"}},
     f"{SANDWICH}_pattern"),
    ("gptj", "2.3>2.4", {"model": {"embedding_layer_norm": True}}, "embedding_layer_norm"),
    ("falcon", "2.3>2.4", {"model": {"residual_dropout_rate": 0.0, "dropout_rate": 0.1}}, "residual_dropout_rate"),
    ("llama", "2.4>2.3", {"model": {"pos_scaling_type": "longrope"}}, "pos_scaling_type"),
    ("llama", "2.10>2.9", {"model": {"pos_scaling_extra_args": {"truncate": False}}},
     "pos_scaling_extra_args.truncate"),
    ("mixtral", "2.5>2.4", {"model": {"moe": {"num_experts": 8, "moe_implementation": "experimental"}}},
     "moe.moe_implementation"),
    ("multimodal_simple", "2.3>2.4", {"model": {"image_model_list": {"image_models": [{"image_model": [{}, {}]}]}}},
     "image_model_list.image_models.0.image_model"),
    ("dpr-biencoder", "2.3>2.2", {"model": {"pooler_type": "mean"}}, "pooler_type"),
    ("dpr-biencoder", "2.3>2.2", {"model": {"softmax_temperature": 3.0}}, "softmax_temperature"),
    ("dpr-biencoder", "2.2>2.3", {"model": {"q_encoder": {"add_pooling_layer": True}, "ctx_encoder": {}}},
     "add_pooling_layer"),
    ("llava", "2.3>2.2", {"model": {"text_model": {"final_logit_softcapping": 30.0}}}, "final_logit_softcapping"),
)  # fmt: skip
#: a learning rate, of which release, and the field that is refused
RATES: tuple[tuple[Any, str, str], ...] = (
    ({"steps": 1}, "2.0>2.1", ".scheduler"),
    ([{"steps": 1}], "2.0>2.1", ".0.scheduler"),
    ({"scheduler": "Unheard"}, "2.2>2.3", ".scheduler"),
    ([0.1], "2.2>2.3", ".0"),
    ([{"scheduler": "Linear", "main_scheduler": "Chained"}, {"scheduler": "Step", "main_scheduler": "Sequential"}],
     "2.2>2.3", ".main_scheduler"),
)  # fmt: skip
REFUSED += tuple(
    (
        "gpt2",
        edge,
        {"model": {}, "optimizer": {"optimizer_type": "AdamW", "learning_rate": rate}},
        f"optimizer.learning_rate{key}",
    )
    for rate, edge, key in RATES
)


def _ends(edge: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    source, target = (tuple(map(int, one.split("."))) for one in edge.split(">"))
    return source, target


def test_a_model_that_mup_has_scaled_is_no_run() -> None:
    """As the mappings from transformers' BTLM and Jais write it, for all releases."""
    yaml = {"model": {name: MUP[name] for name in ("hidden_size", "filter_size", "scale_qk_dot_by_d")},
            "optimizer": {"adjust_learning_rate": {"decoder_kernel": 0.25}}}  # fmt: skip
    yaml["model"] |= {"embeddings_scale": 10.0, "output_logits_scale": 0.25} | DROPOUT
    there = yaml_table("btlm", (2, 2), (2, 10)).convert(yaml).config
    assert there == yaml | {"model": yaml["model"] | {"name": "btlm"}}


@pytest.mark.parametrize(("family", "edge", "yaml", "key"), REFUSED)
def test_what_a_release_cannot_say_is_refused_by_name(family: str, edge: str, yaml: Section, key: str) -> None:
    with pytest.raises(ConfigError) as error:
        yaml_table(family, *_ends(edge)).convert(yaml)
    assert error.value.key == key
    assert error.value.remedy


def _retriever(encoder: Section) -> Section:
    return {"q_encoder": encoder, "ctx_encoder": deepcopy(encoder)}


PRE = "use_pre_encoder_decoder_layer_norm"
DROPOUT = {"attention_dropout_rate": 0.1}
#: of vision transformers before 2.4
VIT_DROPOUT = {"num_channels": 2, "dropout_rate": 0.0, "attention_dropout_rate": 0.0}
FIELDS: tuple[tuple[str, str, Section, Section], ...] = (
    ("llama", "2.4>2.3", {"attention_sink_tokens": None} | DROPOUT, DROPOUT),
    ("gpt2", "2.3>2.2", {"final_logit_softcapping": None, "moe": {}}, {}),
    ("gpt2", "2.5>2.4", {"memory_tokens": {}, "num_extra_input_vocab_tokens": 0}, {}),
    ("gpt2", "2.3>2.4", {"my_field": 1} | DROPOUT, {"my_field": 1, "name": "gpt2"} | DROPOUT),
    ("gpt2", "2.3>2.4", {}, {"name": "gpt2", "attention_dropout_rate": None}),
    ("gpt2", "2.4>2.3", {"name": "gpt2"}, DROPOUT),
    ("t5", "1.7>1.8", {PRE: False}, {PRE: True}),
    ("falcon", "2.3>2.4", {"residual_dropout_rate": 0.0, "dropout_rate": 0.0},
     {"residual_dropout_rate": 0.0, "name": "falcon"}),
    ("gpt2", "1.9>2.0", {"tf_summary": False, "norm_type": "x"}, {"norm_type": "layernorm"}),
    ("t5", "1.8>1.7", {}, {}),
    ("bert", "1.7>1.8", {"encoder_nonlinearity": "relu"},
     {"encoder_nonlinearity": "relu", "pooler_nonlinearity": "relu", "mlm_nonlinearity": "gelu"}),
    ("bert", "2.3>2.4", {"num_labels": 2}, {"num_labels": 2, "name": "bert/classifier"}),
    ("bert", "2.3>2.4", {"num_classes": 2, "loss_weight": 1.0, "encoder_output_dropout_rate": 0.0},
     {"num_classes": 2, "loss_weight": 1.0, "encoder_output_dropout_rate": 0.0, "name": "bert/token_classifier"}),
    ("dpo-llama", "2.3>2.4", {"model_name": "llama"} | DROPOUT, {"model_name": "llama", "name": "dpo"} | DROPOUT),
    ("dpo-llama", "2.4>2.3", {"name": "dpo", "policy_model": {"name": "llama", "hidden_size": 8} | DROPOUT, "dpo": {}},
     {"model_name": "llama", "hidden_size": 8, "dpo": {}} | DROPOUT),
    ("gpt2", "1.9>2.0", {"norm_type": "rmsnorm"}, {"norm_type": "layernorm"}),
    ("dpr-biencoder", "2.2>2.3", _retriever({"hidden_size": 16, "add_pooling_layer": True})
     | {"scale_similarity": True},
     _retriever({"add_pooling_layer": True, "hidden_size": 16, "max_position_embeddings": 512}) | {
        "pooler_type": "ffn_pooler", "softmax_temperature": 4.0, "use_biencoder": True, "mutual_information": False}),
    ("dpr-biencoder", "2.3>2.2", _retriever({"hidden_size": 16}) | {"pooler_type": "ffn_pooler"},
     _retriever({"hidden_size": 16, "add_pooling_layer": True}) | {"scale_similarity": False}),
    ("dpr-biencoder", "2.3>2.4", _retriever({}), _retriever({"name": "bert_model"}) | {"name": "dpr"}),
    ("mixtral", "2.5>2.6", {"moe": {"num_experts": 8}}, {"moe": {"num_experts": 8, "moe_implementation": "optimized"}}),
    ("mixtral", "2.6>2.5", {"moe": {"num_experts": 8}},
     {"moe": {"num_experts": 8, "moe_implementation": "experimental"}}),
    ("multimodal_simple", "2.3>2.4", {"image_model_list": {"image_models": [{"image_model": [{"hidden_size": 8}]}]}},
     {"name": "multimodal_simple",
      "image_model_list": {
          "image_models": [{"image_encoder": {"hidden_size": 8, "num_channels": 2, "dropout_rate": 0.0}}]}}),
    ("llava", "2.4>2.3", {"name": "llava", "text_model": {"name": "LlamaModel"} | DROPOUT},
     {"text_model": {"name": "LlamaModel"} | DROPOUT}),
    ("vit", "2.3>2.4", {}, {"name": "vision_transformer"} | VIT_DROPOUT),
)  # fmt: skip


@pytest.mark.parametrize(("family", "edge", "model", "expected"), FIELDS)
def test_fields_of_the_model(family: str, edge: str, model: Section, expected: Section) -> None:
    there = yaml_table(family, *_ends(edge)).convert({"model": model}).config
    assert there.get("model", dig(there, "trainer.init.model")) == expected
