"""hf/esm <-> cerebras/esm-2: a BERT whose norms stand before the parts they belong to, for proteins.

Its positions are rotary (halves in transformers, pairs in ModelZoo), or a table as RoBERTa's. Tokens that are masked
may be dropped, and the others scaled. transformers has a head for contacts beside, which ModelZoo hasn't, and saves the
inverse frequencies, in transformers 5 below a name with a literal star. Only norms called ``LayerNorm`` are spelled
``gamma`` and ``beta``.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/esm2.py`` (rules of cs-2.1 ... cs-2.9),
``models/nlp/esm2``; transformers, ``models/esm``, ``conversion_mapping.py``.
"""

from __future__ import annotations

from typing import Any

from convkit.config import ABSENT, Answer, ConfigError, Constant, Coupled, Field, Flag, Name, Written
from convkit.mapping import Derived, Fact, LeftBehind, Rule
from convkit.mappings.cerebras import encoder as mz
from convkit.mappings.cerebras.classes.bert import ESM2
from convkit.mappings.cerebras.common import DOWN, OUT, UP, Cs, Hf, K, Q, V
from convkit.mappings.cerebras.encoder import SIZES, TIED, encoder, norm
from convkit.mappings.cerebras.hf_classes.esm import ESM_CONFIG
from convkit.mappings.cerebras.padded_positions import counted_from_padding
from convkit.mappings.cerebras.tasks import Head, Heads, Task

Values = dict[str, Any]
FREQUENCIES = "attention.self.rotary_embeddings.inv_freq"

# fmt: off
LAYER = (
    *(Rule(f"attention.self.{hf}.{{p:weight|bias}}", f"{cs}.{{p}}", pattern, h="heads", when=when, **sizes)
      for hf, cs in (("query", Q), ("key", K))
      for pattern, when, sizes in (("(h two r) ... -> (h r two) ...", "rotary", {"two": 2, "r": "half"}),
                                   ("(h o) ... -> (h o) ...", "!rotary", {"o": "head_dim"}))),
    Rule("attention.self.value.{p:weight|bias}", f"{V}.{{p}}", "o ... -> o ...", o="hidden"),
    Rule("attention.output.dense.{p:weight|bias}", f"{OUT}.{{p}}", "o ... -> o ...", o="hidden"),
    *norm("attention.LayerNorm", mz.NORM1),
    Rule("intermediate.dense.{p:weight|bias}", f"{UP}.{{p}}", "f ... -> f ...", f="filter"),
    Rule("output.dense.{p:weight|bias}", f"{DOWN}.{{p}}", "d ... -> d ...", d="hidden"),
    *norm("LayerNorm", mz.NORM2),
    Derived("left", FREQUENCIES, "inverse frequencies", {"theta": "rope_theta", "dim": "head_dim"}, when="rotary"),
)
REST = (
    Rule("{=hf}embeddings.position_embeddings.weight", mz.TRUNK + mz.POSITIONS, "p d -> p d", p="positions", d="hidden",
         when="!rotary"),
    LeftBehind("left", "{=hf}embeddings.position_embeddings.weight", "rotary models don't read it", when="rotary"),
    Rule("{=hf}embeddings.layer_norm.{p:weight|bias}", f"{mz.TRUNK}{mz.EMBEDDING_NORM}.{{p}}", "d -> d", d="hidden",
         when="embedding_norm"),
    Rule("{=hf}encoder.emb_layer_norm_after.{p:weight|bias}", f"{mz.TRUNK}transformer_encoder.norm.{{p}}", "d -> d",
         d="hidden"),
    Rule("lm_head.dense.{p:weight|bias}", f"{mz.MLM}.ffn.ffn.0.linear_layer.{{p}}", "o ... -> o ...", o="hidden",
         when="mlm & !headless"),
    Rule("lm_head.layer_norm.{p:weight|bias}", f"{mz.MLM}.ln.{{p}}", "d -> d", d="hidden", when="mlm & !headless"),
    Rule("lm_head.bias", f"{mz.DECODER}.bias", "v -> v", v="vocab", when="mlm & !headless"),
    Derived("left", "{=hf}embeddings.position_ids", "positions", {"n": "positions"}),
    *(Derived("left", f"{{=hf}}{key}", "inverse frequencies", {"theta": "rope_theta", "dim": "head_dim"}, when="rotary")
      for key in (f"encoder.layer.*.{FREQUENCIES}", "rotary_embeddings.inv_freq")),
    LeftBehind("left", "{=hf}contact_head.{rest:*}", "ModelZoo has no head for contacts"),
)


def _dropout(values: Values, names: Values) -> Answer:
    drop, mask = bool(values.get("token_dropout", False)), values.get("mask_token_id")
    if drop and mask is None:
        raise ConfigError("is missing", key="mask_token_id", remedy="add it: its tokens are dropped (token_dropout)")
    return Answer({"token_dropout": drop, "mask_token_id": ABSENT if mask is None else mask})


CONTACTS = "ModelZoo has no head for contacts: without the receipt's, transformers makes one, with random numbers"
PRETRAINING = Task("pretrained", "esm2", ESM2, "bert_encoder.")
NO_TASKS = "ModelZoo has ESM-2 with the head for masked words only"
HEADS = Heads(
    (  # leaves  transformers                   ModelZoo
        Head("head", "EsmForSequenceClassification", NO_TASKS),
        Head("mlm",  "EsmForMaskedLM",               PRETRAINING),
        Head("",     "EsmModel",                     PRETRAINING),
    ),
    facts=(
        Fact("mlm", "lm_head.dense.weight", f"{mz.MLM}.ffn.ffn.0.linear_layer.weight"),
        Fact("head", "{h:classifier|classifier.dense}.weight", f"{mz.CLASSIFIER}.weight"),
        Fact("embedding_norm", "{=hf}embeddings.layer_norm.weight", mz.ANY_TRUNK + mz.EMBEDDING_NORM + ".weight"),
    ),
)
ROWS = (
    *SIZES, TIED, Name("half", lambda names: names["head_dim"] // 2, of="heads"),
    counted_from_padding(rows=1026, pad=None, rotary=True),
    Field("rope_theta", "rope_theta"),
    Flag("emb_layer_norm_before", "embedding_layer_norm", "embedding_norm"),
    Coupled(("token_dropout", "mask_token_id"), ("token_dropout", "mask_token_id"), _dropout, _dropout),
    Constant("right", "encoder_nonlinearity", "gelu"),
    Constant("right", "mlm_nonlinearity", "gelu", default="gelu"),
    Constant("right", "use_final_layer_norm", True),
    Constant("right", "disable_nsp", True),
    Constant("right", "pooler_nonlinearity", "tanh", default="tanh"),  # without a pooler
    Constant("left", "is_folding_model", False, also=(None,)),
    Written("left", "esmfold_config", None),
    Coupled((), (), lambda values, names: Answer(), lambda values, names: Answer(warnings=(CONTACTS,))),
    Written("right", "freeze_ffn_bias_in_glu", False),
)

MAPPING = encoder(
    Hf("esm", ("EsmModel", "EsmForMaskedLM"), ESM_CONFIG, "esm.", "embeddings.word_embeddings.weight",
       "lm_head.decoder", {"norm": "pre", "rotary": "half"}),
    Cs("esm-2", "ESM-2", ESM2, {"norm": "pre", "rotary": "interleaved"}, yaml="esm2",
       unnamed={"model.use_final_layer_norm": True}),
    "encoder.layer.{i}.", LAYER, heads=HEADS, rows=ROWS, rest=REST, norm="encoder.layer.{i}.LayerNorm",
)
