"""Make one part of an output: a share of its leaves' ranges, written into the folder that all parts share.

A part that was killed is started again, on any machine, and makes what its journals don't have. Two runs of the same
part at the same time write the same bytes to the same places. What lies there in the end is read when the parts are
finished.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import as_completed
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from socket import gethostname
from typing import Any

from msgspec.structs import replace

from convkit.checkpoint import WriteOptions, Writer
from convkit.checkpoint.digests import BlockDigests, digest_value
from convkit.checkpoint.progress import Meter, Progress
from convkit.checkpoint.threads import workers
from convkit.errors import ConvkitError, UsageError
from convkit.execute.chain import jobs_of, links_of
from convkit.execute.conversion import opened_earlier
from convkit.execute.in_parts.agreement import agreed
from convkit.execute.in_parts.share import Share, SourceRange, share_of
from convkit.execute.laid_out import target_options, work_of, written_leaves
from convkit.execute.making import anonymous_bytes, make_range
from convkit.execute.origins import Origins
from convkit.execute.places import Places
from convkit.execute.publish import check_room, telling
from convkit.execute.runs import Range
from convkit.files.finishing import SOURCE, TARGET, WHOLE
from convkit.files.maker import maker
from convkit.files.part import Part
from convkit.files.part_json import PartDocument
from convkit.files.receipt import CONVERSION, read_receipt
from convkit.files.receipt_json import MadePart
from convkit.files.scratch import Scratch
from convkit.files.shared import Done, Journal, Shared, done_of
from convkit.formats import check_name, get_format
from convkit.plan import Plan, Source

_PLAIN = WriteOptions()


def make_part(
    source: Source,
    plan: Plan,
    target: Path,
    part: Part,
    *,
    threads: int | None = None,
    options: WriteOptions = _PLAIN,
    digest: str = "xxh3-128",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make a part of ``target``, and return what it says of itself; nothing gets a final name.

    Part 0 lays out the output, in place of one that another plan has begun; the others do so if none is there.

    Raises:
        UsageError: the target exists, is part of the source, can't be made in parts, or other parts have something else
            in common.
        ConvkitError: the source can't be read, or changes meanwhile, or the disk is full.
    """
    check_name(target, plan.target_format)
    source = replace(source, checkpoint=plan.wrapping.off(source.checkpoint))
    places = Places(work_of(source, target, overwrite=overwrite, into_empty=False, in_parts=True))
    shared = Shared(places.target, agreed(source, plan, options, digest, part.count))
    with telling(places.target):
        if part.number and not shared.begun:
            _refuse_finished(shared)
        places.refuse()
        made = _Part(source, plan, shared, part, options=options, threads=threads, algorithm=digest, progress=progress)
        shared.begin(made.lay_out, over=not part.number)
        return made.run()


def _refuse_finished(shared: Shared) -> None:
    """Check that the target isn't the output of just these parts.

    Raises:
        UsageError: it is.
    """
    receipt = read_receipt(shared.target, CONVERSION) or {}
    parts = receipt.get("in_parts")
    if isinstance(parts, dict) and parts.get("identity") == shared.agreed.digest:
        count = shared.agreed.parts
        raise UsageError(
            f"is finished: all {count} parts are in it",
            path=shared.target,
            remedy=f"to make it again, begin with --part 0/{count} --overwrite",
        )


class _Part:
    """One run of a part."""

    def __init__(
        self,
        source: Source,
        plan: Plan,
        shared: Shared,
        part: Part,
        *,
        options: WriteOptions,
        threads: int | None,
        algorithm: str,
        progress: Progress | None,
    ) -> None:
        self.source, self.plan, self.shared, self.part = source, plan, shared, part
        self.options = replace(target_options(source, plan, options), in_parts=True)
        self.threads = threads or os.cpu_count() or 1
        self.algorithm, self.progress = algorithm, progress
        self.written = written_leaves(plan)
        self.origins = Origins(source.checkpoint, algorithm)
        self._scratch = Scratch(shared.folder)
        self.allow_overflow = any(stage.allow_overflow for stage in plan.stages)
        self.begun, self.started = datetime.now(UTC), time.monotonic()
        self.peak = 0
        #: by leaf, the ranges that are still to be made, and what is to be recorded of those that are made
        self._open: dict[str, int] = {}
        self._waiting: dict[str, list[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._advance = Meter(0, None)

    def lay_out(self, main: Path) -> None:
        """Lay out the output.

        Raises:
            UsageError: its bytes can't be written by several processes.
            ConvkitError: the disk is too small, or the format can't hold a leaf.
        """
        check_room(main.parent, self.plan.bytes_written(), self.shared.target)
        writer = self._writer(main, resume=False)
        writer.close()
        if not writer.shared:
            raise UsageError(
                f"{self.plan.target_format} can't be made in parts: not all of its bytes have places of their own",
                path=self.shared.target,
                remedy="make it in one job, without --part",
            )

    def run(self) -> dict[str, Any]:
        """Make what no run of this part has made, and say what the part is."""
        if not self.part.number:
            return self._said(self._made(0, 0, resumed=False), 0)
        before = done_of(self.shared.folder, self.part)
        if before.ended is not None:
            return self._said(MadePart(**before.ended), 0)
        with ExitStack() as stack:
            earlier = opened_earlier(self.source, self.plan, stack)
            jobs = jobs_of(links_of(self.plan, self.source.checkpoint, earlier))
            writer = self._writer(self.shared.main, resume=True)
            stack.callback(writer.close)
            own = [job for job in jobs if self.written[job.key].same_as is None]
            share = share_of(self.part, own, writer, self.source.checkpoint)
            return self._carry(share, writer, before)

    def _carry(self, share: Share, writer: Writer, before: Done) -> dict[str, Any]:
        self.source.checkpoint.check_sums(self.threads, (self.part.number - 1, self.part.count))
        left = [each for each in share.ranges if (TARGET + each.job.key, each.start) not in before.entries]
        if not writer.splits:  # a leaf that is unfinished is made from its start
            unfinished = {each.job.key for each in left}
            left = [each for each in share.ranges if each.job.key in unfinished]
        rest = [each for each in share.sources if (SOURCE + each.key, each.start) not in before.entries]
        whole = {key.removeprefix(WHOLE) for key, _ in before.entries if key.startswith(WHOLE)}
        rest = [each for each in rest if each.key not in whole]
        for key, count in Counter(each.job.key for each in left).items():
            self._open[key] = count
        self._advance = Meter(share.nbytes, self.progress)
        nbytes = sum(map(_bytes_of, left)) + sum(map(self._bytes_of_source, rest))
        self._advance(share.nbytes - nbytes)
        with closing(self._scratch), Journal(self.shared.folder, self.part) as journal:
            self._each(left, lambda each: self._make(each, writer, share, journal), sum(map(_bytes_of, left)))
            self._each(rest, lambda each: self._digest(each, journal), sum(map(self._bytes_of_source, rest)))
            writer.sync()
            try:
                if self.source.watch is not None:
                    self.source.watch.check()
            except ConvkitError:
                journal.void()
                raise
            made = self._made(
                sum(map(_bytes_of, share.ranges)),
                sum(map(self._bytes_of_source, share.sources)),
                resumed=before.runs > 0,
            )
            journal.end({name: getattr(made, name) for name in made.__struct_fields__})
        return self._said(made, nbytes)

    def _each(self, work: Sequence[Any], one: Any, nbytes: int) -> None:
        with workers(self.threads, nbytes) as pool:
            pending = [pool.submit(one, each) for each in work]
            try:
                for future in as_completed(pending):
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _make(self, part: Range, writer: Writer, share: Share, journal: Journal) -> None:
        job = part.job
        rearranged = job.reader is self.source.checkpoint and job.digest_of is None
        whole = partial(self.origins.passing, self.source.checkpoint) if rearranged else None
        made = make_range(part, writer, self.algorithm, self._advance, whole=whole, scratch=self._scratch)
        if made.overflow.count and not self.allow_overflow:
            remedy = "choose a dtype of a wider range, or accept what becomes of them: --allow-overflow"
            raise ConvkitError(made.overflow.said(job.spec.dtype), path=self.source.path, key=job.key, remedy=remedy)
        lost = [made.overflow.count, made.overflow.largest]
        entry: dict[str, Any] = {"key": TARGET + job.key, "start": part.start, "stop": part.stop}
        entry["blocks"] = b"".join(made.blocks).hex()
        entry |= {"overflow": lost} if made.overflow.count else {}
        with self._lock:
            self._open[job.key] -= 1
            last = not self._open[job.key]
            entries = self._waiting.setdefault(job.key, [])
            entries.append(entry)
        if last:
            job.held = None
        if not (last or writer.splits):
            return
        if not made.copied:
            (writer.finish if last and job.key in share.whole else writer.settle)(job.key)
        self._record(journal, entries if not writer.splits else [entry])

    def _digest(self, part: SourceRange, journal: Journal) -> None:
        known = self.origins.digests.get(part.key)
        if known is not None:
            self._record(journal, [{"key": WHOLE + part.key, "digest": known}])
            self._advance(self._bytes_of_source(part))
            return
        digests = BlockDigests(self.algorithm)
        for _, data in self.source.checkpoint.blocks(part.key, start=part.start, stop=part.stop):
            digests.update(data)
            self._advance(data.nbytes)
        blocks = b"".join(digests.blocks()).hex()
        entry = {"key": SOURCE + part.key, "start": part.start, "stop": part.stop, "blocks": blocks}
        self._record(journal, [entry])

    def _record(self, journal: Journal, entries: list[dict[str, Any]]) -> None:
        with self._lock:
            for entry in entries:
                journal.record(entry)
            self.peak = max(self.peak, anonymous_bytes())

    def _writer(self, main: Path, *, resume: bool) -> Writer:
        return get_format(self.plan.target_format).create(
            main, list(self.written.values()), self.options, resume=resume
        )

    def _bytes_of_source(self, part: SourceRange) -> int:
        return (part.stop - part.start) * self.source.checkpoint.spec(part.key).itemsize

    def _made(self, made: int, digested: int, *, resumed: bool) -> MadePart:
        return MadePart(
            part=self.part.number,
            host=gethostname(),
            started=self.begun.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self.started, 3),
            threads=self.threads,
            bytes_made=made,
            bytes_digested=digested,
            peak_anonymous_bytes=self.peak,
            resumed=resumed,
        )

    def _said(self, made: MadePart, nbytes: int) -> dict[str, Any]:
        by = maker()
        return PartDocument(
            convkit=by.convkit,
            commit=by.commit,
            command_line=by.command_line,
            target=self.shared.target.name,
            plan_digest=digest_value("sha256", self.plan.to_json()),
            identity=self.shared.agreed.digest,
            parts=self.part.count,
            made=made,
            warnings=[*self.plan.warnings, *self.source.warnings],
            seconds=round(time.monotonic() - self.started, 3),
            bytes=nbytes,
        ).to_json()


def _bytes_of(part: Range) -> int:
    return (part.stop - part.start) * part.job.spec.itemsize
