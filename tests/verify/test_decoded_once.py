"""What must be decoded is decoded once; leaves whose files were copied are compared by these, and still read."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from engine.disk import converted, write
from engine.memory import Memory
from hypothesis import given
from hypothesis import strategies as st

from convkit.files.receipt import CONVERSION, read_receipt
from convkit.formats.arrays.reader import ArrayCheckpoint
from convkit.mapping import Layout, Rule
from convkit.mapping import Mapping as LayoutMapping
from convkit.verify import blocks as module
from convkit.verify.blocks import Held, blocks
from convkit.verify.roundtrip.check import roundtrip
from convkit.verify.verdict import Verdict


class Packed(Memory):
    """Arrays of which some elements are decoded together; counts how often each is."""

    def __init__(self, arrays: dict[str, np.ndarray], grain: int) -> None:
        super().__init__(arrays)
        self.grain = grain
        self.decoded: Counter[int] = Counter()

    def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        size = self.spec(key).size
        stop = size if stop is None else stop
        whole = range(start - start % self.grain, min(size, -(-stop // self.grain) * self.grain))
        self.decoded.update(whole if start < stop else ())
        return super().read(key, start, stop)

    def granularity(self, key: str) -> int:
        return self.grain


@given(st.integers(0, 60), st.integers(1, 20), st.lists(st.integers(0, 60), max_size=20))
def test_ranges_in_order_decode_nothing_twice(size: int, grain: int, cuts: list[int]) -> None:
    data = np.arange(size, dtype=np.float32)
    packed = Packed({"a": data}, grain)
    held = Held(packed)
    edges = [0, *sorted(min(cut, size) for cut in cuts), size]
    parts = [held.read("a", start, stop) for start, stop in itertools.pairwise(edges)]
    assert b"".join(part.tobytes() for part in parts) == data.tobytes()
    assert grain == 1 or all(count == 1 for count in packed.decoded.values())


@given(st.integers(1, 60), st.integers(1, 20), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=9))
def test_ranges_in_any_order_are_right(size: int, grain: int, ranges: list[tuple[int, int]]) -> None:
    data = np.arange(size, dtype=np.float32)
    held = Held(Packed({"a": data}, grain))
    for one, other in ranges:
        start, stop = sorted((min(one, size), min(other, size)))
        assert held.read("a", start, stop).view(np.float32).tolist() == data[start:stop].tolist()


def test_blocks_decode_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 32)  # eight elements
    packed = Packed({"a": np.arange(50, dtype=np.float32)}, 20)
    assert [block.size for block in blocks(packed, "a")] == [8] * 6 + [2]
    assert set(packed.decoded.values()) == {1}


def made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Counter[str]]:
    """T5X and back: two leaves become one, one moves with its files; counts what is read of which leaf."""
    left, right = (Layout(f"{name}/model", name, "t5x", "config.json", signature=({},)) for name in ("a", "b"))
    rules = Rule("target.{n:q|k}", "target.qk", "n x y -> x n y"), Rule("target.moved", "target.other")
    kernels = {key: np.random.default_rng(5).standard_normal((64, 32)).astype(np.float32) for key in ("q", "k")}
    arrays = {f"target.{key}": array for key, array in kernels.items()}
    source = write(folder / "source", {**arrays, "target.moved": np.arange(500.0)}, {}, format="t5x")
    converted(source, folder / "out", LayoutMapping(left, right, rules), {"format": "t5x"})
    decoded: Counter[str] = Counter()
    read = ArrayCheckpoint.read

    def counting(self: ArrayCheckpoint, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        decoded[f"{self.path.name}:{key}"] += 1
        return read(self, key, start, stop)

    monkeypatch.setattr(ArrayCheckpoint, "read", counting)
    return source, folder / "out", decoded


def judged(source: Path, target: Path) -> Verdict:
    receipt = read_receipt(target, CONVERSION)
    assert receipt
    return roundtrip(source, target, receipt["plan"], receipt=receipt, faults=False)


def test_each_leaf_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target, decoded = made(tmp_path, monkeypatch)
    assert judged(source, target).passed
    assert decoded == {f"source:target.{key}": 1 for key in ("q", "k", "moved")} | {"out:target.qk": 1}


def test_a_copied_leaf_that_changed_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target, decoded = made(tmp_path, monkeypatch)
    other = write(tmp_path / "changed", {"target.other": np.arange(500.0)[::-1].copy()}, format="t5x")
    (other / "target.other" / "0").replace(target / "target.other" / "0")
    verdict = judged(source, target)
    assert decoded["source:target.moved"] == decoded["out:target.other"] == 1
    assert [problem.partition(":")[0] for problem in verdict.problems] == ["target.moved"]
    assert "500 of 500 elements differ" in verdict.problems[0]


def test_the_same_change_of_both_sides_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target, decoded = made(tmp_path, monkeypatch)
    other = write(tmp_path / "changed", {"target.other": np.arange(500.0)[::-1].copy()}, format="t5x")
    chunk = (other / "target.other" / "0").read_bytes()
    for leaf in (source / "target.moved", target / "target.other"):
        (leaf / "0").write_bytes(chunk)
    verdict = judged(source, target)
    assert "out:target.other" not in decoded
    assert len(verdict.problems) == 1 and "its digest differs from the receipt" in verdict.problems[0]


def test_the_same_damage_on_both_sides_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target, _ = made(tmp_path, monkeypatch)
    for leaf in (source / "target.moved", target / "target.other"):
        raw = bytearray((leaf / "0").read_bytes())
        raw[len(raw) // 2] ^= 0x55
        (leaf / "0").write_bytes(raw)
    verdict = judged(source, target)
    assert [problem.partition(":")[0] for problem in verdict.problems] == ["target.moved"]
