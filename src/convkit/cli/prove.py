"""``convkit prove``: the stages of one conversion one after another, each as its own command does it, and its page."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from convkit.checkpoint.digests import digest_value
from convkit.checkpoint.progress import Meter
from convkit.cli import flags_by_command, migrate
from convkit.cli.check import comparing_options, verdict_of
from convkit.cli.convert import converted, print_notes, writing_options
from convkit.cli.ending import error_document, refusal
from convkit.cli.inspect import digest_of
from convkit.cli.kinds import REPAIRS
from convkit.cli.options import no_fail_option, running_options
from convkit.cli.output import note, progress, say
from convkit.cli.planning import conversion_options, opened, planned
from convkit.cli.proof import Proof, Work, usual
from convkit.cli.recorded import look_up
from convkit.cli.remedies import answered
from convkit.cli.report import altered, shown
from convkit.cli.volume import VOLUME
from convkit.errors import ConvkitError, UsageError
from convkit.extras import named_extras
from convkit.files import stores
from convkit.files.neighbours import fetch_record_path
from convkit.files.unchanged import Watch
from convkit.files.uri import scheme_of, suffix_of, without_secrets
from convkit.plan import Source
from convkit.report import build_report
from convkit.report.checks import CHECKS

_T = TypeVar("_T")


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "source", metavar="SRC", type=_place, help="a checkpoint, the record of a fetch, or a URI to fetch it from"
    )
    parser.add_argument("target", metavar="DST", type=stores.path_here, help="the output; all documents come beside it")
    parser.add_argument(
        "--fetch",
        choices=("local", "stream"),
        default="local",
        help="bring a source that has a URI to DST.source, or read it in its store without a copy; default: local",
    )
    parser.add_argument("--sha256", metavar="HEX", help="the digest that a fetched source must have")
    conversion_options(parser)
    writing_options(parser)
    running_options(parser)
    comparing_options(parser)
    no_fail_option(parser)
    parser.set_defaults(usual=usual(parser))


def run(args: argparse.Namespace) -> int:
    """Do what isn't done yet, and show where that ends."""
    if args.to in REPAIRS:
        command = " ".join(("convkit", *REPAIRS[args.to]))
        raise UsageError(f"--to {args.to} repairs a checkpoint", remedy=f"{command}; then convkit roundtrip SRC DST")
    named = without_secrets(str(args.source))
    proof = Proof(args, named)
    proof.refuse()
    _fetch(args)
    stages = _Stages(args, proof)
    stages.run()
    page = build_report(args.target, judge=altered)
    if not stages.made and not args.json:  # a table would repeat the error, and say nothing else
        say(str(page))
        return stages.code
    verdict = shown(args, page)
    return stages.code or verdict


class _Stages:
    """The stages of one conversion: whether there is an output, and the exit code of the first one that failed."""

    def __init__(self, args: argparse.Namespace, proof: Proof) -> None:
        self.args, self.proof, self.made, self.code = args, proof, False, 0

    def run(self) -> None:
        with ExitStack() as stack:
            work = self._tried("plan", lambda: stack.enter_context(_planned(self.args)))
            receipt = self._tried("convert", lambda: self._converted(work)) if work else None
        self.made = bool(receipt)
        if work and receipt:
            self.proof.keep(work, receipt)
            for check in CHECKS:
                self._judge(check, work)

    def _converted(self, work: Work) -> dict[str, Any]:
        receipt = self.proof.converted(work)
        _say("convert", "is there, and as it would be made now" if receipt else "begins")
        if receipt is None:
            try:
                receipt = work.carry_out()
            except ConvkitError as error:
                if not isinstance(error, UsageError):
                    self.proof.write("plan", work.plan)
                raise
        print_notes(receipt)
        return receipt

    def _judge(self, check: str, work: Work) -> None:
        """Make a check, unless its verdict is there; it looks at the output by its receipt, whatever was asked for."""
        verdict = self.proof.judged(check)
        _say(check, "was made of this output" if verdict else "begins")
        if verdict is None:
            asked = {"from_": None, "to": None, "target_config": None, "keep": None}
            alone = argparse.Namespace(**vars(self.args) | asked)
            made = self._tried(check, lambda: _settled(work.watch, verdict_of(alone, check).to_json()))
            if made:
                self.proof.write(check, made)

    def _tried(self, stage: str, call: Callable[[], _T]) -> _T | None:
        """What a stage gives; None if it fails, and then its document says why.

        Raises:
            UsageError: it wasn't begun, for the command asks for what can't be.
        """
        try:
            with named_extras():
                return call()
        except (UsageError, BrokenPipeError):
            raise
        except (ConvkitError, OSError, MemoryError) as failed:
            if stage not in CHECKS and self.proof.target.exists() and not self.args.overwrite:
                raise  # what is proved of the output that is there isn't touched
            error = failed if isinstance(failed, ConvkitError) else refusal(failed)
            error = answered(error, self.args.flags, flags_by_command())
            self.proof.write(stage, error_document(error))
            self.code = self.code or error.exit_code
            note(f"{stage}: {error}")
            return None


def _settled(watch: Watch, document: dict[str, Any]) -> dict[str, Any]:
    """The document, if the source is still the one that was planned."""
    watch.check()
    return document


@contextmanager
def _planned(args: argparse.Namespace) -> Iterator[Work]:
    """The plan of a conversion or a migration, with its source open."""
    if args.to is None:
        request = migrate.asked_for(args)
        watch = args.watch or Watch(args.source)
        watch.reads([args.source])
        document = migrate.plan_document(migrate.plan_migration(args.source, request)).to_json()
        digest = digest_value("sha256", document)
        yield Work(document, digest, watch, lambda: migrate.migrated(args, request), lambda _: None)
        return
    with opened(args) as source:
        plan = planned(args, source)
        document = plan.to_json() | {"digest": plan.digest}
        assert source.watch is not None
        yield Work(
            document,
            plan.digest,
            source.watch,
            lambda: converted(args, source, plan),
            lambda receipt: _is_source_of(source, receipt),
        )


def _is_source_of(source: Source, receipt: dict[str, Any]) -> bool:
    """Whether the leaves of a source have the digests that a receipt gives."""
    recorded = {key: str(leaf["digest"]) for key, leaf in receipt["source"]["leaves"].items()}
    leaves = source.checkpoint.leaves
    if set(recorded) != set(leaves):
        return False
    with progress(f"digest {source.path}") as shown:
        advance = Meter(sum(leaf.spec.nbytes for leaf in leaves.values() if leaf.spec), shown)
        return all(
            digest_of(source, key, digest.partition(":")[0], advance) == digest for key, digest in recorded.items()
        )


def _fetch(args: argparse.Namespace) -> None:
    """Bring a source that has a scheme to ``<DST>.source``; a large one on this machine is read where it lies."""
    if isinstance(args.source, Path):
        return
    if args.fetch == "stream":
        if args.sha256:
            raise UsageError("a streamed source has no sha256", remedy="leave out --sha256, or --fetch stream")
        args.source = stores.place(args.source)
        return
    from convkit.fetch import fetch

    place = args.target.with_name(f"{args.target.name}.source{suffix_of(args.source)}")
    with progress(f"fetch {place}") as advance:
        fetch(
            args.source,
            place,
            sha256=args.sha256,
            overwrite=args.overwrite,
            in_place=True,
            progress=advance,
        )
    args.source = fetch_record_path(place)
    look_up(args)


def _place(text: str) -> Path | str:
    """A URI as it is, and a path."""
    return text if scheme_of(text) else Path(text)


def _say(stage: str, what: str) -> None:
    if not VOLUME.quiet:
        note(f"{stage}: {what}")
