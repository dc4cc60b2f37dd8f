"""ModelZoo's GPT backbone, whose class isn't published: what its converter says of it.

Facts: ModelZoo releases 2.4 ... 2.10, ``tools/checkpoint_converters/gpt_backbone.py``: the fields of the GPT-2 class
that lie in the section of what uses them. The others stay at the top.
"""

from __future__ import annotations

from msgspec.structs import replace

from convkit.config.classes import ClassField, ConfigClass
from convkit.mappings.cerebras.classes.gpt2 import GPT2

EMBEDDING, DECODER = "embedding_layer", "transformer_decoder"
LAYERS = f"{DECODER}.layers"
ATTENTION = f"{LAYERS}.self_attn"
_SECTIONS = {
    EMBEDDING: (
        "vocab_size", "max_position_embeddings", "position_embedding_type", "constant_pos_embedding",
        "position_embedding_offset", "share_embedding_weights", "embedding_layer_norm",
        "num_relative_attention_buckets", "rotary_dim", "rope_theta", "fold_rope_consts", "alibi_trainable_slopes",
        "pos_scaling_factor", "pos_scaling_type", "pos_scaling_extra_args", "rel_distance_mode",
        "rel_distance_extra_args", "embedding_initializer",
    ),
    ATTENTION: (
        "num_heads", "attention_type", "attention_module", "attention_sliding_window_length",
        "scale_qk_dot_by_layer_idx", "attention_sink_tokens", "attention_vertical_column_spacing",
        "attention_vertical_column_width", "attention_chunk_size", "attention_qk_norm_layer",
        "attention_qk_norm_eps", "extra_attention_params", "extra_ffn_params", "attention_inner_dim",
        "use_projection_bias_in_attention", "use_ffn_bias_in_attention", "attention_dropout_rate",
        "attention_kernel", "attention_logit_softcapping", "fixed_sparse_attention",
        "num_memory_tokens_per_chunk", "attn_memory_chunk_size",
    ),
    LAYERS: ("filter_size", "nonlinearity", "use_ffn_bias", "norm_first_sandwich"),
    DECODER: ("num_hidden_layers", "dropout_rate", "norm_type", "layer_norm_epsilon"),
    "": (
        "hidden_size", "attention_softmax_fp32", "use_bias_in_output", "initializer_range", "initializer",
        "output_layer_initializer", "ffn_initializer", "ffn_output_layer_initializer", "lr_adjustment_groups",
        "mup_base_hidden_size", "mup_base_filter_size", "embeddings_scale", "scale_qk_dot_by_d",
        "attention_logits_alpha", "scale_output_logits_by_d", "output_logits_alpha", "output_logits_scale",
        "final_logit_softcapping", "dtype", "boundary_casting", "loss_scaling", "loss_weight",
    ),
}  # fmt: skip
#: field of the GPT-2 class -> its path here; two have another name too
PATHS = {name: f"{section}.{name}" if section else name for section, names in _SECTIONS.items() for name in names}
PATHS |= {"embedding_dropout_rate": f"{EMBEDDING}.embd_pdrop", "moe": "moe_params"}


def _moved(field: ClassField) -> ClassField:
    """The field in its section, with the path of the field that decides its effect."""
    beside = (PATHS[field.beside[0]], *field.beside[1:]) if field.beside else ()
    return replace(field, also=(), beside=beside)


GPT_BACKBONE = ConfigClass(
    "GPTBackboneLMHeadModelConfig",
    "ModelZoo 2.10.0, tools/checkpoint_converters/gpt_backbone.py",
    {"name": GPT2.fields["name"], **{path: _moved(GPT2.fields[name]) for name, path in PATHS.items()}},
)
