"""Walk two models stage by stage: each of the target's on what entered the source's (:mod:`.stage_check`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convkit.errors import ConvkitError, UsageError
from convkit.verify.equivalence.budget import slice_within
from convkit.verify.equivalence.faults import AFTER_THE_LAYERS, BEFORE_THE_LAYERS, Kind, Place, of_configs
from convkit.verify.equivalence.faults_of_factors import in_a_layer, outside_layers
from convkit.verify.equivalence.faults_of_images import OF_IMAGES
from convkit.verify.equivalence.faults_of_texts import HEADS_OF_TEXTS, TABLES_OF_TEXTS
from convkit.verify.equivalence.findings import enter
from convkit.verify.equivalence.lanes import Inputs, Lane, Models
from convkit.verify.equivalence.pieces import costs, pieces, used_rows
from convkit.verify.equivalence.probe import ROWS
from convkit.verify.equivalence.record import Record
from convkit.verify.equivalence.schedule import Mode, Schedule
from convkit.verify.equivalence.stage_check import StageCheck, Trial
from convkit.verify.verdict import Stage

if TYPE_CHECKING:
    from convkit.oracles.windows import Window

#: called with the work done, all of it, and what is being done
Steps = Callable[[float, float, str], None]


@dataclass(frozen=True)
class Choices:
    """How a walk is made.

    Attributes:
        faults: which are planted.
        seed: of the order in which kinds of faults are planted.
        stages: the part of the stages that is compared, ``A:B``: the first and the last, by name or number; an end
            that is left out is that of the model. All if it is empty.
        memory: bytes that the process may take; as much as a stage needs if it is None.
    """

    faults: Mode = "spread"
    seed: int = 0
    stages: str = ""
    memory: int | None = None


class Walk:
    """The stages of two models, in the order of computation."""

    def __init__(
        self, models: Models, inputs: Sequence[Inputs], choices: Choices, record: Record, steps: Steps | None = None
    ) -> None:
        source, target = models.source.oracle, models.target.oracle
        self.models, self.inputs, self.choices, self.record = models, inputs, choices, record
        self.stages = source.stages
        self._part = part_of(self.stages, choices.stages)
        layers = [stage for stage in self.stages[: self._part[1] + 1] if stage in source.layer_stages]
        more = in_a_layer(source, target)
        self.schedule = Schedule(choices.faults, of_configs(target), layers, choices.seed, more)
        if record.waiting is not None:
            self.schedule.waiting, self.schedule.planted = [*record.waiting], [*record.planted]
        self.rows = used_rows(inputs)
        self._slice = slice_within(choices.memory, (source, target), ROWS * max(models.lengths))
        self._heads = frozenset(role.split(".")[1] for role in source.roles if role.startswith("head."))
        self._wrong: dict[str, Lane | None] = {}
        self._steps, self._costs = steps or (lambda done, total, label: None), costs(source)

    def run(self) -> Iterator[str]:
        """Check the stages one after another, from where the record ends; yields the name of each finished one."""
        first, last = self._part
        for n, stage in enumerate(self.stages[: last + 1]):
            if n < self.record.done or self.record.stopped:
                continue
            if n < first:
                self._pass(n, stage)
            else:
                if n == first:
                    self._begin()
                self._check(n, stage)
            self.record.done = n + 1
            yield stage

    @property
    def covered(self) -> str:
        """The part that is compared, by the names of its ends; empty if it's the whole."""
        first, last = self._part
        whole = (first, last) == (0, len(self.stages) - 1)
        return "" if whole else f"{self.stages[first]}:{self.stages[last]}"

    def _pass(self, n: int, stage: str) -> None:
        """Run a stage of the source only, to know what enters the next one."""
        source = self.models.source
        self._report(n, stage, "source")
        with self._windows(self._pieces(stage)[0]):
            source.free(stage)
        source.tensors.release()
        source.advance()

    def _begin(self) -> None:
        """What enters the first stage that is compared is the same for all models that run free."""
        entered = self.models.source.states
        for lane in self.models.lanes.values():
            lane.states = [own.fed(other) for own, other in zip(lane.states, entered, strict=True)]

    def _check(self, n: int, stage: str) -> None:
        source, target = self.models.source.oracle, self.models.target.oracle
        if stage not in target.stages:
            problem = "can't be computed: the target has no such stage"
            self.record.stages.append(Stage(name=stage, max_rel=None, bound=None, problems=(problem,)))
            self.record.stopped = True
            return
        layer = source.layer_stages.index(stage) if stage in source.layer_stages else None
        rows = None if layer is not None or stage == self.stages[-1] else self.rows
        place = Place(target, stage, layer, rows, self._heads)

        before, after = (*BEFORE_THE_LAYERS, *OF_IMAGES, *TABLES_OF_TEXTS), (*AFTER_THE_LAYERS, *HEADS_OF_TEXTS)
        outside = after if stage == self.stages[-1] else before
        outside = (*outside, *outside_layers(source, target))

        def plant() -> list[Trial]:
            due = self.schedule.due(place, outside) if self.record.sound else []
            new = [kind for kind in due if layer is not None or not self.record.caught(kind.name)]
            return [Trial(kind, self._lane(kind)) for kind in new]

        check, cut = (
            StageCheck(self.models, stage, place, lambda what: self._report(n, stage, what)),
            self._pieces(stage),
        )
        for i, windows in enumerate(cut):
            with self._windows(windows):
                check.run(plant if i == 0 else None)
        missed = [trial for trial in check.missed() if trial.kind.counts(place)]
        if missed and not check.differs:
            for windows in cut:
                with self._windows(windows):
                    check.amplify(missed)
        with self._windows(cut[0]):
            enter(self.record, check, self.schedule)
        for lane in self.models.lanes.values():
            lane.advance()

    def _lane(self, kind: Kind) -> Lane | None:
        """The model in which a fault is planted: the target's, or with another config; None if it refuses to run."""
        target = self.models.target
        if kind.config is None:
            return target
        if kind.name not in self._wrong:
            try:
                oracle = target.oracle.rebuilt(kind.config)
            except ConvkitError:
                self._wrong[kind.name] = None
            else:
                self._wrong[kind.name] = Lane(oracle, target.tensors, self.inputs[:1])
        return self._wrong[kind.name]

    def _pieces(self, stage: str) -> list[list[dict[str, Window]]]:
        oracles = [self.models.source.oracle, self.models.target.oracle]
        return pieces(oracles, stage, self.rows, self._slice)

    @contextmanager
    def _windows(self, windows: Sequence[Mapping[str, Window]]) -> Iterator[None]:
        """A piece of a stage, on both sides."""
        ours, theirs = windows
        with ExitStack() as stack:
            stack.enter_context(self.models.target.tensors.windowed(theirs))
            for tensors in (self.models.source.tensors, *self.models.others):
                stack.enter_context(tensors.windowed(ours))
            yield

    def _report(self, n: int, stage: str, what: str) -> None:
        done, total = sum(self._costs[:n]), sum(self._costs)
        self._steps(done, total, f"stage {stage} ({n + 1} of {len(self.stages)}), {what}")


def part_of(stages: Sequence[str], asked: str) -> tuple[int, int]:
    """The positions of the first and the last stage that are asked for.

    Raises:
        UsageError: not ``A:B``, or no stage of the model.
    """
    if not asked:
        return 0, len(stages) - 1
    first, colon, last = asked.partition(":")
    names = f"stages are {stages[0]}, {stages[1]} ... {stages[-1]}, or 0 to {len(stages) - 1}"
    if not colon:
        raise UsageError(f"--stages {asked}: isn't A:B", remedy=names)
    numbers = {**{str(n): n for n in range(len(stages))}, **{stage: n for n, stage in enumerate(stages)}}
    for end in (first, last):
        if end and end not in numbers:
            raise UsageError(f"--stages {asked}: the model has no stage {end}", remedy=names)
    ends = numbers.get(first, 0), numbers.get(last, len(stages) - 1)
    if ends[0] > ends[1]:
        raise UsageError(f"--stages {asked}: {first} comes after {last}", remedy=names)
    return ends
