"""The meaning of a transformers config, so that two spellings of one model compare equal."""

from __future__ import annotations

from typing import Any


def meaning(config: Any) -> dict[str, Any]:
    """The fields of a config object, with defaults that depend on other fields resolved.

    Rotary scalings are compared by what they compute: frequencies and the factor on attention.
    """
    said = {key: value for key, value in config.to_dict().items() if key not in ("_name_or_path", "dtype")}
    if said.get("n_inner", 0) is None:
        said["n_inner"] = 4 * said["n_embd"]
    if said.get("classifier_dropout", 0) is None:
        said["classifier_dropout"] = said["hidden_dropout_prob"]
    if "rope_parameters" in said:
        said["rope_parameters"] = _rotary(config)
        said.pop("original_max_position_embeddings", None)
    if said["model_type"] == "vit":
        del said["encoder_stride"]  # of a decoder
    if said["model_type"] == "esm":
        return said | {"emb_layer_norm_before": bool(said["emb_layer_norm_before"])}
    assert said.pop("position_embedding_type", "absolute") == "absolute"  # transformers 5 has no other for BERT
    return said


def _rotary(config: Any) -> list[Any]:
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    long = config.rope_parameters.get("long_factor")
    rotary = LlamaRotaryEmbedding(config)
    return [rotary.inv_freq.tolist(), round(float(rotary.attention_scaling), 12), long]
