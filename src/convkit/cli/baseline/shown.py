"""What moved, as lines for people."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import UNSET

from convkit.baseline.drift import Comparison, Drift, RowDrift
from convkit.cli.output import few_of, say

#: leaves and files that a line names
_SHOWN = 3


def show(found: Comparison) -> None:
    """Print what moved, row by row, and how many rows did."""
    for row in found.rows:
        if row.standing != "same":
            say(f"{row.id}: {row.standing}", *(f"  {line}" for line in lines_of(row)))
    counts = {word: sum(row.standing == word for row in found.rows) for word in ("same", "drifted", "new", "gone")}
    said = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    rows = f"{len(found.rows)} row{'s' if len(found.rows) != 1 else ''}"
    say(f"{found.results} against {found.baselines}: {rows}: {said or 'nothing to compare'}")


def lines_of(row: RowDrift) -> Iterator[str]:
    """A line for each change, one for all leaves that changed for the same reason, and the versions that changed."""
    groups: dict[tuple[str, str], list[Drift]] = {}
    for one in row.drifts:
        alone = "" if one.kind.startswith(("leaf", "file")) else str(one)
        groups.setdefault((one.kind, alone or one.why), []).append(one)
    for group in groups.values():
        yield str(group[0]) if len(group) == 1 else _several(group)
    if row.versions:
        changed = (f"{name} {_or_none(a)} -> {_or_none(b)}" for name, (a, b) in row.versions.items())
        yield f"versions: {', '.join(changed)}"


def _several(group: list[Drift]) -> str:
    """Leaves or files that moved for one reason."""
    first, names = group[0], [one.what for one in group]
    furthest = max((one.max_ulp for one in group if one.max_ulp is not UNSET), default=None)
    apart = "" if furthest is None else f"by at most {furthest} ulp"
    why = "; ".join(filter(None, (first.why, apart)))
    return f"{first.kind}: {len(names)}: {few_of(names, _SHOWN)}" + (f" ({why})" if why else "")


def _or_none(version: str) -> str:
    return version or "none"
