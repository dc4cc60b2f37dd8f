"""The page of benchmarks, from what was recorded: ``benchmarks/results.json``."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from chart import chart
from markdown import code, plain, table

RECORDED = Path(__file__).parents[2] / "benchmarks" / "results.json"
NOTHING = "*Nothing is recorded yet: `make bench` does.*\n"
Entry = Mapping[str, Any]


@cache
def _results() -> dict[str, Any]:
    if not RECORDED.exists():
        return {"machine": {}, "cases": {}, "left_out": {}}
    return json.loads(RECORDED.read_text(encoding="utf-8"))


def _cases() -> dict[str, Entry]:
    return _results()["cases"]


def machine() -> str:
    """Where and when the figures were measured, and whether the machine was quiet."""
    if not _cases():
        return NOTHING
    found = _results()["machine"]
    dates = sorted(entry["date"][:10] for entry in _cases().values())
    days = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    busy = [code(name) for name, entry in _cases().items() if not entry["quiet"]]
    quiet = f"Other work kept the machine busy during {', '.join(busy)}." if busy else "The machine was quiet."
    left_out = "".join(f"- {code(name)} wasn't run: {plain(why)}\n" for name, why in _results()["left_out"].items())
    return (
        f"Measured {days} on {plain(found['cpu'])} with {found['cores']} cores and {found['GiB']} GiB, "
        f"{plain(found['system'])}. {quiet}\n\n{left_out}"
    )


def goals() -> str:
    """Every figure that has a goal."""
    rows = [
        [
            code(name),
            plain(figure_name),
            f"{figure['median']:g}",
            f"{figure['spread']:.2g}",
            f"{figure['limit']:g}",
            "yes" if figure["median"] <= figure["limit"] else "**no**",
            str(entry["rounds"]),
        ]
        for name, entry in _cases().items()
        for figure_name, figure in entry["figures"].items()
        if "limit" in figure
    ]
    head = ["case", "figure", "median", "spread", "goal, at most", "met", "rounds"]
    return table(head, rows) if rows else NOTHING


def peers() -> str:
    """Other people's programs beside convkit, in the same run."""
    rows = [
        [
            f"{code(name)}: {plain(entry['about'])}",
            plain(peer),
            *(f"{_median(entry, side, 'wall'):.2f}" for side in (ours, peer)),
            f"{_times(entry, peer, ours, 'wall'):.1f}",
            f"{_times(entry, peer, ours, 'cpu'):.1f}",
            *(_memory(entry, side) for side in (ours, peer)),
            plain(_versions(entry)),
        ]
        for name, entry in _cases().items()
        for peer, ours in entry.get("peers", {}).items()
    ]
    head = ["case", "peer", "convkit, seconds", "peer, seconds", "times", "times, CPU", "convkit, MiB", "peer, MiB"]
    return table([*head, "versions"], rows) if rows else NOTHING


def curves() -> str:
    """A chart of seconds and one of memory for each curve, and their points."""
    found: dict[str, list[Entry]] = {}
    for name, entry in _cases().items():
        if "at" in entry:
            found.setdefault(name.partition("/")[0], []).append(entry)
    return "\n".join(_curve(name, points) for name, points in found.items() if len(points) > 1) or NOTHING


def _curve(name: str, entries: list[Entry]) -> str:
    entries = sorted(entries, key=lambda entry: entry["at"])
    unit = entries[0]["unit"]
    sides = dict.fromkeys(side for entry in entries for side in entry["sides"])
    parts = [f"### By {unit}\n" if unit != name else f"### By {name}\n"]
    for title, what in (("seconds", "wall"), ("MiB", "MiB")):
        series = {
            side: [(entry["at"], _median(entry, side, what)) for entry in entries if side in entry["sides"]]
            for side in sides
        }
        parts += [f"```{{raw}} html\n{chart(title, unit, series)}\n```\n"]
    head = [unit, *(f"{side}, {what}" for side in sides for what in ("seconds", "CPU seconds", "MiB"))]
    rows = [
        [
            f"{entry['at']:,g}",
            *(
                f"{_median(entry, side, what):,.3g}" if side in entry["sides"] else ""
                for side in sides
                for what in ("wall", "cpu", "MiB")
            ),
        ]
        for entry in entries
    ]
    return "\n".join([*parts, table(head, rows)])


def every_figure() -> str:
    """All that was measured, case by case, except points of curves."""
    parts = []
    for name, entry in _cases().items():
        if "at" in entry:
            continue
        rows = [
            [plain(figure_name), f"{figure['median']:g}", f"{figure['spread']:.2g}"]
            for figure_name, figure in entry["figures"].items()
        ]
        load = " to ".join(f"{load:g}" for load in entry["load"])
        when = f"{entry['rounds']} rounds, {entry['date'][:10]}, commit {entry['commit'][:10]}, load {load}"
        parts += [f"### {code(name)}\n", f"{plain(entry['about'])}. {when}.\n"]
        parts += [table(["figure", "median", "spread"], rows)]
    return "\n".join(parts) or NOTHING


def _median(entry: Entry, side: str, what: str) -> float:
    return statistics.median(entry["sides"][side][what])


def _memory(entry: Entry, side: str) -> str:
    """The peak of all rounds; nothing where it wasn't measured."""
    most = max(entry["sides"][side]["MiB"])
    return f"{most:,.0f}" if most else ""


def _times(entry: Entry, peer: str, ours: str, what: str) -> float:
    """By how much convkit is ahead: the median of the rounds."""
    sides = entry["sides"]
    pairs = zip(sides[peer][what], sides[ours][what], strict=True)
    return statistics.median(theirs / mine for theirs, mine in pairs)


def _versions(entry: Entry) -> str:
    """Those of the peers: Python's and the kernel's stand elsewhere."""
    own = ("convkit", "kernel", "numpy")
    return ", ".join(f"{name} {version}" for name, version in entry["versions"].items() if name not in own)
