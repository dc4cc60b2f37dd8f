"""Tied names are proven equal; independent copies are written equal, and left behind when read."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from convkit.errors import ConvkitError, PlanError
from convkit.mapping import Rule, inverse, under
from convkit.mapping.pattern import PatternError
from engine.disk import converted, read, write
from engine.memory import Arrays, assert_same, carried, mapping_of, plan_of
from engine.proof import judged, proven

#: a policy whose head is its embedding, and the reference that it started as
RULES = (
    Rule(("embed", "head"), ("p.embed", "p.head"), right_copies=("r.embed", "r.head")),
    Rule("l.{i}.{n:q|k}", "p.{i}.qk", "n x y -> y n x", right_copies="r.{i}.qk"),
)
TRAINED = mapping_of(*RULES, axes={"i": "layers"}, names=["layers"])
CONFIG = {"layers": 2}


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype("float32")


def model() -> Arrays:
    return {"embed": numbers(5, 3)} | {f"l.{i}.{n}": numbers(2, 3, seed=i) for i in range(2) for n in "qk"}


def test_copies_are_written_equal(tmp_path: Path) -> None:
    found = proven(tmp_path, TRAINED, model(), CONFIG)
    assert sorted(found) == ["p.0.qk", "p.1.qk", "p.embed", "p.head", "r.0.qk", "r.1.qk", "r.embed", "r.head"]
    for key in ("0.qk", "1.qk", "embed", "head"):
        assert found[f"p.{key}"].tobytes() == found[f"r.{key}"].tobytes()


def test_a_plan_says_which_names_are_independent() -> None:
    plan = plan_of(TRAINED, model(), CONFIG)
    document = plan.to_json()
    jsonschema.Draft202012Validator(
        json.loads((files("convkit") / "schemas" / "plan.schema.json").read_text())
    ).validate(json.loads(json.dumps(document)))
    embed = next(step for step in document["steps"] if step["targets"][0]["key"] == "p.embed")
    assert embed["also"] == [["p.head", "p.embed"], ["r.embed", "p.embed"], ["r.head", "p.embed"]]
    assert (embed["copied"], embed["copies"]) == (False, ["r.embed", "r.head"])
    layer = next(step for step in document["steps"] if step["targets"][0]["key"] == "p.0.qk")
    assert layer["copied"] is True and "copies" not in layer
    leaves = plan.target_leaves
    assert {key: leaves[key].same_as for key in ("p.head", "r.embed", "r.head")} == {
        "p.head": "p.embed",
        "r.embed": None,
        "r.head": None,
    }
    origins = plan.origins()
    assert [origins[key]["origin"] for key in ("p.embed", "p.head", "r.embed")] == ["moved", "tied", "copied"]


def test_copies_that_differ_are_kept_and_ties_that_differ_refused(tmp_path: Path) -> None:
    both = carried(TRAINED, model(), CONFIG)
    trained = both | {key: array + 1 for key, array in both.items() if key.startswith("p.")}
    left = proven(tmp_path, inverse(TRAINED), trained, CONFIG)
    assert_same(left, {key: array + 1 for key, array in (model() | {"head": model()["embed"]}).items()})
    source = write(tmp_path / "torn", trained | {"p.head": trained["r.head"]}, CONFIG)
    with pytest.raises(ConvkitError, match=r"p\.head: differs from p\.embed"):
        converted(source, tmp_path / "out", inverse(TRAINED))


def test_a_copy_is_the_leaf_where_nothing_else_is(tmp_path: Path) -> None:
    mapping = mapping_of(Rule("bias", "b", left_copies=("old", "older")))
    for number, (left, found) in enumerate(
        [(["bias", "old"], "bias"), (["old", "older"], "old"), (["older"], "older")]
    ):
        arrays = {key: numbers(4, seed=ord(key[-1])) for key in left}
        assert_same(proven(tmp_path / str(number), mapping, arrays), {"b": arrays[found]})


def test_a_way_without_copies_is_undone(tmp_path: Path) -> None:
    """The source of an earlier conversion had no reference, so that none comes back."""
    policy = {key: array for key, array in carried(TRAINED, model(), CONFIG).items() if key.startswith("p.")}
    source = write(tmp_path / "policy", policy, CONFIG)
    converted(source, tmp_path / "left", inverse(TRAINED))
    converted(tmp_path / "left", tmp_path / "again", TRAINED)
    assert_same(read(tmp_path / "again"), policy)
    judged(tmp_path / "left", tmp_path / "again")


def test_copies_are_names_like_others() -> None:
    (rule,) = under("a.{i}.", "b.{i}.", [Rule("w", "u", left_copies="v", right_copies=("t", "s"))])
    assert (rule.left, rule.left_copies) == (("a.{i}.w",), ("a.{i}.v",))
    assert (rule.inverse().left_copies, rule.inverse().right_copies) == (("b.{i}.t", "b.{i}.s"), ("a.{i}.v",))
    assert str(rule) == "a.{i}.w = a.{i}.v <-> b.{i}.u = b.{i}.t = b.{i}.s"
    with pytest.raises(PatternError, match="names of one leaf must have the same placeholders"):
        Rule("w.{i}", "u.{i}", right_copies="t")


def test_two_rules_may_not_claim_a_copy() -> None:
    with pytest.raises(PlanError, match="two rules claim it"):
        plan_of(mapping_of(Rule("a", "b", left_copies="c"), Rule("c", "d")), {"a": numbers(1), "c": numbers(1)})
