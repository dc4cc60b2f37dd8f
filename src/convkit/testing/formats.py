"""The laws of formats.

A law takes a format, an empty folder, a sample and a random generator, and raises AssertionError::

    @pytest.mark.parametrize("law", LAWS)
    @given(sample=samples(), seed=st.integers())
    def test_my_format(law, sample, seed):
        with TemporaryDirectory() as folder:
            law(MyFormat(), Path(folder), holdable(MyFormat(), sample), Random(seed))
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import pairwise
from operator import call
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from traceback import print_exc

import numpy as np
from msgspec.structs import replace

from convkit.checkpoint import Checkpoint, Format, Leaf, TensorSpec, WriteOptions, Writer
from convkit.errors import ConvkitError
from convkit.files.clock import standing_at
from convkit.testing.samples import MAX_SIZE, Sample, bits


def holdable(format: Format, sample: Sample) -> Sample:
    """The part of a sample that the format accepts (a refusal must name the key), with ties only if it has them."""
    sample = _in_components(sample) if format.components else sample
    untied = [replace(leaf, same_as=None) for leaf in sample.leaves]
    refused: set[str] = set()
    if _refused_key(format, untied) is not None:  # most samples are accepted as they are
        refused = {leaf.key for leaf in untied if _refused_key(format, [leaf]) is not None}
    kept = [leaf if format.ties else replace(leaf, same_as=None) for leaf in sample.leaves if leaf.key not in refused]
    return Sample(tuple(kept), {key: array for key, array in sample.data.items() if key not in refused})


def _in_components(sample: Sample) -> Sample:
    """The sample's leaves in one component, and a leaf of another one."""
    marks = [Leaf(key, TensorSpec((3,), "float32")) for key in ("text_model.mark", "image_model.mark")]
    leaves = [replace(leaf, key=f"text_model.in.{leaf.key}") for leaf in sample.leaves]
    tied = [leaf if leaf.same_as is None else replace(leaf, same_as=f"text_model.in.{leaf.same_as}") for leaf in leaves]
    data = {f"text_model.in.{key}": array for key, array in sample.data.items()}
    made = {leaf.key: bits(leaf.spec, 0) for leaf in marks if leaf.spec}
    return Sample((*marks, *tied), data | made)


def _refused_key(format: Format, leaves: Sequence[Leaf]) -> str | None:
    """The key of a leaf that the format refuses; None if it accepts them all."""
    with TemporaryDirectory() as folder:
        try:
            format.create(Path(folder) / "staging", leaves, WriteOptions()).close()
        except ConvkitError as refusal:
            assert refusal.key in {leaf.key for leaf in leaves}, f"the refusal doesn't name the key: {refusal}"
            return refusal.key
    return None


def returns_what_was_written(format: Format, folder: Path, sample: Sample, random: Random) -> None:
    """Leaves, specs, values and bits are read back unchanged, whole and in slices."""
    with format.open(write(format, folder / "staging", sample, random)) as checkpoint:
        check_equal(checkpoint, sample)
        for key, array in sample.data.items():
            start, stop = sorted(random.choices(range(array.size + 1), k=2))
            check_bits(checkpoint.read(key, start, stop), array[start:stop], key)
            check_bits(checkpoint.read(key, start), array[start:], key)


def ignores_shards(format: Format, folder: Path, sample: Sample, random: Random) -> None:
    """Sharding doesn't change what is read."""
    options = WriteOptions(shard_size=random.choice([1, 1000, 100_000]))
    with format.open(write(format, folder / "staging", sample, random, options=options)) as checkpoint:
        check_equal(checkpoint, sample)


def ignores_order_and_threads(format: Format, folder: Path, sample: Sample, random: Random) -> None:
    """Leaves and pieces written in any order, by any number of threads, give the same checkpoint."""
    with format.open(write(format, folder / "staging", sample, random, threads=4)) as checkpoint:
        check_equal(checkpoint, sample)
        with ThreadPoolExecutor(4) as pool:
            for key, read in zip(sample.data, pool.map(checkpoint.read, sample.data), strict=True):
                check_bits(read, sample.data[key], key)


def resumes_after_a_kill(format: Format, folder: Path, sample: Sample, random: Random) -> None:
    """A writer that was killed in the middle of a leaf and resumed still has the finished leaves.

    The bytes are those of a writer that wasn't killed, where the format says so.
    """
    staging = folder / "staging"
    order = random.sample(sample.leaves, len(sample.leaves))
    done = random.randint(0, len(order))
    in_a_fresh_process_that_dies(
        partial(_killed_in_the_middle, format, staging, sample, order=order, done=done, random=random)
    )
    writer = format.create(staging, sample.leaves, WriteOptions(), resume=True)
    for leaf in order[done:]:
        write_leaf(writer, leaf, sample, random)
    writer.commit()
    writer.close()
    with format.open(staging) as checkpoint:
        check_equal(checkpoint, sample)
    if format.same_bytes:
        with _at_its_time(format, staging):
            plain = _write_within(format, folder / "plain", sample, random)
        assert _contents(staging) == _contents(plain)


def _killed_in_the_middle(
    format: Format, staging: Path, sample: Sample, *, order: list[Leaf], done: int, random: Random
) -> None:
    writer = format.create(staging, sample.leaves, WriteOptions())
    for leaf in order[:done]:
        write_leaf(writer, leaf, sample, random)
    for leaf in order[done : done + 1]:
        for start, stop in pieces(writer, leaf, random)[:-1]:
            writer.write(leaf.key, start, sample.data[leaf.key][start:stop])


def makes_the_same_bytes(format: Format, folder: Path, sample: Sample, random: Random) -> None:
    """Where a format says so, leaves and pieces in any order, by any number of threads, give the same bytes."""
    if format.same_bytes:
        one = _write_within(format, folder / "one", sample, random)
        with _at_its_time(format, one):
            other = _write_within(format, folder / "other", sample, random, threads=4)
        assert _contents(one) == _contents(other)


def _at_its_time(format: Format, written: Path) -> AbstractContextManager[None]:
    """The time that a checkpoint says it was written at, if it says one."""
    times = format.times(written)
    return standing_at(*times) if times else nullcontext()


def _write_within(format: Format, folder: Path, sample: Sample, random: Random, *, threads: int = 1) -> Path:
    """Write a sample in a folder of its own, so that all have the same name."""
    folder.mkdir()
    return write(format, folder / "staging", sample, random, threads=threads)


def _contents(path: Path) -> dict[str, bytes]:
    """The bytes of a file, or of every file in a folder, by name."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def stays_in_its_place(format: Format, folder: Path, sample: Sample, random: Random) -> None:
    """Nothing appears outside the staging path, whether the output is committed or abandoned."""
    writer = format.create(folder / "abandoned", sample.leaves, WriteOptions())
    for leaf in sample.leaves:
        write_leaf(writer, leaf, sample, random)
    assert [path.name for path in folder.iterdir()] == ["abandoned"]
    writer.close()
    staging = write(format, folder / "staging", sample, random)
    assert sorted(path.name for path in folder.iterdir()) == ["abandoned", "staging"]
    with format.open(staging) as checkpoint:
        for path in checkpoint.files():
            assert path == staging or staging in path.parents, path


def knows_its_own(format: Format, folder: Path, sample: Sample, random: Random) -> None:
    """Detection recognises the format's own output, but not an empty folder or arbitrary bytes."""
    staging = write(format, folder / "staging", sample, random)
    assert format.detect(staging), "doesn't recognise its own output"
    empty = folder / "empty"
    empty.mkdir()
    assert format.detect(empty) is None, "recognises an empty folder"
    noise = folder / "noise"
    noise.write_bytes(random.randbytes(random.choice([0, 7, 1000])))
    assert format.detect(noise) is None, "recognises arbitrary bytes"


def refuses_what_is_truncated(format: Format, folder: Path, sample: Sample, random: Random) -> None:
    """A truncated file is refused when it is opened, and the error names it."""
    staging = write(format, folder / "staging", sample, random)
    with format.open(staging) as checkpoint:
        files = checkpoint.files()
    file = random.choice(files)
    whole = file.read_bytes()
    file.write_bytes(whole[: random.choice([0, 1, len(whole) // 2, len(whole) - 1])])
    try:
        format.open(staging).close()
    except ConvkitError as refusal:
        assert file.name in str(refusal), f"the refusal doesn't name {file.name}: {refusal}"
    else:
        raise AssertionError(f"{file.name} is truncated, and was opened")


def refuses_or_reads_what_is_damaged(format: Format, folder: Path, sample: Sample, random: Random) -> None:
    """Whatever bytes of a file are changed, the checkpoint is refused, or opened and read: nothing else happens, except
    that the library which reads the index may crash or hang, if the format names one.
    """
    carry_out = in_a_process_that_may_crash if format.index_library else call
    staging = write(format, folder / "staging", sample, random)
    with format.open(staging) as checkpoint:
        files = checkpoint.files()
    for _ in range(4):
        file = random.choice(files)
        whole = file.read_bytes()
        changed, near = bytearray(whole), min(len(whole), random.choice([64, 512, len(whole)]))
        for place in random.choices(range(near), k=random.choice([1, 1, 3])) if near else ():
            changed[place] = random.choice([0, 0xFF, 0x7B, 0x22, 0x39, random.randrange(256)])
        file.write_bytes(changed)
        carry_out(partial(_refuses_or_reads, format, staging))
        file.write_bytes(whole)


def _refuses_or_reads(format: Format, path: Path) -> None:
    try:
        with format.open(path) as checkpoint:
            for key, leaf in checkpoint.leaves.items():
                if leaf.spec and leaf.spec.size <= MAX_SIZE:
                    checkpoint.read(key)
    except ConvkitError as refusal:
        assert len(str(refusal).splitlines()) == 1, f"the refusal isn't one line: {refusal}"


def refuses_unknown_keys(format: Format, folder: Path, sample: Sample, random: Random) -> None:
    """Reading a missing tensor, or the elements of a value, is an error that names the key."""
    with format.open(write(format, folder / "staging", sample, random)) as checkpoint:
        for key in ["no.such.key", *(leaf.key for leaf in sample.leaves if leaf.spec is None)]:
            try:
                checkpoint.read(key)
            except ConvkitError as refusal:
                assert refusal.key == key, f"the refusal doesn't name the key: {refusal}"
            else:
                raise AssertionError(f"{key} was read")


def says_where_leaves_lie(format: Format, folder: Path, sample: Sample, random: Random) -> None:
    """A byte that :meth:`Checkpoint.leaf_bytes` names is a leaf's: if a bit of it flips, a leaf is read as other."""
    path = write(format, folder / "staging", sample, random)
    with format.open(path) as checkpoint:
        places = [(file, *span) for file, spans in checkpoint.leaf_bytes().items() for span in spans]
    places = [(file, start, stop) for file, start, stop in places if start < stop]
    for file, start, stop in random.sample(places, min(2, len(places))):
        whole, at = file.read_bytes(), random.randrange(start, stop)
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << random.randrange(8)]) + whole[at + 1 :])
        try:
            with format.open(path) as checkpoint:
                same = all(checkpoint.read(key).tobytes() == data.tobytes() for key, data in sample.data.items())
        except ConvkitError:  # the format has a checksum
            same = False
        assert not same, f"byte {at} of {file.name} is no leaf's"
        file.write_bytes(whole)


Law = Callable[[Format, Path, Sample, Random], None]

LAWS: tuple[Law, ...] = (
    returns_what_was_written,
    ignores_shards,
    ignores_order_and_threads,
    resumes_after_a_kill,
    makes_the_same_bytes,
    stays_in_its_place,
    knows_its_own,
    refuses_what_is_truncated,
    refuses_or_reads_what_is_damaged,
    refuses_unknown_keys,
    says_where_leaves_lie,
)


def write(
    format: Format,
    staging: Path,
    sample: Sample,
    random: Random,
    *,
    threads: int = 1,
    options: WriteOptions | None = None,
) -> Path:
    """Write a whole sample in random pieces and order, commit it, and return its path."""
    writer = format.create(staging, sample.leaves, options or WriteOptions())
    order = random.sample(sample.leaves, len(sample.leaves))
    with ThreadPoolExecutor(threads) as pool:
        chances = [Random(random.random()) for _ in order]
        list(pool.map(lambda leaf, chance: write_leaf(writer, leaf, sample, chance), order, chances))
    writer.commit()
    writer.close()
    return staging


def write_leaf(writer: Writer, leaf: Leaf, sample: Sample, random: Random) -> None:
    """Write one leaf in random pieces, and finish it; a tied leaf isn't written."""
    if leaf.same_as:
        return
    for start, stop in pieces(writer, leaf, random):
        writer.write(leaf.key, start, sample.data[leaf.key][start:stop])
    writer.finish(leaf.key)


def pieces(writer: Writer, leaf: Leaf, random: Random) -> list[tuple[int, int]]:
    """Ranges that cover a tensor, in random order, cut where the writer allows it; empty if nothing is written."""
    if leaf.spec is None or leaf.same_as:
        return []
    grain = writer.granularity(leaf.key)
    inner = range(grain, leaf.spec.size, grain)
    cuts = [0, *sorted(random.sample(inner, min(len(inner), random.randint(0, 3)))), leaf.spec.size]
    return random.sample(ranges := list(pairwise(cuts)), len(ranges))


def check_equal(checkpoint: Checkpoint, sample: Sample) -> None:
    """Check that the checkpoint holds the sample's leaves and no others."""
    expected, keys_found = {leaf.key for leaf in sample.leaves}, set(checkpoint.leaves)
    assert keys_found == expected, f"missing {expected - keys_found}, added {keys_found - expected}"
    for leaf in sample.leaves:
        found = checkpoint.leaves[leaf.key]
        assert found.key == leaf.key
        assert found.spec == leaf.spec, f"{leaf.key}: {found.spec} for {leaf.spec}"
        if leaf.same_as:
            ties = (found.same_as, checkpoint.leaves[leaf.same_as].same_as)
            assert ties in [(leaf.same_as, None), (None, leaf.key)], f"{leaf.key}: tied {ties}"
        if leaf.spec is None:
            assert repr(found.value) == repr(leaf.value), f"{leaf.key}: {found.value!r} for {leaf.value!r}"
            continue
        check_bits(checkpoint.read(leaf.key), sample.data[leaf.key], leaf.key)


def check_bits(found: np.ndarray, expected: np.ndarray, key: str) -> None:
    """Check for equal dtype, length and bits."""
    assert found.dtype == expected.dtype, f"{key}: {found.dtype} for {expected.dtype}"
    assert found.shape == expected.shape, f"{key}: {found.shape} for {expected.shape}"
    assert found.tobytes() == expected.tobytes(), f"{key}: the bits differ"


def in_a_process_that_dies(work: Callable[[], None]) -> None:
    """Do the work in a forked child that ends without closing anything, so that only what it wrote survives."""
    assert _in_a_fork(work) == 0, "the work failed before it could be killed"


def in_a_process_that_may_crash(work: Callable[[], None]) -> None:
    """Do the work in a forked child, which may crash, or hang for 20 seconds."""

    def limited() -> None:
        faulthandler.disable()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        work()

    assert _in_a_fork(limited) <= 0, "the work failed"


def _in_a_fork(work: Callable[[], None]) -> int:
    """How the work ended in a forked child: 0, 1 if it raised, or the negative number of a signal."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            print_exc()
        finally:  # in any case: the child must not continue as if it were the parent
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def in_a_fresh_process_that_dies(work: Callable[[], None]) -> None:
    """Like :func:`in_a_process_that_dies`, for libraries whose threads don't survive a fork. The work is pickled: a
    function of a module, or a ``partial`` of one.
    """
    fresh = multiprocessing.get_context("forkserver")
    fresh.set_forkserver_preload(["convkit.testing"])
    child = fresh.Process(target=_die_after, args=(work,))
    child.start()
    child.join()
    assert child.exitcode == 0, "the work failed before it could be killed"


def _die_after(work: Callable[[], None]) -> None:
    try:
        work()
    except BaseException:
        print_exc()
        os._exit(1)
    os._exit(0)
