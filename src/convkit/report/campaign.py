"""Reading a results folder, however much of it is there: one :class:`Conversion` for each row.

The folder of a campaign holds a folder for each row. What was converted by hand has its receipt and its verdicts beside
it (:mod:`convkit.report.by_hand`). Nothing here depends on how far a conversion got.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from convkit.checkpoint import json_text
from convkit.errors import ConvkitError, UsageError
from convkit.files.document import REMEDY
from convkit.files.long_document import read_long
from convkit.files.receipt import STATE_SCHEMA
from convkit.files.uri import without_secrets
from convkit.report.by_hand import conversions_in, documents_of, is_error, source_of, target_named
from convkit.report.checks import CHECKS, checks_asked_for
from convkit.report.documents import check_form
from convkit.report.standing import Judge, find_target, stale
from convkit.report.table import read_rows

#: the stages in the order in which they run; each leaves a document, a log and a benchmark
STAGES = ("fetch", "inspect", "plan", "convert", "roundtrip", "equivalence")
#: the copy of the table of claims in a campaign's results
TABLE = "checkpoints.tsv"
#: what one check says
State = Literal["yes", "no", "reference in doubt", "not shown"]
#: the worst first
_STATES: tuple[State, ...] = ("no", "reference in doubt", "not shown", "yes")


@dataclass(frozen=True)
class Benchmark:
    """What a stage cost."""

    seconds: float
    memory: float | None
    cpu_seconds: float | None


@dataclass(frozen=True)
class Conversion:
    """One row of a campaign: its claim, and the documents that its stages have left."""

    id: str
    claim: dict[str, str] = field(default_factory=dict)
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    benchmarks: dict[str, Benchmark] = field(default_factory=dict)
    complaints: dict[str, str] = field(default_factory=dict)
    #: why the documents say nothing about the output as it is now
    stale: tuple[str, ...] = ()
    #: where the output lies, if it is there
    target: Path | None = None

    @property
    def receipt(self) -> dict[str, Any]:
        """The receipt; empty before there is one."""
        return self.documents.get("convert", {})

    @property
    def plan(self) -> dict[str, Any]:
        """The plan in the receipt, otherwise the one that the plan stage made."""
        return self.receipt.get("plan") or self.documents.get("plan", {})

    @property
    def checks(self) -> tuple[str, ...]:
        """The checks that it must pass; a repair needs no equivalence: its round trip compares tensors by name."""
        return CHECKS[:1] if self.plan.get("schema") == STATE_SCHEMA else CHECKS

    @property
    def left_out(self) -> tuple[str, ...]:
        """The checks that it must pass to be proved, and that its claim leaves out."""
        asked = checks_asked_for(self.claim.get("checks") or "")
        return tuple(check for check in self.checks if check not in asked)

    @property
    def deviations(self) -> list[dict[str, Any]]:
        """The deviations that the plan declares; those that the equivalence check measured with their size."""
        measured = self.documents.get("equivalence", {}).get("deviations", [])
        sized = {(one.get("side"), one["field"]): one for one in measured}
        return [sized.get((one.get("side"), one["field"]), one) for one in self.plan.get("deviations", [])] or measured

    @property
    def stopped_at(self) -> str | None:
        """The first stage that left no document, apart from those it never had; None once all is done that was asked.

        That are the checks, or the conversion where its claim leaves out every check.
        """
        last = [check for check in self.checks if check not in self.left_out] or ["convert"]
        if all(stage in self.documents for stage in last):
            return None
        failed = [stage for stage in STAGES if stage in self.complaints and stage not in self.documents]
        return (failed or self._not_begun or [stage for stage in last if stage not in self.documents])[0]

    @property
    def _not_begun(self) -> list[str]:
        """The stages that come after the last one that is done."""
        done = [number for number, stage in enumerate(STAGES) if stage in self.documents]
        unneeded = {*CHECKS} - {*self.checks} | {*self.left_out}
        if self.claim.get("source", "").startswith("row:"):  # it reads another row's output
            unneeded |= {"fetch"}
        return [stage for stage in STAGES[max(done, default=-1) + 1 :] if stage not in unneeded]

    @property
    def verdict(self) -> Literal[State, "left out", "stopped", "stale"]:
        """What all checks together say.

        ``stale``: nothing about the output as it is now, for it is gone, or isn't what the receipt or a check is about.
        Else that of the worst check: ``no``, ``reference in doubt`` or ``not shown``. ``yes``: every check was made and
        passed; ``stopped``: one is missing, and none of the others says anything worse; ``left out``: those that were
        made passed, but the claim leaves out another.
        """
        if self.stale:
            return "stale"
        states = {state_of(self.documents[check]) for check in CHECKS if check in self.documents}
        worst: State = next((state for state in _STATES if state in states), "yes")
        if worst != "yes":
            return worst
        if self.stopped_at:
            return "stopped"
        return "left out" if self.left_out else "yes"


def state_of(verdict: dict[str, Any]) -> State:
    """The state of one check's verdict; one that this release doesn't know is ``no``.

    Verdicts of version 1 give none, and passed also where they missed a planted fault.
    """
    if "state" in verdict:
        return next((state for state in _STATES if state == verdict["state"]), "no")
    if not verdict.get("passed"):
        return "no"
    return "yes" if all(fault.get("caught") for fault in verdict.get("faults", [])) else "not shown"


def read_campaign(directory: Path, judge: Judge | None = None, *, verify: bool = False) -> list[Conversion]:
    """Read every conversion of a results folder, in the order of its table.

    Documents of an earlier run don't count if they belong to stages that the latest run hasn't reached.

    Args:
        directory: the results folder; or a target, whose documents lie beside it.
        judge: compares the bytes of an output with its receipt, where times of change don't show that it is the same.
        verify: whether to compare all bytes.

    Raises:
        ConvkitError: there is nothing to report on, or a document is malformed.
    """
    if (target := target_named(directory)) is not None:
        alone = _by_hand(target, documents_of(target, _read_document))
        if not alone.documents and not alone.complaints:
            raise ConvkitError("has no receipt beside it", path=directory, remedy="give an output of convkit")
        return [_with_standing(alone, target.parent, {}, judge, verify)]
    if not directory.is_dir():
        raise ConvkitError("is not a folder", path=directory, remedy="give the folder in which the receipt lies")
    claims = _read_claims(directory / TABLE)
    rows: dict[str, Conversion] = {}
    for name in claims or sorted(path.name for path in directory.iterdir() if path.is_dir()):
        row = _read_conversion(directory / name, claims.get(name, {}))
        if claims or row.documents or row.complaints:
            rows[name] = _with_standing(_without_later(row, rows), directory / name, rows, judge, verify)
    for row in [] if claims else _made_by_hand(directory):
        rows.setdefault(row.id, _with_standing(row, directory, {}, judge, verify))
    found = list(rows.values())
    if not found:
        raise ConvkitError(
            "holds no receipt, plan or verdict",
            path=directory,
            remedy="give the results folder of a campaign, or the folder in which a conversion's receipt lies",
        )
    return found


def _made_by_hand(directory: Path) -> list[Conversion]:
    """The conversions whose documents lie in this folder itself; those of the only one may have any names."""
    found = conversions_in(directory, _read_document)
    if len(found) > 1 or any(is_error(document) for documents in found.values() for document in documents.values()):
        return [_by_hand(directory / name, documents) for name, documents in found.items()]
    documents = _by_schema(directory)
    target = directory / next(iter(found), "")
    return [replace(_by_hand(target, documents), id=directory.name)] if documents else []


def _by_hand(target: Path, documents: dict[str, dict[str, Any]]) -> Conversion:
    """A conversion without a row of a table."""
    failed = {stage: str(document.get("error")) for stage, document in documents.items() if is_error(document)}
    kept = {stage: document for stage, document in documents.items() if stage not in failed}
    source = source_of(target, kept.get("convert", {}), _read_document)
    claim = {"source": without_secrets(source)} if source else {}
    return _without_later(Conversion(id=target.name, claim=claim, documents=kept, complaints=failed), {})


def _without_later(row: Conversion, earlier: dict[str, Conversion]) -> Conversion:
    """The row without the documents of stages after one that failed in the latest run, for itself or for its source."""
    origin = _origin(row, earlier)
    if origin is not None and "convert" not in origin.documents:
        return replace(row, documents={}, complaints={"fetch": f"row {origin.id} has no output"})
    failed = [stage for stage in STAGES if stage in row.complaints and stage not in row.documents]
    if not failed or failed[0] in CHECKS:  # the checks don't depend on each other
        return row
    kept = STAGES[: STAGES.index(failed[0])]
    return replace(
        row,
        documents={stage: row.documents[stage] for stage in kept if stage in row.documents},
        # those after it pass its error on
        benchmarks={stage: cost for stage, cost in row.benchmarks.items() if stage in (*kept, failed[0])},
    )


def _with_standing(
    row: Conversion, directory: Path, earlier: dict[str, Conversion], judge: Judge | None, verify: bool
) -> Conversion:
    """The row, and why it is stale, if it is: also where the row that it starts from has another output since."""
    place = Path(row.claim["target"]) if row.claim.get("target") else None
    reasons = [*stale(directory, row.documents, judge, always=verify, place=place)]
    origin = _origin(row, earlier)
    sides = ((origin.receipt.get("target") or {}), (row.receipt.get("source") or {})) if origin else ({}, {})
    made, read = (side.get("leaves") for side in sides)
    if origin and made and read and made != read and _algorithms(made) == _algorithms(read):
        reasons.append(f"its source is another than the output of row {origin.id}: convert it again")
    return replace(row, stale=tuple(reasons), target=find_target(directory, row.documents, place))


def _origin(row: Conversion, earlier: dict[str, Conversion]) -> Conversion | None:
    """The row from whose output this one starts."""
    source = row.claim.get("source", "")
    return earlier.get(source.removeprefix("row:")) if source.startswith("row:") else None


def _algorithms(leaves: dict[str, Any]) -> set[str]:
    return {str(leaf.get("digest")).partition(":")[0] for leaf in leaves.values()}


def _read_claims(table: Path) -> dict[str, dict[str, str]]:
    if not table.exists():
        return {}
    claims = {row["id"]: row | {"source": without_secrets(row["source"])} for row in read_rows(table)}
    for name, claim in claims.items():
        try:
            checks_asked_for(claim.get("checks") or "")
        except UsageError as error:
            key = f"row {name}, column checks"
            raise ConvkitError(error.problem, path=table, key=key, remedy=error.remedy) from None
    return claims


def _read_conversion(directory: Path, claim: dict[str, str]) -> Conversion:
    """What a row's stages have left, apart from checks that its claim leaves out: those are of an earlier run."""
    left_out = set(CHECKS) - set(checks_asked_for(claim.get("checks") or ""))
    documents = _by_name(directory) if (directory / "logs").is_dir() else _by_schema(directory)
    benchmarks = {path.stem: path for path in sorted(directory.glob("benchmarks/*.tsv"))}
    logs = {path.stem: path for path in sorted(directory.glob("logs/*.log"))}
    return Conversion(
        id=directory.name,
        claim=claim,
        documents={stage: document for stage, document in documents.items() if stage not in left_out},
        benchmarks={
            stage: _read_benchmark(path, directory / f"logs/{stage}.log.cost")
            for stage, path in benchmarks.items()
            if stage not in left_out
        },
        complaints={stage: _last_line(path) for stage, path in logs.items() if stage not in left_out},
    )


def _by_name(directory: Path) -> dict[str, dict[str, Any]]:
    """The documents of a campaign's row, by stage, apart from errors, of which the stage's log has the last line.

    Snakemake removes a stage's document before it runs it again. One that isn't whole is what an interrupt has left.
    """
    paths = {stage: directory / f"{stage}.json" for stage in STAGES}
    documents = {stage: _read_document(path) for stage, path in paths.items() if path.is_file()}
    whole = {stage: document for stage, document in documents.items() if document}
    return {stage: document for stage, document in whole.items() if not is_error(document)}


def _by_schema(directory: Path) -> dict[str, dict[str, Any]]:
    """The documents of a single conversion, whatever their names, by stage."""
    documents = [_read_document(path) for path in sorted(directory.glob("*.json"))]
    return {_stage(document): document for document in documents if _stage(document) in STAGES}


def _read_document(path: Path) -> dict[str, Any]:
    try:
        document = read_long(path.read_bytes())
    except json_text.OverLimitError as error:
        raise ConvkitError(f"can't be read: {error}", path=path, remedy=REMEDY) from None
    except ValueError:
        return {}
    if not isinstance(document, dict):
        return {}
    check_form(document, path)
    return document


def _stage(document: dict[str, Any]) -> str:
    """The stage that leaves documents of this kind; if none does, the kind."""
    kind = str(document.get("schema")).removeprefix("convkit.").partition("/")[0]
    repair = "convert" if "plan" in document else "plan"
    return {"receipt": "convert", "state": repair, "migration": repair, "verdict": str(document.get("check"))}.get(
        kind, kind
    )


def _read_benchmark(path: Path, cost: Path) -> Benchmark:
    """A stage's benchmark; what it took of memory and CPU is in ``cost`` where a worker carried it out."""
    with path.open(encoding="utf-8", newline="") as lines:
        row = next(csv.DictReader(lines, delimiter="\t"), {})
    if cost.is_file():
        row |= dict(zip(("cpu_time", "rss_bytes"), cost.read_text(encoding="utf-8").split(), strict=False))
    return Benchmark(
        seconds=float(row.get("s") or 0),
        memory=_float(row["rss_bytes"]) if "rss_bytes" in row else _float(row.get("max_rss"), scale=1 << 20),
        cpu_seconds=_float(row.get("cpu_time")),
    )


def _float(text: str | None, scale: float = 1) -> float | None:
    """A benchmark's figure; None for jobs that were too short to be sampled, which have ``NA`` or 0."""
    try:
        return float(text or 0) * scale or None
    except ValueError:
        return None


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
