"""The predicted tables against recorded answers of release 0.12.8.

``recorded/layouts.csv`` has the classes of an error and of its causes; the other two the error's own.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import layouts
import pytest
from goldens import golden_dir

from convkit.orbax.check.calls import CALLS, Call, of_items
from convkit.orbax.check.check import predict
from convkit.orbax.check.outcome import OK, Outcome

_RECORDED = Path(__file__).with_name("recorded")
_ITEMS = ("state", "pytree", "params", "default")
_BY_TEXT = {call.text: call for call in of_items(_ITEMS)}


def rows(name: str) -> list[dict[str, str]]:
    with (_RECORDED / name).open(newline="") as file:
        return list(csv.DictReader(file))


def chain(outcome: Outcome) -> str:
    return OK if outcome.ok else " ".join(kind for kind, _ in outcome.causes)


@pytest.mark.parametrize("name", layouts.MATRIX)
def test_layouts(layout: Callable[[str], Path], name: str) -> None:
    """All causes, for each of the 25 layouts and 23 calls."""
    path = layout(name)
    recorded = {row["call"]: row[name] for row in rows("layouts.csv")}
    assert len(recorded) == 23
    assert {text: chain(predict(_BY_TEXT[text], path)) for text in recorded} == recorded


@pytest.mark.golden
@pytest.mark.parametrize("row", rows("compat_checkpoints.csv"), ids=lambda row: row["checkpoint"])
def test_compatibility_checkpoints(row: dict[str, str]) -> None:
    """Orbax's own, whole and damaged."""
    path = golden_dir("orbax/compat_checkpoints.tar.gz") / row["checkpoint"]
    recorded = {text: result for text, result in row.items() if text != "checkpoint"}
    direct = "direct_checkpoint" in row["checkpoint"]
    tree = CALLS_BELOW["" if direct else "state"]
    calls = {text: tree if text.endswith("restore(tree)") else _BY_TEXT[text] for text in recorded}
    assert {text: predict(call, path).result for text, call in calls.items()} == recorded


CALLS_BELOW: dict[str, Call] = {
    "": _BY_TEXT["v0 PyTreeCheckpointer().restore(p)"],
    "state": _BY_TEXT["v0 PyTreeCheckpointer().restore(p / 'state')"],
}


def old_cases() -> list[tuple[str, list[dict[str, str]]]]:
    by_case: dict[str, list[dict[str, str]]] = {}
    for row in rows("old_releases.csv"):
        by_case.setdefault(row["case"], []).append(row)
    return list(by_case.items())


@pytest.mark.golden
@pytest.mark.parametrize(("case", "recorded"), old_cases(), ids=lambda value: value if isinstance(value, str) else "")
def test_old_releases(case: str, recorded: list[dict[str, str]]) -> None:
    """What ten old releases wrote; a root's step 2, and the same on one device and on four."""
    corpus = golden_dir("orbax/old_releases.tar.gz")
    releases = list(recorded[0])[4:]
    compared = 0
    for row in recorded:
        for release in releases:
            if not row[release]:
                continue
            path = corpus / release / case / "ckpt"
            answer = _answer(_BY_TEXT[row["call"]], path / row["below"], int(row["devices"]))
            assert answer.result == row[release], (release, row, answer.causes)
            compared += 1
    assert compared


def _answer(call: Call, path: Path, devices: int) -> Outcome:
    """If metadata(p) has no tree to make arguments from, the recorded call was made without them."""
    answer = predict(call, path, devices)
    plain = call.text.replace(", restore_args=np", "")
    return predict(_BY_TEXT[plain], path, devices) if answer.result == "AttributeError" else answer


def test_the_table_is_whole() -> None:
    assert {row["call"] for row in rows("layouts.csv")} <= {call.text for call in CALLS}
