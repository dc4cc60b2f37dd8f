"""What the report needs of documents, so that a malformed one is one clear error; most of it may be missing, not null.

The page shows documents of every release, however much of one is there: what is read stays as it is, once its form is
checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from convkit.files.document import typed
from convkit.files.long_document import Rows, Table
from convkit.files.packages import Package
from convkit.files.receipt import side_of

Natural = Annotated[int, Meta(ge=0)]
#: less than the age of the universe; NaN is none
Seconds = Annotated[float, Meta(ge=0, lt=1e18)]
Values = dict[str, Any]


class Planned(Struct):
    """A leaf."""

    shape: list[Natural] | None = None
    dtype: str | None = None
    fate: str = ""
    origin: str = ""
    reason: str | None = None


class Side(Struct):
    """One side of a plan."""

    layout: str | None = None
    format: str | None = None
    release: str | None = None
    config: Values | None = None
    conventions: Values | None = None


class Bound(Struct):
    """How far a value may move."""

    ulp: float
    dtype: str


class Part(Struct):
    """A leaf's part in a step."""

    axes: str = ""


class Edge(Struct):
    """Padding or cropping."""

    keep: int


class Step(Struct):
    """A step."""

    rule: str = ""
    exactness: str | Bound = "exact"
    sources: tuple[Part, ...] = ()
    targets: tuple[Part, ...] = ()
    ops: tuple[Values, ...] = ()
    pad: Edge | None = None
    crop: Edge | None = None


class Counts(Struct):
    """A plan in figures."""

    source_leaves: int | None = None
    target_leaves: int | None = None
    bytes_read: int | None = None
    bytes_written: int | None = None


class Default(Struct):
    """A default that was used."""

    name: str
    value: Any
    source: str


class Repair(Struct):
    """What a repair changed."""

    what: str
    key: str | None
    before: Any
    after: Any
    why: str


class Deviation(Struct):
    """A value of a config that the other side says only nearly; verdicts say how much it changes."""

    field: str
    value: Any
    taken_as: Any
    reason: str
    side: str = "source"
    measured: Values | UnsetType = UNSET


class Plan(Struct):
    """What plans of all kinds of work have in common."""

    schema: str = ""
    mapping: str | None = None
    source: Side | UnsetType = UNSET
    target: Side | UnsetType = UNSET
    source_leaves: dict[str, Planned] | UnsetType = UNSET
    target_leaves: dict[str, Planned] | UnsetType = UNSET
    steps: tuple[Step, ...] = ()
    summary: Counts | UnsetType = UNSET
    defaults: tuple[Default, ...] = ()
    repairs: tuple[Repair, ...] = ()
    lost_config: Values | UnsetType = UNSET
    variant: Values | UnsetType = UNSET
    names: Values | UnsetType = UNSET
    missing: dict[str, str] = {}
    deviations: tuple[Deviation, ...] = ()
    unknown: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class ConversionPlan(Plan):
    """The plan of a conversion."""

    steps: tuple[Step, ...] = ()
    through: tuple[ConversionPlan, ...] = ()


class File(Struct):
    """A file of the target."""

    name: str
    bytes: Natural


class WrittenFile(File):
    """A file of the output set."""

    mtime_ns: int


class Target(Struct):
    """What was written."""

    path: str = ""
    files: tuple[File, ...] = ()


class Receipt(Struct):
    """A receipt."""

    source: Values | UnsetType | None = UNSET
    target: Target | UnsetType = UNSET
    complement: Values | UnsetType = UNSET
    started: str = ""
    seconds: Seconds = 0.0
    bytes_read: int | None = None
    bytes_written: int | None = None
    peak_anonymous_bytes: int | None = None
    threads: int | None = None
    plan_digest: str = ""
    versions: dict[str, str] | UnsetType = UNSET
    warnings: tuple[str, ...] = ()
    written: tuple[WrittenFile, ...] = ()
    packages: tuple[Package, ...] = ()
    digest: str = ""


class Fault(Struct):
    """A planted fault."""

    name: str
    caught: bool
    measured: Values | UnsetType = UNSET
    stage: str = ""


class Stage(Struct):
    """A stage of a model."""

    name: str
    max_rel: float | None = None
    bound: float | None = None
    noise: float | None = None
    repeat: float | None = None
    free_max_rel: float | None = None
    amplified_max_rel: float | None = None
    amplified_bound: float | None = None
    unshown: str = ""
    problems: tuple[str, ...] = ()


class Verdict(Struct):
    """The outcome of a check."""

    check: str
    receipt: str = ""
    state: str = ""
    passed: bool = False
    measured: Values | UnsetType = UNSET
    bound: Values | UnsetType = UNSET
    sensitivity: str = ""
    faults: tuple[Fault, ...] = ()
    deviations: tuple[Deviation, ...] = ()
    stages: tuple[Stage, ...] = ()
    covered: str = ""
    packages: tuple[Package, ...] = ()
    details: Values | UnsetType = UNSET
    problems: tuple[str, ...] = ()
    seconds: Seconds | None = None


def check_form(document: dict[str, Any], path: Path) -> None:
    """Check what the report uses of a document.

    Raises:
        ConvkitError: it is of another type.
    """
    kind = _kind(document)
    if kind == "verdict":
        typed(Verdict, document, path)
    if kind in ("plan", "state", "migration", "receipt"):
        receipt = "plan" in document
        if receipt:
            typed(Receipt, document, path)
            for side in ("source", "target"):
                if (leaves := side_of(document, side).get("leaves")) is not None:
                    _check_leaves(Values, leaves, path, f"$.{side}.leaves")
        plan = document["plan"] if receipt else document
        conversion = isinstance(plan, dict) and _kind(plan) == "plan"
        _check_plan(ConversionPlan if conversion else Plan, plan, path, "$.plan" if receipt else "$")


def _check_leaves(type_: Any, leaves: Any, path: Path, root: str) -> None:
    """Check a table of leaves, each of this type; of a long document, one by one."""
    if not isinstance(leaves, Table):
        typed(dict[str, type_], leaves, path, root=root)
        return
    for key, leaf in leaves.items():
        typed(type_, leaf, path, root=f"{root}[{key!r}]")


def _check_plan(type_: type[Plan], plan: Any, path: Path, root: str) -> None:
    """Check a plan; of a long one, the entries of its tables one by one."""
    tables = (
        {name: value for name, value in plan.items() if isinstance(value, Table | Rows)}
        if isinstance(plan, dict)
        else {}
    )
    emptied: Values = {name: {} if isinstance(value, Table) else [] for name, value in tables.items()}
    typed(type_, plan | emptied if emptied else plan, path, root=root)
    for name in ("source_leaves", "target_leaves"):
        _check_leaves(Planned, tables.get(name, {}), path, f"{root}.{name}")
    for number, step in enumerate(tables.get("steps", ())):
        typed(Step, step, path, root=f"{root}.steps[{number}]")
    for number, part in enumerate(tables.get("through", ())):
        _check_plan(type_, part, path, f"{root}.through[{number}]")


def _kind(document: dict[str, Any]) -> str:
    return str(document.get("schema")).removeprefix("convkit.").partition("/")[0]
