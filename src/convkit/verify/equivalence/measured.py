"""What was measured of a stage, and the bound of each measure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from convkit.verify.equivalence.agreement import Gap
from convkit.verify.equivalence.noise import ROOM

#: Float32 rounds to 6e-8. Two implementations of one layer differ by up to 1e-6 of the largest value; the mildest
#: fault, a wrong norm epsilon, shows as 2e-5. Weights of fewer bits are widened on both sides alike, so the same bound
#: holds for them. A stage that amplifies rounding more than that gets a larger bound from its own measured noise.
BOUND = 5e-6


@dataclass(frozen=True)
class Worst:
    """Of several measures, the one that comes nearest its bound, or is farthest beyond it."""

    name: str = ""
    error: float = 0.0
    bound: float = BOUND

    @property
    def ratio(self) -> float:
        """Above 1, the measure is beyond its bound."""
        return self.error / self.bound


@dataclass
class Measured:
    """What was measured on one input, by the name of what the stage shows."""

    fed: dict[str, Gap] = field(default_factory=dict)
    noise: dict[str, Gap] = field(default_factory=dict)
    repeat: dict[str, Gap] = field(default_factory=dict)

    def bound(self, name: str) -> float:
        """The largest relative difference that float32 explains."""
        noise = self.noise[name].relative if name in self.noise else 0.0
        return max(BOUND, ROOM * noise) if math.isfinite(noise) else BOUND

    def worst(self, gaps: Mapping[str, Gap]) -> Worst:
        """Of these gaps, against the bounds."""
        found = [Worst(name, gap.relative, self.bound(name)) for name, gap in gaps.items()]
        return max(found, key=lambda one: one.ratio, default=Worst())

    def beyond(self) -> list[str]:
        """What differs more than float32 explains, in the order of computation."""
        return [name for name, gap in self.fed.items() if gap.relative > self.bound(name)]
