"""Patterns agree with einops and brute force, and the inverse is the pattern read backwards."""

from __future__ import annotations

from collections.abc import Callable

import einops
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convkit.mapping.pattern import Pattern, PatternError, Side
from convkit.mapping.sizes import monomials, shape_of, solve, strided_pieces
from engine.strategies import Case, cases


@given(cases())
def test_parse_and_str(case: Case) -> None:
    pattern = Pattern.parse(case.pattern)
    assert Pattern.parse(str(pattern)) == pattern
    assert str(Pattern.parse(str(pattern))) == str(pattern)


@given(cases())
def test_the_inverse_is_read_backwards(case: Case) -> None:
    pattern = Pattern.parse(case.pattern)
    assert pattern.inverse() == Pattern.parse(f"{case.right.text} -> {case.left.text}")
    assert pattern.inverse().inverse() == pattern


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("((a)) -> a", "a -> a"),
        ("(a (b c)) -> (c ((a b)))", "(a b c) -> (c a b)"),
        ("( a+b )d->(b+a) d", "(a + b) d -> (b + a) d"),
        ("1 (1) -> (1 1)", "1 1 -> 1"),
        ("q:a|k:b->({p}) ...", "q: a | k: b -> {p} ..."),
        ("->", " -> "),
    ],
)
def test_one_spelling(text: str, canonical: str) -> None:
    assert str(Pattern.parse(text)) == canonical


@given(cases(keyed=False))
def test_shapes_and_index_maps_need_no_data(case: Case) -> None:
    """The pieces carry an iota as brute force does, and each element of a tensor lies in one piece."""
    pattern = Pattern.parse(case.pattern)
    found = {}
    for name, side, half in (("left", pattern.left, case.left), ("right", pattern.right, case.right)):
        expected, shape = half.leaves[""]
        axes = side.axes({})
        assert shape_of(axes, case.sizes) == shape
        pieces = strided_pieces(axes, case.sizes, shape)
        assert set(pieces) == set(monomials(axes))
        found[name] = {
            frozenset(zip(piece.strides, index, strict=True)): piece.offset
            + sum(stride * n for stride, n in zip(piece.strides.values(), index, strict=True))
            for piece in pieces.values()
            for index in np.ndindex(*(case.sizes[atom] for atom in piece.strides))
        }
        assert found[name] == {label: position for position, label in enumerate(expected)}
    index_map = [found["left"][label] for label, _ in sorted(found["right"].items(), key=lambda item: item[1])]
    assert sorted(index_map) == list(range(len(index_map)))


@given(cases(keyed=False, sums=False, smallest=1))
def test_products_are_what_einops_says(case: Case) -> None:
    pattern = Pattern.parse(case.pattern)
    data = np.arange(np.prod(case.left.leaves[""][1])).reshape(case.left.leaves[""][1])
    there = einops.rearrange(data, str(pattern), **case.sizes)
    assert there.shape == shape_of(pattern.right.axes({}), case.sizes)
    assert np.array_equal(there, _carried(pattern, case.sizes, data))


def _carried(pattern: Pattern, sizes: dict[str, int], data: np.ndarray) -> np.ndarray:
    """What the pieces of a pattern make of a tensor."""
    there = np.empty(shape_of(pattern.right.axes({}), sizes), data.dtype)
    sources = strided_pieces(pattern.left.axes({}), sizes, data.shape)
    for atoms, target in strided_pieces(pattern.right.axes({}), sizes, there.shape).items():
        for index in np.ndindex(*(sizes[atom] for atom in atoms)):
            at = dict(zip(atoms, index, strict=True))
            there.flat[target.offset + sum(target.strides[a] * n for a, n in at.items())] = data.flat[
                sources[atoms].offset + sum(sources[atoms].strides[a] * n for a, n in at.items())
            ]
    return there


SUMS = [
    ("(q + k + v) d -> (v + q + k) d", {"q": 4, "k": 2, "v": 3, "d": 7},
     lambda x: np.concatenate([x[6:], x[:4], x[4:6]])),
    ("1 (c + p) d -> (p + c) d", {"c": 1, "p": 5, "d": 7},
     lambda x: np.concatenate([x[0, 1:], x[0, :1]])),
    ("(g (q + k)) -> (g q + g k)", {"g": 3, "q": 4, "k": 2},
     lambda x: np.concatenate([x.reshape(3, 6)[:, :4].ravel(), x.reshape(3, 6)[:, 4:].ravel()])),
    ("(h (two r + rest)) d -> (h (r two + rest)) d", {"h": 3, "two": 2, "r": 3, "rest": 5, "d": 7},
     lambda x: np.concatenate([x.reshape(3, 11, 7)[:, :6].reshape(3, 2, 3, 7).swapaxes(1, 2).reshape(3, 6, 7),
                               x.reshape(3, 11, 7)[:, 6:]], 1).reshape(33, 7)),
    ("((a + b) (c + d)) -> (a c + a d + b c + b d)", {"a": 2, "b": 3, "c": 4, "d": 3},
     lambda x: np.concatenate([part.ravel() for rows in np.split(x.reshape(5, 7), [2])
                               for part in np.split(rows, [4], axis=1)])),
]  # fmt: skip


@pytest.mark.parametrize(("text", "sizes", "by_numpy"), SUMS, ids=[text for text, *_ in SUMS])
def test_sums_are_what_numpy_says(text: str, sizes: dict[str, int], by_numpy: Callable) -> None:
    pattern = Pattern.parse(text)
    shape = shape_of(pattern.left.axes({}), sizes)
    data = np.arange(np.prod(shape)).reshape(shape)
    there = _carried(pattern, sizes, data)
    assert np.array_equal(there, by_numpy(data))
    assert np.array_equal(_carried(pattern.inverse(), sizes, there), data)


# --- sizes --------------------------------------------------------------------------------------------


@given(cases(keyed=False, smallest=1), st.data())
def test_a_size_that_the_shape_gives_need_not_be_named(case: Case, data: st.DataObject) -> None:
    axes = Pattern.parse(case.pattern).left.axes({})
    unnamed = data.draw(st.sampled_from([*case.sizes, None]))
    sizes = {name: size for name, size in case.sizes.items() if name != unnamed}
    shape = case.left.leaves[""][1]
    try:
        solve(axes, shape, sizes, "a <-> b")
    except PatternError as error:
        assert f"{unnamed} must be given" in str(error)
    else:
        assert sizes == case.sizes


@given(cases(keyed=False), st.data())
def test_another_shape_is_refused(case: Case, data: st.DataObject) -> None:
    axes = Pattern.parse(case.pattern).left.axes({})
    shape = list(case.left.leaves[""][1])
    if not shape:
        return
    at = data.draw(st.integers(0, len(shape) - 1))
    should = shape[at]
    shape[at] = data.draw(st.integers(0, 20).filter(lambda length: length != should))
    with pytest.raises(PatternError) as refusal:
        solve(axes, shape, dict(case.sizes), "a <-> b")
    message = str(refusal.value)
    assert "rule a <-> b" in message
    assert f"axis '{axes.dims[at]}'" in message
    assert f"should have length {should}, the tensor has {shape[at]}" in message


@pytest.mark.parametrize(
    ("text", "shape", "sizes", "message"),
    [
        ("(h r) d", (7, 5), {"h": 2}, "axis '(h r)' (h=2) has length 7 in the tensor, which no size of 'r' fits"),
        (
            "(h (two r + rest))",
            (21,),
            {"h": 3, "two": 2, "rest": 2},
            "axis '(h (two r + rest))' (h=3, two=2, rest=2) has length 21",
        ),
        ("(q + k)", (3,), {"q": 4}, "axis '(q + k)' (q=4) has length 3 in the tensor, which no size of 'k' fits"),
        ("(h r)", (4,), {}, "the sizes of h, r must be given"),
        ("(h r)", (4,), {"h": 0}, "axis '(h r)' (h=0) has length 4"),
        ("a a", (2, 3), {}, "axis 'a' (a=2) should have length 2, the tensor has 3"),
        ("a b", (2,), {}, "'a b' has 2 axes, the tensor has 1"),
        ("a b ...", (2,), {}, "'a b ...' has at least 2 axes, the tensor has 1"),
    ],
)
def test_a_shape_that_does_not_fit_is_told_in_full(
    text: str, shape: tuple[int, ...], sizes: dict[str, int], message: str
) -> None:
    axes = Pattern.parse(f"{text} -> {text}").left.axes({})
    with pytest.raises(PatternError) as refusal:
        solve(axes.expand(len(shape), "a <-> b"), shape, sizes, "a <-> b")
    assert message in str(refusal.value)
    assert "rule a <-> b" in str(refusal.value)


def test_the_ellipsis_takes_what_is_left() -> None:
    axes = Pattern.parse("(h r) ... d -> (r h) ... d").left.axes({})
    for shape in [(6, 4), (6, 2, 4), (6, 2, 3, 4)]:
        sizes = {"h": 2}
        solve(axes.expand(len(shape), "rule"), shape, sizes, "rule")
        assert shape_of(axes.expand(len(shape), "rule"), sizes) == shape


# --- branches -----------------------------------------------------------------------------------------


def test_branches() -> None:
    side = Pattern.parse("q: (g q) d | k: g d -> (g (q + 1)) d").left
    assert str(side.axes({"p": "q"})) == "(g q) d"
    assert str(side.axes({"p": "k"})) == "g d"
    with pytest.raises(PatternError, match="no branch for"):
        side.axes({"p": "v"})


def test_a_branch_by_its_own_name() -> None:
    side = Pattern.parse("({p} r) d -> ((q + k) r) d").left
    assert str(side.axes({"p": "q"})) == "(q r) d"
    assert isinstance(side, Side)
    with pytest.raises(PatternError, match="p"):
        side.axes({})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a b", "two sides"),
        ("a -> b -> c", "two sides"),
        ("(a b -> a b", "isn't closed"),
        ("a) -> a", "unexpected"),
        ("a + b -> a", "unexpected"),
        ("(a +) -> a", "empty term"),
        ("() -> 1", "empty term"),
        ("2 a -> a", "unexpected '2'"),
        ("... ... -> ...", "only one '...'"),
        ("(... a) -> a", "unexpected '...'"),
        ("a* -> a", "can't read"),
        ("{} -> a", "can't read"),
        ("q: a | b -> c", "every branch needs a name"),
        ("q: a | q: b -> c", "a name of its own"),
        ("q: a | -> c", "every branch needs a name"),
    ],
)
def test_what_cannot_be_read_is_quoted(text: str, why: str) -> None:
    with pytest.raises(PatternError) as refusal:
        Pattern.parse(text)
    assert why in str(refusal.value)
    assert f"'{text}'" in str(refusal.value)
