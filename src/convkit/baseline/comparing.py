"""Compare what a row gives now with its baseline.

Digests are compared as they are, and so are whole numbers. Measured errors vary with the processor, so one that a
bound applies to counts as moved only beyond a stated part of that bound, and a bound that isn't a whole number, for it
follows from what was measured, beyond the same part of itself. Of models, each stage's error and bound are compared;
which of them is the worst is up to the processor. Figures without a bound are recorded, and not compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from convkit.baseline.document import Applied, Baseline, Judged
from convkit.baseline.drift import Drift, Kind, RowDrift, changed_versions
from convkit.baseline.observed import Observed

#: how far figures may move, as a part of their bound, if nothing else is asked for
TOLERANCE = 0.25
#: verdicts, the worst last
_WORSE = ("yes", "left out", "not shown", "reference in doubt", "no", "stale", "stopped")
_NONE = "not made"


def compared(baseline: Baseline | None, row: Observed, tolerance: float = TOLERANCE) -> RowDrift:
    """A row against its baseline; without one it is new.

    Args:
        baseline: that was accepted; None where there is none.
        row: as it is.
        tolerance: how far figures may move, as a part of their bound.
    """
    now = row.baseline()
    if baseline is None:
        what = row.verdict + (f": {row.problem}" if row.problem else "")
        return RowDrift(id=row.id, standing="new", drifts=(Drift(kind="row new", what=row.id, now=what),))
    if now is None or row.verdict in ("stale", "stopped"):
        drift = Drift(kind="verdict worse", what="row", before=baseline.verdict, now=row.verdict, why=row.problem)
        return RowDrift(id=row.id, standing="drifted", drifts=(drift,))
    versions = changed_versions(baseline.versions, now.versions)
    drifts = tuple(_drifts(baseline, now, row, tolerance, versions))
    return RowDrift(id=row.id, standing="drifted" if drifts else "same", drifts=drifts, versions=versions)


def gone(id: str) -> RowDrift:
    """A baseline whose row isn't there."""
    drift = Drift(kind="row gone", what=id, why="the campaign has no such row: remove the baseline if that is right")
    return RowDrift(id=id, standing="gone", drifts=(drift,))


def _drifts(
    old: Baseline, new: Baseline, row: Observed, tolerance: float, versions: Mapping[str, tuple[str, str]]
) -> Iterator[Drift]:
    found = [one for check in sorted({*old.checks, *new.checks}) for one in _of_check(check, old, new, tolerance)]
    if old.verdict != new.verdict and not any(one.kind.startswith("verdict") for one in found):
        found.append(_verdict("row", old.verdict, new.verdict, row.problem))
    yield from found
    yield from _of_config(old.config, new.config)
    algorithms = [_algorithms(one) for one in (old, new)]
    if algorithms[0] != algorithms[1]:
        why = "digests of two algorithms can't be compared: run the campaign with that of the baseline"
        yield Drift(kind="other digests", what="leaves and files", before=algorithms[0], now=algorithms[1], why=why)
        return
    if old.source != new.source:
        why = "its leaves have other digests, so other outputs are to be expected"
        yield Drift(kind="source changed", what="leaves", why=why)
    leaves = [*_of_leaves(old, new, versions)]
    files = [*_of_digests("file", old.files, new.files)]
    yield from _of_plan(old, new, same=not leaves and not files)
    yield from leaves
    yield from files


def _verdict(what: str, before: str, now: str, why: str = "") -> Drift:
    place = {word: number for number, word in enumerate(_WORSE)}
    worse = place.get(now, len(place)) > place.get(before, len(place))
    return Drift(kind="verdict worse" if worse else "verdict better", what=what, before=before, now=now, why=why)


def _of_check(check: str, old: Baseline, new: Baseline, tolerance: float) -> Iterator[Drift]:
    before, now = old.checks.get(check), new.checks.get(check)
    if before is None or now is None:
        kind: Kind = "verdict worse" if now is None else "verdict better"
        yield Drift(kind=kind, what=check, before=before.state if before else _NONE, now=now.state if now else _NONE)
        return
    if before.state != now.state:
        yield _verdict(check, before.state, now.state)
    if before.deviations != now.deviations:
        texts = [", ".join(one.deviations) or "none" for one in (before, now)]
        kind = "verdict worse" if {*now.deviations} - {*before.deviations} else "verdict better"
        yield Drift(kind=kind, what=f"{check}, deviations", before=texts[0], now=texts[1])
    yield from _of_faults(check, before, now)
    yield from _of_figures(check, before, now, tolerance)


def _of_faults(check: str, before: Judged, now: Judged) -> Iterator[Drift]:
    for name, stages in before.caught.items():
        caught, missed = now.caught.get(name, []), now.missed.get(name, [])
        for stage in stages:
            if stage not in caught:
                said = "missed" if stage in missed else "not planted"
                where = f" in {stage}" if stage else ""
                yield Drift(kind="fault not caught", what=f"{check}, {name}{where}", before="caught", now=said)


def _of_figures(check: str, before: Judged, now: Judged, tolerance: float) -> Iterator[Drift]:
    for stage in [name for name in before.stages if name in now.stages]:
        one, other = before.stages[stage], now.stages[stage]
        yield from _bound(f"{check}, {stage}", one.bound, other.bound, tolerance)
        yield from _error(f"{check}, {stage}", one.max_rel, other.max_rel, one.bound, tolerance)
    of_stages = before.stages and now.stages
    for name in sorted({*before.bound, *now.bound}):
        a, b = before.bound.get(name), now.bound.get(name)
        if not (of_stages and isinstance(a, float) and isinstance(b, float)):
            yield from _bound(f"{check}, {name}", a, b, tolerance)
    for name in sorted({*before.measured, *now.measured}):
        a, b, bound = before.measured.get(name), now.measured.get(name), before.bound.get(name)
        if not isinstance(a, float) or not isinstance(b, float):
            yield from _error(f"{check}, {name}", a, b, bound, 0.0)
        elif bound is not None and not of_stages:
            yield from _error(f"{check}, {name}", a, b, bound, tolerance)


def _bound(what: str, before: Any, now: Any, tolerance: float) -> Iterator[Drift]:
    if _moved(before, now, tolerance * abs(before) if isinstance(before, float) else 0.0):
        yield Drift(kind="bound moved", what=what, before=_said(before), now=_said(now))


def _error(what: str, before: Any, now: Any, bound: Any, tolerance: float) -> Iterator[Drift]:
    if _moved(before, now, tolerance * abs(bound or 0.0)):
        why = "" if bound is None else f"its bound is {_said(bound)}"
        yield Drift(kind="figure moved", what=what, before=_said(before), now=_said(now), why=why)


def _moved(a: Any, b: Any, most: float) -> bool:
    """Whether a number differs by more than this; anything else, whether it differs."""
    if isinstance(a, int | float) and isinstance(b, int | float):
        return abs(a - b) > most
    return bool(a != b)


def _of_plan(old: Baseline, new: Baseline, *, same: bool) -> Iterator[Drift]:
    if old.plan_digest == new.plan_digest:
        return
    rules = [{_in_words(rule) for rule in one.rules} for one in (old, new)]
    parts = [f"no more: {rule}" for rule in sorted(rules[0] - rules[1])]
    parts += [f"new: {rule}" for rule in sorted(rules[1] - rules[0])]
    why = "; ".join(parts) or "its rules are the same: what differs is a config, a name, a format or a reason"
    yield Drift(kind="plan changed, same bytes" if same else "plan changed", what="rules" if parts else "plan", why=why)


def _of_config(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[Drift]:
    """The fields that differ, by dotted names."""
    for name in sorted({*old, *new}):
        a, b = (one.get(name) if name in one else None for one in (old, new))
        if isinstance(a, dict) and isinstance(b, dict) and a and b:
            yield from _of_config(a, b, f"{prefix}{name}.")
        elif (name in old) != (name in new) or a != b:
            texts = [_said(one[name]) if name in one else "not there" for one in (old, new)]
            yield Drift(kind="config changed", what=f"{prefix}{name}", before=texts[0], now=texts[1])


def _of_leaves(old: Baseline, new: Baseline, versions: Mapping[str, tuple[str, str]]) -> Iterator[Drift]:
    before, now = old.leaves, new.leaves
    for one in _of_digests("leaf", {k: d for k, (d, _) in before.items()}, {k: d for k, (d, _) in now.items()}):
        rules = [side[one.what][1] if one.what in side else None for side in (before, now)]
        why = _why(*rules, source=old.source != new.source, versions=versions)
        rule = rules[1] or rules[0]
        assert rule is not None
        yield Drift(kind=one.kind, what=one.what, before=one.before, now=one.now, why=why, rule=_in_words(rule))


def _why(before: Applied | None, now: Applied | None, *, source: bool, versions: Mapping[str, tuple[str, str]]) -> str:
    """What explains that a leaf isn't as it was: its rule, the source, or what only versions can have done."""
    if before is not None and now is not None and _in_words(before) != _in_words(now):
        return f"its rule was {_in_words(before)}, and is {_in_words(now)}"
    if before is None or now is None:
        return f"by the rule {_in_words(now or before)}" if now or before else ""
    said = f"by the same rule, {_in_words(now)}"
    if source:
        return f"{said}; the source changed"
    return f"{said}, from the same source; {'versions changed' if versions else 'all versions are the same'}"


def _of_digests(kind: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Drift]:
    """The leaves or files that differ, are gone or new."""
    kinds: dict[str, tuple[Kind, Kind, Kind]] = {
        "leaf": ("leaf changed", "leaf gone", "leaf new"),
        "file": ("file changed", "file gone", "file new"),
    }
    changed, lost, added = kinds[kind]
    for name in sorted({*old, *new}):
        a, b = old.get(name, ""), new.get(name, "")
        if a != b:
            yield Drift(kind=changed if a and b else lost if a else added, what=name, before=a, now=b)


def _algorithms(one: Baseline) -> str:
    """The algorithms of its digests, in order."""
    digests = [*(digest for digest, _ in one.leaves.values()), *one.files.values()]
    return ", ".join(sorted({digest.partition(":")[0] for digest in digests}))


def _in_words(rule: Applied | None) -> str:
    if rule is None:
        return ""
    said = rule.rule + (f" [{rule.change}]" if rule.change else "")
    return said if rule.exactness == "exact" else f"{said}, {rule.exactness}"


def _said(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False, sort_keys=True)
