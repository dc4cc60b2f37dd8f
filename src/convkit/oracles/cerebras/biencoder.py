"""ModelZoo's retriever of two encoders: what ``pooler_type`` says is the embedding of a text.

Source: Cerebras ModelZoo 2.10.0, ``models/nlp/dpr/{model,dpr_model}.py``. Before release 2.3 there was no
``pooler_type``: an encoder's pooler counts if it has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from convkit.errors import ConvkitError
from convkit.oracles.biencoder import CONTEXTS, QUESTIONS, Biencoder
from convkit.oracles.cerebras.encoder import POOLER, CerebrasBert, CerebrasDpr
from convkit.oracles.cerebras.model import WRAPPERS, find_prefix

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.tensors import Within

_KINDS = ("cls", "ffn_pooler", "mean")


class _Encoder(CerebrasDpr):
    """One of the two, without a prefix of its own."""

    trunks = ("",)


class CerebrasBiencoder(Biencoder):
    """DPR's two encoders, or DRAGON's."""

    layout = "cerebras/dpr-biencoder"
    runs = "both encoders are run; the embedding of a text is what pooler_type says"
    prefixes: ClassVar[Mapping[str, str]] = {QUESTIONS: "question_encoder.", CONTEXTS: "ctx_encoder."}

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path | None = None) -> None:
        super().__init__(config, tensors, path)
        self.kind = self.config.get("pooler_type")
        if self.kind not in (None, *_KINDS):
            remedy = f"known: {', '.join(_KINDS)}"
            raise ConvkitError(f"is {self.kind!r}", path=path, key="pooler_type", remedy=remedy)
        for name, one in self.encoders.items():
            has = "head.text.weight" in one.roles
            if self.kind is not None and has != (self.kind == "ffn_pooler"):
                self.problems.append(f"{name}: pooler_type is {self.kind}, the file has {'a' if has else 'no'} pooler")

    def _wrapper(self) -> str:
        return find_prefix(self.tensors, self.prefixes.values(), wrappers=WRAPPERS)[0]

    def encoder(self, fields: dict[str, Any], tensors: Within) -> CerebrasDpr:
        """See :meth:`Biencoder.encoder`."""
        return _Encoder(fields, tensors, self.path)

    def text(self, name: str, hidden: Tensor, given: Any, outputs: Mapping[str, Tensor]) -> Tensor:
        """See :meth:`Biencoder.text`."""
        if self.kind == "mean":
            seen = given["seen"][..., None].float()
            return (hidden * seen).sum(1) / seen.sum(1).clamp(min=1e-9)
        return hidden[:, 0] if self.kind == "cls" else super().text(name, hidden, given, outputs)

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        wrong = super().wrong_configs() | {"mean of all tokens for the first": {**self.config, "pooler_type": "mean"}}
        if self.kind == "ffn_pooler":
            wrong["projection left out"] = {**self.config, "pooler_type": "cls"}
        return wrong

    @classmethod
    def reconcile(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], list[str]]:
        """See :meth:`CerebrasOracle.reconcile`, for each encoder."""
        corrected, notes = dict(config), []
        for name, prefix in cls.prefixes.items():
            if isinstance(section := config.get(name), Mapping):
                own: dict[str, Any] = dict.fromkeys(key for key in tensors if prefix in key)
                corrected[name], found = CerebrasBert.reconcile(section, own)
                notes += [f"{name}.{note}" for note in found]
        said = config.get("pooler_type")
        kind = "ffn_pooler" if any(f".{POOLER}." in key for key in tensors) else "cls"
        if said in ("cls", "ffn_pooler") and said != kind:
            corrected["pooler_type"] = kind
            notes.append(f"pooler_type: the yaml says {said}, the tensors say {kind}")
        return corrected, notes
