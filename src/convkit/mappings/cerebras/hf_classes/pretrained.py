"""What every config class of transformers has."""

from __future__ import annotations

from convkit.config.classes import REQUIRED, ClassField, free
from convkit.config.values import ANYTHING, COUNT, FLAG, LIST, NUMBER, SECTION, TEXT, WHOLE

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
    "suppresstokens": free(ANYTHING),
    "begin_suppresstokens": free(ANYTHING),
}  # fmt: skip


def tokens(bos: int | None, eos: int | None, pad: int | None = None) -> dict[str, ClassField]:
    """The fields of tokens with a meaning, and of the cache, which every language model has."""
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
