"""What a walk has found so far: all that the verdict needs, and what the rest of the walk needs to know."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from convkit.verify.equivalence.agreement import Figure
from convkit.verify.verdict import Fault, Stage


class Record(Struct, kw_only=True):
    """The findings of the stages that were checked.

    Attributes:
        done: the number of stages that are finished.
        stages: what was measured of each.
        faults: those that were planted in tensors.
        wrong: for each wrong config that was planted, where it showed best, and the ratio of its error to the bound.
        counted: names of the wrong configs that were planted where they must show.
        figures: of models that run free, by the comparison's name: for each input, the distance of each state.
        worst: name, error and bound of the measure that came nearest its bound, for each input.
        parted: where the models first differ.
        weak: weights that are weak and stayed so.
        waiting, planted, traceless: names of the kinds of faults that wait to be planted in a layer, that have been,
            and that have left no trace so far; ``waiting`` is None before the first layer.
        sound: whether all stages agree so far.
        stopped: whether the walk can't go on.
    """

    done: int = 0
    stages: list[Stage] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    wrong: dict[str, tuple[Fault, float]] = field(default_factory=dict)
    counted: list[str] = field(default_factory=list)
    figures: dict[str, list[list[Figure]]] = field(default_factory=dict)
    worst: list[tuple[float, float]] = field(default_factory=list)
    amplified: tuple[float, float] | None = None
    parted: dict[str, Any] | None = None
    only_in_source: list[str] = field(default_factory=list)
    only_in_target: list[str] = field(default_factory=list)
    weak: list[str] = field(default_factory=list)
    waiting: list[str] | None = None
    planted: list[str] = field(default_factory=list)
    traceless: list[str] = field(default_factory=list)
    sound: bool = True
    stopped: bool = False

    @property
    def all_faults(self) -> list[Fault]:
        """The planted faults, those of tensors first; a wrong config counts once, wherever it was planted.

        One that left no trace counts as missed if it was planted where it must show, and if all stages agree: after
        one that differs no fault is planted, so it may have shown later.
        """
        wrong = [
            fault for name, (fault, _) in self.wrong.items() if fault.caught or (self.sound and name in self.counted)
        ]
        return [*self.faults, *wrong]

    def follow(self, waiting: list[str], planted: list[str], traceless: list[str]) -> None:
        """Keep how far a schedule is."""
        self.waiting, self.planted, self.traceless = [*waiting], [*planted], [*traceless]

    def add(self, later: Record) -> None:
        """Add what was found in the stages behind these. After a stage that differs, no fault counts."""
        if self.sound:
            self.faults += later.faults
            for name, (fault, ratio) in later.wrong.items():
                if name not in self.wrong or ratio > self.wrong[name][1]:
                    self.wrong[name] = fault, ratio
            self.counted = list(dict.fromkeys([*self.counted, *later.counted]))
        for name, inputs in later.figures.items():
            rows = self.figures.setdefault(name, [[] for _ in inputs])
            for found, more in zip(rows, inputs, strict=True):
                found.extend(more)
        for n, worst in enumerate(later.worst):
            self.nearest(n, *worst)
        self.strengthened(later.amplified)
        self.stages += later.stages
        self.only_in_source += later.only_in_source
        self.only_in_target += later.only_in_target
        self.weak += later.weak
        self.parted = self.parted or later.parted
        self.sound, self.stopped = self.sound and later.sound, later.stopped

    def onward(self) -> Record:
        """What whoever goes on behind these stages must know, without what was found."""
        return Record(done=self.done, waiting=self.waiting, planted=self.planted, stopped=self.stopped)

    def caught(self, name: str) -> bool:
        """Whether a wrong config has shown already."""
        return name in self.wrong and self.wrong[name][0].caught

    def nearest(self, n: int, error: float, bound: float) -> None:
        """Keep the measure of an input that comes nearest its bound."""
        while len(self.worst) <= n:
            self.worst.append((0.0, bound))
        before, limit = self.worst[n]
        if error / bound >= before / limit:
            self.worst[n] = error, bound

    def strengthened(self, found: tuple[float, float] | None) -> None:
        """The same for what weights that are made stronger show."""
        if found and (self.amplified is None or found[0] / found[1] > self.amplified[0] / self.amplified[1]):
            self.amplified = found
