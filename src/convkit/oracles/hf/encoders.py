"""The encoders of ``transformers``, a row a family, in the class that fits the heads in the file.

Source of every row: ``models/<family>/{configuration,modeling}_<family>.py`` in transformers 5.23.
"""

from __future__ import annotations

from typing import Any

from convkit.oracles.hf.family import Architecture, Family

_MLM, _NSP, _LM = "cls.predictions.transform.dense", "cls.seq_relationship", "lm_head.dense"
_QUESTIONS, _CONTEXTS = (
    f"{encoder}.bert_model.embeddings.word_embeddings" for encoder in ("question_encoder", "ctx_encoder")
)
#: the modules of BERT, and of those that are made like it
_OUTSIDE = {
    "embedding": "embeddings.word_embeddings",
    "positions": "embeddings.position_embeddings",
    "segments": "embeddings.token_type_embeddings",
    "norm_embedding": "embeddings.LayerNorm",
    "pooler": "pooler.dense",
}
_POOLERLESS = {role: module for role, module in _OUTSIDE.items() if role != "pooler"}
_INSIDE = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "o": "attention.output.dense",
    "norm_attention": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm_ffn": "output.LayerNorm",
}
#: the head for masked words that RoBERTa and those after it have
_MASKED_WORDS = {
    "transform": _LM,
    "norm_transform": "lm_head.layer_norm",
    "head.mlm": ("lm_head.decoder", "lm_head"),
}


def _bert_like(name: str, **row: Any) -> Family:
    """A family whose modules are called as BERT's."""
    common: dict[str, Any] = {
        "layers": "encoder.layer",
        "outside": _OUTSIDE,
        "inside": _INSIDE,
        "attention": "attention.self",
        "activation": "hidden_act",
        "epsilon": "layer_norm_eps",
        "states": {"pooled": "pooler"} if "pooler" in row.get("outside", _OUTSIDE) else {},
    }
    return Family(name=name, **common | row)


ENCODERS: dict[str, Family] = {
    "hf/bert": _bert_like(
        "Bert",
        trunk="bert",
        heads={
            "transform": _MLM,
            "norm_transform": "cls.predictions.transform.LayerNorm",
            "head.mlm": ("cls.predictions.decoder", "cls.predictions"),
            "head.nsp": _NSP,
            "head.classifier": ("qa_outputs", "classifier"),
        },
        architectures=(
            Architecture(
                "BertForPreTraining", (_MLM, _NSP), {"mlm": ("prediction_logits",), "nsp": ("seq_relationship_logits",)}
            ),
            Architecture("BertForMaskedLM", (_MLM,), {"mlm": ("logits",)}),
            Architecture("BertForNextSentencePrediction", (_NSP,), {"nsp": ("logits",)}),
            Architecture("BertForQuestionAnswering", ("qa_outputs",), {"classifier": ("start_logits", "end_logits")}),
            Architecture(
                "BertForSequenceClassification", ("classifier", "bert.pooler.dense"), {"classifier": ("logits",)}
            ),
            Architecture("BertForTokenClassification", ("classifier",), {"classifier": ("logits",)}),
            Architecture("BertModel"),
        ),
    ),
    "hf/dpr": _bert_like(
        "DPR",
        trunk=("question_encoder.bert_model", "ctx_encoder.bert_model"),
        outside=_POOLERLESS,
        heads={"head.text": ("question_encoder.encode_proj", "ctx_encoder.encode_proj")},
        architectures=(
            Architecture("DPRQuestionEncoder", (_QUESTIONS,), {"text": ("pooler_output",)}),
            Architecture("DPRContextEncoder", (_CONTEXTS,), {"text": ("pooler_output",)}),
        ),
        wrong={"projection left out": lambda config: {"projection_dim": 0}},
    ),
    "hf/dragon": _bert_like(
        "Bert",
        trunk="bert",
        outside=_POOLERLESS,
        heads={},
        architectures=(Architecture("BertModel"),),
        spare=("pooler.dense.weight", "pooler.dense.bias"),
    ),
    "hf/esm": _bert_like(
        "Esm",
        trunk="esm",
        outside={
            "embedding": "embeddings.word_embeddings",
            "positions": "embeddings.position_embeddings",
            "norm_embedding": "embeddings.layer_norm",
            "norm_final": "encoder.emb_layer_norm_after",
            "pooler": "pooler.dense",
            "contacts": "contact_head.regression",
        },
        inside=_INSIDE | {"norm_attention": "attention.LayerNorm", "norm_ffn": "LayerNorm"},
        heads=_MASKED_WORDS,
        architectures=(Architecture("EsmForMaskedLM", (_LM,), {"mlm": ("logits",)}), Architecture("EsmModel")),
        padding=lambda config: config.pad_token_id if config.position_embedding_type == "absolute" else None,
        rotary="half",
        padded=False,
        activation="",
        spare=("contact_head.regression.weight", "contact_head.regression.bias", "rotary_embeddings.inv_freq"),
        states={"final": "encoder.emb_layer_norm_after", "pooled": "pooler"},
        wrong={"tokens not dropped": lambda config: {"token_dropout": False}},
    ),
    "hf/roberta": _bert_like(
        "Roberta",
        trunk="roberta",
        heads=_MASKED_WORDS,
        architectures=(Architecture("RobertaForMaskedLM", (_LM,), {"mlm": ("logits",)}), Architecture("RobertaModel")),
        padding=lambda config: config.pad_token_id,
    ),
}
