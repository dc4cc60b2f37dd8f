"""Check one stage: the target's against the source's, on the input that entered the source's.

The source's stage runs first: as it is, once more (``repeat``), and with its weights and its rotary base a little aside
(``noise``, from which the bound follows). Then its tensors are let go, and the target's stage runs: *fed* with what
entered the source's, which is the proof, since errors don't add up; *free*, with what its own stages left, which gives
the figures that people know; and with faults planted in it, fed. Where a fault left no trace because the weights are
weak, the stage runs once more with stronger ones (:mod:`.amplify`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convkit.oracles.windows import Rows
from convkit.verify.equivalence.agreement import Gap, Seen, measure
from convkit.verify.equivalence.amplify import gains, left_weak, stronger
from convkit.verify.equivalence.measured import Measured, Worst
from convkit.verify.equivalence.noise import move_aside

if TYPE_CHECKING:
    from convkit.oracles.stage_tensors import StageTensors
    from convkit.verify.equivalence.faults import Kind, Place
    from convkit.verify.equivalence.lanes import Lane, Models


@dataclass
class Trial:
    """A fault in this stage, and what it did.

    Attributes:
        kind: of the fault.
        lane: the target, or the model of a wrong config; None where it refuses to be built.
    """

    kind: Kind
    lane: Lane | None
    gaps: dict[str, Gap] = field(default_factory=dict)
    amplified: dict[str, Gap] = field(default_factory=dict)


class StageCheck:
    """One stage of both models, run piece by piece: the whole stage, or slices of the vocabulary."""

    def __init__(self, models: Models, stage: str, place: Place, report: Callable[[str], None]) -> None:
        self.models, self.stage, self.place, self.report = models, stage, place, report
        inputs = range(len(models.source.states))
        self.measured = [Measured() for _ in inputs]
        self.amplified = Measured()
        self.trials: list[Trial] = []
        self.weak: list[str] = []
        #: the gaps of each input, by the comparison's name
        self.compared: dict[str, list[dict[str, Gap]]] = {one.name: [{} for _ in inputs] for one in models.comparisons}
        #: experts that no token chose, as far as a side says which
        self.idle: list[int] = []
        self.only_in_source: dict[str, None] = {}
        self.only_in_target: dict[str, None] = {}
        self._gains: dict[str, float] | None = None

    def run(self, plant: Callable[[], list[Trial]] | None) -> None:
        """Run a piece. ``plant`` chooses the faults; it's None where an earlier piece has chosen them."""
        self.report("source")
        shown = self._source()
        references = shown["source"]
        self.report("target")
        idle = self.models.source.idle
        fed = self.models.target.fed(self.stage, self.models.source.states)
        self.idle = sorted({*idle, *self.models.target.idle})
        for measured, reference, candidate in zip(self.measured, references, fed, strict=True):
            measure(measured.fed, reference, candidate)
            self.only_in_source |= dict.fromkeys(name for name in reference if name not in candidate)
            self.only_in_target |= dict.fromkeys(name for name in candidate if name not in reference)
        shown |= self._free(self.models.target.tensors)
        for one in self.models.comparisons:
            pairs = zip(self.compared[one.name], shown[one.reference], shown[one.candidate], strict=True)
            for gaps, reference, candidate in pairs:
                measure(gaps, reference, candidate, whole=one.name == "free")
        if plant is not None and not self.differs:
            self.trials = plant()
        for trial in self.trials:
            self._plant(trial, references[0], trial.gaps)
        self.models.target.tensors.release()

    def _source(self) -> dict[str, list[Seen]]:
        """What the lanes of the source's side show; its noise is measured on the way, and its tensors let go."""
        models, stage, entered = self.models, self.stage, self.models.source.states
        shown = self._free(models.source.tensors)
        for measured, reference, again in zip(
            self.measured, shown["source"], models.source.fed(stage, entered), strict=True
        ):
            measure(measured.repeat, reference, again)
        set_aside(models.source.tensors)
        for measured, reference, aside in zip(
            self.measured, shown["source"], models.noisy.fed(stage, entered), strict=True
        ):
            measure(measured.noise, reference, aside)
        models.source.tensors.release()
        for tensors in models.others:
            shown |= self._free(tensors)
            tensors.release()
        return shown

    def _free(self, tensors: StageTensors) -> dict[str, list[Seen]]:
        return {name: lane.free(self.stage) for name, lane in self.models.lanes.items() if lane.tensors is tensors}

    def _plant(self, trial: Trial, reference: Seen, gaps: dict[str, Gap]) -> None:
        """Run the target's stage with a fault in it, on the first input."""
        kind, lane = trial.kind, trial.lane
        self.report(f"fault: {kind.name}")
        if lane is None:
            return
        tensors = lane.tensors
        if kind.elsewhere:
            tensors.release()
        with tensors.changed(lane.oracle.edits(kind.changes(self.place))):
            measure(gaps, reference, lane.fed(self.stage, self.models.source.states[:1])[0])
        if kind.elsewhere:
            tensors.release()

    @property
    def differs(self) -> bool:
        """Whether the models differ here more than float32 explains, on any input, so far."""
        return any(measured.beyond() for measured in self.measured)

    def missed(self) -> list[Trial]:
        """The trials that left no trace, with weights as they are or with stronger ones."""
        return [trial for trial in self.trials if self.caught(trial).ratio <= 1]

    def caught(self, trial: Trial) -> Worst:
        """What shows a fault best."""
        if trial.lane is None:
            return Worst(error=float("inf"))
        plain, strong = self.measured[0].worst(trial.gaps), self.amplified.worst(trial.amplified)
        return strong if trial.amplified and strong.ratio > max(1.0, plain.ratio) else plain

    def amplify(self, missed: Sequence[Trial]) -> None:
        """Run a piece again with the weak weights stronger, on the first input, and plant these faults."""
        models, stage, rows = self.models, self.stage, self.place.rows
        source, target = models.source, models.target
        if self._gains is None:
            self._gains = gains(source.oracle, target.oracle, stage, rows)
        if not self._gains:
            source.tensors.release()
            return
        self.report("with stronger weights")
        entered = source.states[:1]
        with self.strengthened(source):
            (reference,) = source.fed(stage, entered)
            self.weak = left_weak("source", source.oracle, target.oracle, stage, rows)
            set_aside(source.tensors)
            measure(self.amplified.noise, reference, models.noisy.fed(stage, entered)[0])
        source.tensors.release()
        with self.strengthened(target):
            measure(self.amplified.fed, reference, target.fed(stage, entered)[0])
            for trial in missed:
                self._plant(trial, reference, trial.amplified)
            self.weak += left_weak("target", target.oracle, source.oracle, stage, rows)
        target.tensors.release()

    def strengthened(self, lane: Lane) -> AbstractContextManager[None]:
        """The weak weights of a side are stronger for a while."""
        return lane.tensors.changed(stronger(lane.oracle, self._gains or {}, self.place.rows))

    def inside(self, layer: int, n: int, strong: bool) -> dict[str, Gap]:
        """The gaps of all points inside a layer, in the order of computation, on one input."""
        source, target, gaps = self.models.source, self.models.target, dict[str, Gap]()
        entered = source.states
        with self.strengthened(source) if strong else nullcontext():
            reference = source.fed(self.stage, entered, layer)[n]
        source.tensors.release()
        with self.strengthened(target) if strong else nullcontext():
            measure(gaps, reference, target.fed(self.stage, entered, layer)[n])
        target.tensors.release()
        return gaps


def set_aside(tensors: StageTensors) -> None:
    """Move the held tensors aside, in place: of a table, the rows that are there."""
    for key, window, tensor in tensors.holding():
        if not isinstance(window, Rows):
            move_aside(tensor, key)
            continue
        rows = tensor.movedim(window.axis, 0)
        moved = rows[window.rows]
        move_aside(moved, key)
        rows[window.rows] = moved
