"""The stages of an equivalence check, from its verdict: where two models part, or how near they come to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convkit.report.measures import excess, known, ratio
from convkit.report.text import NOT_FINITE, number


@dataclass(frozen=True)
class Planted:
    """A planted fault: the stage that it was planted in, if it belongs to one, and its error in units of the bound."""

    name: str
    stage: str
    caught: bool
    excess: float | None

    @property
    def in_words(self) -> str:
        """``heads swapped, in layers.3``."""
        return f"{self.name}, in {self.stage}" if self.stage else self.name


@dataclass(frozen=True)
class Stage:
    """What a verdict says of a stage; figures that aren't finite are None, and so are all if it wasn't run."""

    name: str
    error: float | None
    bound: float | None
    noise: float | None
    repeat: float | None
    #: the error when fed with what left the target's stage before
    free: float | None
    #: error and bound where weights were made stronger; None where they weren't
    amplified: tuple[float | None, float | None] | None
    unshown: str
    problems: tuple[str, ...]
    faults: tuple[Planted, ...]

    @property
    def measured(self) -> tuple[float | None, float | None]:
        """The error and its bound: those of the stronger weights, if the error comes nearer its bound with them."""
        own = (self.error, self.bound)
        return max(own, self.amplified, key=_ratio) if self.amplified else own

    @property
    def excess(self) -> float:
        """The error in units of its bound: infinite if it isn't finite, or if no bound is known."""
        return _ratio(self.measured)

    @property
    def ran(self) -> bool:
        """Whether the stage was run: then a figure that is missing isn't finite."""
        return self.bound is not None

    @property
    def beyond(self) -> bool:
        """Whether the models differ here. A difference that stands for nothing (``unshown``) doesn't count."""
        return bool(self.problems) or (not self.unshown and self.excess > 1)

    @property
    def caught(self) -> int:
        """How many of its planted faults were caught."""
        return sum(fault.caught for fault in self.faults)

    @property
    def clear(self) -> bool:
        """Whether nothing needs a look: the error is within its bound, and every planted fault was caught."""
        return not (self.beyond or self.unshown) and self.caught == len(self.faults)

    @property
    def in_words(self) -> str:
        """``layers.3: 0.031 > 5.0e-06``; what is wrong, if its error doesn't say so."""
        error, bound = self.measured
        if self.problems and (not self.ran or (error is not None and self.excess <= 1)):
            return f"{self.name}: {self.problems[0]}"
        if error is None:
            return f"{self.name}: {NOT_FINITE}"
        return f"{self.name}: {number(error)} {'>' if self.excess > 1 else '≤'} {number(bound)}"

    def height(self, excess: float | None) -> float | None:
        """An excess as an error beside this stage's bound; None if it isn't finite, so that nothing is drawn."""
        return None if excess is None or not math.isfinite(excess) else excess * (self.bound or 1.0)


def _ratio(pair: tuple[float | None, float | None]) -> float:
    error, bound = pair
    return math.inf if error is None or bound is None else ratio(error, bound)


def faults_of(verdict: Mapping[str, Any]) -> list[Planted]:
    """The planted faults of a verdict.

    A fault is measured against its own ``bound``, if it has one, otherwise against that of its stage, or of the whole.
    """
    whole = verdict.get("bound") or {}
    bounds = {stage["name"]: _bounds(stage) for stage in verdict.get("stages") or ()}
    return [
        Planted(
            name=fault["name"],
            stage=(stage := fault.get("stage", "")),
            caught=fault["caught"],
            excess=_excess(fault.get("measured") or {}, bounds.get(stage, whole)),
        )
        for fault in verdict.get("faults") or ()
    ]


def _excess(measured: Mapping[str, Any], bound: Mapping[str, Any]) -> float | None:
    """See :func:`.measures.excess`; infinite if a figure isn't finite."""
    found = excess(measured, {**bound, **_bounds(measured)})
    return math.inf if found is None and None in measured.values() else found


def _bounds(of: Mapping[str, Any]) -> dict[str, Any]:
    """The bounds that a stage gives, or a fault of its own."""
    bounds = {"max_rel": of.get("bound"), "amplified_max_rel": of.get("amplified_bound")}
    return {name: limit for name, limit in bounds.items() if limit is not None}


def stages_of(verdict: Mapping[str, Any]) -> list[Stage]:
    """The stages of a verdict, in the order of computation; none of verdicts before version 3."""
    planted: dict[str, list[Planted]] = {}
    for fault in faults_of(verdict):
        planted.setdefault(fault.stage, []).append(fault)
    return [_stage(stage, planted.get(stage["name"], [])) for stage in verdict.get("stages") or ()]


def _stage(stage: Mapping[str, Any], faults: Sequence[Planted]) -> Stage:
    amplified = "amplified_max_rel" in stage
    return Stage(
        name=stage["name"],
        error=known(stage.get("max_rel")),
        bound=known(stage.get("bound")),
        noise=known(stage.get("noise")),
        repeat=known(stage.get("repeat")),
        free=known(stage.get("free_max_rel")),
        amplified=(known(stage["amplified_max_rel"]), known(stage.get("amplified_bound"))) if amplified else None,
        unshown=stage.get("unshown", ""),
        problems=tuple(stage.get("problems", ())),
        faults=tuple(faults),
    )


def parting(stages: Sequence[Stage]) -> Stage | None:
    """The first stage at which the models differ."""
    return next((stage for stage in stages if stage.beyond), None)


def nearest(stages: Sequence[Stage]) -> Stage | None:
    """The stage at which the models part; if they don't, the one whose error comes nearest its bound."""
    shown = (stage for stage in stages if not stage.unshown)
    return parting(stages) or max(shown, key=lambda stage: stage.excess, default=None)


def headline(stages: Sequence[Stage]) -> str:
    """Where the models part, or how near they come to it; empty if nothing was shown of any stage."""
    stage = nearest(stages)
    if stage is None:
        return ""
    if stage.beyond:
        others = sum(one.beyond for one in stages) - 1
        more = f"; they differ at {others} more stage{'s' if others > 1 else ''}" if others else ""
        alike = stage.error is None and any("of the source" in one and "of the target" in one for one in stage.problems)
        return f"the models {'compute nothing to compare' if alike else 'part'} at {stage.in_words}{more}"
    shown = sum(not one.unshown for one in stages)
    return f"{shown} {'stages are' if shown > 1 else 'stage is'} within the bound; nearest to it is {stage.in_words}"
