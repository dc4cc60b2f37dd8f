"""The page: what each section shows, derived from the documents and rendered into one file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from convkit.audit.shown import Shown, shown
from convkit.checkpoint.tensors import ITEMSIZE
from convkit.errors import ConvkitError, visible
from convkit.files.steps import change, in_words, steps_of
from convkit.report import glance, text
from convkit.report.campaign import STAGES, Conversion, state_of
from convkit.report.checks import CHECKS
from convkit.report.measures import known, worst
from convkit.report.plots import Curve, Dot, LogAxis, Part, curve, parts
from convkit.report.stage_plot import StagePlot, stage_plot
from convkit.report.stages import Stage as ModelStage
from convkit.report.stages import headline as headline_of_stages
from convkit.report.stages import stages_of
from convkit.report.strips import FaultLine, axis_over, fault_lines, own_excess, strip
from convkit.report.summary import (
    Row,
    Summary,
    deviation_in_words,
    headline,
    margin,
    outcome,
    sensitivity,
    under,
)

#: most conversions that are shown whole: a page of a thousand must open, too
MOST_WHOLE = 60
#: most entries of a list that a section shows, such as leaves or files: the documents have them all
MOST_LISTED = 400


@cache
def _environment() -> jinja2.Environment:
    """The templates, which are compiled once."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("convkit.report"),
        autoescape=True,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        **{name: _recorded(getattr(text, name)) for name in ("size", "duration", "number")},
        "figure": lambda value, ran=True: text.figure(value) if ran else "not run",
        "outcome": outcome,
        "state": state_of,
        "dashed": lambda words: words.replace(" ", "-"),
        "margin": margin,
        "sensitivity": sensitivity,
        "deviation": deviation_in_words,
        "under": under,
        "key": glance.key_of,
        "said": glance.said,
        "without_check": glance.without_check,
        "without_faults": glance.without_faults,
        "without_plan": glance.without_plan,
        "deviations": text.deviations,
        "shortened": text.shortened,
        "flat": _flat,
        "some": Some.of,
        "fragment": lambda id: quote(visible(id).encode("utf-8", "backslashreplace")),
        "json": lambda value: json.dumps(value, ensure_ascii=False),
        "times": text.times,
        "capitalized": text.capitalized,
    }
    return environment


def _shown(value: Any) -> Any:
    """What the page shows of a text: names and values may hold anything, also marks that turn what follows around."""
    return visible(value) if type(value) is str else value


def _recorded(say: Callable[[Any], str]) -> Callable[[Any], str]:
    """The same, with words in place of what isn't there."""
    return lambda value: glance.NOT_RECORDED if value is None else say(value)


@dataclass(frozen=True)
class Inline:
    """A style sheet or a script within the page, and the source that the page's security policy allows for it."""

    text: Markup
    source: str

    @classmethod
    def of(cls, name: str) -> Inline:
        """The template of that name, as it is."""
        loader = _environment().loader
        assert loader is not None
        content = loader.get_source(_environment(), name)[0]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        return cls(Markup(content), f"'sha256-{digest}'")  # the package's own file


def render(summary: Summary, conversions: Sequence[Conversion], figures: str = "summary.json") -> str:
    """Render the whole page, beside which the figures are in a file of this name.

    What needs a look comes first, and only that many conversions are shown whole.
    """
    order = glance.worst_first(summary.rows)
    ordered = [(summary.rows[number], conversions[number]) for number in order]
    whole = [conversion for _, conversion in ordered[:MOST_WHOLE]]
    axis = axis_over(whole)
    sections = [_section(number, *one, axis) for number, one in enumerate(ordered, start=1)]
    template = _environment().get_template("report.html.j2")
    return template.render(
        summary=summary,
        figures=figures,
        headline=headline(summary),
        verdicts=glance.verdicts(summary),
        families=glance.families(summary),
        axis=axis,
        sections=sections,
        brief=len(sections) > MOST_WHOLE,
        dates=sorted({receipt["started"][:10] for receipt in _receipts(conversions) if receipt.get("started")}),
        style=Inline.of("report.css"),
        script=Inline.of("report.js"),
    )


@dataclass(frozen=True)
class Section:
    """What the page shows of one conversion."""

    #: its place on the page, from 1
    number: int
    row: Row
    whole: bool
    documents: dict[str, dict[str, Any]]
    plan: dict[str, Any]
    receipt: dict[str, Any]
    fates: list[Group]
    fate_bar: list[Part]
    origins: list[Group]
    rules: list[Rule]
    residues: Some
    leaves: Some
    checks: list[dict[str, Any]]
    own: float | None
    strip: list[Dot]
    faults: list[FaultLine]
    #: of verdicts that give no stages
    layers: Curve | None
    #: the stages of the models
    walked: list[ModelStage]
    #: where the models part, or how near they come to it
    parted: str
    plot: StagePlot | None
    stages: list[Stage]
    #: the files of the source, as they were fetched
    fetched: list[Fetched]
    #: what is signed beside the target, unchecked; None where nothing is
    signed: Shown | None


@dataclass(frozen=True)
class Some:
    """The first entries of a list, and how many more there are."""

    first: list[Any]
    more: int

    @classmethod
    def of(cls, entries: Iterable[Any]) -> Some:
        """Those that a section shows."""
        left = iter(entries)
        first = list(islice(left, MOST_LISTED))
        return cls(first, sum(1 for _ in left))

    def __len__(self) -> int:
        return len(self.first) + self.more


@dataclass(frozen=True)
class Fetched:
    """A file of a source: its path, its size and its digest."""

    path: str
    size: int | None
    sha256: str


@dataclass(frozen=True)
class Group:
    """Leaves of one fate or origin."""

    name: str
    leaves: int
    nbytes: int


@dataclass(frozen=True)
class Rule:
    """A rule, what it does to axes and values (nothing for leaves moved as they are), and to how many leaves."""

    left: str
    right: str
    op: str
    exactness: str
    leaves: int


@dataclass(frozen=True)
class Stage:
    """The cost of a stage; ``width`` is in percent of the longest one."""

    name: str
    seconds: float
    memory: float | None
    width: float


def _section(number: int, row: Row, conversion: Conversion, axis: LogAxis) -> Section:
    plan = conversion.plan
    faults = fault_lines(conversion, axis)
    equivalence = conversion.documents.get("equivalence", {})
    own = own_excess(equivalence)
    walked = stages_of(equivalence)
    leaves = plan.get("source_leaves", {})
    fates = _groups(leaves.values(), "fate")
    return Section(
        number=number,
        row=row,
        whole=number <= MOST_WHOLE,
        documents=conversion.documents,
        plan=plan,
        receipt=conversion.receipt,
        fates=fates,
        fate_bar=parts([(group.name, group.nbytes) for group in fates]),
        origins=_groups(plan.get("target_leaves", {}).values(), "origin"),
        rules=_rules(steps_of(plan)),
        residues=Some.of({"key": key, **leaf} for key, leaf in leaves.items() if leaf.get("reason")),
        leaves=Some.of({"key": key, **leaf} for key, leaf in leaves.items()),
        checks=[conversion.documents[check] for check in CHECKS if check in conversion.documents],
        own=own,
        strip=strip(own, faults, axis),
        faults=faults,
        layers=None if walked else _layers(equivalence),
        walked=walked,
        parted=headline_of_stages(walked),
        plot=stage_plot(walked) if walked else None,
        stages=_stages(conversion),
        fetched=_fetched(conversion.documents.get("fetch", {})),
        signed=_signed(conversion),
    )


def _signed(conversion: Conversion) -> Shown | None:
    """What is signed beside the target."""
    try:
        return shown(conversion.target) if conversion.target else None
    except ConvkitError:  # whether it holds isn't for the page to say
        return None


def _fetched(record: dict[str, Any]) -> list[Fetched]:
    """The files of a record of a fetch; what isn't one is left out."""
    files = record.get("files")
    found = [file for file in files if isinstance(file, dict)] if isinstance(files, list) else []
    return [
        Fetched(file["path"], file.get("size"), file["sha256"])
        for file in found
        if isinstance(file.get("path"), str) and isinstance(file.get("sha256"), str)
    ]


def _receipts(conversions: Iterable[Conversion]) -> Iterable[dict[str, Any]]:
    return (conversion.receipt for conversion in conversions)


def _groups(leaves: Iterable[dict[str, Any]], by: str) -> list[Group]:
    counts: Counter[str] = Counter()
    volumes: Counter[str] = Counter()
    for leaf in leaves:
        name = str(leaf.get(by, "unknown"))
        counts[name] += 1
        volumes[name] += _nbytes(leaf)
    return [Group(name, counts[name], volumes[name]) for name, _ in counts.most_common()]


def _nbytes(leaf: dict[str, Any]) -> int:
    """Bytes of a tensor; 0 for a value that isn't a tensor."""
    return math.prod(leaf.get("shape") or [0]) * ITEMSIZE.get(str(leaf.get("dtype")), 0)


def _rules(steps: Iterable[dict[str, Any]]) -> list[Rule]:
    applied: Counter[tuple[str, str, str, str]] = Counter()
    for step in steps:
        left, _, right = str(step.get("rule")).partition(" <-> ")
        rule = (left, right, change(step), in_words(step.get("exactness")))
        applied[rule] += len(step.get("targets", []))
    return [Rule(*rule, leaves) for rule, leaves in applied.items()]


def _layers(verdict: dict[str, Any]) -> Curve | None:
    """The error after each layer, in the measure that the bound applies to."""
    states = verdict.get("details", {}).get("states", [])
    name = worst(verdict.get("measured", {}), verdict.get("bound", {}))
    values = [(str(state["name"]), value) for state in states if (value := known(state.get(name))) is not None]
    return curve(values, verdict["bound"][name]) if name and values else None


def _stages(conversion: Conversion) -> list[Stage]:
    costs = {stage: conversion.benchmarks[stage] for stage in STAGES if stage in conversion.benchmarks}
    longest = max((cost.seconds for cost in costs.values()), default=0) or 1
    return [
        Stage(stage, cost.seconds, cost.memory, round(100 * cost.seconds / longest, 2)) for stage, cost in costs.items()
    ]


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings by dotted names; lists stay whole."""
    flat: list[tuple[str, Any]] = []
    for name, entry in value.items():
        if isinstance(entry, Mapping) and entry:
            flat += _flat(entry, f"{prefix}{name}.")
        else:
            flat.append((f"{prefix}{name}", entry))
    return flat
