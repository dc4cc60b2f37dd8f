"""What a check's findings come to: one state, and a line for each reason that it isn't yes."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convkit.verify.judged import Check
from convkit.verify.verdict import Fault, Stage, Verdict

CAUGHT, MISSED = Fault("heads swapped", True), Fault("epsilon", False, {"max_rel": 1e-9}, "layers.1")


def judged(*problems: str, **found: Any) -> Verdict:
    return Check("equivalence", "source", "target", remedy="longer").judged(problems, **found)


def stage(name: str = "layers.0", **found: Any) -> Stage:
    return Stage(name=name, **({"max_rel": 1e-7, "bound": 5e-6, "noise": 1e-7} | found))


@pytest.mark.parametrize(
    "found, state",
    [
        ({}, "yes"),
        ({"faults": [CAUGHT], "stages": [stage()]}, "yes"),
        ({"faults": [CAUGHT, MISSED]}, "not shown"),
        ({"unshown": ["no fault was planted"]}, "not shown"),
        ({"covered": "layers.0:layers.3"}, "not shown"),
        ({"in_doubt": ["two oracles disagree"]}, "reference in doubt"),
        ({"in_doubt": ["two oracles disagree"], "unshown": ["no fault"], "faults": [MISSED]}, "reference in doubt"),
        ({"stages": [stage(unshown="no token chose the expert")]}, "not shown"),
        ({"stages": [stage(problems=("another shape",))], "in_doubt": ["two oracles disagree"]}, "no"),
    ],
)
def test_the_worst_finding_decides(found: dict[str, Any], state: str):
    verdict = judged(**found)
    assert (verdict.state, verdict.passed, not verdict.problems) == (state, state == "yes", state == "yes")
    assert judged("a tensor is missing", **found).state == "no"


def test_a_stage_says_why_under_its_own_name():
    stages = [
        stage("embedding", problems=("another shape",)),
        stage("layers.0", max_rel=1e-3),
        stage("layers.1", max_rel=math.nan),
        stage("layers.2", amplified_max_rel=2e-3, amplified_bound=1e-5),
        stage("layers.3", bound=None),
        stage("head", max_rel=None, unshown="it wasn't run"),
    ]
    assert judged(stages=stages).problems == (
        "embedding: another shape",
        "layers.0: the error is 0.001, the bound is 5e-06",
        "layers.1: the error isn't finite, the bound is 5e-06",
        "layers.2: the error is 0.002, the bound is 1e-05",
        "layers.3: the error is 1e-07, the bound is unknown",
        "head: it wasn't run",
    )


def test_a_missed_fault_is_named_with_its_stage():
    (problem,) = judged(faults=[MISSED], bound={"max_rel": 5e-6}).problems
    assert problem == "planted fault missed: epsilon: in layers.1: max_rel 1e-09 <= 5e-06 (longer)"


def test_a_missed_fault_is_shown_with_the_bounds_of_its_own_figures():
    figures = {"max_rel": 1e-9, "bound": 6e-6, "amplified_max_rel": 2e-7, "amplified_bound": 7e-6, "max_kl": None}
    (problem,) = judged(faults=[Fault("epsilon", False, figures)], bound={"max_rel": 5e-6}).problems
    shown = "max_rel 1e-09 <= 6e-06, amplified_max_rel 2e-07 <= 7e-06, max_kl not finite"
    assert problem == f"planted fault missed: epsilon: {shown} (longer)"


@given(st.lists(st.none() | st.floats(), min_size=6, max_size=6))
def test_json_holds_no_value_that_is_not_finite_and_none_of_them_passes(figures: list[float | None]):
    error, bound, noise, repeat, free, fault = figures
    verdict = judged(
        faults=[Fault("heads swapped", True, {"max_rel": fault})],
        stages=[stage(max_rel=error, bound=bound, noise=noise, repeat=repeat, free_max_rel=free)],
        measured={"max_rel": error, "inner": [free]},
        bound={"max_rel": bound},
    )
    document = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    known = [value for value in (error, bound) if value is not None and math.isfinite(value)]
    assert document["passed"] == (known == [error, bound] and known[0] <= known[1])


def test_what_does_not_apply_is_left_out():
    assert {"stages", "covered", "deviations"}.isdisjoint(judged().to_json())
    document = judged(faults=[CAUGHT], stages=[stage()]).to_json()
    assert set(document["faults"][0]) == {"name", "caught", "measured"}
    assert {"amplified_max_rel", "amplified_bound"}.isdisjoint(document["stages"][0])
