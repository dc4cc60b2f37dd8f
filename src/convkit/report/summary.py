"""A campaign in figures: ``summary.json``, from which the page and the table on the terminal are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct, field
from msgspec.structs import asdict

from convkit.baseline.observed import Observed
from convkit.baseline.past import Past, past_of
from convkit.baseline.store import Store
from convkit.files.document import Document, read_json, typed
from convkit.files.maker import maker
from convkit.files.steps import in_words, steps_of
from convkit.report.campaign import Conversion, State, state_of
from convkit.report.checks import CHECKS
from convkit.report.identity import Digests, MadeBy, digests_of, family_of, made_by, packages_of, target_of
from convkit.report.measures import worst
from convkit.report.stages import nearest, stages_of
from convkit.report.text import NOT_FINITE, deviation, deviations, duration, number, size

#: how the table on the terminal spells a row's verdict
VERDICTS = {
    "yes": "proved",
    "no": "NOT PROVED",
    "reference in doubt": "REFERENCE IN DOUBT",
    "not shown": "NOT SHOWN",
    "left out": "NOT PROVED",
    "stopped": "STOPPED",
    "stale": "STALE",
}

#: what stands in the place of a check's outcome if the claim leaves the check out
LEFT_OUT = "left out"


class Sides(Struct, frozen=True):
    """How many leaves each side has; None before there is a plan."""

    source: int | None
    target: int | None


class Volume(Struct, frozen=True):
    """Bytes of tensors; None before there is a plan."""

    read: int | None
    written: int | None


class Nearest(Struct, frozen=True):
    """The stage at which two models part; if they don't, the one whose error comes nearest its bound.

    An error that isn't finite, and a bound that isn't known, are None.
    """

    stage: str
    max_rel: float | None
    bound: float | None
    #: whether the models differ there
    parts: bool


class Outcome(Struct, frozen=True):
    """What one check found: ``caught`` of ``planted`` faults, seconds; ``nearest`` of its stages, if it has any."""

    state: State
    passed: bool
    measured: dict[str, Any]
    bound: dict[str, Any]
    caught: int
    planted: int
    seconds: float | None
    nearest: Nearest | None = None


class Deviation(Struct, frozen=True):
    """A value of a config that the other side says only nearly; ``max_rel`` is how much it changes by itself."""

    side: str
    field: str
    value: Any
    taken_as: Any
    reason: str
    max_rel: float | None


class Row(Struct, frozen=True, kw_only=True):
    """One conversion: what became of it, and the stage and the problem at which it ended if it isn't proved.

    What is proved of one with ``deviations`` is proved under them.
    """

    id: str
    verdict: Literal[State, "left out", "stopped", "stale"]
    stopped_at: str | None
    problem: str | None
    source: str | None
    from_: str | None = field(name="from")
    from_format: str | None
    to: str | None
    to_format: str | None
    leaves: Sides
    bytes: Volume
    exactness: str | None
    roundtrip: Outcome | None
    equivalence: Outcome | None
    seconds: float | None
    deviations: tuple[Deviation, ...] = ()
    #: checks that the row's claim leaves out: what they would show isn't proved
    left_out: tuple[str, ...] = ()
    #: why nothing is shown about the output as it is now
    stale: tuple[str, ...] = ()
    #: of the model
    family: str = "unknown"
    #: where the output lies, from the folder of the page if it is below
    target: str | None = None
    #: the release that the target's layout is of
    release: str | None = None
    digests: Digests | None = None
    made_by: MadeBy | None = None
    #: other packages whose code took part, and what each brought
    packages: tuple[str, ...] = ()
    #: what was accepted of it, and what has moved since; None where no baselines were named
    past: Past | None = None

    @property
    def outcomes(self) -> list[Outcome]:
        """The checks that were made."""
        return [check for check in (self.roundtrip, self.equivalence) if check]


class Summary(Document, frozen=True, kw_only=True):
    """A campaign in figures: a row for each conversion, whether all are proved, and how many under deviations.

    Release, commit, host, command and time are those of the report itself; each row has those of its conversion.
    """

    schema: Literal["convkit.summary/1"] = "convkit.summary/1"
    convkit: str
    commit: str | None = None
    host: str | None = None
    command_line: str | None = None
    made: str | None = None
    passed: bool
    #: conversions that are proved, but under a deviation
    proved_with_deviations: int = 0
    rows: tuple[Row, ...]


def summarize(conversions: Sequence[Conversion], directory: Path = Path(), baselines: Path | None = None) -> Summary:
    """The figures of these conversions, for a page in this folder, with their history in a folder of baselines."""
    store = Store(baselines) if baselines else None
    rows = tuple(_row(conversion, directory, store) for conversion in conversions)
    by = maker()
    return Summary(
        convkit=by.convkit,
        commit=by.commit,
        host=by.host,
        command_line=by.command_line or None,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        passed=all(row.verdict == "yes" for row in rows),
        proved_with_deviations=sum(row.verdict == "yes" and bool(row.deviations) for row in rows),
        rows=rows,
    )


def read_summary(path: Path) -> Summary:
    """The ``summary.json`` that a report left.

    Raises:
        ConvkitError: it isn't one.
    """
    remedy = "make it again: convkit report"
    return typed(Summary, read_json(path, remedy), path, remedy=remedy)


def headline(summary: Summary) -> str:
    """How many conversions are proved: ``4 of 5 conversions proved, 1 of them with a deviation``."""
    proved = sum(row.verdict == "yes" for row in summary.rows)
    total = len(summary.rows)
    nearly = summary.proved_with_deviations
    under = f", {nearly} of them with {'a deviation' if nearly == 1 else 'deviations'}" if nearly else ""
    return f"{proved} of {total} conversion{'s' if total != 1 else ''} proved{under}"


def format_table(summary: Summary) -> str:
    """The campaign as a table for the terminal, with all problems and the headline below it."""
    header = ("checkpoint", "verdict", "from", "to", "leaves", "size", "round trip", "equivalence", "faults", "time")
    lines = [header, *(_cells(row) for row in summary.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    rule = "─" * max(len(line) for line in table)
    problems = [f"{row.id}: {row.problem}" for row in summary.rows if row.problem]
    nearly = [f"{row.id}: deviation: {deviation_in_words(one)}" for row in summary.rows for one in row.deviations]
    return "\n".join([table[0], rule, *table[1:], rule, *problems, *nearly, headline(summary)])


def deviation_in_words(declared: Deviation) -> str:
    """A deviation, and how much it changes by itself if that was measured."""
    own = "its own size wasn't measured" if declared.max_rel is None else f"by itself {number(declared.max_rel)}"
    return f"{deviation(asdict(declared))} ({own})"


def _row(conversion: Conversion, directory: Path, store: Store | None) -> Row:
    plan, receipt = conversion.plan, conversion.receipt
    counts = plan.get("summary", {})
    source, target = plan.get("source", {}), plan.get("target", {})
    return Row(
        id=conversion.id,
        verdict=conversion.verdict,
        stopped_at=conversion.stopped_at,
        problem=_problem(conversion),
        source=conversion.claim.get("source"),
        from_=source.get("layout") or conversion.claim.get("from") or source.get("format"),
        from_format=source.get("format"),
        to=target.get("layout") or conversion.claim.get("to") or target.get("format"),
        to_format=target.get("format"),
        leaves=Sides(counts.get("source_leaves"), counts.get("target_leaves")),
        bytes=Volume(
            receipt.get("bytes_read", counts.get("bytes_read")),
            receipt.get("bytes_written", counts.get("bytes_written")),
        ),
        exactness=exactness(plan),
        roundtrip=_outcome(conversion.documents.get("roundtrip")),
        equivalence=_outcome(conversion.documents.get("equivalence")),
        seconds=_seconds(conversion),
        deviations=tuple(_deviation(declared) for declared in conversion.deviations),
        left_out=conversion.left_out,
        stale=conversion.stale,
        family=family_of(conversion),
        target=target_of(conversion, directory),
        release=target.get("release"),
        digests=digests_of(conversion),
        made_by=made_by(receipt),
        packages=packages_of(conversion),
        past=past_of(observed(conversion), store) if store else None,
    )


def _deviation(declared: Mapping[str, Any]) -> Deviation:
    return Deviation(
        side=declared.get("side", "source"),
        field=declared["field"],
        value=declared.get("value"),
        taken_as=declared.get("taken_as"),
        reason=declared["reason"],
        max_rel=(declared.get("measured") or {}).get("max_rel"),
    )


def exactness(plan: dict[str, Any]) -> str | None:
    """``exact``, or every bound that the plan declares; None if it has no steps."""
    bounds = {in_words(step.get("exactness")) for step in steps_of(plan)}
    return ", ".join(sorted(bounds - {"exact"})) or ("exact" if bounds else None)


def _problem(conversion: Conversion) -> str | None:
    """Why this row isn't proved, in one line; None if it is."""
    if conversion.stale:
        more = f" (and {len(conversion.stale) - 1} more)" if len(conversion.stale) > 1 else ""
        return f"stale: {conversion.stale[0]}{more}"
    for check in CHECKS:
        verdict = conversion.documents.get(check, {"passed": True})
        state = state_of(verdict)
        if state != "yes":
            problems = verdict.get("problems") or _missed(verdict) or [margin(_outcome(verdict)) or state]
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            return f"{check}: {problems[0]}{more}"
    stage = conversion.stopped_at
    if stage:
        silent = "ended without a word" if stage in conversion.complaints else "not begun"
        return f"{stage}: {conversion.complaints.get(stage) or silent}"
    out = conversion.left_out
    return f"{' and '.join(out)}: not proved, left out by the column checks" if out else None


def observed(conversion: Conversion) -> Observed:
    """The conversion as baselines see it."""
    return Observed(
        id=conversion.id,
        verdict=conversion.verdict,
        problem=_problem(conversion) or "",
        receipt=conversion.receipt,
        checks={check: conversion.documents[check] for check in CHECKS if check in conversion.documents},
    )


def _missed(verdict: dict[str, Any]) -> list[str]:
    """A line for each planted fault that was missed, for verdicts of version 1, which have none."""
    return [f"planted fault missed: {fault.get('name')}" for fault in verdict.get("faults", []) if not fault["caught"]]


def _outcome(verdict: dict[str, Any] | None) -> Outcome | None:
    if verdict is None:
        return None
    faults = verdict.get("faults", [])
    return Outcome(
        state=state_of(verdict),
        passed=state_of(verdict) == "yes",
        measured=verdict.get("measured", {}),
        bound=verdict.get("bound", {}),
        caught=sum(bool(fault["caught"]) for fault in faults),
        planted=len(faults),
        seconds=verdict.get("seconds"),
        nearest=_nearest(verdict),
    )


def _nearest(verdict: dict[str, Any]) -> Nearest | None:
    stage = nearest(stages_of(verdict))
    return Nearest(stage.name, *stage.measured, parts=stage.beyond) if stage else None


def _seconds(conversion: Conversion) -> float | None:
    if conversion.benchmarks:
        return round(sum(benchmark.seconds for benchmark in conversion.benchmarks.values()), 2)
    known = [document["seconds"] for document in conversion.documents.values() if "seconds" in document]
    return round(sum(known), 2) if known else None


def _cells(row: Row) -> tuple[str, ...]:
    caught, planted = sensitivity(row)
    return (
        row.id,
        ", ".join(filter(None, (VERDICTS[row.verdict], under(row)))),
        row.from_ or "–",
        row.to or "–",
        f"{number(row.leaves.source)} → {number(row.leaves.target)}",
        size(row.bytes.written),
        outcome(row.roundtrip) if "roundtrip" not in row.left_out else LEFT_OUT,
        _margin_or_outcome(row.equivalence) if "equivalence" not in row.left_out else LEFT_OUT,
        f"{caught} of {planted}" if planted else "–",
        duration(row.seconds),
    )


def under(row: Row) -> str:
    """``with a deviation``, if the conversion is proved under one; else nothing."""
    return deviations(len(row.deviations) if row.verdict == "yes" else 0)


def _margin_or_outcome(check: Outcome | None) -> str:
    """The margin, unless there is none or it would look like a pass: then the outcome."""
    return outcome(check) if check and check.state not in ("yes", "no") else margin(check) or outcome(check)


def outcome(check: Outcome | None) -> str:
    """``yes``, ``NO``, ``reference in doubt``, ``not shown`` or nothing."""
    return "–" if check is None else {"no": "NO"}.get(check.state, check.state)


def margin(check: Outcome | None) -> str:
    """``1.2e-07 ≤ 5.0e-06``: the measure that is largest in units of its bound; empty if no bound applies.

    If the check has stages: that of the nearest, and where models part, its name.
    """
    if check is None:
        return ""
    if (found := check.nearest) is not None:
        if not found.parts:
            return _compared(found.max_rel, found.bound)
        # where a stage is wrong in another way than by its error, the row's problem says so
        beyond = found.bound is not None and (found.max_rel is None or found.max_rel > found.bound)
        return f"{_compared(found.max_rel, found.bound)} at {found.stage}" if beyond else ""
    name = worst(check.measured, check.bound)
    return _compared(check.measured[name], check.bound[name]) if name else ""


def _compared(value: float | None, limit: float | None) -> str:
    if value is None:
        return NOT_FINITE
    return f"{number(value)} {'≤' if limit is not None and value <= limit else '>'} {number(limit)}"


def sensitivity(row: Row) -> tuple[int, int]:
    """How many planted faults both checks caught together, and how many were planted."""
    return sum(check.caught for check in row.outcomes), sum(check.planted for check in row.outcomes)
