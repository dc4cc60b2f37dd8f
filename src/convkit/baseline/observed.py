"""What a row's documents give now, in the form of a baseline that nobody has accepted yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from convkit.baseline.document import Applied, Baseline, Judged, StageFigures
from convkit.checkpoint.digests import digest_value
from convkit.files.document import as_json
from convkit.files.receipt import side_of
from convkit.files.steps import change, in_words

#: significant digits of figures that aren't whole numbers
_DIGITS = 3


@dataclass(frozen=True)
class Observed:
    """A row of a campaign, as its documents say.

    Attributes:
        id: the row's.
        verdict: what all its checks say, in a word.
        problem: why it isn't ``yes``; empty where it is.
        receipt: of its output; empty where there is none.
        checks: the verdicts, by check.
    """

    id: str
    verdict: str
    problem: str = ""
    receipt: Mapping[str, Any] = field(default_factory=dict)
    checks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def baseline(self) -> Baseline | None:
        """What would be accepted; None where there is no output."""
        if not self.receipt:
            return None
        plan, receipt = self.receipt["plan"], self.receipt
        leaves = side_of(receipt, "source").get("leaves")
        return Baseline(
            id=self.id,
            verdict=self.verdict,
            plan_digest=receipt["plan_digest"],
            source=digest_value("sha256", leaves) if leaves else None,
            config=_sorted((plan.get("target") or {}).get("config") or {}),
            rules=_rules(plan, dict(_leaf_digests(receipt))),
            files=_files(receipt),
            checks={check: _judged(self.checks[check]) for check in sorted(self.checks)},
            versions=_versions(receipt, self.checks),
            accepted=[],
        )


def over_output(baseline: Baseline) -> str:
    """One digest over those of all leaves and files."""
    leaves = {key: digest for key, (digest, _) in baseline.leaves.items()}
    return digest_value("sha256", {"leaves": leaves, "files": baseline.files})


def _files(receipt: Mapping[str, Any]) -> dict[str, str]:
    """The digests of files by name."""
    found = {str(one["name"]): str(one["digest"]) for one in receipt.get("written") or ()}
    return {name: found[name] for name in sorted(found)}


def _sorted(value: Any) -> Any:
    """A config with its fields in order, and numbers as JSON can say them."""
    value = as_json(value)
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(entry) for entry in value] if isinstance(value, list) else value


def _leaf_digests(receipt: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The leaves of an output; of a migration, those whose arrays were written anew."""
    for key, leaf in (side_of(receipt, "target").get("leaves") or {}).items():
        yield key, leaf["digest"]
    for part in receipt.get("parts") or ():
        for name, item in part["items"].items():
            for key, leaf in (item.get("leaves") or {}).items():
                yield "/".join(filter(None, (part["name"], name, key))), leaf["digest"]


def _rules(plan: Mapping[str, Any], digests: Mapping[str, str]) -> list[Applied]:
    """The leaves by the rule that made them, in an order that no change of another rule moves."""
    made = _made_by(plan)
    grouped: dict[tuple[str, str, str], dict[str, str]] = {}
    leaves = dict(plan.get("target_leaves") or {})
    for key in sorted(digests):
        planned = leaves.get(key) or {}
        origin = (str(planned.get("origin") or "carried"), str(planned.get("reason") or ""), "exact")
        grouped.setdefault(made.get(key, origin), {})[key] = digests[key]
    return [
        Applied(rule=rule, change=what, exactness=exactness, leaves=grouped[rule, what, exactness])
        for rule, what, exactness in sorted(grouped)
    ]


def _made_by(plan: Mapping[str, Any]) -> dict[str, tuple[str, str, str]]:
    """Each target leaf's rule, change and exactness; through other layouts, those of all mappings on the way."""
    found: dict[str, tuple[str, str, str]] = {}
    for part in plan.get("through") or [plan]:
        before, found = found, {}
        for step in part.get("steps") or ():
            if "rule" not in step:
                continue
            way = [before[one["key"]] for one in step["sources"] if one["key"] in before]
            own = (str(step["rule"]), change(step), in_words(step["exactness"]))
            for one in step["targets"]:
                parts = [*way, own, *([found[one["key"]]] if one["key"] in found else [])]
                found[one["key"]] = _joined(parts)
    return found


def _joined(parts: list[tuple[str, str, str]]) -> tuple[str, str, str]:
    """Several rules as one: each thing said once, in order."""
    rules, changes, exact = (list(dict.fromkeys(filter(None, column))) for column in zip(*parts, strict=True))
    bounded = [one for one in exact if one != "exact"]
    return "; ".join(rules), "; ".join(changes), "; ".join(bounded) or "exact"


def _judged(verdict: Mapping[str, Any]) -> Judged:
    faults = verdict.get("faults") or ()
    return Judged(
        state=str(verdict.get("state")),
        measured=_figures(verdict.get("measured") or {}),
        bound=_figures(verdict.get("bound") or {}),
        stages={
            one["name"]: StageFigures(max_rel=_rounded(one.get("max_rel")), bound=_rounded(one.get("bound")))
            for one in verdict.get("stages") or ()
        },
        caught=_stages(fault for fault in faults if fault["caught"]),
        missed=_stages(fault for fault in faults if not fault["caught"]),
        deviations=sorted({str(one["field"]) for one in verdict.get("deviations") or ()}),
    )


def _figures(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _rounded(found[name]) for name in sorted(found)}


def _rounded(value: Any) -> Any:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else _sorted(value)


def _stages(faults: Iterator[Mapping[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for fault in faults:
        found.setdefault(str(fault["name"]), []).append(str(fault.get("stage") or ""))
    return {name: sorted(found[name]) for name in sorted(found)}


def _versions(receipt: Mapping[str, Any], checks: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What took part in the conversion and in its checks; a commit only where convkit has one."""
    found = {"convkit": str(receipt.get("convkit"))}
    if receipt.get("commit"):
        found["convkit commit"] = str(receipt["commit"])
    details = [check.get("details") or {} for check in checks.values()]
    for one in (*details, receipt):
        found |= {name: str(version) for name, version in (one.get("versions") or {}).items()}
    return {name: found[name] for name in sorted(found)}
