"""Placeholders of both sides that run over some of the layers, or over any text."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.errors import PlanError
from convkit.mapping import Rule, Verbatim, inverse, pack
from convkit.mapping.ops import Pad
from engine.memory import LEFT, RIGHT, Arrays, assert_both_ways, assert_same, carried, mapping_of, plan_of
from engine.proof import proven


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype("float32")


# --- rules for some of the layers ---------------------------------------------------------------------------

SPLIT = mapping_of(
    Rule("l.{i}.norm", "h.{i}.ln"),
    Rule("l.{s}.self.{n:q|k}", "h.{s}.qk", "n x y -> (n y) x"),
    Rule("l.{c}.cross.q", "h.{c}.cross", "x y -> y x"),
    Rule("l.{c}.cross.gate", "gates", "c x -> x c"),
    axes={"i": "layers", "s": "self_layers", "c": "cross_layers"},
    names=["layers", "self_layers", "cross_layers"],
)


def model(layers: int, cross: list[int]) -> tuple[Arrays, dict[str, Any]]:
    arrays: Arrays = {f"l.{i}.norm": numbers(3, seed=i) for i in range(layers)}
    for i in range(layers):
        if i in cross:
            arrays |= {f"l.{i}.cross.q": numbers(2, 3, seed=i), f"l.{i}.cross.gate": numbers(2, seed=i)}
        else:
            arrays |= {f"l.{i}.self.{n}": numbers(2, 3, seed=ord(n) + i) for n in "qk"}
    own = [i for i in range(layers) if i not in cross]
    return arrays, {"layers": layers, "self_layers": own, "cross_layers": cross}


def expected(arrays: Arrays, config: dict[str, Any]) -> Arrays:
    out = {f"h.{i}.ln": arrays[f"l.{i}.norm"] for i in range(config["layers"])}
    for i in config["self_layers"]:
        out[f"h.{i}.qk"] = np.concatenate([arrays[f"l.{i}.self.{n}"].T for n in "qk"])
    cross = config["cross_layers"]
    out |= {f"h.{i}.cross": arrays[f"l.{i}.cross.q"].T for i in cross}
    return out | ({"gates": np.stack([arrays[f"l.{i}.cross.gate"] for i in cross], axis=1)} if cross else {})


@given(st.integers(1, 6).flatmap(lambda n: st.tuples(st.just(n), st.permutations(range(n)), st.integers(0, n))))
@settings(max_examples=40)
def test_two_placeholders_share_the_layers_out(case: tuple[int, list[int], int]) -> None:
    """Where the numbers lie on an axis, their order is that of the list."""
    layers, order, count = case
    arrays, config = model(layers, order[:count])
    assert_both_ways(SPLIT, arrays, expected(arrays, config), config)


@pytest.mark.parametrize("cross", [[1, 3], [0], []])
def test_layers_of_two_kinds_are_undone(tmp_path: Path, cross: list[int]) -> None:
    arrays, config = model(4, cross)
    assert_same(proven(tmp_path, SPLIT, arrays, config), expected(arrays, config))


def test_a_pack_holds_layers_of_two_kinds() -> None:
    arrays, config = model(4, [1, 3])
    both = pack(LEFT, RIGHT, {"one": SPLIT, "two": SPLIT})
    other, plain = model(3, [])
    left = {f"one.{key}": array for key, array in arrays.items()} | {f"two.{key}": a for key, a in other.items()}
    right = {f"one.{key}": array for key, array in expected(arrays, config).items()}
    right |= {f"two.{key}": array for key, array in expected(other, plain).items()}
    assert_both_ways(both, left, right, {"one": config, "two": plain})


@pytest.mark.parametrize(
    ("gone", "more", "key", "why"),
    [
        ("l.3.cross.q", {}, "l.3.cross.q", "is missing"),
        ("l.1.cross.gate", {}, "l.1.cross.gate", "is missing"),
        ("l.2.self.k", {}, "l.2.self.k", "is missing"),
        ("", {"l.0.cross.q": numbers(2, 3)}, "l.0.cross.q", "claims it"),
        ("", {"l.4.norm": numbers(3)}, "layers", "is 4, but the checkpoint has 5, up to l.4.norm"),
    ],
)
def test_layers_that_are_not_those_of_the_list_are_noticed(gone: str, more: Arrays, key: str, why: str) -> None:
    arrays, config = model(4, [1, 3])
    with pytest.raises(PlanError, match=why) as refusal:
        plan_of(SPLIT, {name: array for name, array in arrays.items() if name != gone} | more, config)
    assert refusal.value.key == key


@pytest.mark.parametrize("listed", [[1, 1], [1, -3], [1, True], [1, "3"], [1.0]])
def test_a_list_that_names_no_layers_is_refused(listed: list[Any]) -> None:
    arrays, config = model(4, [1, 3])
    with pytest.raises(PlanError, match=r"'\{c\}' can't run over .* different whole numbers"):
        plan_of(SPLIT, arrays, config | {"cross_layers": listed})


# --- any text -----------------------------------------------------------------------------------------------

RENAMED = mapping_of(
    Rule("{at:*}old.{i}.w", "{at:*}h.{i}.new", "x y -> y x", optional=True),
    Rule("{at:*}pe.{n:slopes?|bias}", "{at}embed.{n}", optional=True),
    Rule("{at:*}table.{slot:*}", "{at}rows.embed.{slot}", optional=True),
    Verbatim("{rest:*}"),
)
TRAINED: Arrays = {
    **{f"model.old.{i}.w": numbers(2, 3, seed=i) for i in range(2)},
    **{f"optimizer.state.old.{i}.w": numbers(2, 3, seed=9 + i) for i in range(2)},
    "model.pe.slopes": numbers(4),
    "model.pe.bias": numbers(5),
    "optimizer.state.pe.bias": numbers(5),
    "model.table.weight": numbers(3, 2),
    "optimizer.state.table.weight.mu": numbers(3, 2),
    "model.head": numbers(7),
}


def test_text_of_both_sides_is_carried_over(tmp_path: Path) -> None:
    found = proven(tmp_path, RENAMED, TRAINED)
    assert_same(
        found,
        {
            key.replace("old.", "h.").replace(".w", ".new")
            if ".old." in key
            else key.replace(".pe.", ".embed.").replace(".table.", ".rows.embed."): array.T if ".old." in key else array
            for key, array in TRAINED.items()
        },
    )


@given(st.lists(st.text("ab.", min_size=1, max_size=5), unique=True, min_size=1, max_size=4), st.integers(1, 3))
@settings(max_examples=60)
def test_any_text_comes_back(texts: list[str], layers: int) -> None:
    """One rule claims all places; each has all of its layers."""
    mapping = mapping_of(Rule("{at:*}/w.{i}", "layer.{i}/{at}", "x -> x"))
    left = {f"{text}/w.{i}": numbers(2, seed=i) for text in texts for i in range(layers)}
    assert_both_ways(mapping, left, {f"layer.{i}/{t}": left[f"{t}/w.{i}"] for t in texts for i in range(layers)})


def test_a_place_that_lacks_a_layer_is_named() -> None:
    arrays = {key: array for key, array in TRAINED.items() if key != "optimizer.state.old.0.w"}
    with pytest.raises(
        PlanError, match=r"optimizer\.state\.old\.0\.w: is missing, though optimizer\.state\.old\.1\.w is"
    ):
        plan_of(RENAMED, arrays)


def test_a_rule_for_any_text_must_find_some() -> None:
    with pytest.raises(PlanError, match=r"\{at:\*\}\.w: is missing"):
        plan_of(mapping_of(Rule("{at:*}.w", "{at}.u"), Verbatim("{rest:*}")), {"w": numbers(1)})


def test_text_that_could_not_be_read_back_is_refused() -> None:
    """x-a-b-c is written as x+b-c, where {at} would be all before the last dash."""
    mapping = mapping_of(Rule("{at:*}-a-{of:*}", "{at}-{of}"))
    assert_both_ways(mapping, {"x-a-b": numbers(2)}, {"x-b": numbers(2)})
    with pytest.raises(PlanError, match="x-b-c can't be read back as it is made") as refusal:
        plan_of(mapping, {"x-a-b-c": numbers(2)})
    assert refusal.value.key == "x-a-b-c"


def test_any_text_has_no_length() -> None:
    rule = Rule("{at:*}e", "{at}E", "v d -> v d", ops=(Pad(0, "padded"),), v="vocab")
    mapping = mapping_of(rule, names=["vocab", "padded"])
    left = {f"{at}.e": numbers(5, 2, seed=n) for n, at in enumerate(("model", "mu"))}
    found = carried(mapping, left, {"vocab": 5, "padded": 8})
    assert {key: array.shape for key, array in found.items()} == {"model.E": (8, 2), "mu.E": (8, 2)}
    with TemporaryDirectory() as folder:
        proven(Path(folder), mapping, left, {"vocab": 5, "padded": 8})
    assert inverse(inverse(mapping)) == mapping
