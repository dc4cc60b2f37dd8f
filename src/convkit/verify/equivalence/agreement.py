"""Measure how far two runs of models are apart, state by state and head by head."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.oracle import Trace

TOP = 5


@dataclass(frozen=True)
class Distance:
    """The distance between a tensor of the reference and of the candidate."""

    name: str
    max_abs: float
    #: largest difference over the largest value of the reference
    max_rel: float
    #: smallest cosine of any position's vectors
    min_cosine: float


@dataclass(frozen=True)
class Agreement:
    """The distances of all that two traces share, in the order of computation, and the names that only one has."""

    states: list[Distance]
    outputs: list[Distance]
    #: largest KL divergence of any position's distribution from the reference's, nats
    max_kl: float
    #: share of positions whose likeliest token is the same
    top1: float
    #: share of the reference's five likeliest tokens that the candidate's five hold
    top5: float
    only_in_reference: list[str]
    only_in_candidate: list[str]
    #: states or outputs of other shapes
    misshapen: list[str]

    @property
    def max_rel(self) -> float:
        """The largest of all relative differences: infinite if anything is NaN or of another shape."""
        return math.inf if self.misshapen else max((d.max_rel for d in self._all), default=math.inf)

    def first_beyond(self, bound: float) -> str | None:
        """The first state or output that is farther away than ``bound``."""
        return next((d.name for d in self._all if d.max_rel > bound), None)

    @property
    def broken(self) -> list[str]:
        """States and outputs that can't be measured: other shapes, NaN, infinities."""
        return [*self.misshapen, *(f"{d.name} is not finite" for d in self._all if math.isinf(d.max_rel))]

    @property
    def measurable(self) -> list[Distance]:
        """The distances that are numbers."""
        return [d for d in self._all if math.isfinite(d.max_rel)]

    def to_json(self) -> dict[str, float]:
        """The worst figures, apart from those that can't be measured, which ``broken`` names."""
        figures = {
            "max_rel": max((d.max_rel for d in self.measurable), default=0.0),
            "max_abs": max((d.max_abs for d in self.measurable), default=0.0),
            "min_cosine": min((d.min_cosine for d in self.measurable), default=1.0),
        }
        if self.outputs:
            figures |= {"max_kl": self.max_kl, "top1_agreement": self.top1, f"top{TOP}_agreement": self.top5}
        return figures

    @property
    def _all(self) -> list[Distance]:
        return [*self.states, *self.outputs]


def compare(reference: Trace, candidate: Trace) -> Agreement:
    """Compare two runs on the same input."""
    states, strange_states = _pairs(reference.states, candidate.states)
    outputs, strange_outputs = _pairs(reference.outputs, candidate.outputs)
    names = [*reference.states, *reference.outputs], [*candidate.states, *candidate.outputs]
    rows = [(a.flatten(0, -2), b.flatten(0, -2)) for a, b in outputs.values()]
    return Agreement(
        states=[_distance(name, *pair) for name, pair in states.items()],
        outputs=[_distance(name, *pair) for name, pair in outputs.items()],
        max_kl=max((_max_kl(a, b) for a, b in rows), default=0.0),
        top1=min((_shared_top(a, b, 1) for a, b in rows), default=1.0),
        top5=min((_shared_top(a, b, TOP) for a, b in rows), default=1.0),
        only_in_reference=[name for name in names[0] if name not in names[1]],
        only_in_candidate=[name for name in names[1] if name not in names[0]],
        misshapen=strange_states + strange_outputs,
    )


def _pairs(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> tuple[dict[str, tuple[Tensor, Tensor]], list[str]]:
    """The pairs that can be compared, and the names of those whose shapes differ."""
    both = {name: (value, theirs[name]) for name, value in ours.items() if name in theirs}
    strange = [f"{name}: {list(a.shape)} and {list(b.shape)}" for name, (a, b) in both.items() if a.shape != b.shape]
    return {name: (a, b) for name, (a, b) in both.items() if a.shape == b.shape}, strange


def _distance(name: str, reference: Tensor, candidate: Tensor) -> Distance:
    import torch

    gap, size = (candidate - reference).abs().max().item(), reference.abs().max().item()
    if not math.isfinite(gap):
        return Distance(name, math.inf, math.inf, -1.0)
    # in float64, otherwise the cosine's own error exceeds the difference to measure
    cosine = torch.cosine_similarity(reference.double(), candidate.double(), dim=-1)
    cosine[(reference == candidate).all(-1)] = 1.0
    max_rel = gap / size if size else (math.inf if gap else 0.0)
    return Distance(name, gap, max_rel, cosine.min().item())


def _max_kl(reference: Tensor, candidate: Tensor) -> float:
    import torch

    p, q = torch.log_softmax(reference.double(), -1), torch.log_softmax(candidate.double(), -1)
    return (p.exp() * (p - q)).sum(-1).clamp(min=0).nan_to_num().max().item()


def _shared_top(reference: Tensor, candidate: Tensor, k: int) -> float:
    """The share of the reference's ``k`` likeliest tokens that are among the candidate's, over all rows."""
    k = min(k, reference.shape[-1])
    ours, theirs = reference.topk(k).indices, candidate.topk(k).indices
    return (ours[:, :, None] == theirs[:, None, :]).any(-1).double().mean().item()
