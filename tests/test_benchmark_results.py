"""What `make bench` does with results, made up here: figures, the comparison with a recorded run, and its record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from convkit.version import commit

ROOT = Path(__file__).parent.parent
MACHINE = {"cpu": "one", "cores": 2, "GiB": 24, "system": "Linux"}
RATIO = "wall: convert / copy"


@pytest.fixture(autouse=True)
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)


def results(*figures: tuple[str, float, float], rounds: int = 5, case: str = "rename", **machine: Any) -> dict:
    """A run of one case: the name, the median and the spread of each figure."""
    told = {
        name: {"median": median, "spread": spread, "compared": not name.startswith("seconds")}
        for name, median, spread in figures
    }
    return {
        "machine": MACHINE | machine,
        "cases": {case: {"rounds": rounds, "figures": told, "load": [0.1, 2.0], "quiet": True}},
        "left_out": {},
    }


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ((1.0, 0.0), (1.2, 0.0), True),
        ((1.0, 0.0), (1.04, 0.0), False),  # too little
        ((1.0, 0.1), (1.2, 0.1), False),  # less than three times the noise of the two, 0.07
        ((1.0, 0.1), (1.25, 0.1), True),
        ((1.0, 0.4), (1.4, 0.0), False),  # the recorded run was noisy
        ((1.0, 0.0), (1.4, 0.4), False),  # this one was
        ((1.0, 0.0), (0.5, 0.0), False),  # better
    ],
)
def test_what_grew_by_more_than_noise_is_told(was: tuple, now: tuple, told: bool) -> None:
    from benchmarks.results import worse

    changes = worse(results((RATIO, *was)), results((RATIO, *now)))
    assert [(change.case, change.figure) for change in changes] == [("rename", RATIO)] * told


def test_seconds_are_not_compared() -> None:
    from benchmarks.results import worse

    name = "seconds: convert"
    assert not worse(results((name, 1.0, 0.0)), results((name, 9.0, 0.0)))


def test_a_run_of_two_rounds_is_not_judged() -> None:
    from benchmarks.results import worse

    assert not worse(results((RATIO, 1.0, 0.0)), results((RATIO, 9.0, 0.0), rounds=2))


def test_nor_is_one_of_another_machine_which_replaces_all(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from benchmarks.__main__ import record
    from benchmarks.results import read, write

    path = tmp_path / "results.json"
    write(path, results((RATIO, 1.0, 0.0), case="other"))
    assert record(results((RATIO, 9.0, 0.0), cpu="another"), path, accept=False) == 0
    assert "another machine" in capsys.readouterr().err
    assert {*read(path)["cases"]} == {"rename"}


def test_what_got_worse_is_recorded_only_if_accepted(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from benchmarks.__main__ import record
    from benchmarks.results import read

    path = tmp_path / "results.json"
    assert record(results((RATIO, 1.0, 0.0)), path, accept=False) == 0
    assert record(results((RATIO, 2.0, 0.0)), path, accept=False) == 1
    assert f"rename: {RATIO} was 1, is 2" in capsys.readouterr().err
    assert read(path)["cases"]["rename"]["figures"][RATIO]["median"] == 1
    assert record(results((RATIO, 2.0, 0.0)), path, accept=True) == 0
    assert read(path)["cases"]["rename"]["figures"][RATIO]["median"] == 2


def test_cases_that_were_not_run_stay_recorded(tmp_path: Path) -> None:
    from benchmarks.__main__ import record
    from benchmarks.results import read

    path = tmp_path / "results.json"
    first = results((RATIO, 1.0, 0.0))
    record(first | {"left_out": {"mdl": "needs 10 GB of disk"}}, path, accept=False)
    record(results((RATIO, 1.0, 0.0), case="mdl"), path, accept=False)
    assert {*read(path)["cases"]} == {"rename", "mdl"}
    assert not read(path)["left_out"]


def test_figures_are_of_each_round() -> None:
    from benchmarks.case import Figure
    from benchmarks.processes import Run

    runs = {
        "copy": [Run(2.0, 1.0, 4 << 20), Run(4.0, 2.0, 8 << 20)],
        "convert": [Run(3.0, 3.0, 30 << 20), Run(4.0, 3.0, 20 << 20)],
        "roundtrip": [Run(1.0, 1.0, 50 << 20), Run(2.0, 1.0, 10 << 20)],
    }
    both = ("convert", "roundtrip")
    expected = {
        Figure("convert", "copy"): ("wall: convert / copy", [1.5, 1.0]),
        Figure(both, "copy", what="cpu"): ("cpu: convert + roundtrip / copy", [4.0, 2.0]),
        Figure(both, what="anonymous"): ("MiB: convert + roundtrip", [50.0, 20.0]),
        Figure("convert", what="cpu", per=2): ("CPU seconds: convert / 2", [1.5, 1.5]),
    }
    assert {figure: (figure.name, figure.values(runs)) for figure in expected} == expected
    assert not Figure("convert").compared
    assert Figure("convert", what="anonymous").compared


def test_a_case_runs_its_sides_in_turn(tmp_path: Path) -> None:
    from benchmarks.case import Case, Figure, Side
    from benchmarks.measuring import measure
    from benchmarks.processes import Run

    order: list[str] = []

    def sides(work: Path) -> Iterator[Mapping[str, Side]]:
        def side(name: str, wall: float) -> Side:
            def run() -> Run:
                order.append(name)
                return Run(wall, wall, 1 << 20)

            return run

        yield {"copy": side("copy", 2.0), "convert": side("convert", 3.0)}
        order.append("over")

    case = Case("made up", "nothing", sides, (Figure("convert", "copy", limit=1.2),), packages=("pytest",))
    entry = measure(case, tmp_path, pairs=2)
    assert order == ["copy", "convert"] * 3 + ["over"]
    assert entry["figures"] == {RATIO: {"median": 1.5, "spread": 0.0, "compared": True, "limit": 1.2}}
    assert entry["sides"]["copy"] == {"wall": [2.0, 2.0], "cpu": [2.0, 2.0], "MiB": [1.0, 1.0]}
    assert entry["versions"]["pytest"] == pytest.__version__
    assert entry["commit"] == commit()
    json.dumps(entry)


def test_a_case_without_its_package_or_disk_is_left_out(tmp_path: Path) -> None:
    from benchmarks.case import Case
    from benchmarks.measuring import hindrance

    def case(**more: Any) -> Case:
        return Case("made up", "nothing", lambda work: iter(()), (), **more)

    assert not hindrance(case(), tmp_path)
    assert hindrance(case(packages=("no-such-package",)), tmp_path) == "needs no-such-package"
    assert "GB of disk" in hindrance(case(disk=1e9), tmp_path)
    assert hindrance(case(missing=lambda: "needs root"), tmp_path) == "needs root"


def test_every_case_has_a_name_of_its_own_and_the_points_of_a_curve_one_unit() -> None:
    from benchmarks.table import cases

    every = [case for some in cases().values() for case in some]
    assert len({case.name for case in every}) == len(every)
    units = {case.curve: case.unit for case in every if case.at is not None}
    assert all(units.get(case.curve, "") == case.unit for case in every)


def test_points_of_the_curve_by_leaves_have_as_many() -> None:
    from benchmarks.curves import LEAVES
    from benchmarks.huge import FEW, leaves

    for count, (layers, experts) in LEAVES.items():
        config = FEW | {"num_hidden_layers": layers, "num_local_experts": experts}
        assert sum(1 for _ in leaves(config)) == count


def test_the_page_shows_peers_goals_and_curves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs" / "_ext")
    import measured

    def entry(at: float, seconds: float) -> dict[str, Any]:
        sides = {
            name: {"wall": [took] * 3, "cpu": [took] * 3, "MiB": [64.0] * 3}
            for name, took in (("convkit", seconds), ("cp", 3 * seconds))
        }
        figures = {RATIO: {"median": 1.5, "spread": 0.1, "compared": True, "limit": 1.2}}
        about = {"about": "made up", "date": "2026-11-29T12:00Z", "commit": "0" * 40, "load": [0.1, 1.0]}
        versions = {"python": "3.11", "coreutils": "9.1"}
        named = {"at": at, "unit": "GB", "peers": {"cp": "convkit"}, "rounds": 3, "quiet": at < 1}
        return {**about, **named, "versions": versions, "sides": sides, "figures": figures}

    cases = {"size/0.1": entry(0.1, 2.0), "size/1": entry(1.0, 20.0)}
    recorded = {"machine": MACHINE, "cases": cases, "left_out": {"mdl": "needs 10 GB of disk"}}
    path = tmp_path / "results.json"
    path.write_text(json.dumps(recorded))
    monkeypatch.setattr(measured, "RECORDED", path)
    measured._results.cache_clear()
    try:
        assert "during `size/1`" in measured.machine()
        assert "`mdl` wasn't run: needs 10 GB of disk" in measured.machine()
        assert "| cp | 2.00 | 6.00 | 3.0 | 3.0 | 64 | 64 | python 3.11, coreutils 9.1 |" in measured.peers()
        assert "| 1.5 | 0.1 | 1.2 | **no** | 3 |" in measured.goals()
        curves = measured.curves()
        assert curves.count("<polyline") == 4
        assert "convkit: 20 seconds at 1 GB" in curves
        path.unlink()
        measured._results.cache_clear()
        assert measured.peers() == measured.curves() == measured.NOTHING
    finally:
        measured._results.cache_clear()
