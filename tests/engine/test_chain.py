"""Conversions through other layouts: lost leaves are restored, and verdicts find faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from convkit.checkpoint.tensors import carrier
from convkit.config import ConfigTable, Field
from convkit.execute import plan_chain
from convkit.files.receipt import read_receipt
from convkit.formats import open_checkpoint
from convkit.mapping import Chain, Derived, Layout, LeftBehind, Mapping, Rule, compose
from convkit.mapping.ops import Pad, Shift
from convkit.plan import make_plan
from convkit.verify.receipts import verify
from convkit.verify.roundtrip import roundtrip
from convkit.verify.verdict import Verdict
from engine.disk import converted, read, write
from engine.memory import LEFT, RIGHT, Arrays, Memory, assert_same, source_of

END = replace(RIGHT, name="end/model")
TABLE = ConfigTable(tuple(Field(name, name, name) for name in ("vocab", "padded", "theta")))
CONFIG = {"vocab": 6, "padded": 8, "theta": 1e4}

#: to the middle: padding is cut off, a buffer is computed again, what has no place is left behind
FIRST = Mapping(
    LEFT,
    RIGHT,
    (
        Rule("embed", "E", "v d -> d v", v="vocab"),
        Rule("padded", "P", "v -> v", v="vocab", ops=(Pad(0, "padded"),)),
        Rule("whole", "half.{n:a|b}", "(a + b) -> {n}", a=3),
        Rule("scale", "S", ops=(Shift(1.0),)),
        Derived("left", "inv_freq", "inverse frequencies", {"theta": "theta", "dim": 4}),
        LeftBehind("left", "left_{rest:*}", "the middle has none"),
    ),
    TABLE,
)
#: and on: a half of what was one leaf is left behind
SECOND = Mapping(
    RIGHT,
    END,
    (
        Rule("E", "end.E", "d v -> v d"),
        Rule("P", "end.P", "p -> p", p="padded"),
        Rule("half.a", "end.a"),
        Rule("S", ("end.S", "end.T")),
        LeftBehind("left", "half.b", "the end has none"),
    ),
    TABLE,
)
CHAIN = compose(FIRST, SECOND)


def model(seed: int = 0, buffer: bool = True) -> Arrays:
    random = np.random.default_rng(seed)
    arrays: Arrays = {
        "embed": random.standard_normal((6, 4)).astype("float32"),
        "padded": random.standard_normal(6).astype("float32"),
        "whole": random.standard_normal(5).astype("float32"),
        "scale": (1e-9 * random.standard_normal(7)).astype("float32"),  # lost where 1 is added
        "left_1": random.standard_normal((2, 3)).astype("float16"),
        "left_2": 17,
    }
    frequencies = (1 / 1e4 ** (np.arange(0, 4, 2) / 4)).astype("float32")
    return arrays | {"inv_freq": frequencies if buffer else frequencies + 1}


def check(source: Path, target: Path, **options: Any) -> Verdict:
    receipt = read_receipt(target)
    assert receipt is not None
    return roundtrip(source, target, receipt["plan"], receipt=receipt, **options)


def altered(path: Path, key: str, change: Any) -> None:
    """Write a checkpoint of one file anew, with other elements in one leaf."""
    with open_checkpoint(path) as opened:
        spec = opened.leaves[key].spec
        assert spec is not None
        arrays = {
            name: np.array(opened.read(name)).view(leaf.spec.dtype).reshape(leaf.spec.shape)
            for name, leaf in opened.leaves.items()
            if leaf.spec
        }
    arrays[key] = change(arrays[key])
    write(path, arrays)


@pytest.mark.parametrize("buffer", [True, False])
@pytest.mark.parametrize("format", ["safetensors", "torch"])
def test_there_and_back(tmp_path: Path, format: str, buffer: bool) -> None:
    """What the middle or the end can't carry is in the complement of the output, and comes back."""
    source = write(tmp_path / "source", model(buffer=buffer), CONFIG | {"license": "free"}, format="torch")
    there = converted(source, tmp_path / "there", CHAIN, {"format": format})
    kept = {"left_1", "scale", "through 1: half.b"} | (set() if buffer else {"inv_freq"})
    assert there["complement"]["tensors"].keys() == kept
    assert there["complement"]["values"] == {"left_2": 17}
    assert there["complement"]["config"] == {"license": "free"}
    converted(tmp_path / "there", tmp_path / "back", CHAIN.inverse(), {"format": "torch"})
    assert_same(read(tmp_path / "back"), model(buffer=buffer))
    assert (tmp_path / "back" / "config.json").read_text() == (source / "config.json").read_text()
    for before, after in (("source", "there"), ("there", "back")):
        verdict = check(tmp_path / before, tmp_path / after, keep=tmp_path / f"kept-{after}")
        assert verdict.passed, verdict.problems
        assert verdict.faults and all(fault.caught for fault in verdict.faults)
        assert verify(tmp_path / after).passed


def test_fates_are_followed_to_the_end(tmp_path: Path) -> None:
    plan = make_plan(source_of(Memory(model()), CONFIG), CHAIN)
    fates = {key: entry["fate"] for key, entry in plan.fates().items()}
    assert fates == dict.fromkeys(("embed", "padded", "whole", "scale"), "moved") | {
        "left_1": "left behind",
        "left_2": "left behind",
        "inv_freq": "derived",
    }
    alone = Mapping(LEFT, RIGHT, (Rule("one", "half.b"), *FIRST.rules), TABLE)
    only = Mapping(LEFT, RIGHT, tuple(rule for rule in alone.rules if "half.{" not in str(rule)), TABLE)
    second = replace(SECOND, rules=tuple(rule for rule in SECOND.rules if "half.a" not in str(rule)))
    arrays = {key: value for key, value in model().items() if key != "whole"} | {"one": np.ones(2, "float32")}
    fate = make_plan(source_of(Memory(arrays), CONFIG), Chain((only, second))).fates()["one"]
    assert fate == {"fate": "left behind", "reason": "the end has none"}


@pytest.mark.parametrize(
    ("key", "named"), [("end.E", "embed"), ("end.P", "padded"), ("end.a", "whole"), ("end.T", "end.T")]
)
def test_a_changed_target_is_seen(tmp_path: Path, key: str, named: str) -> None:
    source = write(tmp_path / "source", model(), CONFIG, format="torch")
    converted(source, tmp_path / "there", CHAIN)
    altered(tmp_path / "there" / "model.safetensors", key, lambda array: array + np.float32(0.5))
    verdict = check(source, tmp_path / "there")
    assert not verdict.passed
    assert any(named in problem for problem in verdict.problems), verdict.problems
    assert not verify(tmp_path / "there").passed


def test_a_changed_complement_is_seen(tmp_path: Path) -> None:
    source = write(tmp_path / "source", model(), CONFIG, format="torch")
    converted(source, tmp_path / "there", CHAIN)
    altered(tmp_path / "there.complement.safetensors", "through 1: half.b", lambda array: -array)
    verdict = check(source, tmp_path / "there")
    assert any("whole" in problem for problem in verdict.problems), verdict.problems


def test_a_wrong_plan_of_a_middle_mapping_is_seen(tmp_path: Path) -> None:
    """The first mapping's step is altered: the square tensor in the middle isn't transposed."""
    arrays = model() | {"embed": np.arange(36, dtype="float32").reshape(6, 6)}
    source = write(tmp_path / "source", arrays, CONFIG, format="torch")
    converted(source, tmp_path / "there", CHAIN)
    receipt = read_receipt(tmp_path / "there")
    assert receipt is not None
    step = next(s for s in receipt["plan"]["through"][0]["steps"] if s["sources"][0]["key"] == "embed")
    step["sources"][0]["axes"], step["targets"][0]["axes"] = "v d", "v d"
    verdict = roundtrip(source, tmp_path / "there", receipt["plan"], receipt=receipt)
    assert any("embed" in problem for problem in verdict.problems)


def test_a_cast_at_the_end_is_bounded(tmp_path: Path) -> None:
    source = write(tmp_path / "source", model(), CONFIG, format="torch")
    converted(source, tmp_path / "there", CHAIN, {"dtype": "bfloat16"})
    verdict = check(source, tmp_path / "there")
    assert verdict.passed, verdict.problems
    assert verdict.measured["max_ulp"] > 0
    altered(tmp_path / "there" / "model.safetensors", "end.E", lambda array: array * 2)
    assert not check(source, tmp_path / "there").passed


def test_a_leaf_is_dropped_by_name(tmp_path: Path) -> None:
    source = write(tmp_path / "source", model(), CONFIG, format="torch")
    receipt = converted(source, tmp_path / "there", CHAIN, {"drop": ("left_*",)})
    assert receipt["complement"]["tensors"].keys() == {"scale", "through 1: half.b"}
    verdict = check(source, tmp_path / "there")
    assert verdict.passed
    assert verdict.measured["leaves_dropped"] == 2


def test_one_step_back_finds_what_the_last_mapping_kept(tmp_path: Path) -> None:
    source = write(tmp_path / "source", model(), CONFIG, format="torch")
    converted(source, tmp_path / "middle", FIRST)
    converted(source, tmp_path / "there", CHAIN)
    from convkit.mapping import inverse

    converted(tmp_path / "there", tmp_path / "again", inverse(SECOND))
    assert_same(read(tmp_path / "again"), read(tmp_path / "middle"))


@given(
    order=st.permutations(range(3)),
    lengths=st.lists(st.integers(1, 4), min_size=3, max_size=3),
    lost=st.sets(st.integers(0, 2)),
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_chain_comes_back(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], lengths: list[int], lost: set[int]
) -> None:
    """Three mappings that transpose axes; each may leave a leaf behind."""
    folder = tmp_path_factory.mktemp("chain")
    names = "abc"
    turned = " ".join(names[n] for n in order)
    spots = [Layout(f"spot{n}/model", "", "safetensors", "config.json", signature=({},)) for n in range(4)]
    links = []
    for n in range(3):
        gone = LeftBehind("left", f"x{n}", "no place")
        kept = [Rule(f"x{m}", f"x{m}") for m in range(3) if m not in lost or m > n]
        rules = (Rule(f"w{n}", f"w{n + 1}", f"a b c -> {turned}"), *kept, *([gone] if n in lost else []))
        links.append(Mapping(spots[n], spots[n + 1], rules))
    arrays: Arrays = {"w0": np.arange(np.prod(lengths), dtype="float32").reshape(lengths)}
    arrays |= {f"x{n}": np.full(2, n, "int16") for n in range(3)}
    source = write(folder / "source", arrays, {"any": 1})
    chain = Chain(tuple(links))
    receipt = converted(source, folder / "there", chain)
    assert len(receipt["complement"]["tensors"]) == len(lost)
    converted(folder / "there", folder / "back", chain.inverse())
    assert_same(read(folder / "back"), arrays)
    for before, after in (("source", "there"), ("there", "back")):
        verdict = check(folder / before, folder / after)
        assert not verdict.problems, verdict.problems


def test_plan_chain_is_deprecated() -> None:
    source = source_of(Memory(model()), CONFIG)
    with pytest.warns(DeprecationWarning, match="make_plan takes a chain"):
        end, plan = plan_chain(source, CHAIN)
    assert end is source
    assert plan.digest == make_plan(source, CHAIN).digest
    assert carrier("float32") is not None
