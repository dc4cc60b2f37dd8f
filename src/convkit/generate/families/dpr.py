"""DPR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from convkit.generate.families.family import Family

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True, kw_only=True)
class DprOptions(Family):
    """The options of an encoder."""

    #: whether a projection, as wide as the encoder, follows the first token
    projected: bool = False
    activation: Literal["gelu", "gelu_new", "relu"] = "gelu"

    def config(self) -> PreTrainedConfig:
        """See :meth:`Family.config`."""
        from transformers import DPRConfig

        return DPRConfig(
            **self.sizes(),
            projection_dim=self.hidden if self.projected else 0,
            layer_norm_eps=5e-5,
            hidden_act=self.activation,
        )


@dataclass(frozen=True, kw_only=True)
class Dpr(DprOptions):
    """One encoder of a dense passage retriever."""

    models: ClassVar[Mapping[str, str]] = {"question": "DPRQuestionEncoder", "context": "DPRContextEncoder"}

    head: Literal["question", "context"] = "question"
