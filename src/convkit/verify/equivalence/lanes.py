"""The models that are run beside each other, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convkit.oracles.oracle import State, Trace
from convkit.verify.equivalence.agreement import Seen, seen

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.oracle import Oracle
    from convkit.oracles.stage_tensors import StageTensors

Inputs = Mapping[str, "Tensor"]


class Lane:
    """A model that is run on some inputs."""

    def __init__(self, oracle: Oracle, tensors: StageTensors, inputs: Sequence[Inputs]) -> None:
        self.oracle, self.tensors = oracle, tensors
        #: what enters the next stage, by input
        self.states = [oracle.begin(one) for one in inputs]
        self._left = self.states
        #: the experts of the last stage that no token of the first input chose
        self.idle: list[int] = []

    def free(self, stage: str) -> list[Seen]:
        """Run a stage on what the lane's own stages left; what it shows, by input."""
        found = [self._run(stage, state) for state in self.states]
        self._left, self.idle = [left for left, _, _ in found], found[0][2].idle
        return [shown for _, shown, _ in found]

    def advance(self) -> None:
        """Go on to the next stage: what left this one enters it."""
        self.states = self._left

    def fed(self, stage: str, entered: Sequence[State], detail: int | None = None) -> list[Seen]:
        """Run a stage on what entered another model's; of layer ``detail``, inner points are shown too."""
        pairs = zip(self.states, entered, strict=False)
        found = [self._run(stage, own.fed(other), detail) for own, other in pairs]
        self.idle = found[0][2].idle
        return [shown for _, shown, _ in found]

    def _run(self, stage: str, state: State, detail: int | None = None) -> tuple[State, Seen, Trace]:
        trace = Trace(detail)
        left = self.oracle.stage(stage, state, trace)
        return left, seen(stage, state, left, trace), trace


@dataclass(frozen=True)
class Comparison:
    """Two lanes that run free, whose distance is a figure of the verdict."""

    name: str
    reference: str
    candidate: str


@dataclass
class Models:
    """Source and target, and what else runs beside them.

    Attributes:
        lanes: the models that run free, by name; ``source`` is the reference, ``target`` is compared with it.
        noisy: the source with its rotary base a little aside.
        lengths: the number of positions of each input.
        comparisons: the pairs of lanes whose distance is measured.
    """

    lanes: dict[str, Lane]
    noisy: Lane
    lengths: list[int]
    comparisons: list[Comparison] = field(default_factory=lambda: [Comparison("free", "source", "target")])

    @property
    def source(self) -> Lane:
        """The reference."""
        return self.lanes["source"]

    @property
    def target(self) -> Lane:
        """What is checked."""
        return self.lanes["target"]

    @property
    def others(self) -> list[StageTensors]:
        """The tensors that neither the source nor the target reads: the source's as they were before a cast."""
        known = [self.source.tensors, self.target.tensors]
        found = {id(lane.tensors): lane.tensors for lane in self.lanes.values()}
        return [tensors for tensors in found.values() if all(tensors is not one for one in known)]
