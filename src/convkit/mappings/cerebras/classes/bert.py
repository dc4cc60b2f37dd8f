"""ModelZoo's BERT classes: pre-training, classification of sequences and of tokens, summaries, and ESM-2's.

Facts: ``models/nlp/bert/bert_model.py`` (``BertModelConfig``), ``bert_pretrain_models.py``
(``BertForPreTrainingModelConfig``), ``classifier/bert_classifier_model.py``,
``token_classifier/bert_token_classifier.py``, ``extractive_summarization/bert_extractive_summarization.py``; 2.2 and
2.3: the ``config.py`` files there; 2.1.1: ``transformers/pytorch/bert/model.py`` and ``fine_tuning``. Until 2.3 the
classifiers had few fields of their own and none of the encoder's.
"""

from __future__ import annotations

from msgspec.structs import replace

from convkit.config.classes import ABSENT, REQUIRED, ClassField, ConfigClass, free
from convkit.config.values import AMOUNT, ANYTHING, COUNT, FLAG, NUMBER, RATE, SECTION, TEXT, WHOLE
from convkit.mappings.cerebras.classes import GROUPED, MUP, MUP_FIELDS, POSITIONS, ROTARY

#: the fields of ``BertModelConfig`` as the pre-training class has them
ENCODER = {
    "vocab_size": ClassField(COUNT, 50257),
    # its validator demands it where there are positions
    "max_position_embeddings": ClassField(COUNT.or_null, REQUIRED, moved=(((2, 3), 512),)),
    "position_embedding_type": ClassField(TEXT.or_null, "learned"),
    "hidden_size": ClassField(COUNT, 768),
    "num_hidden_layers": ClassField(COUNT, 12),
    "num_heads": ClassField(COUNT, 12, told=True),
    "filter_size": ClassField(COUNT, 3072),
    "layer_norm_epsilon": ClassField(AMOUNT, 1e-5),
    "attention_module": ClassField(TEXT, "aiayn_attention"),
    "extra_attention_params": ClassField(GROUPED.or_null, {}, beside=("attention_module", "multiquery_attention")),
    "attention_type": ClassField(TEXT, "scaled_dot_product", since=(2, 1)),
    "use_projection_bias_in_attention": ClassField(FLAG, True),
    "use_ffn_bias_in_attention": ClassField(FLAG, True),
    "use_ffn_bias": ClassField(FLAG, True),
    "pooler_nonlinearity": ClassField(TEXT.or_null, None),
    "num_segments": ClassField(COUNT.or_null, None, 2),
    "norm_first": ClassField(FLAG, False, since=(2, 4)),
    "embedding_layer_norm": ClassField(FLAG, True, since=(2, 4)),
    "use_final_layer_norm": ClassField(FLAG, False, since=(2, 4)),
    "add_pooling_layer": ClassField(FLAG, True, since=(2, 4)),
    "mask_padding_in_positional_embed": ClassField(FLAG, False),
    "num_relative_attention_buckets": ClassField(WHOLE, 32, beside=("position_embedding_type", "relative")),
    "rotary_dim": ClassField(WHOLE.or_null, None, beside=ROTARY),
    **POSITIONS,

    **MUP_FIELDS,
    "embeddings_scale": ClassField(NUMBER.or_null, 1.0, since=(2, 3), why=MUP),
    "scale_qk_dot_by_d": ClassField(FLAG.or_null, None, False, since=(2, 3), why=MUP),
    "output_logits_alpha": ClassField(NUMBER.or_null, 1.0, beside=("mup_base_hidden_size",), since=(2, 3), why=MUP),
    "lr_adjustment_groups": free(SECTION.or_null, since=(2, 4)),

    # overwritten by fields of the subclasses
    "nonlinearity": free(TEXT, "gelu", since=(2, 4)),
    "embedding_pad_token_id": free(WHOLE.or_null, 0, since=(2, 4)),

    "dropout_rate": free(RATE, 0.1),
    "attention_dropout_rate": free(RATE.or_null),
    "embedding_dropout_rate": free(RATE.or_null, 0.1, since=(2, 4)),
    "initializer_range": free(AMOUNT, 0.02),
    "default_initializer": free(ANYTHING, since=(2, 4)),
    "embeddings_initializer": free(ANYTHING, since=(2, 4)),
    "position_embeddings_initializer": free(ANYTHING, since=(2, 4)),
    "segment_embeddings_initializer": free(ANYTHING, since=(2, 4)),
    "freeze_ffn_bias_in_glu": free(FLAG, False, since=(2, 3)),
    "attention_softmax_fp32": free(FLAG, True),
    "attention_kernel": free(TEXT.or_null, since=(2, 3)),
    "dtype": free(ANYTHING, since=(2, 4)),
}  # fmt: skip

#: the fields of every class that can be trained
TRAINED = {
    "name": free(TEXT, ABSENT, since=(2, 4)),
    "encoder_nonlinearity": ClassField(TEXT, "gelu"),
    "to_float16": free(FLAG, False, until=(2, 2)),
    "mixed_precision": free(ANYTHING, False, until=(2, 5)),
    "fp16_type": free(TEXT.or_null, "float16", until=(2, 4), moved=(((2, 3), "bfloat16"),)),
    "boundary_casting": free(FLAG.or_null, False, since=(2, 2), until=(2, 4)),
    "lora_params": ClassField(ANYTHING, None, since=(2, 2), until=(2, 4), why="adapters are added to the weights"),
    "compression": ClassField(ANYTHING, None, since=(2, 3), until=(2, 4), why="the weights are compressed"),
    "selective_grad": free(ANYTHING, since=(2, 3), until=(2, 4)),
}  # fmt: skip

BERT_PRETRAINING = ConfigClass(
    "BertForPreTrainingModelConfig", "ModelZoo 2.10.0, models/nlp/bert, BertForPreTrainingModelConfig",
    ENCODER | TRAINED | {
    "share_embedding_weights": ClassField(FLAG, True),
    "mlm_nonlinearity": ClassField(TEXT.or_null, None),
    "use_ffn_bias_in_mlm": ClassField(FLAG, True),
    "use_output_bias_in_mlm": ClassField(FLAG, True),
    "disable_nsp": ClassField(FLAG.or_null, False),
    "num_classes": ClassField(COUNT, 2),
    "add_pooling_layer": free(FLAG, True, since=(2, 4)),
    "pad_token_id": ClassField(WHOLE, 0, beside=("mask_padding_in_positional_embed", True)),
    "mlm_loss_weight": free(NUMBER, 1.0),
    "label_smoothing": free(NUMBER, 0.0),
    "compute_eval_metrics": free(FLAG.or_null, True),
})  # fmt: skip

#: the fields of every classifier; those of the encoder came with 2.4
CLASSIFIER = {name: replace(field, since=(2, 4), moved=()) for name, field in ENCODER.items() if not field.until}
CLASSIFIER |= TRAINED | {
    "vocab_size": ClassField(COUNT, 30522),
    "max_position_embeddings": ClassField(COUNT, 1024),
    "num_segments": ClassField(COUNT.or_null, 2, since=(2, 4)),
    "hidden_size": ENCODER["hidden_size"],
    "num_hidden_layers": ENCODER["num_hidden_layers"],
    "num_heads": ENCODER["num_heads"],
    "filter_size": ENCODER["filter_size"],
    "layer_norm_epsilon": ENCODER["layer_norm_epsilon"],
    "pooler_nonlinearity": ENCODER["pooler_nonlinearity"],
    "embedding_dropout_rate": free(RATE.or_null, moved=(((2, 3), 0.1),)),
    "attention_kernel": free(TEXT.or_null, since=(2, 3)),
    "fold_rope_consts": ENCODER["fold_rope_consts"],
    "compute_eval_metrics": free(FLAG.or_null, False),
    # taken and not used: the converter writes them for every BERT
    "mlm_loss_weight": free(ANYTHING, since=(2, 4)),
    "mlm_nonlinearity": free(ANYTHING, since=(2, 4)),
    "share_embedding_weights": free(ANYTHING, since=(2, 4)),
}  # fmt: skip

BERT_SEQUENCE = ConfigClass(
    "BertForSequenceClassificationModelConfig",
    "ModelZoo 2.10.0, models/nlp/bert/classifier, BertForSequenceClassificationModelConfig", CLASSIFIER | {
    "num_labels": ClassField(COUNT, REQUIRED),
    "problem_type": free(TEXT, REQUIRED),
    "task_dropout": free(RATE, REQUIRED),
    "dropout_rate": free(RATE, 0.1),
    "attention_dropout_rate": free(RATE.or_null, 0.1),
    "is_mnli_dataset": free(FLAG.or_null, False, until=(2, 4)),
})  # fmt: skip

BERT_TOKEN = ConfigClass(
    "BertForTokenClassificationModelConfig",
    "ModelZoo 2.10.0, models/nlp/bert/token_classifier, BertForTokenClassificationModelConfig", CLASSIFIER | {
    "num_classes": ClassField(COUNT, REQUIRED),
    "encoder_output_dropout_rate": free(RATE.or_null, REQUIRED, moved=(((2, 3), None),)),
    "dropout_rate": free(RATE.or_null, 0.0, moved=(((2, 3), 0.1),)),
    "attention_dropout_rate": free(RATE.or_null, 0.0, moved=(((2, 3), 0.1),)),
    "add_pooling_layer": ClassField(FLAG, False, since=(2, 4)),
    "loss_weight": free(NUMBER.or_null, 1.0),
    "include_padding_in_loss": free(FLAG.or_null, False, moved=(((2, 3), True),)),
    "label_vocab_file": free(TEXT.or_null, since=(2, 3)),
})  # fmt: skip

BERT_SUMMARIZATION = ConfigClass(
    "BertSummarizationModelConfig",
    "ModelZoo 2.10.0, models/nlp/bert/extractive_summarization, BertSummarizationModelConfig", CLASSIFIER | {
    "num_labels": ClassField(COUNT, 2, since=(2, 4)),
    "use_cls_bias": ClassField(FLAG, True),
    "dropout_rate": free(RATE, 0.1),
    "embedding_dropout_rate": free(RATE.or_null, 0.1),
    "attention_dropout_rate": free(RATE, 0.1),
    "add_pooling_layer": ClassField(FLAG, False, since=(2, 4)),
    "loss_weight": free(NUMBER.or_null, 1.0),
    "vocab_file": free(TEXT.or_null),
})  # fmt: skip

#: 2.1 has no such class; the converter writes what 2.2's has
ESM2 = ConfigClass(
    "Esm2ForPreTrainingModelConfig", "ModelZoo 2.10.0, models/nlp/esm2, Esm2ForPreTrainingModelConfig",
    dict(BERT_PRETRAINING.fields) | {
    "token_dropout": ClassField(FLAG, False),
    "mask_token_id": ClassField(WHOLE.or_null, None, beside=("token_dropout", True)),
    "norm_first": ClassField(FLAG, True, since=(2, 4)),
    "embedding_layer_norm": ClassField(FLAG, True),
    "use_final_layer_norm": ClassField(FLAG, False),
    "num_segments": ClassField(COUNT.or_null, None),
})  # fmt: skip

DPR_ENCODER = ConfigClass("DPREncoderConfig", "ModelZoo 2.10.0, models/nlp/dpr/model.py, DPREncoderConfig", ENCODER | {
    "name": free(TEXT, ABSENT, since=(2, 4)),
    "encoder_nonlinearity": ClassField(TEXT, "gelu"),
    "add_pooling_layer": ClassField(FLAG, False),
    "disable_nsp": ClassField(FLAG, False),
    "pad_token_id": ClassField(WHOLE, 0, beside=("mask_padding_in_positional_embed", True)),
    "mixed_precision": free(ANYTHING, False, until=(2, 5)),
    "fp16_type": TRAINED["fp16_type"],
    # taken and not used: the converter writes them for every BERT
    "mlm_loss_weight": free(ANYTHING),
    "mlm_nonlinearity": free(ANYTHING),
    "share_embedding_weights": free(ANYTHING),
})  # fmt: skip
