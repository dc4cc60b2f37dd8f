"""The plan: every leaf has one fate or one origin, and its JSON is complete."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convkit.errors import ConfigError, PlanError, UsageError
from convkit.mapping import Derived, LeftBehind, Rule, inverse
from convkit.mapping.ops import Scale, Shift
from engine.disk import planned, write
from engine.memory import Arrays, Memory, carried, mapping_of, plan_of

MAPPING = mapping_of(
    Rule(("embed", "head"), ("E", "H")),
    Rule("l.{i}.q.{p:weight|bias?}", "h.{i}.q.{p}", "(h two r) ... -> (h r two) ...", h="heads", two=2),
    Rule("l.{i}.x.{e}", "h.{i}.x", "e o i2 -> o e i2"),
    Rule("norm", "norm", ops=(Shift(1.0),)),
    Rule("w", "policy", right_copies="reference"),
    Derived("left", "l.{i}.inv_freq", "inverse frequencies", {"theta": 10000.0, "dim": 4}),
    LeftBehind("left", "optimizer.{rest:*}", "no part of the model"),
    axes={"i": "layers"},
    names=["heads", "layers"],
)
CONFIG = {"heads": 2, "layers": 2}


def arrays() -> Arrays:
    random = np.random.default_rng(0)
    left: Arrays = {"embed": random.standard_normal((5, 3)).astype("float32")}
    left["head"] = left["embed"].copy()
    for i in range(2):
        left[f"l.{i}.q.weight"] = random.standard_normal((8, 8)).astype("float32")
        left |= {f"l.{i}.x.{e}": random.standard_normal((4, 6)).astype("float16") for e in range(3)}
        left[f"l.{i}.inv_freq"] = np.zeros(2, "float32")
    left |= {"norm": np.zeros(3, "float32"), "w": np.zeros((3, 3), "float32")}
    return left | {"optimizer.step": 3, "optimizer.mu": np.zeros(2, "float32"), "scratch": np.zeros(2, "float32")}


class Unreadable(Memory):
    """A checkpoint whose tensors nobody may read."""

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        raise AssertionError(f"{key} was read")


def test_a_plan_reads_no_tensor() -> None:
    plan = plan_of(MAPPING, Unreadable(arrays()), CONFIG, drop=("scratch",))
    assert plan.digest == plan_of(MAPPING, arrays(), CONFIG, drop=("scratch",)).digest


def test_every_leaf_is_accounted_for() -> None:
    left = arrays()
    plan = plan_of(MAPPING, left, CONFIG, drop=("scratch",))
    fates, origins = plan.fates(), plan.origins()
    assert list(fates) == list(left)
    assert set(origins) == set(plan.target_leaves)
    assert {key: fate["fate"] for key, fate in fates.items() if fate["fate"] != "moved"} == {
        "head": "tied",
        "l.0.inv_freq": "derived",
        "l.1.inv_freq": "derived",
        "w": "copied",
        "optimizer.step": "left behind",
        "optimizer.mu": "left behind",
        "scratch": "dropped",
    }
    assert {key: origin["origin"] for key, origin in origins.items() if origin["origin"] != "moved"} == {
        "H": "tied",
        "reference": "copied",
    }
    assert plan.target_leaves["H"].same_as == "E"
    assert plan.target_leaves["reference"].same_as is None
    steps = plan.to_json()["steps"]
    for key, fate in fates.items():
        if "step" in fate:
            step = steps[fate["step"]]
            assert key in [side["key"] for side in step["sources"]] + [name for name, _ in step.get("same", ())]


def test_shapes_and_dtypes_are_those_of_the_data() -> None:
    plan = plan_of(MAPPING, arrays(), CONFIG, drop=("scratch",))
    found = carried(MAPPING, arrays(), CONFIG, drop=("scratch",))
    for key, leaf in plan.target_leaves.items():
        assert leaf.spec is not None
        assert (leaf.spec.shape, leaf.spec.dtype) == (found[key].shape, found[key].dtype.name)
    assert plan.bytes_written() == sum(array.nbytes for array in found.values())
    assert plan.bytes_read() == sum(array.nbytes for array in arrays().values() if isinstance(array, np.ndarray))


def test_no_tensor_is_read() -> None:
    class Untouchable(Memory):
        def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
            raise AssertionError(f"{key} was read")

    assert plan_of(MAPPING, Untouchable(arrays()), CONFIG, drop=("scratch",)).digest


def test_the_json_stands_alone() -> None:
    """What it says of a step suffices to carry the step out, without the mapping."""
    plan = plan_of(MAPPING, arrays(), CONFIG, drop=("scratch",))
    document = json.loads(json.dumps(plan.to_json()))
    assert document == plan.to_json()
    assert document["schema"] == "convkit.plan/1"
    stacked = next(step for step in document["steps"] if step["targets"][0]["key"] == "h.1.x")
    assert stacked["sources"] == [{"key": f"l.1.x.{e}", "axes": "o i2", "at": {"e": e}} for e in range(3)]
    assert stacked["targets"] == [{"key": "h.1.x", "axes": "o e i2", "at": {}}]
    assert stacked["sizes"] == {"o": 4, "i2": 6, "e": 3}
    rotary = next(step for step in document["steps"] if step["targets"][0]["key"] == "h.0.q.weight")
    assert rotary["sources"][0]["axes"] == "(h two r) _0"
    assert rotary["sizes"] == {"h": 2, "two": 2, "r": 2, "_0": 8}
    assert document["source_leaves"]["head"] == {
        "shape": [5, 3],
        "dtype": "float32",
        "fate": "tied",
        "step": 0,
        "reason": "must equal embed",
    }
    assert document["names"]["heads"] == 2


def test_the_digest_is_the_same_in_every_process_and_place(tmp_path: Path) -> None:
    config = CONFIG
    left = {key: array for key, array in arrays().items() if isinstance(array, np.ndarray)}
    places = [write(tmp_path / "one", left, config), write(tmp_path / "other" / "deep.x", left, config)]
    found = {planned(place, MAPPING, drop=("scratch",)).digest for place in places}
    script = (
        "import sys; from pathlib import Path; from engine.disk import planned; from engine.test_plan import MAPPING;"
        "print(planned(Path(sys.argv[1]), MAPPING, drop=('scratch',)).digest)"
    )
    for seed in "12":
        done = subprocess.run(
            [sys.executable, "-c", script, str(places[0])],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[1])},
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(done.stdout.strip())
    assert len(found) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"drop": ("scratch", "optimizer.mu")},
        {"drop": ("scratch",), "dtype": "bfloat16"},
        {"drop": ("scratch",), "format": "torch"},
    ],
)
def test_another_plan_has_another_digest(change: dict[str, Any]) -> None:
    base = plan_of(MAPPING, arrays(), CONFIG, drop=("scratch",))
    assert plan_of(MAPPING, arrays(), CONFIG, drop=("scratch",)).digest == base.digest
    assert plan_of(MAPPING, arrays(), CONFIG, **change).digest != base.digest


def test_what_nobody_claims_is_dropped_by_name_only() -> None:
    with pytest.raises(
        PlanError, match=r"no rule of left/model <-> right/model claims it .*--drop 'scratch'"
    ) as refusal:
        plan_of(MAPPING, arrays(), CONFIG)
    assert refusal.value.key == "scratch"
    for patterns in [("scratch",), ("scr*",), ("scratch", "scratch")]:
        plan = plan_of(MAPPING, arrays(), CONFIG, drop=patterns)
        assert plan.fates()["scratch"] == {"fate": "dropped", "reason": "by name"}
        assert plan.dropped == ("scratch",)
    with pytest.raises(UsageError, match="--drop nothing: no leaf has that name"):
        plan_of(MAPPING, arrays(), CONFIG, drop=("nothing",))
    with pytest.raises(PlanError, match="norm: is needed for the target"):
        plan_of(MAPPING, arrays(), CONFIG, drop=("scratch", "norm"))


def test_a_name_with_brackets_is_dropped_literally() -> None:
    mapping = mapping_of(Rule("a", "b"))
    left = {"a": np.zeros(1), "x[0]": np.zeros(1)}
    assert plan_of(mapping, left, drop=("x[0]",)).dropped == ("x[0]",)


def test_squares_under_a_transposition_are_told() -> None:
    mapping = mapping_of(
        Rule("turned", "t", "x y -> y x"),
        Rule("oblong", "o", "x y -> y x"),
        Rule("kept", "k", "x y -> x y"),
        Rule("cut.{n:q|k}", "c", "n x y -> y (n x)"),
    )
    left = {"turned": np.zeros((3, 3)), "oblong": np.zeros((3, 4)), "kept": np.zeros((3, 3))}
    left |= {"cut.q": np.zeros((2, 2)), "cut.k": np.zeros((2, 2))}
    assert plan_of(mapping, left).square() == ["turned", "cut.q", "cut.k"]


def test_exactness_is_computed() -> None:
    one = {"a": np.zeros(3, "float32")}
    assert plan_of(mapping_of(Rule("a", "b", "x -> x")), one).exact
    assert plan_of(mapping_of(Rule("a", "b", ops=(Scale(0.5),))), one).exact
    assert plan_of(mapping_of(Rule("a", "b")), one, dtype="float64").exact
    shifted = plan_of(mapping_of(Rule("a", "b", ops=(Shift(1.0),))), one, dtype="bfloat16")
    assert not shifted.exact
    assert shifted.to_json()["steps"][0]["exactness"] == {"ulp": 1.0, "dtype": "bfloat16"}
    assert shifted.to_json()["steps"][0]["ops"] == [
        {"op": "shift", "by": 1.0},
        {"op": "cast", "from": "float32", "to": "bfloat16"},
    ]


def test_a_cast_is_of_floats_only() -> None:
    mapping = mapping_of(Rule("{n:f|i|b|h}", "{n}"))
    left = {"f": np.ones(2, "float32"), "i": np.ones(2, "int64"), "b": np.ones(2, bool), "h": np.ones(2, "float16")}
    found = carried(mapping, left, dtype="float16")
    assert {key: array.dtype.name for key, array in found.items()} == {
        "f": "float16",
        "i": "int64",
        "b": "bool",
        "h": "float16",
    }
    for wrong in ("int8", "int", "floaty", "complex64"):
        with pytest.raises(UsageError, match="isn't a floating-point dtype"):
            plan_of(mapping, left, dtype=wrong)


def test_values_need_a_format_that_holds_them() -> None:
    mapping = mapping_of(Rule("a", "b"))
    with pytest.raises(PlanError, match="is a value, but safetensors holds only tensors") as refusal:
        plan_of(mapping, {"a": 3})
    assert refusal.value.key == "b"
    assert carried(mapping, {"a": 3}, format="cerebras-h5") == {"b": 3}


def test_a_config_that_lacks_a_field_names_it() -> None:
    with pytest.raises(ConfigError, match="is missing") as refusal:
        plan_of(MAPPING, arrays(), {"heads": 2}, drop=("scratch",))
    assert refusal.value.key == "layers"


def test_an_unknown_format_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no format is called 'zip'"):
        plan_of(MAPPING, arrays(), CONFIG, format="zip")


def test_the_inverse_of_a_plan_claims_its_target() -> None:
    found = carried(MAPPING, arrays(), CONFIG, drop=("scratch",))
    back = plan_of(inverse(MAPPING), found, CONFIG)
    assert set(back.target_leaves) | {
        "l.0.inv_freq",
        "l.1.inv_freq",
        "optimizer.step",
        "optimizer.mu",
        "scratch",
    } == set(arrays())
    assert back.bound.left_behind == {"reference": "a copy beside policy"}
