"""Measures named cases, and compares them with what was recorded: ``python -m benchmarks [--case NAME]``.

The sides of a case are run in turn, round by round, so that changes in load affect all of them. Figures that got worse
than those in ``results.json`` by more than noise are told; the command then ends with 1 and doesn't record
those cases, unless ``--accept`` is given.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.case import Case
from benchmarks.machine import described
from benchmarks.measuring import hindrance, measure
from benchmarks.results import RECORDED, Results, merged, read, worse, write
from benchmarks.table import cases


def chosen(patterns: Sequence[str], every: bool) -> dict[str, list[Case]]:
    """The cases to run by module: those that the patterns name, or all; long ones only if they are asked for."""

    def wanted(case: Case) -> bool:
        return any(fnmatch(case.name, pattern) for pattern in patterns) if patterns else every or not case.long

    found = {module: [case for case in some if wanted(case)] for module, some in cases().items()}
    if patterns and not any(found.values()):
        raise SystemExit(f"no case is called {', '.join(patterns)}: see --list")
    return {module: some for module, some in found.items() if some}


def runs(selected: dict[str, list[Case]], work: Path, pairs: int | None) -> Iterator[Results]:
    """Measure them, each module in a folder of its own; prints a line a case, and yields its results."""
    for module, some in selected.items():
        folder = work / module
        folder.mkdir()
        for case in some:
            results: Results = {"machine": described(), "cases": {}, "left_out": {}}
            if why := hindrance(case, work):
                results["left_out"][case.name] = why
                print(json.dumps({"case": case.name, "left out": why}), flush=True)
            else:
                entry = results["cases"][case.name] = measure(case, folder, pairs)
                print(json.dumps({"case": case.name, **_in_short(entry)}), flush=True)
            yield results
        shutil.rmtree(folder)


def _in_short(entry: Results) -> Results:
    figures = {name: figure["median"] for name, figure in entry["figures"].items()}
    missed = [name for name, figure in entry["figures"].items() if figure["median"] > figure.get("limit", float("inf"))]
    return {**figures, "load": entry["load"], "quiet": entry["quiet"], **({"over the limit": missed} if missed else {})}


def record(results: Results, path: Path, accept: bool) -> int:
    """Compare with what is recorded, tell what got worse, and record the rest.

    Returns:
        1 if a case got worse by more than noise and isn't accepted, else 0.
    """
    recorded = read(path)
    if recorded["cases"] and recorded["machine"] != results["machine"]:
        print("the recorded results are of another machine, so nothing is compared with them", file=sys.stderr)
    changes = worse(recorded, results)
    for change in changes:
        print(f"worse: {change}", file=sys.stderr)
    refused = set() if accept else {change.case for change in changes}
    kept = {name: entry for name, entry in results["cases"].items() if name not in refused}
    write(path, merged(recorded, results | {"cases": kept}))
    if refused:
        print(f"not recorded: {', '.join(sorted(refused))}; --accept records them", file=sys.stderr)
    return 1 if refused else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", default=[], help="a name, or a pattern such as 'size/*'; many times")
    parser.add_argument("--all", action="store_true", help="the long ones, too")
    parser.add_argument("--pairs", type=int, help="rounds of each case (default: the case's own, mostly 5)")
    parser.add_argument("--work", type=Path, help="a folder on the disk to measure (default: a temporary one)")
    parser.add_argument("--results", type=Path, default=RECORDED, help="what is compared with and written")
    parser.add_argument("--accept", action="store_true", help="record what got worse, too")
    parser.add_argument("--list", action="store_true", help="only print the names of the cases")
    args = parser.parse_args()
    selected = chosen(args.case, args.all or args.list)
    if args.list:
        for some in selected.values():
            for case in some:
                print(f"{case.name:20} {case.about}{' (only if asked for)' if case.long else ''}")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started and made doesn't stay
    if args.work:
        args.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="convkit-bench-", dir=args.work) as folder:
        # each case is recorded as it ends: what fails later loses none
        ends = [record(results, args.results, args.accept) for results in runs(selected, Path(folder), args.pairs)]
    return max(ends)


if __name__ == "__main__":
    sys.exit(main())
