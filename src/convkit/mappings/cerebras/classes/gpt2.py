"""ModelZoo's GPT-2 class, which every decoder with sequential attention and feed-forward parts uses.

Facts: ``models/nlp/gpt2/gpt2_model.py`` (``GPT2LMHeadModelConfig``), ``models/nlp/gpt2/model.py``
(``GPT2ModelConfig``), ``models/nlp/llama/model.py`` (``LlamaModelConfig``: the same fields under another name);
2.2 and 2.3: ``models/nlp/gpt2/config.py``; 2.1.1: ``transformers/pytorch/gpt2/model.py``.
"""

from __future__ import annotations

from typing import Any

from convkit.config.classes import ABSENT, ClassField, ConfigClass, free
from convkit.config.values import AMOUNT, ANYTHING, COUNT, FLAG, LIST, NUMBER, RATE, SECTION, TEXT, WHOLE
from convkit.mappings.cerebras.classes import BEFORE_2_1, GROUPED, LIMITED, MUP, MUP_FIELDS, POSITIONS, ROTARY


def _experts(moe: dict[str, Any]) -> int:
    """The number of experts; a mixture of less than two is the plain feed-forward part."""
    return (moe.get("num_experts") or 0) + (moe.get("num_shared_experts") or 0)


#: a mixture of experts; other fields may stand beside these
MOE = SECTION.of(
    num_experts=WHOLE, num_shared_experts=WHOLE.or_null, top_k=COUNT, load_balancing_loss_coef=AMOUNT.or_null
)

#: fields of :data:`GPT2` that the GPT-J class has too, with the same meaning, default and releases
COMMON = {
    "name": free(TEXT, ABSENT, since=(2, 4)),
    "vocab_size": ClassField(COUNT, 50257),
    "max_position_embeddings": ClassField(COUNT, 1024, beside=("position_embedding_type", *LIMITED)),
    "hidden_size": ClassField(COUNT, 768),
    "num_hidden_layers": ClassField(COUNT, 12),
    "num_heads": ClassField(COUNT, 12, told=True),
    "filter_size": ClassField(COUNT, 3072),
    "nonlinearity": ClassField(TEXT, "gelu"),
    "norm_type": ClassField(TEXT, "layernorm"),
    "layer_norm_epsilon": ClassField(AMOUNT, 1e-5),
    "share_embedding_weights": ClassField(FLAG, True),
    "use_bias_in_output": ClassField(FLAG, False),
    "use_projection_bias_in_attention": ClassField(FLAG, True),
    "use_ffn_bias_in_attention": ClassField(FLAG, True),
    "attention_type": ClassField(TEXT, "scaled_dot_product"),
    "attention_module": ClassField(TEXT, "aiayn_attention"),
    "extra_attention_params": ClassField(GROUPED.or_null, {}, beside=("attention_module", "multiquery_attention")),
    "attention_sliding_window_length": ClassField(COUNT.or_null, None, since=(2, 2)),
    "attention_sink_tokens": ClassField(WHOLE.or_null, None, since=(2, 4)),
    "moe": ClassField(MOE.or_null, {}, lambda moe: _experts(moe) < 2, also=("moe_params",), since=(2, 3)),

    # positions
    "rotary_dim": ClassField(COUNT.or_null, None, beside=ROTARY),
    **POSITIONS,

    # muP
    **MUP_FIELDS,
    "output_logits_alpha": ClassField(NUMBER.or_null, None, beside=("mup_base_hidden_size",), since=(2, 3), why=MUP),
    "lr_adjustment_groups": free(SECTION.or_null, since=(2, 3)),

    # training, sampling, precision
    "initializer_range": free(AMOUNT, 0.02),
    "initializer": free(ANYTHING),
    "embedding_initializer": free(ANYTHING),
    "output_layer_initializer": free(ANYTHING),
    "ffn_initializer": free(ANYTHING, since=(2, 3)),
    "ffn_output_layer_initializer": free(ANYTHING, since=(2, 3)),
    "loss_scaling": free(TEXT, "num_tokens"),
    "loss_weight": free(NUMBER, 1.0),
    "compute_eval_metrics": free(FLAG.or_null, True),
    "selective_grad": free(ANYTHING, since=(2, 3), until=(2, 4)),
    "start_token": free(ANYTHING, since=(2, 3)),
    "loop_dim": free(WHOLE, 1, since=(2, 3)),
    "stop_sequences": free(ANYTHING, since=(2, 3)),
    "max_tokens": free(WHOLE.or_null, since=(2, 3)),
    "temperature": free(NUMBER.or_null, since=(2, 3)),
    "top_k": free(WHOLE.or_null, since=(2, 3)),
    "top_p": free(NUMBER.or_null, since=(2, 3)),
    "attention_softmax_fp32": free(FLAG, True),
    "attention_kernel": free(TEXT.or_null, since=(2, 2)),
    "mixed_precision": free(ANYTHING, False, until=(2, 5)),
    "fp16_type": free(TEXT.or_null, "bfloat16", until=(2, 4)),
    "dtype": free(ANYTHING, since=(2, 4)),
    "boundary_casting": free(FLAG.or_null, False, since=(2, 2)),
    "lora_params": ClassField(ANYTHING, None, since=(2, 2), until=(2, 4), why="adapters are added to the weights"),
    "compression": ClassField(ANYTHING, None, since=(2, 3), until=(2, 4), why="the weights are compressed"),

    "norm_first": ClassField(FLAG, True, until=BEFORE_2_1),
    "use_ff_layer1_dropout": ClassField(FLAG, False, until=BEFORE_2_1),
    "use_position_embedding": ClassField(FLAG, True, until=BEFORE_2_1),
}  # fmt: skip

_WINDOW = ("attention_sliding_window_length",)

GPT2 = ConfigClass("GPT2ModelConfig", "ModelZoo 2.10.0, models/nlp/gpt2, GPT2ModelConfig", COMMON | {
    "position_embedding_type": ClassField(TEXT.or_null, "learned"),
    "dropout_rate": free(RATE, 0.1),
    "embedding_dropout_rate": free(RATE.or_null, also=("embd_pdrop",)),
    "attention_dropout_rate": free(RATE.or_null, 0.1, moved=(((2, 4), None),)),
    "use_ffn_bias": ClassField(FLAG, True),
    "embedding_layer_norm": ClassField(FLAG, False),
    "num_extra_input_vocab_tokens": ClassField(WHOLE, 0, since=(2, 5)),
    "constant_pos_embedding": ClassField(WHOLE.or_null, None, since=(2, 3)),
    "position_embedding_offset": ClassField(WHOLE, 0, beside=("position_embedding_type", "learned", "fixed")),
    "num_relative_attention_buckets": ClassField(WHOLE, 32, beside=("position_embedding_type", "relative")),
    "rel_distance_mode": ClassField(TEXT, "default", since=(2, 4)),
    "rel_distance_extra_args": ClassField(SECTION.or_null, None, beside=("rel_distance_mode", "capped", "grouped"),
                                      since=(2, 4)),
    "norm_first_sandwich": ClassField(FLAG, False, since=(2, 3)),
    "attention_inner_dim": ClassField(COUNT.or_null, None, since=(2, 3)),
    "attention_qk_norm_layer": ClassField(TEXT.or_null, None, since=(2, 5)),
    "attention_qk_norm_eps": ClassField(AMOUNT, 1e-5, beside=("attention_qk_norm_layer",), since=(2, 5)),
    "attention_logit_softcapping": ClassField(NUMBER.or_null, None, since=(2, 3)),
    "final_logit_softcapping": ClassField(NUMBER.or_null, None, since=(2, 3)),
    "attention_chunk_size": ClassField(COUNT.or_null, None, since=(2, 4)),
    "attention_vertical_column_spacing": ClassField(COUNT.or_null, None, since=(2, 4)),
    "attention_vertical_column_width": ClassField(COUNT.or_null, None, since=(2, 4)),
    "sliding_window_every_other_decoder_layer": ClassField(FLAG, False, beside=_WINDOW, since=(2, 3)),
    "sliding_window_every_other_decoder_layer_pattern": ClassField(
        TEXT.or_null, "full_attention_first", beside=("sliding_window_every_other_decoder_layer", True),
        since=(2, 10)),
    "fixed_sparse_attention": ClassField(SECTION.or_null, None),
    "cross_attention_layers": ClassField(LIST, [], since=(2, 5)),
    "memory_tokens": ClassField(SECTION.or_null, {}, lambda memory: not memory.get("num_memory_tokens_per_chunk"),
                            also=("memory_tokens_config",), since=(2, 5)),
    "num_memory_tokens_per_chunk": ClassField(COUNT.or_null, None, since=(2, 4), until=(2, 5)),
    "attn_memory_chunk_size": ClassField(COUNT.or_null, None, since=(2, 4), until=(2, 5)),
    "use_sink_token": ClassField(FLAG, False, since=(2, 10)),
    "extra_ffn_params": ClassField(SECTION.or_null, {}, since=(2, 3)),
    "use_experimental_flex_api": free(FLAG, False, since=(2, 5)),

    "scale_qk_dot_by_layer_idx": ClassField(FLAG, False),
    "scale_qk_dot_by_d": ClassField(FLAG.or_null, None, False, moved=(((2, 3), False),), why=MUP),
    "embeddings_scale": ClassField(NUMBER.or_null, 1.0, moved=(((2, 3), None),), why=MUP),
    "output_logits_scale": ClassField(NUMBER.or_null, None, why=MUP),
})  # fmt: skip

LLAMA = ConfigClass("LlamaModelConfig", "ModelZoo 2.10.0, models/nlp/llama/model.py, LlamaModelConfig", GPT2.fields)
MISTRAL = ConfigClass("MistralModelConfig", "ModelZoo 2.10.0, models/nlp/mistral, MistralModelConfig", GPT2.fields)
MIXTRAL = ConfigClass("MixtralModelConfig", "ModelZoo 2.10.0, models/nlp/mixtral, MixtralModelConfig", GPT2.fields)
GEMMA2 = ConfigClass("Gemma2ModelConfig", "ModelZoo 2.10.0, models/nlp/gemma2, Gemma2ModelConfig", GPT2.fields)
#: the other side stores the slopes too: that they are trained changes nothing there
_STORED = {"alibi_trainable_slopes": free(FLAG, False)}
BTLM = GPT2.extended("BTLMModelConfig", "ModelZoo 2.10.0, models/nlp/btlm, BTLMModelConfig", **_STORED)
JAIS = ConfigClass("JAISModelConfig", "ModelZoo 2.10.0, models/nlp/jais, JAISModelConfig", {
    **BTLM.fields,
    "name": free(ANYTHING, ABSENT, since=(2, 4)),  # ModelZoo's converter writes a section
})  # fmt: skip
STARCODER = GPT2.extended("StarCoderModelConfig", "ModelZoo 2.10.0, models/nlp/starcoder, StarCoderModelConfig")
SANTACODER = GPT2.extended(
    "SantaCoderModelConfig", "ModelZoo 2.10.0, models/nlp/santacoder, SantaCoderModelConfig",
    # which ModelZoo's converter writes, and no release reads
    scale_by_layer_index=free(FLAG, False, until=BEFORE_2_1),
    softmax_dtype_fp32=free(FLAG, False, until=BEFORE_2_1),
)  # fmt: skip
BLOOM = ConfigClass("BloomModelConfig", "ModelZoo 2.10.0, models/nlp/bloom, BloomModelConfig", GPT2.fields)
