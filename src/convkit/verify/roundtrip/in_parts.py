"""Check a share of a conversion's leaves, and join all shares into one verdict.

A part compares its share of the tensors, and says what it found and about which files. Joining reads no tensor again
except those in which faults are planted: it relies on the parts, whose files must be those that are there now, by their
size, time of change and inode, with the same receipt and the same plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

import convkit
from convkit.checkpoint.digests import digest_value
from convkit.checkpoint.progress import Progress
from convkit.files.document import typed
from convkit.files.part import Part
from convkit.files.part_json import ShareDocument
from convkit.files.receipt import complement_path, receipt_path
from convkit.files.seal import seal_on
from convkit.files.shares import Shares
from convkit.files.unchanged import seen_anywhere
from convkit.verify.judged import Check
from convkit.verify.roundtrip.check import Both, UnreadError
from convkit.verify.roundtrip.examine import Findings, examine, unanswered
from convkit.verify.verdict import Verdict


def roundtrip_part(
    source: Path,
    target: Path,
    plan: Mapping[str, Any],
    part: Part,
    *,
    receipt: Mapping[str, Any] | None = None,
    source_format: str | None = None,
    commit: str = "",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare a share of the leaves, keep what was found beside the target, and return it.

    ``commit`` is that of the convkit that compares; parts of two don't make one verdict.

    Raises:
        ConvkitError: the source can't be read, or the plan can't be undone.
    """
    with ExitStack() as stack:
        try:
            both = Both.opened(source, target, plan, stack, receipt=receipt, formats=(source_format, None))
        except UnreadError as unread:
            found, problems, about = [], [str(unread)], _about(source, target, plan, None, commit)
        else:
            about, advance = _about(source, target, plan, both, commit), both.meter(progress, part=part)
            found = [
                examine(
                    stage.plan,
                    stage.sides,
                    claimed=stage.claimed,
                    digests=both.digests if stage is both.stages[0] else None,
                    remade=stage.remade,
                    advance=advance,
                    part=part,
                )
                for stage in both.stages
            ]
            problems = [*both.problems, *(problem for own in found for problem in own.problems)]
            if _about(source, target, plan, both, commit) != about:
                problems.append("a file was changed while it was read")
    shares = Shares(target.absolute(), "roundtrip", about)
    shares.keep(part, {"problems": problems, "findings": msgspec.to_builtins(found)})
    return ShareDocument(
        check="roundtrip",
        source=str(source),
        target=str(target),
        part=part.number,
        parts=part.count,
        about=about,
        bytes=sum(own.bytes for own in found),
        problems=problems,
    ).to_json()


def roundtrip_joined(
    source: Path,
    target: Path,
    plan: Mapping[str, Any],
    *,
    receipt: Mapping[str, Any] | None = None,
    source_format: str | None = None,
    commit: str = "",
) -> Verdict:
    """The verdict on what all parts have found.

    Raises:
        ConvkitError: the source can't be read, or the plan can't be undone.
        UsageError: a part is missing, or is about other files.
    """
    check = Check("roundtrip", source, target)
    with ExitStack() as stack:
        try:
            both = Both.opened(source, target, plan, stack, receipt=receipt, formats=(source_format, None))
        except UnreadError as unread:
            return check.judged([str(unread)])
        shares = Shares(target.absolute(), "roundtrip", _about(source, target, plan, both, commit))
        documents = shares.join()
        found = [Findings() for _ in both.stages]
        for document in documents:
            own = typed(list[Findings], document["findings"], shares.folder)
            both.problems += [
                problem
                for problem in document["problems"]
                if problem not in both.problems and not any(problem in each.problems for each in own)
            ]
            for joined, each in zip(found, own, strict=False):
                joined.add(each)
        for stage, joined in zip(both.stages, found, strict=True):
            unanswered(stage.plan, joined, stage.remade)
        verdict = both.judged(check, found, faults=True)
    shares.remove()
    return verdict


def _about(source: Path, target: Path, plan: Mapping[str, Any], both: Both | None, commit: str) -> dict[str, Any]:
    """What a part speaks of: files, receipt, plan, and the convkit that compares."""
    of_stages = [both.stages[0].sides.source.files(), both.stages[-1].sides.target.files()] if both else [[], []]
    beside = [path for path in (complement_path(target), complement_path(source)) if path.exists()]
    found = [
        seen_anywhere(path if path.is_dir() else path.parent, files)
        for path, files in zip((source, target), of_stages, strict=True)
    ]
    return {
        "convkit": [convkit.__version__, commit],
        "receipt": seal_on(receipt_path(target.absolute())),
        "plan": digest_value("sha256", dict(plan)),
        "files": digest_value("sha256", [*found, seen_anywhere(target.parent, beside)]),
    }
