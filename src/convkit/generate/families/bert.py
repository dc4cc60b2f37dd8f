"""BERT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from convkit.generate.families.family import Family

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True, kw_only=True)
class Bert(Family):
    """A BERT with one of its heads."""

    models: ClassVar[Mapping[str, str]] = {
        "pretraining": "BertForPreTraining",
        "sequence-classification": "BertForSequenceClassification",
        "token-classification": "BertForTokenClassification",
        "question-answering": "BertForQuestionAnswering",
        "none": "BertModel",
    }

    head: Literal["pretraining", "sequence-classification", "token-classification", "question-answering", "none"] = (
        "pretraining"
    )
    #: whether the MLM output is tied to the word embedding
    tied: bool = True
    #: number of classes of the two classification heads
    labels: int = 5
    activation: Literal["gelu", "gelu_new", "relu"] = "gelu"

    def config(self) -> PreTrainedConfig:
        """See :meth:`Family.config`."""
        from transformers import BertConfig

        config = BertConfig(
            **self.sizes(),
            layer_norm_eps=5e-5,
            hidden_act=self.activation,
            tie_word_embeddings=self.tied,
        )
        if self.head in ("sequence-classification", "token-classification"):
            config.num_labels = self.labels
        if self.head == "sequence-classification":
            config.problem_type = "single_label_classification"
        return config
