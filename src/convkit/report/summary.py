"""A campaign in figures: ``summary.json``, from which the page and the table on the terminal are made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import convkit
from convkit.report.campaign import CHECKS, Conversion, state_of
from convkit.report.text import duration, number, size

SCHEMA = "convkit.summary/1"

#: how the table on the terminal spells a row's verdict
VERDICTS = {"yes": "proved", "no": "NOT PROVED", "not shown": "NOT SHOWN", "stopped": "STOPPED"}


def summarize(conversions: Sequence[Conversion]) -> dict[str, Any]:
    """The document of schema ``convkit.summary/1``."""
    rows = [_row(conversion) for conversion in conversions]
    return {
        "schema": SCHEMA,
        "convkit": convkit.__version__,
        "passed": all(row["verdict"] == "yes" for row in rows),
        "rows": rows,
    }


def headline(summary: dict[str, Any]) -> str:
    """How many conversions are proved: ``4 of 5 conversions proved``."""
    proved = sum(row["verdict"] == "yes" for row in summary["rows"])
    total = len(summary["rows"])
    return f"{proved} of {total} conversion{'s' if total != 1 else ''} proved"


def format_table(summary: dict[str, Any]) -> str:
    """The campaign as a table for the terminal, with all problems and the headline below it."""
    header = ("checkpoint", "verdict", "from", "to", "leaves", "size", "round trip", "equivalence", "faults", "time")
    lines = [header, *(_cells(row) for row in summary["rows"])]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    rule = "─" * max(len(line) for line in table)
    problems = [f"{row['id']}: {row['problem']}" for row in summary["rows"] if row["problem"]]
    return "\n".join([table[0], rule, *table[1:], rule, *problems, headline(summary)])


def excess(measured: dict[str, Any], bound: dict[str, Any]) -> float | None:
    """The largest measured value in units of its bound: above 1 the check fails. None if no bound applies."""
    ratios = [
        _ratio(float(measured[name]), float(limit))
        for name, limit in bound.items()
        if isinstance(limit, int | float) and isinstance(measured.get(name), int | float)
    ]
    return max(ratios, default=None)


def _ratio(value: float, limit: float) -> float:
    if math.isnan(value):
        return math.inf
    if limit == 0:
        return 0.0 if value == 0 else math.inf
    return value / limit


def _row(conversion: Conversion) -> dict[str, Any]:
    plan, receipt = conversion.plan, conversion.receipt
    counts = plan.get("summary", {})
    source, target = plan.get("source", {}), plan.get("target", {})
    return {
        "id": conversion.id,
        "verdict": conversion.verdict,
        "stopped_at": conversion.stopped_at,
        "problem": _problem(conversion),
        "source": conversion.claim.get("source"),
        "from": source.get("layout") or conversion.claim.get("from") or source.get("format"),
        "from_format": source.get("format"),
        "to": target.get("layout") or conversion.claim.get("to") or target.get("format"),
        "to_format": target.get("format"),
        "leaves": {"source": counts.get("source_leaves"), "target": counts.get("target_leaves")},
        "bytes": {
            "read": receipt.get("bytes_read", counts.get("bytes_read")),
            "written": receipt.get("bytes_written", counts.get("bytes_written")),
        },
        "exactness": exactness(plan),
        **{check: _check(conversion.documents.get(check)) for check in CHECKS},
        "seconds": _seconds(conversion),
    }


def steps_of(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of a plan; if the conversion goes through other layouts, those of all its mappings."""
    through = [step for part in plan.get("through", []) for step in part.get("steps", [])]
    return plan.get("steps") or through


def exactness(plan: dict[str, Any]) -> str | None:
    """``exact``, or every bound that the plan declares; None if it has no steps."""
    steps = steps_of(plan)
    bounds = {in_words(step.get("exactness")) for step in steps} - {"exact"}
    return (", ".join(sorted(bounds)) or "exact") if steps else None


def in_words(exactness: Any) -> str:
    """How far a value may change: ``exact``, or ``within 0.5 ulp of bfloat16``."""
    if not isinstance(exactness, dict):
        return str(exactness)
    return f"within {number(exactness['ulp'])} ulp of {exactness['dtype']}"


def _problem(conversion: Conversion) -> str | None:
    """Why this row isn't proved, in one line; None if it is."""
    for check in CHECKS:
        verdict = conversion.documents.get(check, {"passed": True})
        state = state_of(verdict)
        if state != "yes":
            problems = verdict.get("problems") or _missed(verdict) or [margin(_check(verdict)) or state]
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            return f"{check}: {problems[0]}{more}"
    stage = conversion.stopped_at
    return f"{stage}: {conversion.complaints.get(stage) or 'not done'}" if stage else None


def _missed(verdict: dict[str, Any]) -> list[str]:
    """A line for each planted fault that was missed, for verdicts of version 1, which have none."""
    return [f"planted fault missed: {fault.get('name')}" for fault in verdict.get("faults", []) if not fault["caught"]]


def _check(verdict: dict[str, Any] | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    faults = verdict.get("faults", [])
    return {
        "state": state_of(verdict),
        "passed": state_of(verdict) == "yes",
        "measured": verdict.get("measured", {}),
        "bound": verdict.get("bound", {}),
        "caught": sum(bool(fault["caught"]) for fault in faults),
        "planted": len(faults),
        "seconds": verdict.get("seconds"),
    }


def _seconds(conversion: Conversion) -> float | None:
    if conversion.benchmarks:
        return round(sum(benchmark.seconds for benchmark in conversion.benchmarks.values()), 2)
    known = [document["seconds"] for document in conversion.documents.values() if "seconds" in document]
    return round(sum(known), 2) if known else None


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    caught, planted = sensitivity(row)
    return (
        row["id"],
        VERDICTS[row["verdict"]],
        row["from"] or "–",
        row["to"] or "–",
        f"{number(row['leaves']['source'])} → {number(row['leaves']['target'])}",
        size(row["bytes"]["written"]),
        outcome(row["roundtrip"]),
        _margin_or_outcome(row["equivalence"]),
        f"{caught} of {planted}" if planted else "–",
        duration(row["seconds"]),
    )


def _margin_or_outcome(check: dict[str, Any] | None) -> str:
    """The margin, unless there is none or it would look like a pass: then the outcome."""
    return outcome(check) if check and check["state"] == "not shown" else margin(check) or outcome(check)


def outcome(check: dict[str, Any] | None) -> str:
    """``yes``, ``NO``, ``not shown`` or nothing."""
    return "–" if check is None else {"no": "NO"}.get(check["state"], check["state"])


def margin(check: dict[str, Any] | None) -> str:
    """``1.2e-07 ≤ 5.0e-06``: the measure that is largest in units of its bound; empty if no bound applies."""
    name = worst(check or {})
    if check is None or name is None:
        return ""
    value, limit = check["measured"][name], check["bound"][name]
    return f"{number(value)} {'≤' if value <= limit else '>'} {number(limit)}"


def worst(check: dict[str, Any]) -> str | None:
    """The name of the measure that is largest in units of its bound; None if no bound applies."""
    ratios = {name: excess(check["measured"], {name: limit}) for name, limit in check.get("bound", {}).items()}
    known = {name: ratio for name, ratio in ratios.items() if ratio is not None}
    return max(known, key=lambda name: known[name]) if known else None


def sensitivity(row: dict[str, Any]) -> tuple[int, int]:
    """How many planted faults both checks caught together, and how many were planted."""
    checks = [row[check] for check in CHECKS if row[check]]
    return sum(check["caught"] for check in checks), sum(check["planted"] for check in checks)
