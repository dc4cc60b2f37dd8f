"""Compare two models on the same input, and the first with faulty versions of the second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from convkit.errors import ConvkitError
from convkit.oracles.oracle import POINTS
from convkit.verify.equivalence.agreement import compare
from convkit.verify.equivalence.mutants import Mutant, mutants

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.oracle import Oracle

#: the roles that feed each state or output outside the layers
_FEEDS = {
    "embedding": ("embedding", "positions", "segments", "norm_embedding"),
    "final": ("norm_final",),
    "pooled": ("pooler",),
    "lm": ("head.lm",),
    "mlm": ("transform", "norm_transform", "head.mlm"),
    "nsp": ("head.nsp",),
    "classifier": ("head.classifier",),
}


class Trial:
    """Source and target on one input; the source is the reference."""

    def __init__(self, source: Oracle, target: Oracle, probe: Mapping[str, Tensor]) -> None:
        self.source, self.target, self.probe = source, target, probe
        self.reference = source.run(probe)
        self.agreement = compare(self.reference, target.run(probe))

    def faults(self) -> Iterator[Mutant]:
        """The faults that can be planted in the target and affect the compared outputs."""
        return mutants(self.target, [output.name for output in self.agreement.outputs])

    def error_with(self, fault: Mutant) -> float:
        """The largest relative difference with this fault in the target; infinite if the model then refuses to run."""
        try:
            faulty = self.target.rebuilt(fault.config, fault.tensors)
        except ConvkitError:
            return float("inf")
        return compare(self.reference, faulty.run(self.probe)).max_rel

    def parting(self, bound: float) -> dict[str, Any] | None:
        """Where the models first differ: the state, the point inside its layer, and the tensors that feed it."""
        state = self.agreement.first_beyond(bound)
        if state is None:
            return None
        point, feeds = state, _FEEDS.get(state, ())
        if state.startswith("layers."):
            layer = int(state.split(".")[1])
            inside = compare(self.source.run(self.probe, layer), self.target.run(self.probe, layer))
            point = inside.first_beyond(bound) or state
            feeds = tuple(f"layers.{layer}.{role}" for role in POINTS.get(point.rsplit(".", 1)[-1], ()))
        return {
            "state": state,
            "point": point,
            "source": _keys(self.source, feeds),
            "target": _keys(self.target, feeds),
        }


def _keys(oracle: Oracle, feeds: tuple[str, ...]) -> list[str]:
    """The tensors of these roles, weights and biases."""
    named = [f"{feed}.{end}" for feed in feeds for end in ("weight", "bias")]
    return list(dict.fromkeys(oracle.roles[role].key for role in named if role in oracle.roles))
