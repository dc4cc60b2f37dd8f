"""Leaves that one direction loses are kept beside the output, and the inverse restores them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convkit.checkpoint import Opaque
from convkit.errors import ConvkitError, PlanError
from convkit.execute.recipes import inverse_frequencies
from convkit.files.receipt import complement_path
from convkit.formats import open_checkpoint
from convkit.mapping import Derived, LeftBehind, Mapping, Rule, inverse
from convkit.mapping.ops import Pad
from engine.disk import converted, read, write
from engine.memory import Arrays, assert_same, carried, mapping_of, plan_of


def numbers(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def there_and_back(tmp_path: Path, mapping: Mapping, left: Arrays, config: dict | None = None, **how: object) -> Arrays:
    """What the target holds; the source must come back in full, its config included."""
    names = {"left_format": "safetensors", "right_format": "safetensors"} | how
    source = write(tmp_path / "left", left, config or {}, format=names["left_format"])
    converted(source, tmp_path / "right", mapping, asked={"format": names["right_format"]})
    converted(tmp_path / "right", tmp_path / "back", inverse(mapping), asked={"format": names["left_format"]})
    assert_same(read(tmp_path / "back"), left)
    return read(tmp_path / "right")


VOCABULARY = mapping_of(
    Rule("embed", "embed", "v d -> v d", ops=(Pad(0, "padded", -1.0),), v="vocab"),
    names=["vocab", "padded"],
)
SIZES = {"vocab": 23, "padded": 32}


def test_padding_is_written_and_cropped(tmp_path: Path) -> None:
    left = {"embed": numbers(23, 5)}
    right = there_and_back(tmp_path, VOCABULARY, left, SIZES)
    assert_same(right, {"embed": np.concatenate([left["embed"], np.full((9, 5), -1, "float32")])})
    assert not complement_path(tmp_path / "back").exists()


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_what_is_cropped_and_not_the_fill_comes_back(tmp_path: Path, axis: int) -> None:
    pattern = {0: "v d e -> e v d", 1: "d v e -> d e v", -1: "d e v -> v d e"}[axis]
    target_axis = {0: 1, 1: 2, -1: 0}[axis]
    mapping = inverse(
        mapping_of(Rule("small", "large", pattern, v="vocab", ops=(Pad(target_axis, "padded"),)), names=SIZES)
    )
    shape = [3, 4]
    shape.insert(target_axis, 32)
    left = {"large": numbers(*shape)}
    kept = np.take(left["large"], range(23, 32), axis=target_axis)
    there_and_back(tmp_path, mapping, left, SIZES)
    with open_checkpoint(complement_path(tmp_path / "right")) as complement:
        assert list(complement.leaves) == ["large#cropped"]
        assert complement.leaves["large#cropped"].spec.shape == kept.shape
        assert complement.read("large#cropped").tobytes() == kept.tobytes()


def test_one_bit_beside_the_fill_is_kept(tmp_path: Path) -> None:
    """A negative zero where the fill is zero."""
    mapping = inverse(mapping_of(Rule("e", "e", "v -> v", v="vocab", ops=(Pad(0, "padded"),)), names=SIZES))
    left = {"e": np.concatenate([numbers(23), np.zeros(8), [-0.0]]).astype("float32")}
    there_and_back(tmp_path, mapping, left, SIZES)


def test_a_cropped_part_in_another_dtype_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "left", {"embed": numbers(32, 5)}, SIZES)
    converted(source, tmp_path / "right", inverse(VOCABULARY), asked={"dtype": "bfloat16"})
    with pytest.raises(PlanError, match="its cropped part is kept in another dtype") as refusal:
        converted(tmp_path / "right", tmp_path / "back", VOCABULARY)
    assert refusal.value.key == "embed"
    converted(tmp_path / "right", tmp_path / "back", VOCABULARY, asked={"restore": False})


@pytest.mark.parametrize(
    ("length", "config", "why"),
    [
        (
            23,
            {"vocab": 23, "padded": 20},
            "axis 0 has length 20 with its padding, where padded=20 and 23 are to be kept",
        ),
        (24, SIZES, r"vocab: is 23, but embed of shape .* has 24 there"),
    ],
)
def test_wrong_padding_is_refused(length: int, config: dict, why: str) -> None:
    with pytest.raises(PlanError, match=why):
        plan_of(VOCABULARY, {"embed": numbers(length, 5)}, config)


@pytest.mark.parametrize("length", [31, 40, 20])
def test_a_cropped_leaf_must_have_the_padded_size(length: int) -> None:
    with pytest.raises(PlanError, match=rf"axis 0 has length {length} with its padding, where padded=32") as refusal:
        plan_of(inverse(VOCABULARY), {"embed": numbers(length, 5)}, SIZES)
    assert refusal.value.key == "embed"


def test_padding_follows_a_cast() -> None:
    found = carried(VOCABULARY, {"embed": numbers(23, 5)}, SIZES, dtype="bfloat16")["embed"]
    assert found.dtype.name == "bfloat16"
    assert (found[23:] == -1).all()


def test_an_empty_vocabulary_is_all_padding() -> None:
    found = carried(VOCABULARY, {"embed": numbers(0, 5)}, {"vocab": 0, "padded": 3}, dtype="float16")["embed"]
    assert found.shape == (3, 5)
    assert (found == -1).all()


def test_left_behind_tensors_and_values_come_back(tmp_path: Path) -> None:
    mapping = mapping_of(Rule("model.w", "w", "x y -> y x"), LeftBehind("left", "{rest:*}", "not the model", "model."))
    left = {
        "model.w": numbers(3, 4),
        "optimizer.mu": numbers(3, 4),
        "step": 7,
        "rate": 0.1,
        "none": None,
        "empty": {},
        "name": "adam",
        "state": Opaque(b"\x80\x04K\x01.", "pickle"),
    }
    right = there_and_back(tmp_path, mapping, left, left_format="cerebras-h5")
    assert sorted(right) == ["w"]


def test_a_left_behind_key_may_be_one_of_the_target(tmp_path: Path) -> None:
    """The complement speaks of source keys, which mean something else in the target."""
    mapping = mapping_of(
        Rule("embed", "other", "v d -> v d", ops=(Pad(0, "padded"),), v="vocab"),
        LeftBehind("left", "{rest:*}", "not the model"),
        names=SIZES,
    )
    there_and_back(tmp_path, mapping, {"embed": numbers(23, 5), "other": numbers(4)}, SIZES)


def test_derived_leaves_are_dropped_and_made_again(tmp_path: Path) -> None:
    mapping = mapping_of(
        Rule("{i}.w", "{i}.u", "x y -> y x"),
        Derived("left", "{i}.inv_freq", "inverse frequencies", {"theta": "theta", "dim": 8}),
        names=["theta"],
    )
    right_one = inverse_frequencies(10000.0, 8)
    other = right_one.copy()
    other[1] = np.nextafter(other[1], 1)
    left = {"0.w": numbers(2, 3), "0.inv_freq": right_one, "1.w": numbers(2, 3), "1.inv_freq": other}
    right = there_and_back(tmp_path, mapping, left, {"theta": 10000.0})
    assert sorted(right) == ["0.u", "1.u"]
    with open_checkpoint(complement_path(tmp_path / "right")) as complement:
        assert list(complement.leaves) == ["1.inv_freq"]


def test_independent_copies_come_back_as_they_were(tmp_path: Path) -> None:
    """DPO: the reference model isn't part of the other side, and needn't equal the policy."""
    mapping = mapping_of(
        Rule("w.{i}", "policy.w.{i}", right_copies="reference.w.{i}"),
    )
    left = {"w.0": numbers(3, 4), "w.1": numbers(3, 4)}
    assert_same(
        carried(mapping, left),
        {f"{name}.{key}": array for key, array in left.items() for name in ("policy", "reference")},
    )
    both = {"policy.w.0": numbers(3, 4), "reference.w.0": numbers(4, 3).T.copy()}
    assert_same(there_and_back(tmp_path, inverse(mapping), both), {"w.0": both["policy.w.0"]})


def test_names_of_a_tied_leaf_come_back_as_they_were(tmp_path: Path) -> None:
    mapping = mapping_of(Rule(("embed", "head"), ("E", "H")))
    for number, keys in enumerate((["embed"], ["head"], ["embed", "head"])):
        left = dict.fromkeys(keys, numbers(3, 4))
        (folder := tmp_path / str(number)).mkdir()
        assert sorted(there_and_back(folder, mapping, left)) == ["E", "H"]


def test_tied_leaves_that_differ_are_refused_with_the_key(tmp_path: Path) -> None:
    mapping = mapping_of(Rule(("embed", "head"), "E"))
    different = numbers(300, 1000)
    different[299, 999] = -different[299, 999]
    source = write(tmp_path / "left", {"embed": numbers(300, 1000), "head": different}, {})
    with pytest.raises(ConvkitError, match="differs from embed") as refusal:
        converted(source, tmp_path / "right", mapping)
    assert refusal.value.key == "head"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["left"]


@pytest.mark.parametrize("dtype", ["float32", "complex128", "bfloat16"])
def test_tied_leaves_may_hold_nans(tmp_path: Path, dtype: str) -> None:
    width = np.dtype("uint8" if dtype == "bfloat16" else dtype).itemsize * (2 if dtype == "bfloat16" else 1)
    from convkit.checkpoint.tensors import value_dtype

    data = np.full(4 * width, 0xFF, "uint8").view(value_dtype(dtype))
    mapping = mapping_of(Rule(("embed", "head"), "E"))
    source = write(tmp_path / "left.pt", {"embed": data, "head": data.copy()}, {}, format="torch")
    converted(source, tmp_path / "right.pt", mapping, asked={"format": "torch"})
    assert_same(read(tmp_path / "right.pt"), {"E": data})


def test_complex_rows_are_filled_in_bit_by_bit(tmp_path: Path) -> None:
    """A negative zero isn't the fill, though it equals it as a number."""
    mapping = mapping_of(Rule("e", "e", "v -> v", v="vocab", ops=(Pad(0, "padded"),)), names=SIZES)
    values = np.arange(SIZES["vocab"]).astype("complex128")
    source = write(tmp_path / "small.pt", {"e": values}, SIZES, format="torch")
    converted(source, tmp_path / "large.pt", mapping, asked={"format": "torch"})
    padded = np.concatenate([values, np.zeros(SIZES["padded"] - SIZES["vocab"], "complex128")])
    assert_same(read(tmp_path / "large.pt"), {"e": padded})
    converted(tmp_path / "large.pt", tmp_path / "back.pt", inverse(mapping), asked={"format": "torch"})
    assert not complement_path(tmp_path / "back.pt").exists()
    assert_same(read(tmp_path / "back.pt"), {"e": values})
    padded[-1] = complex(0.0, -0.0)
    other = write(tmp_path / "other.pt", {"e": padded}, SIZES, format="torch")
    with pytest.raises(ConvkitError, match="complex128"):  # to be kept, which no safetensors file can
        converted(other, tmp_path / "cut.pt", inverse(mapping), asked={"format": "torch"})
