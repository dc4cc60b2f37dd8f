"""What a results folder holds, whatever part of it is there: one :class:`Conversion` a row.

A campaign is a folder with a folder a row; a single conversion is a folder with its documents in
it. Documents are known by the schema they name, and the two that name none by their file name, so
nothing here depends on how far a conversion got.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from convkit.errors import ConvkitError

#: in the order in which they run; each leaves a document, a log and a benchmark
STAGES = ("fetch", "inspect", "plan", "convert", "roundtrip", "equivalence")
#: the checks that a proof consists of
CHECKS = ("roundtrip", "equivalence")


@dataclass(frozen=True)
class Benchmark:
    """What a stage cost."""

    seconds: float
    memory: float | None
    cpu_seconds: float | None


@dataclass(frozen=True)
class Conversion:
    """One row of a campaign: its claim, and the documents that its stages left."""

    id: str
    claim: dict[str, str] = field(default_factory=dict)
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    benchmarks: dict[str, Benchmark] = field(default_factory=dict)
    complaints: dict[str, str] = field(default_factory=dict)

    @property
    def receipt(self) -> dict[str, Any]:
        """The receipt, or nothing yet."""
        return self.documents.get("convert", {})

    @property
    def plan(self) -> dict[str, Any]:
        """The plan that was carried out, else the one that was made."""
        return self.receipt.get("plan") or self.documents.get("plan", {})

    @property
    def stopped_at(self) -> str | None:
        """The first stage that left no document; stages that this conversion never had don't count."""
        if all(check in self.documents for check in CHECKS):
            return None
        begun = [stage for stage in STAGES if stage in self.documents or stage in self.complaints]
        missing = [stage for stage in begun if stage not in self.documents]
        return (missing or [stage for stage in CHECKS if stage not in self.documents])[0]

    @property
    def verdict(self) -> str:
        """``yes``: every check was made and passed; ``no``: one didn't pass; ``stopped``: one is missing."""
        outcomes = [self.documents[check].get("passed") for check in CHECKS if check in self.documents]
        if not all(outcomes):
            return "no"
        return "yes" if len(outcomes) == len(CHECKS) else "stopped"


def read_campaign(directory: Path) -> list[Conversion]:
    """Every conversion of a results folder, in the order of its table.

    Documents that an earlier run left and this one hasn't reached don't count.

    Raises:
        ConvkitError: there is nothing to report on.
    """
    claims = _read_claims(directory / "checkpoints.tsv")
    rows: dict[str, Conversion] = {}
    for name in claims or sorted(path.name for path in directory.iterdir() if path.is_dir()):
        row = _read_conversion(directory / name, claims.get(name, {}))
        if claims or row.documents or row.complaints:
            rows[name] = _without_stale(row, rows)
    found = list(rows.values()) or [row for row in [_read_conversion(directory, {})] if row.documents]
    if not found:
        raise ConvkitError(
            "holds no receipt, plan or verdict",
            path=directory,
            remedy="give the results folder of a campaign, or the folder in which a conversion's receipt lies",
        )
    return found


def _without_stale(row: Conversion, earlier: dict[str, Conversion]) -> Conversion:
    """The row without what follows a stage that failed since, its own or its source's."""
    origin = earlier.get(row.claim.get("source", "").removeprefix("row:"))
    if origin is not None and "convert" not in origin.documents:
        return replace(row, documents={}, complaints={"fetch": f"row {origin.id} has no output"})
    failed = [stage for stage in STAGES if stage in row.complaints and stage not in row.documents]
    if not failed:
        return row
    kept = STAGES[: STAGES.index(failed[0])]
    return replace(row, documents={stage: row.documents[stage] for stage in kept if stage in row.documents})


def _read_claims(table: Path) -> dict[str, dict[str, str]]:
    if not table.exists():
        return {}
    with table.open(encoding="utf-8", newline="") as lines:
        return {row["id"]: row for row in csv.DictReader(lines, delimiter="\t")}


def _read_conversion(directory: Path, claim: dict[str, str]) -> Conversion:
    documents = {}
    for path in sorted(directory.glob("*.json")):
        document = _read_document(path)
        stage = _stage(path, document)
        if stage is not None:
            documents[stage] = document
    return Conversion(
        id=directory.name,
        claim=claim,
        documents=documents,
        benchmarks={path.stem: _read_benchmark(path) for path in sorted(directory.glob("benchmarks/*.tsv"))},
        complaints={path.stem: _last_line(path) for path in sorted(directory.glob("logs/*.log"))},
    )


def _read_document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _stage(path: Path, document: dict[str, Any]) -> str | None:
    """Which stage left this document; None if it isn't one of ours."""
    schema = str(document.get("schema", ""))
    if schema.startswith("convkit.verdict/"):
        return str(document.get("check"))
    if schema.startswith("convkit.receipt/"):
        return "convert"
    if schema.startswith("convkit.plan/"):
        return "plan"
    return path.stem if document and path.stem in ("fetch", "inspect") else None


def _read_benchmark(path: Path) -> Benchmark:
    with path.open(encoding="utf-8", newline="") as lines:
        row = next(csv.DictReader(lines, delimiter="\t"), {})
    return Benchmark(
        seconds=float(row.get("s") or 0),
        memory=_float(row.get("max_rss"), scale=1 << 20),
        cpu_seconds=_float(row.get("cpu_time")),
    )


def _float(text: str | None, scale: float = 1) -> float | None:
    """A benchmark's figure; jobs too short to be sampled have ``NA`` or 0, which is no figure."""
    try:
        return float(text or 0) * scale or None
    except ValueError:
        return None


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
