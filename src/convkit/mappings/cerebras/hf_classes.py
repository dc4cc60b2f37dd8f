"""transformers' config classes as tables.

Facts: transformers 5.23, ``configuration_utils.py`` and ``models/*/configuration_*.py``; 4.57 for the fields that
transformers 5 doesn't write any more. ``tests/mappings/test_classes.py`` compares fields, defaults and
``attribute_map`` with the classes of the transformers that is installed.
"""

from __future__ import annotations

from convkit.config.classes import REQUIRED, ClassField, ConfigClass, free
from convkit.config.values import AMOUNT, ANYTHING, COUNT, FLAG, LIST, NUMBER, POSITIVE, RATE, SECTION, TEXT, WHOLE
from convkit.mappings.cerebras.classes import SCALING

SOURCE = "transformers 5.23, models/{0}/configuration_{0}.py, {1}"

#: the fields of every config class
PRETRAINED = {
    "model_type": ClassField(TEXT, REQUIRED),
    "architectures": free(LIST.of(TEXT).or_null),
    "transformers_version": free(TEXT.or_null),
    "_name_or_path": free(TEXT.or_null, ""),
    "dtype": free(ANYTHING, also=("torch_dtype",)),
    "output_hidden_states": free(FLAG.or_null, False),
    "output_attentions": free(FLAG.or_null, False),
    "return_dict": free(FLAG.or_null, True),
    "chunk_size_feed_forward": free(WHOLE.or_null, 0),
    "id2label": free(ANYTHING),
    "label2id": free(ANYTHING),
    "problem_type": free(TEXT.or_null),
    "is_encoder_decoder": ClassField(FLAG, False),
    "quantization_config": ClassField(ANYTHING, None, why="the weights are quantized"),

    # transformers 4
    "is_decoder": free(FLAG.or_null, False),
    "add_cross_attention": free(FLAG.or_null, False),
    "cross_attention_hidden_size": free(COUNT.or_null),
    "tie_encoder_decoder": free(FLAG.or_null, False),
    "pruned_heads": ClassField(SECTION.or_null, {}, why="attention heads were removed"),
    "num_labels": free(COUNT.or_null),
    "auto_map": free(ANYTHING),
    "use_bfloat16": free(FLAG, False),
    "tf_legacy_loss": free(FLAG, False),
    "torchscript": free(FLAG, False),
    "gradient_checkpointing": free(FLAG, False),
    "attn_implementation": free(ANYTHING),
    "_attn_implementation": free(ANYTHING),
    "_attn_implementation_autoset": free(FLAG, False),
    "_commit_hash": free(TEXT.or_null),
    "finetuning_task": free(TEXT.or_null),
    "task_specific_params": free(SECTION.or_null),
    "tokenizer_class": free(TEXT.or_null),
    "prefix": free(TEXT.or_null),
    "sep_token_id": free(WHOLE.or_null),
    "decoder_start_token_id": free(WHOLE.or_null),

    # transformers 4: how to generate
    "max_length": free(WHOLE.or_null, 20),
    "min_length": free(WHOLE.or_null, 0),
    "do_sample": free(FLAG.or_null, False),
    "early_stopping": free(ANYTHING, False),
    "num_beams": free(WHOLE.or_null, 1),
    "num_beam_groups": free(WHOLE.or_null, 1),
    "diversity_penalty": free(NUMBER.or_null, 0.0),
    "temperature": free(NUMBER.or_null, 1.0),
    "top_k": free(WHOLE.or_null, 50),
    "top_p": free(NUMBER.or_null, 1.0),
    "typical_p": free(NUMBER.or_null, 1.0),
    "repetition_penalty": free(NUMBER.or_null, 1.0),
    "length_penalty": free(NUMBER.or_null, 1.0),
    "no_repeat_ngram_size": free(WHOLE.or_null, 0),
    "encoder_no_repeat_ngram_size": free(WHOLE.or_null, 0),
    "bad_words_ids": free(ANYTHING),
    "num_return_sequences": free(WHOLE.or_null, 1),
    "output_scores": free(FLAG.or_null, False),
    "return_dict_in_generate": free(FLAG.or_null, False),
    "forced_bos_token_id": free(ANYTHING),
    "forced_eos_token_id": free(ANYTHING),
    "remove_invalid_values": free(FLAG.or_null, False),
    "exponential_decay_length_penalty": free(ANYTHING),
    "suppress_tokens": free(ANYTHING),
    "begin_suppress_tokens": free(ANYTHING),
}  # fmt: skip


def _tokens(bos: int | None, eos: int | None, pad: int | None = None) -> dict[str, ClassField]:
    return {
        "bos_token_id": free(WHOLE.or_null, bos),
        "eos_token_id": free(ANYTHING, eos),
        "pad_token_id": free(WHOLE.or_null, pad),
        "use_cache": free(FLAG.or_null, True),
    }


#: transformers' decoders have one kind of positions each: this one isn't theirs, and says that the model isn't theirs
NO_POSITION_TYPE = {
    "position_embedding_type": ClassField(
        TEXT.or_null, None, why="transformers' model has only one kind of positions: remove it if that is the model's"
    )
}

#: the fields of OpenAI's spelling
_GPT = {
    "n_positions": ClassField(COUNT, 1024, also=("max_position_embeddings",)),
    "n_embd": ClassField(COUNT, 768, also=("hidden_size",)),
    "n_layer": ClassField(COUNT, 12, also=("num_hidden_layers",)),
    "n_head": ClassField(COUNT, 12, told=True, also=("num_attention_heads",)),
    "n_inner": ClassField(COUNT.or_null, None),
    "n_ctx": free(COUNT.or_null),
    "activation_function": ClassField(TEXT, "gelu_new"),
    "resid_pdrop": free(RATE, 0.1),
    "embd_pdrop": free(RATE, 0.1),
    "attn_pdrop": free(RATE, 0.1),
    "layer_norm_epsilon": ClassField(AMOUNT, 1e-5),
    "initializer_range": free(AMOUNT, 0.02),
    "scale_attn_weights": ClassField(FLAG, True),
    "summary_type": free(TEXT, "cls_index"),
    "summary_use_proj": free(FLAG, True),
    "summary_activation": free(TEXT.or_null),
    "summary_proj_to_labels": free(FLAG, True),
    "summary_first_dropout": free(RATE, 0.1),
}  # fmt: skip

GPT2_CONFIG = ConfigClass("GPT2Config", SOURCE.format("gpt2", "GPT2Config"), (
    PRETRAINED | _tokens(50256, 50256) | _GPT | NO_POSITION_TYPE | {
    "vocab_size": ClassField(COUNT, 50257),
    "scale_attn_by_inverse_layer_idx": ClassField(FLAG, False),
    "reorder_and_upcast_attn": ClassField(FLAG, False),
    "add_cross_attention": ClassField(FLAG, False, why="its layers attend to another model's output too"),
    "tie_word_embeddings": ClassField(FLAG, True),
}))  # fmt: skip

LLAMA_CONFIG = ConfigClass("LlamaConfig", SOURCE.format("llama", "LlamaConfig"), (
    PRETRAINED | _tokens(1, 2) | NO_POSITION_TYPE | {
    "vocab_size": ClassField(COUNT, 32000),
    "hidden_size": ClassField(COUNT, 4096),
    "intermediate_size": ClassField(COUNT, 11008),
    "num_hidden_layers": ClassField(COUNT, 32),
    "num_attention_heads": ClassField(COUNT, 32, told=True),
    "num_key_value_heads": ClassField(COUNT.or_null, None),
    "head_dim": ClassField(COUNT.or_null, None),
    "hidden_act": ClassField(TEXT, "silu"),
    "max_position_embeddings": ClassField(COUNT, 2048),
    "initializer_range": free(AMOUNT, 0.02),
    "rms_norm_eps": ClassField(AMOUNT, 1e-6),
    "pretraining_tp": free(WHOLE.or_null, 1),
    "tie_word_embeddings": ClassField(FLAG, False),
    "attention_bias": ClassField(FLAG, False),
    "attention_dropout": free(RATE.or_null, 0.0),
    "mlp_bias": ClassField(FLAG, False),
    "rope_parameters": ClassField(SCALING.or_null, None),
    # transformers 4
    "rope_theta": ClassField(POSITIVE.or_null, 10000.0),
    "rope_scaling": ClassField(SCALING.or_null, None),
    "partial_rotary_factor": ClassField(POSITIVE.or_null, 1.0),
    "original_max_position_embeddings": ClassField(COUNT.or_null, None),
}))  # fmt: skip

_without_biases = {name: field for name, field in LLAMA_CONFIG.fields.items() if not name.endswith("_bias")}

MISTRAL_CONFIG = ConfigClass("MistralConfig", SOURCE.format("mistral", "MistralConfig"), _without_biases | {
    "intermediate_size": ClassField(COUNT, 14336),
    "num_key_value_heads": ClassField(COUNT.or_null, 8),
    "max_position_embeddings": ClassField(COUNT, 131072),
    "sliding_window": ClassField(COUNT.or_null, 4096),
})  # fmt: skip

MIXTRAL_CONFIG = ConfigClass("MixtralConfig", SOURCE.format("mixtral", "MixtralConfig"), dict(MISTRAL_CONFIG.fields) | {
    "rms_norm_eps": ClassField(AMOUNT, 1e-5),
    "sliding_window": ClassField(COUNT.or_null, None),
    "rope_theta": ClassField(POSITIVE.or_null, 1e6),
    "num_local_experts": ClassField(COUNT, 8, also=("num_experts",)),
    "num_experts_per_tok": ClassField(COUNT, 2),
    "output_router_logits": free(FLAG, False),
    "router_aux_loss_coef": free(AMOUNT, 0.001),
    "router_jitter_noise": free(AMOUNT, 0.0),
})  # fmt: skip

BERT_CONFIG = ConfigClass("BertConfig", SOURCE.format("bert", "BertConfig"), PRETRAINED | _tokens(None, None, 0) | {
    "vocab_size": ClassField(COUNT, 30522),
    "hidden_size": ClassField(COUNT, 768),
    "num_hidden_layers": ClassField(COUNT, 12),
    "num_attention_heads": ClassField(COUNT, 12, told=True),
    "intermediate_size": ClassField(COUNT, 3072),
    "hidden_act": ClassField(TEXT, "gelu"),
    "hidden_dropout_prob": free(RATE, 0.1),
    "attention_probs_dropout_prob": free(RATE, 0.1),
    "classifier_dropout": free(RATE.or_null),
    "max_position_embeddings": ClassField(COUNT, 512),
    "type_vocab_size": ClassField(COUNT, 2),
    "initializer_range": free(AMOUNT, 0.02),
    "layer_norm_eps": ClassField(AMOUNT, 1e-12),
    "is_decoder": ClassField(FLAG, False, why="it sees only what comes before"),
    "add_cross_attention": ClassField(FLAG, False, why="its layers attend to another model's output too"),
    "tie_word_embeddings": ClassField(FLAG, True),
    # transformers 4
    "position_embedding_type": ClassField(TEXT.or_null, "absolute"),
})  # fmt: skip

GPTJ_CONFIG = ConfigClass("GPTJConfig", SOURCE.format("gptj", "GPTJConfig"), (
    PRETRAINED | _tokens(50256, 50256) | _GPT | {
    "vocab_size": ClassField(COUNT, 50400),
    "n_positions": ClassField(COUNT, 2048, also=("max_position_embeddings",)),
    "n_embd": ClassField(COUNT, 4096, also=("hidden_size",)),
    "n_layer": ClassField(COUNT, 28, also=("num_hidden_layers",)),
    "n_head": ClassField(COUNT, 16, told=True, also=("num_attention_heads",)),
    "rotary_dim": ClassField(COUNT, 64),
    "resid_pdrop": free(RATE, 0.0),
    "embd_pdrop": free(RATE, 0.0),
    "attn_pdrop": free(RATE, 0.0),
    "tie_word_embeddings": ClassField(FLAG, False),
    # of ModelZoo's converter: transformers' head always has a bias
    "use_bias_in_output": ClassField(FLAG, True),
}))  # fmt: skip

CODEGEN_CONFIG = GPTJ_CONFIG.extended(
    "CodeGenConfig", SOURCE.format("codegen", "CodeGenConfig"), n_ctx=free(COUNT.or_null, 2048), **NO_POSITION_TYPE
)

GPT_NEOX_CONFIG = ConfigClass("GPTNeoXConfig", SOURCE.format("gpt_neox", "GPTNeoXConfig"), (
    PRETRAINED | _tokens(0, 2) | {
    "vocab_size": ClassField(COUNT, 50432),
    "hidden_size": ClassField(COUNT, 6144),
    "num_hidden_layers": ClassField(COUNT, 44),
    "num_attention_heads": ClassField(COUNT, 64, told=True),
    "intermediate_size": ClassField(COUNT, 24576),
    "hidden_act": ClassField(TEXT, "gelu"),
    "attention_dropout": free(RATE, 0.0),
    "hidden_dropout": free(RATE, 0.0),
    "classifier_dropout": free(RATE.or_null, 0.1),
    "max_position_embeddings": ClassField(COUNT, 2048),
    "initializer_range": free(AMOUNT, 0.02),
    "layer_norm_eps": ClassField(AMOUNT, 1e-5),
    "tie_word_embeddings": ClassField(FLAG, False),
    "use_parallel_residual": ClassField(FLAG, True, why="attention and feed-forward part run one after the other"),
    "attention_bias": ClassField(FLAG, True),
    "rope_parameters": ClassField(SCALING.or_null, None),
    # transformers 4
    "rotary_pct": ClassField(POSITIVE, 0.25, also=("partial_rotary_factor",)),
    "rotary_emb_base": ClassField(POSITIVE, 10000, also=("rope_theta",)),
    "rope_scaling": ClassField(SCALING.or_null, None),
    "original_max_position_embeddings": ClassField(COUNT.or_null, None),
}))  # fmt: skip
