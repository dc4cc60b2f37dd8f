"""Retrievers of two encoders, in folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from convkit.generate.families.bert import Bert
from convkit.generate.families.dpr import Dpr, DprOptions
from convkit.generate.families.family import Family

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True, kw_only=True)
class DprBiencoder(DprOptions):
    """A dense passage retriever; the weights of its second encoder are those of the next seed."""

    def parts(self) -> Mapping[str, Family]:
        """See :meth:`AnyFamily.parts`."""
        return _encoders(Dpr(**_options(self)), Dpr(**_options(self), head="context"))


@dataclass(frozen=True, kw_only=True)
class DragonBiencoder(Family):
    """Two BERTs, whose poolers nobody uses; the weights of the second are those of the next seed."""

    activation: Literal["gelu", "gelu_new", "relu"] = "gelu"

    def config(self) -> PreTrainedConfig:
        """See :meth:`AnyFamily.config`."""
        return self.parts()["q_encoder"].config()

    def parts(self) -> Mapping[str, Family]:
        """See :meth:`AnyFamily.parts`."""
        encoder = Bert(**_options(self), head="none")
        return _encoders(encoder, encoder)


def _options(family: Family) -> dict[str, Any]:
    return {field.name: getattr(family, field.name) for field in fields(family)}


def _encoders(questions: Family, contexts: Family) -> Mapping[str, Family]:
    return {"q_encoder": questions, "ctx_encoder": replace(contexts, seed=contexts.seed + 1)}
