"""The notation's second reader against a third: element by element, without strides and einops."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from convkit.checkpoint import Checkpoint, Leaf, TensorSpec
from convkit.errors import ConvkitError
from convkit.files.scratch import Scratch
from convkit.verify.documents import Step, read
from convkit.verify.roundtrip import windows
from convkit.verify.roundtrip.notation import check_bijection, read_axes, shape_of
from convkit.verify.roundtrip.rearrange import Undone, runs


class Held(Checkpoint):
    """Arrays of 16 bits, and a count of the elements that were read; as they are, or to be decoded."""

    def __init__(self, arrays: dict[str, np.ndarray], lies_open: bool = False) -> None:
        self.path, self.format, self.metadata = Path("held"), "held", {}
        self.leaves = {key: Leaf(key, TensorSpec(array.shape, "uint16")) for key, array in arrays.items()}
        self._arrays, self._open = arrays, lies_open
        self.read_elements = 0

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        part = self._arrays[key].reshape(-1)[start:stop]
        self.read_elements += part.size
        return part

    def lies_open(self, key: str) -> bool:
        return self._open


def side(key: str, axes: str, **at: int) -> dict[str, Any]:
    return {"key": key, "axes": axes, "at": at}


def cells(factors: tuple[Any, ...], sizes: dict[str, int]) -> list[dict[str, int]]:
    """The indices of every element in C order, by atom."""
    choices = []
    for factor in factors:
        if isinstance(factor, str):
            choices.append([{factor: index} for index in range(sizes[factor])])
        else:
            choices.append([cell for part in factor.parts for cell in cells(part, sizes)])
    return [{k: v for cell in combined for k, v in cell.items()} for combined in itertools.product(*choices)]


def spread(
    sides: list[dict[str, Any]], sizes: dict[str, int]
) -> dict[str, tuple[tuple[int, ...], list[frozenset[Any]]]]:
    """Each leaf's shape, and the identity of its elements in C order."""
    found = {}
    for leaf in sides:
        axes = read_axes(leaf["axes"])
        identities = [frozenset({**cell, **leaf["at"]}.items()) for cell in cells(axes, sizes)]
        found[leaf["key"]] = shape_of(axes, sizes), identities
    return found


def both_sides(step: dict[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Leaves of both sides in which an element has one value, the same on either side."""
    source, target = (spread(step[name], step["sizes"]) for name in ("sources", "targets"))
    every = sorted({identity for _, found in source.values() for identity in found}, key=sorted)
    value = {identity: number for number, identity in enumerate(every)}
    return tuple(  # type: ignore[return-value]
        {key: np.array([value[i] for i in found], np.uint16).reshape(shape) for key, (shape, found) in spread_.items()}
        for spread_ in (source, target)
    )


def typed(step: dict[str, Any]) -> Step:
    return read(Step, {"exactness": "exact", **step})


def undone_of(step: dict[str, Any], key: str, shape: tuple[int, ...], target: Checkpoint, **options: Any) -> Undone:
    return Undone(typed(step), key, TensorSpec(shape, "uint16"), target, lambda part: part, **options)


def check(step: dict[str, Any], limit: int = 1 << 20) -> None:
    check_bijection(typed(step))
    source, target = both_sides(step)
    ways = ((False, 0, 0), (True, 16, 0), (True, 1 << 20, 0), (True, 0, 40), (True, 0, 1 << 20))
    with closing(Scratch(Path(tempfile.gettempdir()))) as scratch:
        for (lies_open, window, file), (key, array) in itertools.product(ways, source.items()):
            with patch.multiple(windows, WINDOW=window, FILE=file, LEAST=0, _READ=24):
                undone = undone_of(step, key, array.shape, Held(target, lies_open), scratch=scratch if file else None)
                blocks = [block.copy() for block in undone.blocks(limit)]
            assert all(block.ndim == 1 and block.size <= limit for block in blocks)
            assert np.array_equal(np.concatenate(blocks), array.reshape(-1)), (key, lies_open, window, file)


#: what the systems need: see the fact sheet of each
CASES = {
    "rotary": ([side("a", "(h two r) d")], [side("b", "(h r two) d")], {"h": 6, "two": 2, "r": 5, "d": 7}),
    "a bias": ([side("a", "(h two r)")], [side("b", "(h r two)")], {"h": 6, "two": 2, "r": 5}),
    "partial rotary": (
        [side("a", "(h (two r + rest)) d")],
        [side("b", "(h (r two + rest)) d")],
        {"h": 3, "two": 2, "r": 2, "rest": 5, "d": 4},
    ),
    "transposed": ([side("a", "d f")], [side("b", "f d")], {"d": 5, "f": 7}),
    "qkv fused": (
        [side(key, "(h r) d", qkv=n) for n, key in enumerate("qkv")],
        [side("t", "(qkv h r) d")],
        {"qkv": 3, "h": 2, "r": 3, "d": 4},
    ),
    "scanned layers": (
        [side(f"l{n}", "d f", i=n) for n in range(4)],
        [side("t", "d i f")],
        {"i": 4, "d": 3, "f": 5},
    ),
    "groups of falcon": (
        [side("f", "(g (q + k + v) r) d")],
        [side("Q", "(g q r) d"), side("K", "(g k r) d"), side("V", "(g v r) d")],
        {"g": 2, "q": 3, "k": 1, "v": 1, "r": 4, "d": 5},
    ),
    "the CLS row": ([side("a", "1 (c + p) d")], [side("b", "(p + c) d")], {"c": 1, "p": 6, "d": 3}),
    "experts": (
        [side(f"e{n}", "f d", e=n) for n in range(3)],
        [side("t", "(f e) d")],
        {"e": 3, "f": 4, "d": 2},
    ),
    "a scalar": ([side("a", "")], [side("b", "1")], {}),
    "nothing in it": ([side("a", "a b")], [side("b", "b a")], {"a": 0, "b": 3}),
}


@pytest.mark.parametrize("backwards", (False, True))
@pytest.mark.parametrize("limit", (1, 4, 9, 30, 10_000))
@pytest.mark.parametrize("name", CASES)
def test_every_element_comes_back(name: str, limit: int, backwards: bool) -> None:
    source, target, sizes = CASES[name]
    if backwards:
        source, target = target, source
    check({"rule": name, "sources": source, "targets": target, "sizes": sizes}, limit)


@st.composite
def factors(draw: st.DrawFn, names: Iterator[str], depth: int = 2) -> tuple[str, list[str]]:
    """A product as text, and the atoms of each of its pieces."""
    texts, spaces = [], [[]]  # type: ignore[var-annotated]
    for _ in range(draw(st.integers(1, 1 + depth))):
        if depth and draw(st.booleans()):
            parts = [draw(factors(names, depth - 1)) for _ in range(draw(st.integers(1, 2)))]
            texts.append(f"({' + '.join(text for text, _ in parts)})")
            spaces = [space + more for space in spaces for _, found in parts for more in found]
        else:
            atom = next(names)
            texts.append(atom)
            spaces = [[*space, atom] for space in spaces]
    return " ".join(texts), spaces  # type: ignore[return-value]


@st.composite
def steps(draw: st.DrawFn) -> dict[str, Any]:
    """A leaf of any structure; on the other side each of its pieces in a leaf of its own, or several with an index."""
    text, spaces = draw(factors(f"a{n}" for n in itertools.count()))
    atoms = sorted({atom for space in spaces for atom in space})
    sizes = {atom: draw(st.integers(1, 3)) for atom in atoms}
    assume(sum(math.prod(sizes[atom] for atom in space) for space in spaces) <= 500)
    others = []
    for number, space in enumerate(spaces):
        order = draw(st.permutations(space))
        inside = draw(st.integers(0, min(1, len(order) - 1)))
        in_key, axes = order[:inside], order[inside:]
        cuts = sorted(draw(st.sets(st.integers(1, len(axes) - 1)))) if len(axes) > 1 else []
        dims = [axes[start:stop] for start, stop in itertools.pairwise([0, *cuts, len(axes)])]
        said = " ".join(f"({' '.join(dim)})" if len(dim) > 1 else dim[0] for dim in dims)
        for index in itertools.product(*(range(sizes[atom]) for atom in in_key)):
            name = ".".join(map(str, (number, *index)))
            others.append(side(name, said, **dict(zip(in_key, index, strict=True))))
    ends = [[side("whole", text)], others]
    if draw(st.booleans()):
        ends.reverse()
    return {"rule": text, "sources": ends[0], "targets": ends[1], "sizes": sizes}


@settings(deadline=None)
@given(steps(), st.integers(1, 40))
def test_any_structure_comes_back(step: dict[str, Any], limit: int) -> None:
    check(step, limit)


def test_padding_is_left_out_and_what_was_cut_is_filled_in() -> None:
    kept, sizes = np.arange(15, dtype=np.uint16).reshape(5, 3), {"v": 5, "d": 3}
    step: dict[str, Any] = {"rule": "", "sources": [side("a", "v d")], "targets": [side("b", "v d")], "sizes": sizes}
    padded = np.concatenate([kept, np.full((2, 3), 9, np.uint16)])
    undone = undone_of({**step, "pad": {"axis": 0, "keep": 5, "fill": 9}}, "a", (5, 3), Held({"b": padded}))
    assert np.array_equal(np.concatenate([*undone.blocks()]), kept.reshape(-1))
    cut = {**step, "crop": {"axis": -1, "keep": 3, "fill": 7}}
    back = np.concatenate([*undone_of(cut, "a", (5, 5), Held({"b": kept}), fill=7).blocks()]).reshape(5, 5)
    assert np.array_equal(back[:, :3], kept) and (back[:, 3:] == 7).all()
    cut["crop"]["kept_as"] = "rest"
    rest = Held({"rest": np.arange(10, dtype=np.uint16).reshape(5, 2)})
    for limit in (1, 4, 100):
        undone = undone_of(cut, "a", (5, 5), Held({"b": kept}), kept=rest)
        back = np.concatenate([*undone.blocks(limit)]).reshape(5, 5)
        assert np.array_equal(back[:, :3], kept) and np.array_equal(back[:, 3:], rest.read("rest").reshape(5, 2))


def test_large_transpositions_go_tile_by_tile() -> None:
    array = np.random.default_rng(0).integers(0, 1 << 16, (3, 700, 300), np.uint16)
    step = {
        "rule": "",
        "sources": [side("a", "l x y")],
        "targets": [side("b", "y l x")],
        "sizes": {"l": 3, "x": 700, "y": 300},
    }
    turned = {"b": np.ascontiguousarray(array.transpose(2, 0, 1))}
    blocks = undone_of(step, "a", array.shape, Held(turned)).blocks()
    assert np.array_equal(np.concatenate([*blocks]), array.reshape(-1))


@pytest.mark.parametrize("room", (True, False))
def test_what_is_transposed_is_read_once_in_its_own_order(room: bool, tmp_path: Path) -> None:
    """Through a scratch file, which others may use afterwards; without room for one, through memory."""
    array = np.random.default_rng(0).integers(0, 1 << 16, (1300, 900), np.uint16)
    step = {"rule": "", "sources": [side("a", "x y")], "targets": [side("b", "y x")], "sizes": {"x": 1300, "y": 900}}
    target, scratch = Held({"b": np.ascontiguousarray(array.T)}, lies_open=True), Scratch(tmp_path)
    file = scratch.take()
    scratch.give_back(file)
    with patch.object(type(file), "room", type(file).room if room else lambda *_: None):
        found = [block.copy() for block in undone_of(step, "a", array.shape, target, scratch=scratch).blocks(10_000)]
    assert np.array_equal(np.concatenate(found), array.reshape(-1))
    assert target.read_elements == array.size
    assert scratch.take() is file
    assert not any(tmp_path.iterdir()), "the file has a name"


def test_of_what_must_be_decoded_only_the_rows_of_a_run_are_read() -> None:
    sizes = {"h": 8, "two": 2, "r": 4, "d": 16}
    step = {"rule": "", "sources": [side("a", "(h two r) d")], "targets": [side("b", "(h r two) d")], "sizes": sizes}
    target = Held(both_sides(step)[1])
    undone = undone_of(step, "a", (64, 16), target)
    first = next(undone.blocks(64))
    assert first.size == 64 and target.read_elements == 128  # half a head is asked for, a head is read
    assert sum(block.size for block in undone.blocks(64)) == 1024
    assert target.read_elements <= 128 + 1024


@settings(deadline=None)
@given(steps(), st.integers(1, 40))
def test_runs_cover_a_leaf_in_order(step: dict[str, Any], limit: int) -> None:
    axes, sizes = read_axes(step["sources"][0]["axes"]), step["sizes"]
    lengths = [int(np.prod(shape_of(run.axes, run.sizes))) for run in runs(axes, sizes, limit)]
    assert sum(lengths) == int(np.prod(shape_of(axes, sizes))) and max(lengths) <= limit


@pytest.mark.parametrize("text", ("(a b", "a b)", "(a + ) b", "a,b", "()", "a -> b"))
def test_what_is_not_in_the_notation_is_refused(text: str) -> None:
    with pytest.raises(ConvkitError, match="not in the notation"):
        read_axes(text)


SQUARE = {"a": 2, "b": 2}
NO_BIJECTIONS = {
    "a piece on one side only": ([side("s", "(a + b)")], [side("t", "a")], SQUARE),
    "an index missing": ([side("s", "a b")], [side("t", "b", a=0)], SQUARE),
    "an index twice": ([side("s", "a b")], [side("t", "b", a=0), side("u", "b", a=0)], SQUARE),
    "an index too high": ([side("s", "a b")], [side("t", "b", a=0), side("u", "b", a=2)], SQUARE),
    "a leaf twice": ([side("s", "a b")], [side("t", "a b"), side("u", "b a")], SQUARE),
    "an atom twice": ([side("s", "a a")], [side("t", "a a")], SQUARE),
    "a size missing": ([side("s", "a c")], [side("t", "c", a=0), side("u", "c", a=1)], {"c": 2}),
}


@pytest.mark.parametrize("name", NO_BIJECTIONS)
def test_what_is_no_bijection_is_refused(name: str) -> None:
    source, target, sizes = NO_BIJECTIONS[name]
    with pytest.raises(ConvkitError):
        check_bijection(typed({"rule": name, "sources": source, "targets": target, "sizes": sizes}))


def test_a_shape_that_the_sizes_contradict_is_refused() -> None:
    step = {"rule": "", "sources": [side("a", "x y")], "targets": [side("b", "y x")], "sizes": {"x": 2, "y": 3}}
    held = Held({"b": np.zeros((3, 3), np.uint16)})
    with pytest.raises(ConvkitError, match="don't give the shape"):
        undone_of(step, "a", (2, 3), held)
    with pytest.raises(ConvkitError, match="don't give the shape"):
        undone_of(step, "a", (3, 3), Held({"b": np.zeros((3, 2), np.uint16)}))
