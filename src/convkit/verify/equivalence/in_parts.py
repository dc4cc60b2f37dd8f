"""Check a run of a model's stages, and join all runs into one verdict.

A part runs both models through the stages before its own, without noise, repetition or faults, or takes what enters its
first stage from the journal of a part before it. Then it checks its stages as a check in one piece does. Which faults
are due in which stage follows from all stages, so every part knows it. Joining runs no model: it relies on the parts,
which must be about the files that are there now, by their size, time of change and inode, with the same receipt, the
same settings and the same code.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from socket import gethostname
from typing import Any, Unpack

from msgspec import Struct, to_builtins

import convkit
from convkit.checkpoint.digests import digest_value
from convkit.errors import ConvkitError
from convkit.files.document import typed
from convkit.files.part import Part
from convkit.files.part_json import ShareDocument
from convkit.files.receipt import receipt_path
from convkit.files.seal import seal_on
from convkit.files.shares import Shares
from convkit.files.unchanged import seen_anywhere
from convkit.oracles.devices import use_threads
from convkit.verify.equivalence.beyond import Beyond, compare_rows, look_beyond
from convkit.verify.equivalence.both import Asked, Both, compared
from convkit.verify.equivalence.journal import Journal, versions
from convkit.verify.equivalence.judging import REMEDY, judge
from convkit.verify.equivalence.record import Record
from convkit.verify.equivalence.recorded import hold
from convkit.verify.equivalence.walk import Choices, Steps, Walk
from convkit.verify.judged import Check
from convkit.verify.verdict import Verdict


class Found(Struct, kw_only=True):
    """What a part keeps for whoever joins all parts.

    Attributes:
        about: what it speaks of.
        record: of its stages.
        beyond: what was found outside of stages, by the first part.
        digests: of the tensors that were read, by side.
        changed: a line if a file was changed while it was read.
        made: who made it.
    """

    about: dict[str, Any]
    record: Record
    beyond: Beyond
    digests: dict[str, dict[str, str]]
    changed: list[str]
    made: dict[str, Any]


def equivalence_part(
    source: Path,
    target: Path,
    part: Part,
    *,
    choices: Choices | None = None,
    threads: int | None = None,
    commit: str = "",
    steps: Steps | None = None,
    **asked: Unpack[Asked],
) -> dict[str, Any]:
    """Check a share of the stages, keep what was found beside the target, and return it.

    ``commit`` is that of the convkit that compares; parts of two don't make one verdict. A part that was killed goes on
    from its last whole stage.

    Raises:
        ConvkitError, UsageError: as :func:`~convkit.verify.equivalence.check.equivalence`.
    """
    began, choices = time.monotonic(), choices or Choices()
    use_threads(threads)
    with compared(source, target, **asked) as both:
        about = _about(source, target, both, choices, commit)
        shares = Shares(target.absolute(), "equivalence", about)
        walk, beyond = _walked(both, choices, part, shares, steps), Beyond()
        if part.number == 1:
            compare_rows(both.models, walk.rows, beyond)
        changed = [] if _about(source, target, both, choices, commit) == about else [_CHANGED]
        digests = {name: side.read.digests for name, side in both.sides.named.items()}
        stages = [stage.name for stage in walk.record.stages]
        found = Found(
            about=about,
            record=walk.record,
            beyond=beyond,
            digests=digests,
            changed=changed,
            made=_made(part, stages, asked.get("device", "cpu"), time.monotonic() - began),
        )
        sides = both.sides.named.items()
        read = sum(side.checkpoint.spec(key).nbytes for name, side in sides for key in digests[name])
    shares.keep(part, to_builtins(found))
    return ShareDocument(
        check="equivalence",
        source=str(source),
        target=str(target),
        part=part.number,
        parts=part.count,
        about=about,
        stages=stages,
        bytes=read,
        problems=[*_problems(walk.record), *beyond.problems, *changed],
    ).to_json()


def equivalence_joined(
    source: Path,
    target: Path,
    *,
    choices: Choices | None = None,
    commit: str = "",
    steps: Steps | None = None,
    recorded: Mapping[str, Path] | None = None,
    **asked: Unpack[Asked],
) -> Verdict:
    """The verdict on what all parts have found.

    A side of which logits were ``recorded`` is run once, whole
    (:func:`~convkit.verify.equivalence.check.equivalence`); else no model is run.

    Raises:
        ConvkitError: a side can't be read, or parts don't fit together.
        UsageError: a part is missing, or is about something else.
    """
    check, choices = Check("equivalence", source, target, remedy=REMEDY), choices or Choices()
    with compared(source, target, **asked) as both:
        shares = Shares(target.absolute(), "equivalence", _about(source, target, both, choices, commit))
        parts = [typed(Found, document, shares.folder) for document in shares.join()]
        held = hold(both.sides.named, recorded or {}, steps)
        record, beyond = Record(), Beyond()
        for one in parts:
            if not record.stopped:
                record.add(one.record)
        look_beyond(both.models, record, asked.get("probe_length"), beyond)
        for one in parts:
            beyond.add(one.beyond)
            beyond.problems += [line for line in one.changed if line not in beyond.problems]
            for name, digests in one.digests.items():
                both.sides.named[name].read.rely(digests)
        walk = Walk(both.models, both.inputs, choices, record)
        _fit(walk, [one.record for one in parts], shares.folder)
        made = [one.made for one in parts]
        verdict = judge(check, both.sides, walk, probe=both.probe, held=held, beyond=beyond, made=made)
    shares.remove()
    return verdict


_CHANGED = "a file was changed while it was read"


def _walked(both: Both, choices: Choices, part: Part, shares: Shares, steps: Steps | None) -> Walk:
    """Walk the part's stages, from where an earlier run of it or a part before it has come to."""
    lanes, question = both.models.lanes, both.question(choices) | {"about": shares.about}
    shares.folder.mkdir(exist_ok=True)
    paths = [shares.folder / f"part-{number}-of-{part.count}.journal" for number in range(1, part.number + 1)]
    journal = Journal(paths[-1], question, both.sides.named)
    own = Walk(both.models, both.inputs, choices, Record(), part=part).own
    record = journal.resume(lanes)
    if not record.done:
        record = journal.behind(paths[:-1], lanes, own.start)
    walk = Walk(both.models, both.inputs, choices, record, steps=steps, part=part)
    for _ in walk.run():
        journal.keep(walk.record, lanes)
    return walk


def _problems(record: Record) -> list[str]:
    return [f"{stage.name}: {problem}" for stage in record.stages for problem in stage.problems]


def _made(part: Part, stages: list[str], device: str, seconds: float) -> dict[str, Any]:
    """Who made a part, where and how."""
    import torch

    return {
        "part": part.number,
        "stages": f"{stages[0]}:{stages[-1]}" if stages else "",
        "host": gethostname(),
        "device": device,
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 3),
    }


def _fit(walk: Walk, parts: list[Record], folder: Path) -> None:
    """Check that the parts make up the whole, and that each knew which faults those before it were to plant.

    Raises:
        ConvkitError: they don't.
    """
    names, due = [stage.name for stage in walk.record.stages], [walk.stages[n] for n in walk.own]
    first = next((n for n, record in enumerate(parts) if not record.sound), len(parts))
    planted = [record.planted for record in parts[: first + 1] if record.stages]
    follow = all(later[: len(one)] == one for one, later in pairwise(planted))
    if names != (due[: len(names)] if walk.record.stopped else due) or not follow:
        raise ConvkitError("the parts don't fit together", path=folder, remedy="remove it, and make all parts again")


def _about(source: Path, target: Path, both: Both, choices: Choices, commit: str) -> dict[str, Any]:
    """What a part speaks of: files, receipt, models and settings, and the code that compares."""
    files = [
        seen_anywhere(path if path.is_dir() else path.parent, side.checkpoint.files())
        for path, side in zip((source, target), both.sides.named.values(), strict=True)
    ]
    return {
        "convkit": [convkit.__version__, commit],
        "versions": versions(),
        "receipt": seal_on(receipt_path(target.absolute())),
        "settings": digest_value("sha256", both.question(choices)),
        "files": digest_value("sha256", files),
    }
