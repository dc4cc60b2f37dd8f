"""Large matrices are transposed through a scratch file: the same elements, each read once, little of them at a time."""

from __future__ import annotations

import errno
import itertools
import mmap
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from convkit.execute import tiles, turned
from convkit.execute.gather import Gather
from convkit.execute.jobs import target_jobs
from convkit.files.scratch import Scratch
from convkit.mapping import Rule
from engine.memory import Told, carried, mapping_of, plan_of
from engine.test_parts import Open

#: target, pattern, shape, elements of a source row, and whether the source is read whole
CASES = {
    "a matrix": ("y", "x y -> y x", (1200, 500), 500, True),
    "less rows than a block has": ("y", "x y -> y x", (40, 16_384), 16_384, True),
    "a stack": ("y", "l x y -> l y x", (3, 900, 400), 400, True),
    "neighbours that are one": ("y", "x l y -> l y x", (900, 3, 400), 1200, True),
    "a part of each row": ("y.{l}", "x l y -> l y x", (900, 3, 400), 400, False),
}


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return Scratch(tmp_path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("case", CASES)
def test_a_matrix_goes_through_the_file(
    case: str, dtype: str, scratch: Scratch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, pattern, shape, row, whole = CASES[case]
    monkeypatch.setattr(turned, "_READ", 1 << 18)
    array = np.random.default_rng(0).integers(0, 255, shape).astype(dtype) * 7
    monkeypatch.setattr(turned, "LEAST", 1 << 14)
    mapping, source, told = mapping_of(Rule("x", target, pattern)), Open({"x": array}), dict[str, Told]()
    expected = carried(mapping, {"x": array})
    for job in target_jobs(plan_of(mapping, source), source, None):
        gather = Gather(job, lambda key: told.setdefault(key, Told()), scratch=scratch)
        assert not gather.tall
        cuts = [0, 7, 1000, 123_456, 300_001, job.spec.size]
        found = [gather(start, stop).copy() for start, stop in itertools.pairwise(cuts)]
        gather.close()
        np.testing.assert_array_equal(np.concatenate(found), expected[job.key].reshape(-1))
    assert source.total == array.size
    assert source.largest * array.itemsize <= max(1 << 18, 32 * array.itemsize * row)
    if whole:
        assert told["x"].finished
        np.testing.assert_array_equal(np.concatenate(told["x"].data), array.reshape(-1))
    assert not any(tmp_path.iterdir()), "the file has a name"


def test_a_file_is_used_again(scratch: Scratch) -> None:
    array = np.arange(1 << 20, dtype="uint16").reshape(1024, 1024)
    source = Open({"x": array})
    (job,) = target_jobs(plan_of(mapping_of(Rule("x", "y", "x y -> y x")), source), source, None)
    files = set()
    for _ in range(2):
        gather = Gather(job, scratch=scratch)
        np.testing.assert_array_equal(gather(0, array.size), array.T.reshape(-1))
        gather.close()
        file = scratch.take()
        files.add(file)
        scratch.give_back(file)
    assert len(files) == 1


def test_a_file_has_room_for_more_than_before(scratch: Scratch) -> None:
    file = scratch.take()
    for nbytes in (1 << 12, 1 << 16, 1 << 14):
        room = file.room(nbytes)
        assert room is not None and room.nbytes == nbytes
        room[:] = 7
    before, after = file.room(1 << 16), file.room(1 << 16)
    assert before is not None and after is not None and np.shares_memory(before, after) and before.min() == 7
    scratch.give_back(file)
    scratch.close()


def test_a_slab_of_whole_matrices_lies_in_the_file(scratch: Scratch) -> None:
    """It isn't copied once more, whether it begins on a row or not."""
    array = np.arange(1 << 20, dtype="uint16").reshape(1024, 1024)
    source = Open({"x": array})
    (job,) = target_jobs(plan_of(mapping_of(Rule("x", "y", "x y -> y x")), source), source, None)
    gather = Gather(job, scratch=scratch)
    first, next_ = gather(0, 5_000), gather(5_000, 300_001)
    assert first.base is not None and np.shares_memory(first.base, next_)
    gather.close()


@pytest.mark.parametrize("answer", [errno.ENOSPC, errno.EOPNOTSUPP])
def test_without_room_on_the_disk_it_is_held_in_memory(
    answer: int, scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(file: int, offset: int, size: int) -> None:
        raise OSError(answer, os.strerror(answer))

    def mapped(file: int, nbytes: int) -> None:
        pytest.fail("what has no room is mapped, and would kill the process")

    monkeypatch.setattr(os, "posix_fallocate", refused)
    monkeypatch.setattr(mmap, "mmap", mapped)
    array = np.arange(1 << 20, dtype="uint16").reshape(1024, 1024)
    source = Open({"x": array})
    (job,) = target_jobs(plan_of(mapping_of(Rule("x", "y", "x y -> y x")), source), source, None)
    gather = Gather(job, scratch=scratch)
    np.testing.assert_array_equal(gather(0, array.size), array.T.reshape(-1))
    gather.close()


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
@pytest.mark.parametrize("shape", [(700, 1000), (2, 513, 300), (1, 1 << 20), (1 << 20, 1)])
def test_opencv_and_numpy_give_the_same(dtype: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2")
    array = np.random.default_rng(1).integers(0, 1 << 16, shape).astype(dtype)
    monkeypatch.setattr(tiles, "WORTH", 0)
    read = array.swapaxes(-1, -2)
    fast, plain = np.zeros(read.shape, dtype), np.zeros(read.shape, dtype)
    tiles._opencv.cache_clear()
    assert tiles._opencv() is not None
    tiles.copy_across(read, fast)
    monkeypatch.setitem(sys.modules, "cv2", None)
    tiles._opencv.cache_clear()
    assert tiles._opencv() is None
    tiles.copy_across(read, plain)
    tiles._opencv.cache_clear()
    np.testing.assert_array_equal(plain, read)
    np.testing.assert_array_equal(fast, read)
