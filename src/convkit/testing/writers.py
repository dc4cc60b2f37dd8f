"""The life of a writer as a state machine: laid out, written, finished, interrupted, resumed, committed, abandoned.

Hypothesis takes the steps in any order::

    def test_writers_of_my_format():
        run_state_machine_as_test(writer_machine(MyFormat()))

An interrupted writer is closed without a commit in this process; a process that dies is among the laws of
:mod:`convkit.testing.formats`.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from convkit.checkpoint import Format, Leaf, WriteOptions, Writer
from convkit.testing.formats import check_equal, holdable, pieces, write_leaf
from convkit.testing.samples import Sample, samples

RANDOMS = st.integers(0, 2**32 - 1).map(Random)


def writer_machine(format: Format) -> type[RuleBasedStateMachine]:
    """The state machine of a format's writers.

    Its steps raise AssertionError where the writer breaks the contract of :class:`convkit.checkpoint.Writer`: a
    finished leaf is lost, a checkpoint holds something else than was written, or a file lies elsewhere.
    """
    return type("WriterMachine", (_WriterMachine,), {"format": format})


class _WriterMachine(RuleBasedStateMachine):
    format: Format

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.staging = Path(self.folder.name) / "staging"
        self.sample = Sample((), {})
        self.writer: Writer | None = None
        self.laid_out = self.committed = False
        #: finished leaves; the pieces of others that aren't written yet
        self.finished: set[str] = set()
        self.missing: dict[str, list[tuple[int, int]]] = {}

    def teardown(self) -> None:
        if self.writer:
            self.writer.close()
        self.folder.cleanup()

    # --- what can be done at any time -------------------------------------------------------------------

    @property
    def unfinished(self) -> list[Leaf]:
        """The leaves that have to be written."""
        return [leaf for leaf in self.sample.leaves if not leaf.same_as and leaf.key not in self.finished]

    def is_open(self) -> bool:
        """Whether there is a writer, and leaves for it to write."""
        return self.writer is not None and bool(self.unfinished)

    @initialize(sample=samples(max_leaves=4))
    def take_a_sample(self, sample: Sample) -> None:
        self.sample = holdable(self.format, sample)

    @precondition(lambda self: not self.laid_out)
    @rule(shard_size=st.sampled_from([None, None, 1000]))
    def lay_out(self, shard_size: int | None) -> None:
        self.options = WriteOptions(shard_size=shard_size)
        self.writer = self.format.create(self.staging, self.sample.leaves, self.options)
        self.laid_out = True

    @precondition(lambda self: self.is_open())
    @rule(random=RANDOMS)
    def write_a_piece(self, random: Random) -> None:
        assert self.writer
        leaf = random.choice(self.unfinished)
        missing = self.missing.setdefault(leaf.key, pieces(self.writer, leaf, random))
        if missing:
            start, stop = missing.pop()
            self.writer.write(leaf.key, start, self.sample.data[leaf.key][start:stop])

    @precondition(lambda self: self.is_open())
    @rule(random=RANDOMS)
    def finish_a_leaf(self, random: Random) -> None:
        assert self.writer
        leaf = random.choice(self.unfinished)
        for start, stop in self.missing.pop(leaf.key, None) or pieces(self.writer, leaf, random):
            self.writer.write(leaf.key, start, self.sample.data[leaf.key][start:stop])
        self.writer.finish(leaf.key)
        self.finished.add(leaf.key)

    @precondition(lambda self: self.is_open())
    @rule(random=RANDOMS, threads=st.integers(2, 4))
    def write_together(self, random: Random, threads: int) -> None:
        writer = self.writer
        assert writer
        fresh = [leaf for leaf in self.unfinished if leaf.key not in self.missing]
        chances = [Random(random.random()) for _ in fresh]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda leaf, chance: write_leaf(writer, leaf, self.sample, chance), fresh, chances))
        self.finished |= {leaf.key for leaf in fresh}

    @precondition(lambda self: self.writer is not None)
    @rule()
    def interrupt(self) -> None:
        assert self.writer
        self.writer.close()
        self.writer = None
        self.missing.clear()

    @precondition(lambda self: self.laid_out and self.writer is None)
    @rule()
    def resume(self) -> None:
        self.writer = self.format.create(self.staging, self.sample.leaves, self.options, resume=True)
        self.committed = False

    @precondition(lambda self: self.writer is not None and not self.unfinished)
    @rule()
    def commit(self) -> None:
        assert self.writer
        self.writer.commit()
        self.writer.close()
        self.writer = None
        self.committed = True

    @precondition(lambda self: self.laid_out and self.writer is None)
    @rule(sample=samples(max_leaves=4))
    def abandon(self, sample: Sample) -> None:
        shutil.rmtree(self.staging) if self.staging.is_dir() else self.staging.unlink()
        self.finished.clear()
        self.laid_out = self.committed = False
        self.sample = holdable(self.format, sample)

    # --- what holds after every step ---------------------------------------------------------------------

    @invariant()
    def holds_what_was_written(self) -> None:
        """A committed checkpoint holds the sample."""
        if self.committed:
            with self.format.open(self.staging) as checkpoint:
                check_equal(checkpoint, self.sample)

    @invariant()
    def stays_in_its_place(self) -> None:
        """Nothing lies beside the staging path."""
        assert {path.name for path in Path(self.folder.name).iterdir()} <= {"staging"}
