"""BERT in ``transformers``: a post-norm encoder with the heads that the checkpoint holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from convkit.oracles.hf.model import HfOracle, first, second
from convkit.oracles.oracle import Facts, Part

if TYPE_CHECKING:
    from torch import Tensor


class HfBert(HfOracle):
    """BERT, in the class that fits the heads in the file: a checkpoint may hold more than its config says."""

    layout = "hf/bert"
    config_class = "BertConfig"
    trunk = "bert"
    layers = "encoder.layer"
    embedding = "embeddings.word_embeddings.weight"
    modules: ClassVar[dict[str, str]] = {
        "embedding": "embeddings.word_embeddings",
        "positions": "embeddings.position_embeddings",
        "segments": "embeddings.token_type_embeddings",
        "norm_embedding": "embeddings.LayerNorm",
        "q": "encoder.layer.{i}.attention.self.query",
        "k": "encoder.layer.{i}.attention.self.key",
        "v": "encoder.layer.{i}.attention.self.value",
        "o": "encoder.layer.{i}.attention.output.dense",
        "norm_attention": "encoder.layer.{i}.attention.output.LayerNorm",
        "up": "encoder.layer.{i}.intermediate.dense",
        "down": "encoder.layer.{i}.output.dense",
        "norm_ffn": "encoder.layer.{i}.output.LayerNorm",
        "pooler": "pooler.dense",
    }
    points: ClassVar[dict] = {
        "v": ("attention.self.value", first),
        "probabilities": ("attention.self", second),
        "attention": ("attention.output.dense", first),
        "norm_attention": ("attention.output.LayerNorm", first),
        "up": ("intermediate.dense", first),
        "ffn": ("output.dense", first),
    }
    states: ClassVar[dict[str, str]] = {"pooled": "pooler"}
    wrong_fields = ("hidden_act", "layer_norm_eps")

    def model_class(self) -> tuple[str, dict[str, Any]]:
        """See :meth:`HfOracle.model_class`."""
        pooler = f"{self.prefix}pooler.dense.weight" in self.tensors
        mlm = "cls.predictions.transform.dense.weight" in self.tensors
        nsp = "cls.seq_relationship.weight" in self.tensors
        if mlm:
            return "BertForPreTraining" if nsp else "BertForMaskedLM", {}
        if nsp:
            return "BertForNextSentencePrediction", {}
        if "qa_outputs.weight" in self.tensors:
            return "BertForQuestionAnswering", {}
        if "classifier.weight" in self.tensors:
            self.parsed.num_labels = self.tensors["classifier.weight"].shape[0]
            # a token classifier may have kept the pooler of the model it was trained from
            tokens = "BertForTokenClassification" in (self.parsed.architectures or ()) or not pooler
            return "BertForTokenClassification" if tokens else "BertForSequenceClassification", {}
        return "BertModel", {"add_pooling_layer": pooler}

    def heads(self) -> dict[str, str]:
        """See :meth:`HfOracle.heads`."""
        heads = {
            "transform": "cls.predictions.transform.dense",
            "norm_transform": "cls.predictions.transform.LayerNorm",
            "head.nsp": "cls.seq_relationship",
            "head.classifier": "qa_outputs" if "qa_outputs.weight" in self.tensors else "classifier",
        }
        if "cls.predictions.transform.dense.weight" in self.tensors:
            decoder = "cls.predictions.decoder"
            heads["head.mlm"] = f"{self.prefix}embeddings.word_embeddings" if self.facts.tied else decoder
        return heads

    def _roles(self) -> Iterator[tuple[str, Part]]:
        yield from super()._roles()
        if self.facts.tied and "cls.predictions.bias" in self.tensors:
            yield "head.mlm.bias", Part("cls.predictions.bias")

    def outputs(self, result: Any) -> dict[str, Tensor]:
        """See :meth:`HfOracle.outputs`; question answering classifies tokens: start or end."""
        import torch

        name = type(self.model).__name__
        if name == "BertForPreTraining":
            return {"mlm": result.prediction_logits, "nsp": result.seq_relationship_logits}
        if name == "BertForQuestionAnswering":
            return {"classifier": torch.stack((result.start_logits, result.end_logits), dim=-1)}
        if name == "BertModel":
            return {}
        head = {"BertForMaskedLM": "mlm", "BertForNextSentencePrediction": "nsp"}.get(name, "classifier")
        return {head: result.logits}

    def _facts(self) -> Facts:
        return replace(super()._facts(), segments=self.parsed.type_vocab_size, causal=False)

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        wrong = super().wrong_configs()
        if self.facts.heads % 2 == 0:
            wrong["wrong head count"] = {**self.config, "num_attention_heads": self.facts.heads // 2}
        return wrong
