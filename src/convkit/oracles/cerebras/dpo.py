"""A model as direct preference optimization trains it: its policy, which any oracle of ModelZoo's decoders runs.

Source: Cerebras ModelZoo 2.10.0, ``models/nlp/dpo/model.py``: ``DPOModel`` holds two models of one class, and reads
their fields below ``policy_model``, or flat beside its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from convkit.oracles.cerebras.model import CerebrasOracle
from convkit.oracles.tensors import same, shape_of

if TYPE_CHECKING:
    from torch import Tensor

_POLICY, _REFERENCE = "policy_model.model.", "ref_model.model."
#: fields of ``DPOModel`` that aren't the policy's
_OWN = ("name", "dpo", "model_name", "policy_model", "compute_eval_metrics")


def policy_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the policy, whose name is its family's."""
    inside = config.get("policy_model")
    if isinstance(inside, Mapping):
        return dict(inside)
    named = {"name": config["model_name"]} if "model_name" in config else {}
    return {name: value for name, value in config.items() if name not in _OWN} | named


@cache
def trained(of: type[CerebrasOracle], name: str) -> type[CerebrasOracle]:
    """The oracle of the layout ``name``, whose policy another oracle runs."""

    class Policy(of):  # type: ignore[misc, valid-type]
        """The policy; the reference model is compared with it."""

        layout: ClassVar[str] = name
        wrappers: ClassVar[tuple[str, ...]] = (f"model.{_POLICY}", _POLICY)

        def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path | None = None) -> None:
            super().__init__(policy_of(config), tensors, path)
            self._compare_reference()

        def _compare_reference(self) -> None:
            """Note a reference that isn't the policy, as after training; one that is shares its tensors."""
            start = self.wrapper.replace(_POLICY, _REFERENCE)
            copies = {key: self.wrapper + key.removeprefix(start) for key in self.tensors if key.startswith(start)}
            differing = [key for key, policy in copies.items() if not self._is(key, policy)]
            if differing:
                problem = (
                    f"differs from the policy in {len(differing)} of {len(copies)} tensors, such as {differing[0]}"
                )
                self.notes.append(f"the reference model {problem}: it isn't run")
            elif copies:
                self.twins |= {key: self.twins.get(policy, policy) for key, policy in copies.items()}
            else:
                self.notes.append("there is no reference model")

        def _is(self, key: str, policy: str) -> bool:
            """Whether a tensor of the reference is that of the policy."""
            shapes = policy in self.tensors and shape_of(self.tensors, key) == shape_of(self.tensors, policy)
            return shapes and same(self.tensors, key, policy)

        @classmethod
        def reconcile(
            cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
        ) -> tuple[dict[str, Any], list[str]]:
            """See :meth:`CerebrasOracle.reconcile`."""
            found: tuple[dict[str, Any], list[str]] = super().reconcile(policy_of(config), tensors)
            return found

    return Policy
