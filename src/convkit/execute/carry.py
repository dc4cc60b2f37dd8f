"""Make leaves by jobs, which are cut into ranges for threads, digested and journaled.

A job's leaf is cut into *ranges* (64 MiB or less, so that one large leaf feeds several threads), a range into slabs
of a few MiB. A slab is gathered by strided copies from the source, its ops are applied, then it is digested and
written. A leaf that only moves is written from the buffer that it was read into. The stored files of an
unchanged leaf are copied if the output's writer accepts them (:meth:`Writer.copy_leaf`), and decoded only for the
digest. A source is read in the range that a slab needs; one that is transposed in windows
(:mod:`convkit.execute.parts`) if it lies open in a file, else (of stacked layers, a layer at a time) whole, once for
all threads, because it must be decoded.

Peak anonymous memory: each thread holds a slab (:data:`~convkit.execute.slabs.SLAB` bytes, up to
:data:`~convkit.execute.runs.MAX_SLAB` if a transposition needs :data:`~convkit.execute.slabs.TILE` rows, or one
chunk row of the output's format), a window of what is transposed (:data:`~convkit.plan.peak.WINDOW`) unless it lies in
a scratch file (:mod:`convkit.execute.turned`), and at most the source leaves of one step where they are decoded. A plan
predicts it (:mod:`convkit.plan.peak`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from convkit.checkpoint import Checkpoint, Tensors, Writer
from convkit.checkpoint.digests import combine, digest_leaf
from convkit.checkpoint.progress import Meter, Progress
from convkit.checkpoint.threads import workers
from convkit.errors import ConvkitError
from convkit.execute.job import Held, Job
from convkit.execute.making import anonymous_bytes, make_range, ranges_of
from convkit.execute.origins import Origins
from convkit.execute.runs import Range
from convkit.files.scratch import Scratch
from convkit.files.staging import StaleError
from convkit.mapping.ops import Overflow


class Journal(Protocol):
    """What remembers the leaves that are finished, so that a killed run resumes."""

    #: the entry of each leaf that a killed run had finished
    finished: dict[str, Any]

    def record(self, entry: dict[str, Any]) -> None:
        """Remember that a leaf is finished."""


class Carrier:
    """Makes leaves with several threads, and collects the digests of leaves made and of leaves read whole.

    Attributes:
        digests: role of an output (``target``, ``complement``), or ``source`` -> key -> digest.
        peak: anonymous memory of the process in bytes, the largest that was seen (Linux).
    """

    def __init__(
        self,
        journal: Journal,
        source: Checkpoint,
        *,
        threads: int,
        algorithm: str,
        progress: Progress | None = None,
        allow_overflow: bool = False,
        scratch: Path | None = None,
    ) -> None:
        self.journal = journal
        self.source = source
        self.threads = threads
        self.algorithm = algorithm
        self.progress = progress
        self.allow_overflow = allow_overflow
        self.overflowed: dict[str, str] = {}
        self.origins = Origins(source, algorithm)
        self.digests: dict[str, dict[str, str]] = {"source": self.origins.digests, "target": {}, "complement": {}}
        #: keys of leaves that a killed run had made, by role
        self.taken_over: dict[str, list[str]] = {}
        self.peak = 0
        self._scratch = Scratch(scratch) if scratch else None
        self._lock = threading.Lock()
        self._advance = Meter(0, None)

    def make(self, jobs: Sequence[Job], writers: Mapping[str, Writer]) -> None:
        """Make every leaf that isn't in the journal yet; ``writers`` are keyed by the role of their jobs.

        Raises:
            ConvkitError: a source can't be read, or an output can't be written.
            StaleError: the journal's leaves were made of another source.
        """
        self._advance = Meter(sum(job.spec.nbytes for job in jobs), self.progress)
        ranges: list[Range] = []
        for job in self._left_to_make(jobs):
            writer = writers[job.role]
            mine = ranges_of(job, writer)
            job.open_runs = len(mine)
            job.held = Held() if len(mine) > 1 else None
            ranges += mine
        with workers(self.threads, sum(each.job.spec.nbytes for each in ranges)) as pool:
            try:
                for _ in pool.map(lambda each: self._work(each, writers[each.job.role]), ranges):
                    pass
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
            finally:
                if self._scratch:
                    self._scratch.close()

    def digest_source(self) -> None:
        """Digest the source leaves that no leaf is made of."""
        leaves = self.source.leaves
        rest = {key: leaf.spec for key, leaf in leaves.items() if leaf.spec and key not in self.digests["source"]}
        with workers(self.threads, sum(spec.nbytes for spec in rest.values())) as pool:
            for _ in pool.map(lambda key: self.origins.digest(self.source, key), rest):
                pass

    def check_taken_over(self, role: str, made: Tensors) -> None:
        """Digest the leaves that a killed run had made, as they lie in the output now.

        Raises:
            StaleError: some aren't as the journal has them.
        """

        def differs(key: str) -> bool:
            try:
                return digest_leaf(made, key, self.algorithm) != self.digests[role][key]
            except ConvkitError:
                return True

        keys = self.taken_over.get(role, [])
        with workers(self.threads, sum(made.spec(key).nbytes for key in keys)) as pool:
            changed = [key for key, different in zip(keys, pool.map(differs, keys), strict=True) if different]
        if changed:
            more = f" (and {len(changed) - 1} more)" if changed[1:] else ""
            raise StaleError(
                f"{changed[0]}{more}: what a killed run had written has changed since",
                [f"{role}:{key}" for key in changed],
            )

    def _left_to_make(self, jobs: Sequence[Job]) -> list[Job]:
        """Take over what the journal has, if it was made of the source as it is now; return the other jobs."""
        found = [(job, self.journal.finished.get(job.journal_key)) for job in jobs]
        taken = [(job, entry) for job, entry in found if entry is not None]
        with workers(self.threads, sum(job.spec.nbytes for job, _ in taken)) as pool:
            for (job, entry), sources in zip(taken, pool.map(self._sources_now, taken), strict=True):
                if entry.get("sources") != sources:
                    raise StaleError(f"{job.key}: a killed run had made it of another source")
                self._check_overflow(job.key, job.spec.dtype, Overflow(*entry.get("overflow", ())))
                self.digests.setdefault(job.role, {})[job.key] = entry["digest"]
                self.taken_over.setdefault(job.role, []).append(job.key)
        self._advance(sum(job.spec.nbytes for job, _ in taken))
        return [job for job, entry in found if entry is None]

    def _sources_now(self, taken: tuple[Job, dict[str, Any]]) -> dict[str, str] | None:
        """The digests of what a leaf that was taken over is made of; None where the journal has none of them, because
        all of the source was compared otherwise.
        """
        job, entry = taken
        if "sources" in entry:
            return self.origins.of(job)
        if job.digest_of is not None:
            self.origins.note(self.source, job.digest_of, entry["digest"])
        return None

    def _work(self, part: Range, writer: Writer) -> None:
        job = part.job
        rearranged = job.reader is self.source and job.digest_of is None
        whole = partial(self.origins.passing, self.source) if rearranged else None
        made = make_range(part, writer, self.algorithm, self._advance, whole=whole, scratch=self._scratch)
        with self._lock:
            job.blocks[part.start] = made.blocks
            job.open_runs -= 1
            job.overflow += made.overflow
            last = job.open_runs == 0
        if last:
            job.held = None
            self._check_overflow(job.key, job.spec.dtype, job.overflow)
            if not made.copied:
                writer.finish(job.key)
            digest = combine(self.algorithm, (block for start in sorted(job.blocks) for block in job.blocks[start]))
            if job.digest_of is not None:
                self.origins.note(self.source, job.digest_of, digest)
            elif job.stored:
                for tensors, key in job.origins():
                    self.origins.note(tensors, key, digest)
            sources = self.origins.of(job)
            with self._lock:
                self.digests.setdefault(job.role, {})[job.key] = digest
                lost = [job.overflow.count, job.overflow.largest]
                entry = {"key": job.journal_key, "digest": digest, "sources": sources}
                self.journal.record(entry | ({"overflow": lost} if job.overflow.count else {}))
                self.peak = max(self.peak, anonymous_bytes())

    def _check_overflow(self, key: str, dtype: str, lost: Overflow) -> None:
        """Note what a cast made of values that the dtype can't hold.

        Raises:
            ConvkitError: that isn't allowed.
        """
        if not lost.count:
            return
        if not self.allow_overflow:
            remedy = "choose a dtype of a wider range, or accept what becomes of them: --allow-overflow"
            raise ConvkitError(lost.said(dtype), path=self.source.path, key=key, remedy=remedy)
        with self._lock:
            self.overflowed[key] = lost.said(dtype)
