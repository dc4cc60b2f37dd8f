"""Declarations that the Cerebras families share.

Facts: ModelZoo release 2.10.0: ``models/nlp/gpt2/gpt2_model.py`` and ``models/nlp/bert/bert_model.py``
(config classes and defaults), ``layers/activations.py``; transformers, ``activations.py``.
"""

from __future__ import annotations

from typing import Any

from convkit.config import Constant, Coupled, Refused, Row, Written
from convkit.errors import ConfigError
from convkit.mapping import LeftBehind, Variant

HF_DEFAULTS = "transformers 5.23, models/{0}/configuration_{0}.py, {1}"
CS_DEFAULTS = "ModelZoo 2.10.0, models/nlp/{0}, {1}"

#: paths of the model's section in a ModelZoo yaml: in a bare or a training config
MODEL_AT = ("model", "trainer.init.model")

#: ModelZoo stores the model below ``model``; its wrapper classes add one more ``model``; bare
#: state dicts have neither.
CS_PREFIX = Variant("cs", "right", ("model.", "model.model.", ""), "{=cs}embedding_layer.word_embeddings.weight")

#: A training checkpoint's optimizer, schedulers, step, loader state and metadata.
NOT_THE_MODEL = LeftBehind("right", "{rest:*}", "not part of the model", unless="{=cs}")

#: Activations of both: transformers' name, ModelZoo's name.
ACTIVATIONS = (
    ("gelu", "gelu"),
    ("gelu_new", "gelu_new"),
    ("gelu_pytorch_tanh", "gelu_new"),  # one function; ModelZoo has no such name,
    ("gelu_pytorch_tanh", "gelu_pytorch_tanh"),  # though yamls of its converter say it
    ("gelu_fast", "gelu_fast"),
    ("quick_gelu", "quick_gelu"),
    ("relu", "relu"),
    ("relu2", "squared_relu"),
    ("relu6", "relu6"),
    ("leaky_relu", "leaky_relu"),
    ("silu", "silu"),
    ("swish", "swish"),
    ("mish", "mish"),
    ("tanh", "tanh"),
    ("sigmoid", "sigmoid"),
    ("linear", "linear"),
)

MUP_REFUSED = Refused(
    "right",
    {
        "mup_base_*": None,
        "scale_qk_dot_by_d": False,
        "output_logits_scale": None,
        "embeddings_scale": 1.0,
        "attention_logits_alpha": 1.0,
    },
    "muP scales this model, which transformers can't express without rescaled weights",
    "muP models can't be converted yet",
)

#: Features of ModelZoo decoders that transformers' llama and GPT-2 don't have.
DECODERS_OWN = Refused(
    "right",
    {
        "attention_chunk_size": None,
        "attention_logit_softcapping": None,
        "attention_qk_norm_layer": None,
        "attention_sink_tokens": None,
        "attention_sliding_window_length": None,
        "attention_vertical_column_*": None,
        "constant_pos_embedding": None,
        "cross_attention_layers": [],
        "extra_ffn_params": {},
        "final_logit_softcapping": None,
        "fixed_sparse_attention": None,
        "memory_tokens*": None,
        "moe": {},
        "moe_params": {},
        "norm_first_sandwich": False,
        "num_extra_input_vocab_tokens": 0,
        "position_embedding_offset": 0,
        "rel_distance_mode": "default",
        "scale_qk_dot_by_layer_idx": False,
        "use_sink_token": False,
    },
    "transformers' model has no counterpart",
    "convert to the family of the checkpoint",
)

#: Fields that releases before 2.4 have, or later ones tolerate; their values describe these models anyway.
OLD_FIELDS = (
    Constant("right", "norm_first", True, write=False),
    Constant("right", "use_ff_layer1_dropout", False, write=False),
    Constant("right", "use_position_embedding", True, write=False),
)

#: The field that only other ModelZoo families have.
NO_POSITION_TYPE = Refused(
    "left",
    {"position_embedding_type": None},
    "transformers' model has only one kind of positions",
    "remove it if the model was trained without it",
)


def _half_type(values: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    if "use_bfloat16" not in values:
        return {}
    return {"fp16_type": "bfloat16" if values["use_bfloat16"] else "float16"}


#: Up to release 2.3 the yaml has the half precision to train in.
HALF_TYPE = Coupled(("use_bfloat16",), ("fp16_type",), _half_type, lambda values, names: {}, until=(2, 4))


def output_head(base: str, full: str) -> tuple[Row, ...]:
    """Rows that choose transformers' base model or its language model with an output head. The base model is chosen if
    the user asks for it, or if there is no head to write.
    """

    def to_right(values: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
        if names.get("lm_head", True):
            return {"=headless": False}
        if not names["tied"]:
            return {
                "=headless": True,
                "!": "there is no output head, and the embeddings aren't tied: no lm_head is written",
            }
        architectures = values.get("architectures")
        return {"=headless": base in architectures if architectures else names.get("hf") == ""}

    def to_left(values: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
        has_head = names["tied"] or names.get("lm_head", True)
        return {"=headless": names.get("headless", False) or not has_head}

    return (
        Coupled(("architectures",), (), to_right, to_left),
        Written("left", "architectures", lambda names: [base if names["headless"] else full]),
    )


def heads_divide(hidden: int, heads: int, key: str) -> int:
    """The size of an attention head.

    Raises:
        ConfigError: the number of heads doesn't divide the hidden size.
    """
    if heads < 1 or hidden % heads:
        raise ConfigError(f"{heads} heads don't divide the hidden size {hidden}", key=key, remedy="correct the config")
    return hidden // heads
