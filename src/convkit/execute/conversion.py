"""Carrying a plan out: streamed, in bounded memory, with any number of threads.

A step's target leaves are cut into *runs* (64 MiB or less, so that one large leaf feeds several
threads), a run into slabs of a few MiB. A slab is gathered by strided copies from the source, its
ops applied, digested and written; a leaf that only moves goes from the mapped source to the output
without a buffer between; one that only moves and has files of its own is copied with them, and decoded
for its digest alone. Leaves whose bytes must be decoded first are read in the range that a slab needs, or
whole where it needs them crosswise.

Peak anonymous memory: each thread holds a slab (:data:`SLAB` bytes, up to :data:`MAX_SLAB` where a
transposition wants :data:`~convkit.execute.slabs.TILE` rows, or one chunk row of the output's format) and, for
formats that must be decoded, at most the source leaves of one step.
"""

from __future__ import annotations

import os
import platform
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import convkit
from convkit.checkpoint import Leaf, WriteOptions, Writer
from convkit.checkpoint.digests import BlockDigests, combine, digest_array, digest_leaf, digest_value
from convkit.errors import ConvkitError, UsageError
from convkit.execute.complement import check_ties, complement_jobs
from convkit.execute.gather import Gather
from convkit.execute.job import Job
from convkit.execute.jobs import target_jobs
from convkit.files.config_file import write_config
from convkit.files.receipt import (
    COMPLEMENT_FORMAT,
    SCHEMA,
    complement_path,
    json_value,
    migration_path,
    receipt_path,
    same_files,
)
from convkit.files.staging import Staging
from convkit.formats import get_format, open_checkpoint
from convkit.plan import Plan, Source
from convkit.plan.source import companions_path

if TYPE_CHECKING:
    import numpy as np
from convkit.execute.runs import Range, cut, slabs

Progress = Callable[[int, int], None]


#: what a format does where nobody asks for anything
_PLAIN = WriteOptions()


def convert(
    source: Source,
    plan: Plan,
    target: Path,
    *,
    threads: int | None = None,
    options: WriteOptions = _PLAIN,
    digest: str = "xxh3-128",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write ``target`` (with its config, receipt and complement beside it) as ``options`` ask; returns the receipt.

    Raises:
        UsageError: the target exists, is of the source, or another process is writing it.
        ConvkitError: the source can't be read, tied copies differ, or the disk is full. Nothing is
            left under a final name.
    """
    threads = threads or os.cpu_count() or 1
    identity = {
        "plan": plan.digest,
        "source": [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in source.checkpoint.files()],
        "options": [options.shard_size, sorted(options.chunks.items()), options.compressor],
        "digest": digest,
    }
    target = target.absolute()
    nested = any(file.parent != source.path for file in source.checkpoint.files())
    if nested and source.path.resolve() in target.resolve().parents:
        raise UsageError("lies among the folders of the source", path=target, remedy="name a target elsewhere")
    if overwrite:
        _refuse_to_replace(target, source)
    with Staging(target, identity, overwrite) as staging:
        try:
            conversion = _Conversion(
                source, plan, staging, threads=threads, options=options, algorithm=digest, progress=progress
            )
            return conversion.run()
        except OSError as error:
            raise ConvkitError(
                f"can't be written: {error.strerror or error}", path=target, remedy="free space, or check permissions"
            ) from None


def _refuse_to_replace(target: Path, source: Source) -> None:
    """What is replaced is a conversion, never the source or a folder of somebody else's.

    Raises:
        UsageError: it is.
    """
    real, kept = target.resolve(), source.path.resolve()
    if real == kept or real in kept.parents:
        raise UsageError("is the source, or holds it", path=target, remedy="name another target")
    if target.is_dir() and any(target.iterdir()) and not receipt_path(target).is_file():
        raise UsageError(
            "is a folder that convkit didn't write", path=target, remedy="remove it yourself, or name another target"
        )


class _Conversion:
    """One plan over one staged output."""

    def __init__(
        self,
        source: Source,
        plan: Plan,
        staging: Staging,
        *,
        threads: int,
        options: WriteOptions,
        algorithm: str,
        progress: Progress | None,
    ) -> None:
        self.source = source
        self.plan = plan
        self.staging = staging
        self.threads = threads
        self.options = options
        self.algorithm = algorithm
        self.progress = progress
        self.lock = threading.Lock()
        self.done = 0
        self.peak = 0
        self.started = time.monotonic()
        self.digests: dict[str, dict[str, str]] = {"source": {}, "target": {}, "complement": {}}
        self.warnings = [*plan.warnings, *staging.warnings]
        self.writers: dict[str, Writer] = {}
        self.stack = ExitStack()

    def run(self) -> dict[str, Any]:
        started = datetime.now(UTC).isoformat(timespec="seconds")
        with self.stack:
            check_ties(self.source.checkpoint, self.plan)
            kept = self._complement_jobs()
            self._check_disk(kept)
            main = self.staging.out / self.staging.target.name
            written = self._written_leaves()
            self._open_writer("target", main, written, self.plan.target_format, self._continued())
            beside = self._write_beside(self.writers["target"].beside())
            jobs = [job for job in self._target_jobs() if written[job.key].same_as is None]
            if kept:
                path = self.staging.out / complement_path(self.staging.target).name
                self._open_writer(
                    "complement", path, {job.key: Leaf(job.key, job.spec) for job in kept}, COMPLEMENT_FORMAT
                )
            self._execute(jobs + kept)
            self._digest_rest()
            for writer in self.writers.values():
                writer.commit()
        names = [*beside, *self._side_files(main)]
        receipt = self._receipt(started, main)
        path = self.staging.out / receipt_path(self.staging.target).name
        write_config(path, receipt)
        kept_name = [complement_path(self.staging.target).name] if kept else []
        self.staging.publish([*kept_name, path.name, *names, self.staging.target.name])
        if not kept:
            complement_path(self.staging.target).unlink(missing_ok=True)
        migration_path(self.staging.target).unlink(missing_ok=True)  # of a migration that is replaced
        return receipt

    # --- what has to be written ----------------------------------------------------------------------

    def _written_leaves(self) -> dict[str, Leaf]:
        """Target leaves; where the format knows no ties, tied ones are written in full."""
        if get_format(self.plan.target_format).ties:
            return self.plan.target_leaves
        return {key: replace(leaf, same_as=None) for key, leaf in self.plan.target_leaves.items()}

    def _open_writer(
        self, role: str, path: Path, leaves: dict[str, Leaf], format: str, options: WriteOptions = _PLAIN
    ) -> None:
        resume = self.staging.resumed and path.exists()
        self.writers[role] = get_format(format).create(path, list(leaves.values()), options, resume=resume)
        self.stack.callback(self.writers[role].close)

    def _continued(self) -> WriteOptions:
        """The options, with what the target's format goes on with where the source tells it, and the config."""
        target, known = get_format(self.plan.target_format), self.source.checkpoint.metadata
        carried = {name: known[name] for name in target.carried if known.get(name)}
        config = (self.plan.target_config or None) if target.holds_config else None
        return replace(self.options, metadata={**carried, **self.options.metadata}, config=config)

    def _target_jobs(self) -> list[Job]:
        plan, earlier = self.plan, None
        if any(leaf.spec for leaf in plan.restored.values()) or any(
            (s.pad and s.pad.kept_as) or (s.folded and s.folded.side == "target") or s.kept for s in plan.bound.steps
        ):
            earlier = self.stack.enter_context(open_checkpoint(complement_path(self.source.path), COMPLEMENT_FORMAT))
        return target_jobs(plan, self.source.checkpoint, earlier)

    def _complement_jobs(self) -> list[Job]:
        jobs = complement_jobs(self.source.checkpoint, self.plan)
        steps = self.plan.bound.steps
        told = {step.folded.key for step in steps if step.folded}
        told |= {side.key for step in steps if step.shifted for side in step.sources}
        for job in jobs:
            if job.key not in self.plan.bound.left_behind.keys() | told:
                self.warnings.append(f"{job.key}: the way back couldn't make it again: kept in the complement")
        return jobs

    # --- checks before the first write ----------------------------------------------------------------

    def _check_disk(self, kept: list[Job]) -> None:
        if self.staging.resumed:
            return
        need = self.plan.bytes_written() + sum(job.spec.nbytes for job in kept)
        free = shutil.disk_usage(self.staging.folder).free
        if need > free:
            raise ConvkitError(
                f"needs {need / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB free",
                path=self.staging.target,
                remedy="free space, or name a target elsewhere",
            )

    # --- the work ----------------------------------------------------------------------------------------

    def _execute(self, jobs: list[Job]) -> None:
        total = sum(job.spec.nbytes for job in jobs)
        runs: list[Range] = []
        for job in jobs:
            if (entry := self.staging.finished.get(_journal_key(job))) is not None:
                self._note(job, entry["digest"])
                self._advance(job.spec.nbytes, total)
                continue
            grain = self.writers[job.role].granularity(job.key)
            mine = [Range(job, 0, job.spec.size)] if job.files() else list(cut(job, grain))
            job.open_runs = len(mine)
            runs += mine
        with ThreadPoolExecutor(self.threads) as pool:
            pending = [pool.submit(self._work, run, total) for run in runs]
            try:
                for future in as_completed(pending):
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _work(self, run: Range, total: int) -> None:
        job = run.job
        writer = self.writers[job.role]
        digests = BlockDigests(self.algorithm)
        rearranged = job.reader is self.source.checkpoint and job.digest_of is None
        gather = Gather(job, self._digest_source if rearranged else None)
        files = job.files()
        copied = files is not None and writer.copy_leaf(job.key, files)
        grain = 1 if copied else writer.granularity(job.key)
        for start, stop in slabs(run, grain, gather.crosswise):
            data = gather(start, stop)
            if data.size:
                digests.update(data)
                if not copied:
                    writer.write(job.key, start, data)
            self._advance((stop - start) * job.spec.itemsize, total)
        with self.lock:
            job.blocks[run.start] = digests.blocks()
            job.open_runs -= 1
            last = job.open_runs == 0
        if last:
            if not copied:
                writer.finish(job.key)
            digest = combine(self.algorithm, (block for start in sorted(job.blocks) for block in job.blocks[start]))
            with self.lock:
                self._note(job, digest)
                self.staging.record({"key": _journal_key(job), "digest": digest})
                self.peak = max(self.peak, _anonymous_bytes())

    def _note(self, job: Job, digest: str) -> None:
        self.digests[job.role][job.key] = digest
        if job.digest_of is not None:
            self.digests["source"][job.digest_of] = digest

    def _digest_source(self, key: str, data: np.ndarray) -> None:
        """Digest a source leaf that is there whole, which spares it being decoded once more."""
        if key not in self.digests["source"]:
            digest = digest_array(self.algorithm, data)
            with self.lock:
                self.digests["source"][key] = digest

    def _advance(self, nbytes: int, total: int) -> None:
        with self.lock:
            self.done += nbytes
            if self.progress:
                self.progress(self.done, total)

    def _digest_rest(self) -> None:
        """Digest the source leaves whose bytes didn't pass unchanged, and the values of both sides."""
        checkpoint = self.source.checkpoint
        rest = [key for key, leaf in checkpoint.leaves.items() if leaf.spec and key not in self.digests["source"]]
        with ThreadPoolExecutor(self.threads) as pool:
            for key, digest in zip(
                rest, pool.map(lambda key: digest_leaf(checkpoint, key, self.algorithm), rest), strict=True
            ):
                self.digests["source"][key] = digest
        for role, leaves in (("source", checkpoint.leaves), ("target", self.plan.target_leaves)):
            for key, leaf in leaves.items():
                if leaf.spec is None:
                    self.digests[role][key] = digest_value(self.algorithm, json_value(leaf.value))
                elif leaf.same_as and key not in self.digests[role]:
                    self.digests[role][key] = self.digests[role][leaf.same_as]

    # --- what lies beside ------------------------------------------------------------------------------------

    def _write_beside(self, files: dict[str, bytes]) -> list[str]:
        """Write what the target's format wants beside it; returns the names to publish.

        Raises:
            UsageError: there is something else of that name already.
        """
        for name, data in files.items():
            final, staged = self.staging.target.parent / name, self.staging.out / name
            if final.is_file() and final.read_bytes() != data and not self.staging.overwrite:
                raise UsageError("exists", path=final, remedy="name another target, or say --overwrite")
            staged.parent.mkdir(exist_ok=True)
            staged.write_bytes(data)
        return list(dict.fromkeys(name.partition("/")[0] for name in files))

    def _side_files(self, main: Path) -> list[str]:
        """Write the config and carry the companions along; returns names to publish beside the target."""
        layout = self.plan.mapping.right
        within = get_format(self.plan.target_format).holds_config
        companions = main if main.is_dir() and not within else companions_path(main)
        for path in self.source.companions:
            companions.mkdir(exist_ok=True)
            shutil.copyfile(path, companions / path.name)
        beside = main / layout.config_file if main.is_dir() else main.with_suffix(Path(layout.config_file).suffix)
        if self.plan.target_config and not within:
            write_config(beside, self.plan.target_config)
        return [
            path.name for path in (companions, beside) if path.parent == main.parent and path != main and path.exists()
        ]

    def _receipt(self, started: str, main: Path) -> dict[str, Any]:
        plan = self.plan
        behind = {key: self.source.checkpoint.leaves[key] for key in plan.bound.left_behind}
        with open_checkpoint(main, plan.target_format) as written:
            target_files = same_files(main, written.files())
        return {
            "schema": SCHEMA,
            "convkit": convkit.__version__,
            "plan": plan.to_json(),
            "plan_digest": plan.digest,
            "source": {
                "path": str(self.source.path),
                "format": plan.source_format,
                "files": same_files(self.source.path, self.source.checkpoint.files()),
                "leaves": {key: {"digest": self.digests["source"][key]} for key in plan.source_leaves},
            },
            "target": {
                "path": self.staging.target.name,
                "format": plan.target_format,
                "files": target_files,
                "leaves": {key: {"digest": self.digests["target"][key]} for key in plan.target_leaves},
            },
            "complement": {
                "config": plan.lost_config,
                "values": {key: json_value(leaf.value) for key, leaf in behind.items() if leaf.spec is None},
                "tensors": {key: {"digest": digest} for key, digest in self.digests["complement"].items()},
            },
            "versions": {"python": platform.python_version(), "numpy": _numpy_version()},
            "started": started,
            "seconds": round(time.monotonic() - self.started, 3),
            "threads": self.threads,
            "resumed": self.staging.resumed,
            "bytes_read": plan.bytes_read(),
            "bytes_written": plan.bytes_written(),
            "peak_anonymous_bytes": self.peak,
            "warnings": self.warnings,
        }


def _journal_key(job: Job) -> str:
    return f"{job.role}:{job.key}"


def _anonymous_bytes() -> int:
    """Anonymous memory of this process now (Linux; 0 elsewhere)."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    return 0


def _numpy_version() -> str:
    import numpy as np

    return np.__version__
