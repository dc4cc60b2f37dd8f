"""Measure how far two runs of a model are apart, a stage and a piece of it at a time.

What a stage shows is compared by name: the hidden states that leave it, what a layer adds to those that enter it, and
the logits of each head. Logits come in slices of the vocabulary; all figures are kept as running values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.oracle import State, Trace

TOP = 5
#: columns of logits that are compared at once, in float64
_COLUMNS = 2048
#: how the name of what a layer adds to its input ends
UPDATE = ".update"

#: what a stage shows, by name
Seen = Mapping[str, "Tensor"]


def seen(stage: str, entered: State, left: State, trace: Trace) -> dict[str, Tensor]:
    """What a stage shows: its states and logits, and of a layer what it adds to the states that enter it.

    Errors hide in the whole where a model's states are far larger than what one layer adds.
    """
    shown = trace.states or ({} if stage == "head" else {stage: left.flow["hidden"]})
    found = {**shown, **trace.outputs}
    before = entered.flow.get("hidden")
    for name, state in shown.items():
        if name.startswith("layers.") and name.count(".") == 1 and before is not None:
            found[name + UPDATE] = state - before
    return found


@dataclass
class Gap:
    """The largest difference between pieces of a tensor of the reference and of the candidate."""

    difference: float = 0.0
    #: the largest value of the reference
    size: float = 0.0
    #: both shapes, if they aren't the same
    shapes: str = ""

    def add(self, reference: Tensor, candidate: Tensor) -> None:
        """Compare one more piece."""
        if reference.shape != candidate.shape:
            self.shapes = f"{list(reference.shape)} and {list(candidate.shape)}"
            return
        self.difference = _larger(self.difference, (candidate - reference).abs().max().item())
        self.size = _larger(self.size, reference.abs().max().item())

    @property
    def relative(self) -> float:
        """The largest difference over the largest value: infinite if anything is NaN or of another shape."""
        if self.shapes or not math.isfinite(self.difference):
            return math.inf
        return self.difference / self.size if self.size else (math.inf if self.difference else 0.0)

    @property
    def lost(self) -> bool:
        """Whether the reference itself isn't finite."""
        return not math.isfinite(self.size)

    @property
    def broken(self) -> str:
        """Why nothing can be measured; empty if it can."""
        return self.shapes or ("" if math.isfinite(self.relative) else "not finite")


def _larger(so_far: float, value: float) -> float:
    return max(so_far, value) if math.isfinite(value) else math.inf


@dataclass
class Distance(Gap):
    """The distance between hidden states, with the smallest cosine of any position's vectors."""

    min_cosine: float = 1.0

    def add(self, reference: Tensor, candidate: Tensor) -> None:
        """See :meth:`Gap.add`; the pieces are of other positions, or the only one."""
        import torch

        super().add(reference, candidate)
        if self.broken:
            self.min_cosine = -1.0
            return
        # in float64, otherwise the cosine's own error exceeds the difference to measure
        cosine = torch.cosine_similarity(reference.double(), candidate.double(), dim=-1)
        cosine[(reference == candidate).all(-1)] = 1.0
        self.min_cosine = min(self.min_cosine, cosine.min().item())


@dataclass
class _Softmax:
    """Running sums over the slices of the logits of one side: the maximum, and the sum of exponentials below it."""

    top: Tensor
    total: Tensor
    #: the likeliest tokens so far, and their logits
    best: Tensor
    tokens: Tensor

    @property
    def log_sum(self) -> Tensor:
        """The logarithm of the sum of exponentials."""
        return self.top + self.total.log()


@dataclass
class Distribution(Gap):
    """The distance between logits ``[..., vocabulary]``, given in slices of the vocabulary, in order."""

    _sides: list[_Softmax] = field(default_factory=list)
    #: the running sum of the reference's exponentials times the difference of the logits
    _weighted: Tensor | None = None
    _width: int = 0

    def add(self, reference: Tensor, candidate: Tensor) -> None:
        """See :meth:`Gap.add`; the next slice."""
        super().add(reference, candidate)
        if self.broken:
            return
        flat = [logits.flatten(0, -2).split(_COLUMNS, -1) for logits in (reference, candidate)]
        for ours, theirs in zip(*flat, strict=True):
            self._add(ours.double(), theirs.double())

    def _add(self, ours: Tensor, theirs: Tensor) -> None:
        import torch

        gap = ours - theirs
        if self._weighted is None:
            rows = ours.shape[0]
            floor = ours.new_full((rows,), -math.inf)
            empty = ours.new_empty((rows, 0))
            self._sides = [_Softmax(floor, ours.new_zeros(rows), empty, empty.long()) for _ in "ab"]
            self._weighted = ours.new_zeros(rows)
        before = self._sides[0].top
        for side, slice_ in zip(self._sides, (ours, theirs), strict=True):
            top = torch.maximum(side.top, slice_.max(-1).values)
            side.total = side.total * (side.top - top).exp() + (slice_ - top[:, None]).exp().sum(-1)
            side.top = top
            values, tokens = slice_.topk(min(TOP, slice_.shape[-1]))
            values, tokens = torch.cat((side.best, values), 1), torch.cat((side.tokens, tokens + self._width), 1)
            side.best, places = values.topk(min(TOP, values.shape[1]))
            side.tokens = tokens.gather(1, places)
        top = self._sides[0].top
        self._weighted = self._weighted * (before - top).exp() + ((ours - top[:, None]).exp() * gap).sum(-1)
        self._width += ours.shape[-1]

    @property
    def max_kl(self) -> float:
        """The largest KL divergence of any position's distribution from the reference's, in nats."""
        if self._weighted is None:
            return 0.0
        ours, theirs = self._sides
        kl = self._weighted / ours.total - ours.log_sum + theirs.log_sum
        return kl.clamp(min=0).nan_to_num().max().item()

    def shared_top(self, k: int) -> float:
        """The share of the reference's ``k`` likeliest tokens that are among the candidate's, over all positions."""
        if self._weighted is None:
            return 1.0
        ours, theirs = (side.tokens[:, :k] for side in self._sides)
        return (ours[:, :, None] == theirs[:, None, :]).any(-1).double().mean().item()


def measure(into: dict[str, Gap], reference: Seen, candidate: Seen, *, whole: bool = False) -> None:
    """Add what both show to the gaps by name; ``whole`` asks for cosines and distributions too.

    What only the reference shows isn't in ``into`` afterwards.
    """
    for name, value in reference.items():
        if name not in candidate:
            continue
        if name not in into:
            kind = (Distance if _is_state(name) else Distribution) if whole else Gap
            into[name] = kind()
        into[name].add(value, candidate[name])


def _is_state(name: str) -> bool:
    own = name.rpartition(".")[2]
    return name.startswith(("layers.", "encoder.", "decoder.")) or own in ("embedding", "encoded", "final", "pooled")


class Figure(Struct, frozen=True, kw_only=True):
    """The distance of one state, or of one head's logits; infinite or NaN figures are left out."""

    name: str
    max_abs: float | None = None
    max_rel: float | None = None
    min_cosine: float | None = None
    max_kl: float | None = None
    top1: float | None = None
    top5: float | None = None


def figures(gaps: Mapping[str, Gap]) -> list[Figure]:
    """What was measured, without what a layer adds."""
    return [_figure(name, gap) for name, gap in gaps.items() if not name.endswith(UPDATE)]


def _figure(name: str, gap: Gap) -> Figure:
    if gap.broken:
        return Figure(name=name)
    figure = Figure(name=name, max_abs=gap.difference, max_rel=gap.relative)
    if isinstance(gap, Distance):
        return replace(figure, min_cosine=gap.min_cosine)
    if isinstance(gap, Distribution):
        return replace(figure, max_kl=gap.max_kl, top1=gap.shared_top(1), top5=gap.shared_top(TOP))
    return figure


def summary(found: Iterable[Figure]) -> dict[str, float]:
    """The worst of all figures, by their names in a verdict; infinite where a state can't be measured."""
    found = list(found)
    if any(figure.max_rel is None for figure in found):
        return {"max_rel": math.inf, "max_abs": math.inf}
    worst: dict[str, tuple[str, Callable[[Iterable[float]], float]]] = {
        "max_rel": ("max_rel", max),
        "max_abs": ("max_abs", max),
        "min_cosine": ("min_cosine", min),
        "max_kl": ("max_kl", max),
        "top1_agreement": ("top1", min),
        f"top{TOP}_agreement": (f"top{TOP}", min),
    }
    values = {name: [getattr(one, field) for one in found] for name, (field, _) in worst.items()}
    known = {name: [value for value in some if value is not None] for name, some in values.items()}
    return {name: worst[name][1](some) for name, some in known.items() if some}
