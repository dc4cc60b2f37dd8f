"""ModelZoo's T5 class, of encoder-decoders, which its transformer class shares.

Facts: ``models/nlp/t5/t5_model.py`` (``T5ForConditionalGenerationModelConfig``), ``models/nlp/t5/model.py``
(``T5ModelConfig``), ``models/nlp/transformer/model.py`` (``TransformerModelConfig``: the same fields under another
name); 2.2 and 2.3: ``models/nlp/t5/config.py``; 2.1.1: ``transformers/pytorch/t5/model.py``. Both stacks are built with
``encoder_nonlinearity`` in all of them.
"""

from __future__ import annotations

from convkit.config.classes import ABSENT, ClassField, ConfigClass, free
from convkit.config.values import AMOUNT, ANYTHING, COUNT, FLAG, NUMBER, RATE, SECTION, TEXT, WHOLE
from convkit.mappings.cerebras.classes import GROUPED, MUP

_WITH_POSITIONS = ("position_embedding_type", "learned_absolute", "fixed")
_MUP = ("mup_base_d_model", "mup_base_d_ff")

T5 = ConfigClass("T5ModelConfig", "ModelZoo 2.10.0, models/nlp/t5, T5ModelConfig", {
    "name": free(TEXT, ABSENT, since=(2, 4)),
    "src_vocab_size": ClassField(COUNT, 32128),
    "tgt_vocab_size": ClassField(COUNT.or_null, None),
    "extra_ids": ClassField(WHOLE.or_null, 0),
    "d_model": ClassField(COUNT, 512),
    "d_kv": ClassField(COUNT, 64),
    "d_ff": ClassField(COUNT, 2048),
    "encoder_num_hidden_layers": ClassField(COUNT, 6),
    "decoder_num_hidden_layers": ClassField(COUNT.or_null, None),
    "num_heads": ClassField(COUNT, 8, told=True),
    "norm_type": ClassField(TEXT, "rmsnorm"),
    "layer_norm_epsilon": ClassField(AMOUNT, 1e-5),
    "encoder_nonlinearity": ClassField(TEXT, "relu"),
    "decoder_nonlinearity": ClassField(TEXT.or_null, None),
    "use_projection_bias_in_attention": ClassField(FLAG, False),
    "use_ffn_bias": ClassField(FLAG, False),
    "attention_module": ClassField(TEXT, "aiayn_attention", since=(2, 4)),
    "extra_attention_params": ClassField(GROUPED.or_null, {}, beside=("attention_module", "multiquery_attention"),
                                         since=(2, 4)),
    "use_pre_encoder_decoder_layer_norm": ClassField(FLAG, True),
    "share_encoder_decoder_embedding": ClassField(FLAG, True),
    "share_embedding_weights": ClassField(FLAG, True),
    "tie_encoder_decoder": ClassField(FLAG, False, since=(2, 4)),

    # positions
    "position_embedding_type": ClassField(TEXT.or_null, "relative"),
    "relative_attention_num_buckets": ClassField(COUNT, 32),
    "src_max_position_embeddings": ClassField(COUNT.or_null, None, beside=_WITH_POSITIONS),
    "tgt_max_position_embeddings": ClassField(COUNT.or_null, None, beside=_WITH_POSITIONS),

    # muP
    "mup_base_d_model": ClassField(NUMBER.or_null, None, since=(2, 3), why=MUP),
    "mup_base_d_ff": ClassField(NUMBER.or_null, None, since=(2, 3), why=MUP),
    "mup_base_d_kv": ClassField(NUMBER.or_null, None, beside=_MUP[:1], since=(2, 3), why=MUP),
    "embeddings_alpha": ClassField(NUMBER.or_null, 1.0, since=(2, 3), why=MUP),
    "encoder_attention_logits_alpha": ClassField(NUMBER.or_null, 1.0, since=(2, 3), why=MUP),
    "decoder_attention_logits_alpha": ClassField(NUMBER.or_null, 1.0, since=(2, 3), why=MUP),
    "scale_encoder_qk_dot_by_d": ClassField(FLAG.or_null, None, False, since=(2, 3), why=MUP),
    "scale_decoder_qk_dot_by_d": ClassField(FLAG.or_null, None, False, since=(2, 3), why=MUP),
    "scale_output_logits_by_d": ClassField(FLAG, False, beside=_MUP[:1], since=(2, 3), why=MUP),
    "output_logits_alpha": ClassField(NUMBER.or_null, None, beside=_MUP[:1], since=(2, 3), why=MUP),
    "lr_adjustment_groups": free(SECTION.or_null, since=(2, 4)),

    # training, sampling, precision
    "use_transformer_initialization": ClassField(FLAG, False, why="attention scores are scaled by the size of a head"),
    "dropout_rate": free(RATE, 0.1),
    "relu_dropout_rate": free(RATE.or_null),
    "use_dropout_outside_residual_path": free(FLAG, True),
    "use_pre_encoder_decoder_dropout": free(FLAG, False),
    "initializer_factor": free(NUMBER, 1.0, since=(2, 4)),
    "label_smoothing": free(NUMBER, 0.0),
    "lm_loss_weight": free(NUMBER, 1.0),
    "mlm_loss_scaling": free(TEXT.or_null, "batch_size"),
    "compute_eval_metrics": free(FLAG.or_null, True),
    "use_cache": free(FLAG, False, since=(2, 4)),
    "decoder_start_token_id": free(WHOLE.or_null, since=(2, 4)),
    "pad_token_id": free(WHOLE, 0, since=(2, 4)),
    "attention_softmax_fp32": free(FLAG, True),
    "attention_kernel": free(TEXT.or_null, since=(2, 3)),
    "to_float16": free(FLAG, False, until=(2, 2)),
    "mixed_precision": free(ANYTHING, False, until=(2, 5)),
    "fp16_type": free(TEXT.or_null, "float16", until=(2, 4)),
    "dtype": free(ANYTHING, since=(2, 4)),
    "boundary_casting": free(FLAG.or_null, False, since=(2, 2), until=(2, 4)),
    "lora_params": ClassField(ANYTHING, None, since=(2, 2), until=(2, 4), why="adapters are added to the weights"),
    "compression": ClassField(ANYTHING, None, since=(2, 3), until=(2, 4), why="the weights are compressed"),
    "selective_grad": free(ANYTHING, since=(2, 3), until=(2, 4)),
})  # fmt: skip
