"""What the Cerebras families share."""

from __future__ import annotations

from convkit.config import Constant, Refused
from convkit.mapping import LeftBehind, Variant

HF_DEFAULTS = "transformers 4.57, models/{0}/configuration_{0}.py, {1}"
CS_DEFAULTS = "ModelZoo 2.10.0, models/nlp/{0}/model.py, {1}"

#: ModelZoo stores the model below ``model``; its wrapper classes add one more ``model``; bare
#: state dicts have neither.
CS_PREFIX = Variant(
    "cs", "right", ("model.", "model.model.", ""), "{=cs}embedding_layer.word_embeddings.weight"
)

#: A training checkpoint's optimizer, schedulers, step, loader state and metadata.
NOT_THE_MODEL = LeftBehind("right", "{rest:*}", "not part of the model", unless="model.")

MUP_REFUSED = Refused(
    "right",
    ("mup_base_hidden_size", "mup_base_filter_size", "output_logits_scale", "scale_qk_dot_by_d"),
    "this is a muP model, which the other side can't express without rescaling its weights",
    "muP conversion isn't built yet",
)

#: llama-like models train without dropout; the yaml must say so, since ModelZoo's defaults differ
DROPOUTS_ZERO = (
    Constant("right", "dropout_rate", 0.0, default=0.1),
    Constant("right", "attention_dropout_rate", 0.0, default=0.1),
    Constant("right", "embedding_dropout_rate", 0.0, default=0.1),
)
