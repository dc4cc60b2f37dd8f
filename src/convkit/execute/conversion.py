"""Carry out a plan: open writers, make leaves, digest values and ties, and write the files beside the target."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from convkit import formats
from convkit.checkpoint import Checkpoint, Leaf, WriteOptions, Writer
from convkit.checkpoint.digests import digest_value
from convkit.checkpoint.outlet import Outlet
from convkit.checkpoint.progress import Progress
from convkit.checkpoint.source_files import Ranged
from convkit.errors import ConvkitError, UsageError
from convkit.execute.carry import Carrier
from convkit.execute.chain import complement_of, jobs_of, links_of
from convkit.execute.job import Job
from convkit.execute.jobs import from_complement
from convkit.execute.laid_out import identity_of, target_options, work_of, written_leaves
from convkit.execute.outward import forget_unsent, in_order
from convkit.execute.publish import Output, publishing
from convkit.files.config_file import config_bytes
from convkit.files.finishing import Joined
from convkit.files.neighbours import companions_path
from convkit.files.packages import packages
from convkit.files.receipt import COMPLEMENT_FORMAT, complement_path, json_value, same_files
from convkit.files.receipt_json import (
    ConversionComplement,
    ConversionReceipt,
    ConvertedSide,
    FileEntry,
    InParts,
    LeafDigest,
    MadePart,
)
from convkit.files.staging import StaleError
from convkit.files.unchanged import identities
from convkit.files.written import Digesting, Span
from convkit.formats import check_name, get_format, open_checkpoint
from convkit.mapping import Mapping
from convkit.mappings import brought_by
from convkit.plan import Plan, Source
from convkit.plan.source import companion_names
from convkit.plugins import Plugin

#: options that leave everything to the format
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
    config_name: str | None = None,
    into_empty: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write ``target``, with its config, receipt and complement beside it, and return the receipt.

    ``config_name`` names the config beside a file otherwise than the file, and ``into_empty`` accepts an empty folder
    as the target without ``overwrite``.

    Raises:
        UsageError: the target exists, is part of the source, or another process is writing it; or it is in a store,
            where its format isn't read.
        ConvkitError: the source can't be read, or changes meanwhile, tied copies differ, or the disk is full.
            Nothing is left under a final name.
    """
    check_name(target, plan.target_format)
    if isinstance(target, Ranged) and not get_format(plan.target_format).in_stores:
        raise UsageError(
            f"{plan.target_format} isn't read in a store, so it couldn't be verified there",
            path=target,
            remedy="write to a folder, verify it, and copy it there; or choose another --format",
        )
    source = replace(source, checkpoint=plan.wrapping.off(source.checkpoint))
    files = source.checkpoint.files()
    identity = identity_of(source, plan, options, digest, config_name) | {"source": identities(files)}
    work = work_of(source, target, overwrite=overwrite, into_empty=into_empty)
    with publishing(work, identity) as output:

        def run() -> dict[str, Any]:
            carrier = carrier_of(output, source, plan, threads=threads, digest=digest, progress=progress)
            return Conversion(source, plan, output, carrier, options, config_name=config_name).run()

        return output.attempt(run)


def carrier_of(
    output: Output, source: Source, plan: Plan, *, threads: int | None, digest: str, progress: Progress | None
) -> Carrier:
    """What makes the leaves of a staged output, anew for each attempt; without ``threads``, one for each core."""
    return Carrier(
        output.staging,
        source.checkpoint,
        threads=threads or os.cpu_count() or 1,
        algorithm=digest,
        progress=progress,
        allow_overflow=any(stage.allow_overflow for stage in plan.stages),
        scratch=output.staging.folder,
    )


def opened_earlier(source: Source, plan: Plan, stack: ExitStack) -> Checkpoint | None:
    """The complement of earlier conversions, if the target, or what is kept for later, needs any of it; ``stack``
    closes it.
    """
    path = complement_path(source.path)
    if any(from_complement(stage) for stage in plan.stages) or (plan.before and path.is_file()):
        return stack.enter_context(open_checkpoint(path, COMPLEMENT_FORMAT))
    return None


def digest_values(carrier: Carrier, source: Source, plan: Plan) -> None:
    """Digest the values of both sides, and tied leaves, which are made once."""
    digests, algorithm = carrier.digests, carrier.algorithm
    for role, leaves in (("source", source.checkpoint.leaves), ("target", plan.target_leaves)):
        for key, leaf in leaves.items():
            if leaf.spec is None:
                digests[role][key] = digest_value(algorithm, json_value(leaf.value))
            elif leaf.same_as and key not in digests[role]:
                digests[role][key] = digests[role][leaf.same_as]


class Conversion:
    """One plan over one staged output."""

    def __init__(
        self,
        source: Source,
        plan: Plan,
        output: Output,
        carrier: Carrier,
        options: WriteOptions,
        *,
        config_name: str | None,
        parts: Joined | None = None,
    ) -> None:
        self.source = source
        self.plan = plan
        self.output = output
        self.carrier = carrier
        self.options = options
        self.config_name = config_name
        self.parts = parts
        self.writers: dict[str, Writer] = {}
        self.outlet: Outlet | None = None
        self.stack = ExitStack()

    def run(self) -> dict[str, Any]:
        """Carry it out, and return the receipt; what parts have made is taken over."""
        output, plan = self.output, self.plan
        with self.stack:
            earlier = opened_earlier(self.source, plan, self.stack)
            links = links_of(plan, self.source.checkpoint, earlier)
            if self.parts:
                self._take_over(self.parts)
            else:
                self.source.checkpoint.check_sums(self.carrier.threads)
            kept = complement_of(links, plan.before, earlier)
            self.outlet = output.staging.outlet(self.carrier.algorithm)
            output.make_room(plan.bytes_written() + sum(job.spec.nbytes for job in kept.jobs))
            written = written_leaves(plan)
            options = target_options(self.source, plan, self.options)
            self._open_writer("target", output.main, written, plan.target_format, options)
            for key in self.parts.several if self.parts else ():
                if f"target:{key}" in output.staging.finished:
                    self.writers["target"].finish(key)
            self._write_beside(self.writers["target"].beside())
            self._claim_side_files()
            if kept.jobs:
                leaves = {job.key: Leaf(job.key, job.spec) for job in kept.jobs}
                self._open_writer("complement", complement_path(output.main), leaves, COMPLEMENT_FORMAT)
            own = [job for job in jobs_of(links) if written[job.key].same_as is None]
            self.carrier.make(self._arranged([*own, *kept.jobs]), self.writers)
            self.carrier.digest_source()
            digest_values(self.carrier, self.source, plan)
            self._write_side_files()  # while the disk takes what was written last
            for writer in self.writers.values():
                writer.commit()
        unforeseen = _unforeseen(kept.unforeseen, plan)
        overflowed = [f"{key}: {said}" for key, said in sorted(self.carrier.overflowed.items())]
        files, digesting = self._look_back()
        said = self._said([*plan.warnings, *self.source.warnings, *unforeseen, *overflowed], files)
        resumed = self.parts.resumed if self.parts else None
        return output.publish(ConversionReceipt, plan.to_json(), digesting=digesting, resumed=resumed, **said)

    def _arranged(self, jobs: list[Job]) -> list[Job]:
        """The jobs, in the order in which their bytes can go; here, what takes least last: files that are copied.

        So no thread is left alone at the end with a leaf that is packed.
        """
        if self.outlet is None:
            return sorted(jobs, key=lambda job: job.files() is not None)
        forget_unsent(self.output.staging.finished, jobs, self.writers, self.outlet)
        return in_order(jobs, self.writers)

    def _take_over(self, parts: Joined) -> None:
        """Take over the digests of the source that parts have made, and their peaks of memory."""
        for key, digest in parts.sources.items():
            self.carrier.origins.note(self.source.checkpoint, key, digest)
        self.carrier.peak = max(said["peak_anonymous_bytes"] for said in parts.ended)

    # --- what has to be written ----------------------------------------------------------------------

    def _open_writer(
        self, role: str, path: Path, leaves: dict[str, Leaf], format: str, options: WriteOptions = _PLAIN
    ) -> None:
        resume = self.output.staging.resumed and path.exists()
        options = replace(options, outlet=self.outlet)
        try:
            self.writers[role] = get_format(format).create(path, list(leaves.values()), options, resume=resume)
        except ConvkitError as error:
            if resume:
                raise StaleError(f"what a killed run had written {error.problem}") from None
            raise
        self.stack.callback(self.writers[role].close)

    # --- what lies beside ----------------------------------------------------------------------------

    def _write_beside(self, files: dict[str, bytes]) -> None:
        """Write the files that the format needs beside the target, unless the same are there.

        Raises:
            UsageError: something else has such a name.
        """
        for name, data in files.items():
            final, staged = self.output.target.parent / name, self.output.out / name
            if final.is_file() and final.read_bytes() == data:
                continue
            folder, _, inner = name.rpartition("/")
            self.output.claim(folder or name, [inner] if folder else None)
            staged.parent.mkdir(exist_ok=True)
            staged.write_bytes(data)

    def _companions(self) -> Path:
        """The folder of the companions, staged; those of components lie with these."""
        main, at_home = self.output.main, not self._within() or get_format(self.plan.target_format).components
        return main if main.is_dir() and at_home else companions_path(main)

    def _config(self) -> Path | None:
        """Where the config is staged, if it isn't within the checkpoint."""
        layout, main = self.plan.mapping.right, self.output.main
        if not self.plan.target_config or self._within():
            return None
        if main.is_dir():
            return main / layout.config_file
        return main.with_name(self.config_name or main.with_suffix(Path(layout.config_file).suffix).name)

    def _within(self) -> bool:
        return get_format(self.plan.target_format).holds_config

    def _claim_side_files(self) -> None:
        """Announce the config and the folder of companions, where they lie beside the target.

        Raises:
            UsageError: something else has such a name.
        """
        main, config, companions = self.output.main, self._config(), self._companions()
        if config and config.parent == main.parent:
            self.output.claim(config.name)
        if self.source.companions and companions != main:
            folders = {name.rpartition("/")[0] for name in self.source.companions} | {""}
            own = [f"{folder}/{name}".lstrip("/") for folder in sorted(folders) for name in companion_names()]
            self.output.claim(companions.name, own)

    def _write_side_files(self) -> None:
        """Write the config, and copy the companions."""
        config, companions = self._config(), self._companions()
        for name, path in self.source.companions.items():
            (companions / name).parent.mkdir(parents=True, exist_ok=True)
            (companions / name).write_bytes(path.read_bytes())
        if config:  # not by way of another name, which a killed run would leave in the output
            config.parent.mkdir(parents=True, exist_ok=True)
            config.write_bytes(config_bytes(config, self.plan.target_config))

    def _look_back(self) -> tuple[list[FileEntry], Digesting]:
        """The target's files, and how all files are digested: without tensors that lie in them as they are.

        What was sent as a whole is opened where it is now. Of leaves that a killed run had sent, the store's own sums
        were compared.
        """
        sides = [("target", self.output.main, self.plan.target_format)]
        if "complement" in self.writers:
            sides.append(("complement", complement_path(self.output.main), COMPLEMENT_FORMAT))
        files: list[FileEntry] = []
        leaf_bytes: dict[Path, list[Span]] = {}
        for role, path, format in sides:
            seen = self.output.seen(path)
            with get_format(format).open(seen) as written:
                try:
                    if self.outlet is None:
                        self.carrier.check_taken_over(role, written)
                except StaleError as stale:
                    # what is complete isn't opened again where leaves have no places of their own
                    raise stale if self.writers[role].splits else StaleError(str(stale)) from None
                here = {file: path / file.relative_to(seen) for file in written.files()}
                files = files or same_files(path, here.values())
                leaf_bytes |= {here[file]: spans for file, spans in written.leaf_bytes().items()}
        known = self.outlet.digests if self.outlet else {}
        return files, Digesting(self.carrier.algorithm, self.carrier.threads, leaf_bytes, known)

    def _said(self, warnings: list[str], files: list[FileEntry]) -> dict[str, Any]:
        """The contents of the receipt beside the plan."""
        plan, digests = self.plan, self.carrier.digests
        return {
            "source": ConvertedSide(
                path=str(self.source.path),
                format=plan.source_format,
                files=same_files(self.source.path, self.source.checkpoint.files()),
                leaves={key: LeafDigest(digests["source"][key]) for key in plan.source_leaves},
            ),
            "target": ConvertedSide(
                path=self.output.target.name,
                format=plan.target_format,
                files=files,
                leaves={key: LeafDigest(digests["target"][key]) for key in plan.target_leaves},
                config=self.config_name or UNSET,
            ),
            "complement": ConversionComplement(
                config=plan.lost_config,
                values={key: json_value(value) for key, value in plan.values_left_behind().items()},
                tensors={key: LeafDigest(digest) for key, digest in digests["complement"].items()},
            ),
            "packages": packages(plugins_of(plan)),
            "before": [one.plan for one in plan.before] or UNSET,
            "versions": {"python": platform.python_version(), "numpy": _numpy_version()},
            "threads": self.carrier.threads,
            "bytes_read": plan.bytes_read(),
            "bytes_written": plan.bytes_written(),
            "peak_anonymous_bytes": self.carrier.peak,
            "in_parts": InParts(identity=self.parts.identity, made=[MadePart(**said) for said in self.parts.ended])
            if self.parts
            else UNSET,
            "warnings": warnings,
        }


def plugins_of(plan: Plan) -> Iterator[Plugin | None]:
    """What other packages bring to a conversion."""
    yield from (brought_by(stage.mapping) for stage in plan.stages if isinstance(stage.mapping, Mapping))
    yield from (formats.OTHERS.plugin(name) for name in (plan.source_format, plan.target_format))


def _unforeseen(keys: Iterable[str], plan: Plan) -> list[str]:
    """What to say of leaves that the inverse couldn't restore; those that contradict the config in the same way are
    said once.
    """
    derived = {leaf.key: leaf for stage in plan.stages for leaf in stage.bound.derived}
    contradicting: dict[str, list[str]] = {}
    said = []
    for key in keys:
        if (leaf := derived.get(key)) is None:
            said.append(f"{key}: the inverse couldn't restore it: kept in the complement")
            continue
        numbers = ", ".join(f"{name} = {value}" for name, value in leaf.arguments.items() if value is not None)
        contradicting.setdefault(f"'{leaf.recipe}'{f' of {numbers}' if numbers else ''}", []).append(key)
    for made, names in contradicting.items():
        more = f" (and {len(names) - 1} more)" if names[1:] else ""
        said.append(f"{names[0]}{more}: isn't what the config makes of it ({made}): kept in the complement")
    return said


def _numpy_version() -> str:
    import numpy as np

    return np.__version__
