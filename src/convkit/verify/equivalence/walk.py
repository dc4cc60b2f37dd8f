"""Walk two models stage by stage: each of the target's on what entered the source's (:mod:`.stage_check`).

A part of a walk compares a run of stages. All models run through the stages before, without anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convkit.errors import ConvkitError, UsageError
from convkit.files.part import Part, stretch
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

#: one part, which is all
WHOLE = Part(1, 1)
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
    """The stages of two models, in the order of computation; ``part`` compares its share of them."""

    def __init__(
        self,
        models: Models,
        inputs: Sequence[Inputs],
        choices: Choices,
        record: Record,
        *,
        steps: Steps | None = None,
        part: Part = WHOLE,
    ) -> None:
        source, target = models.source.oracle, models.target.oracle
        self.models, self.inputs, self.choices, self.record = models, inputs, choices, record
        self.stages, self._costs = source.stages, costs(source)
        self._ends = first, last = ends_of(self.stages, choices.stages)
        self.own = share(self._costs, part, first, last)
        layers = [stage for stage in self.stages[: last + 1] if stage in source.layer_stages]
        more = in_a_layer(source, target)
        self.schedule = Schedule(choices.faults, of_configs(target), layers, choices.seed, more)
        if record.waiting is not None:
            self.schedule.waiting, self.schedule.planted = [*record.waiting], [*record.planted]
            self.schedule.traceless = [*record.traceless]
        self.rows = used_rows(inputs)
        self._slice = slice_within(choices.memory, (source, target), ROWS * max(models.lengths))
        self._heads = frozenset(role.split(".")[1] for role in source.roles if role.startswith("head."))
        self._wrong: dict[str, Lane | None] = {}
        self._steps = steps or (lambda done, total, label: None)

    def run(self) -> Iterator[str]:
        """Check the stages one after another, from where the record ends; yields the name of each finished one."""
        first, _ = self._ends
        for n, stage in enumerate(self.stages[: self.own.stop]):
            if n < self.record.done or self.record.stopped:
                continue
            if n == first:
                self._begin()
            if n < first:
                self._pass(n, stage, [self.models.source])
            elif n < self.own.start:
                self._pass(n, stage, [*self.models.lanes.values()])
            else:
                if n == self.own.start:
                    self.schedule.begin()
                self._check(n, stage)
            self.record.done = n + 1
            yield stage

    @property
    def covered(self) -> str:
        """What is asked for, by the names of its ends; empty if it's the whole."""
        first, last = self._ends
        whole = (first, last) == (0, len(self.stages) - 1)
        return "" if whole else f"{self.stages[first]}:{self.stages[last]}"

    def _pass(self, n: int, stage: str, lanes: Sequence[Lane]) -> None:
        """Run a stage of these models only, to know what enters the next one."""
        target = self.models.target
        if target in lanes and stage not in target.oracle.stages:
            self.record.stopped = True
            return
        self._report(n, stage, "source" if len(lanes) == 1 else "source and target")
        with self._windows(self._pieces(stage)[0]):
            for tensors in {id(lane.tensors): lane.tensors for lane in lanes}.values():
                for lane in lanes:
                    if lane.tensors is tensors:
                        lane.free(stage)
                if target in lanes and tensors is target.tensors:
                    self.schedule.leave(self._place(stage))
                tensors.release()
        for lane in lanes:
            lane.advance()
        self.record.follow(self.schedule.waiting, self.schedule.planted, [])

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
        place = self._place(stage)
        layer = place.layer
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

    def _place(self, stage: str) -> Place:
        layers = self.models.source.oracle.layer_stages
        layer = layers.index(stage) if stage in layers else None
        rows = None if layer is not None or stage == self.stages[-1] else self.rows
        return Place(self.models.target.oracle, stage, layer, rows, self._heads)

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


def share(costs: Sequence[float], part: Part, first: int, last: int) -> range:
    """The positions of the stages that a part compares, of those from the first to the last: about equal in cost.

    >>> [share([9, 4, 4, 4, 4, 9], Part(n, 3), 0, 5) for n in (1, 2, 3)]
    [range(0, 2), range(2, 4), range(4, 6)]
    >>> share([1, 1, 1], Part(2, 3), 1, 1), share([1, 1, 1], Part(1, 3), 1, 1)
    (range(1, 2), range(0, 0))
    """
    own = [first + n for n in stretch(part, map(int, costs[first : last + 1]))]
    return range(own[0], own[-1] + 1) if own else range(0)


def ends_of(stages: Sequence[str], asked: str) -> tuple[int, int]:
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
