"""Each kind of drift, apart from the others: verdicts, faults, bounds, figures, configs, sources, digests."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from sample_campaign import all_stages, walked

from convkit.baseline.comparing import compared
from convkit.baseline.observed import Observed


def row(change: Callable[[dict[str, Any]], None] = lambda documents: None, **words: Any) -> Observed:
    """The documents of a row, changed."""
    stages = all_stages(equivalence=walked())
    stages["convert"]["target"]["leaves"] = {
        key: {"digest": "xxh3-128:" + "ab" * 16} for key in stages["plan"]["target_leaves"]
    }
    stages["convert"]["source"]["leaves"] = {key: {"digest": "xxh3-128:00"} for key in stages["plan"]["source_leaves"]}
    documents = copy.deepcopy(stages)
    change(documents)
    checks = {check: documents[check] for check in ("roundtrip", "equivalence") if check in documents}
    return Observed(id="row", verdict="yes", receipt=documents["convert"], checks=checks, **words)


def kinds(change: Callable[[dict[str, Any]], None], tolerance: float = 0.25) -> dict[str, list[str]]:
    """What is found of a change: the things that moved, by kind."""
    found: dict[str, list[str]] = {}
    for one in compared(row().baseline(), row(change), tolerance).drifts:
        found.setdefault(one.kind, []).append(one.what)
    return found


def test_nothing_moved() -> None:
    assert not kinds(lambda documents: None)


def test_time_place_and_threads_are_nothing() -> None:
    def elsewhere(documents: dict[str, Any]) -> None:
        documents["convert"] |= {"seconds": 9.9, "threads": 64, "host": "other", "started": "2031", "command_line": "x"}
        documents["convert"]["source"]["path"] = "/elsewhere"
        documents["roundtrip"] |= {"seconds": 1e3, "source": "/elsewhere"}

    assert not kinds(elsewhere)


@pytest.mark.parametrize(("part", "moved"), [(0.2, False), (0.3, True)])
def test_an_error_may_move_by_a_part_of_its_bound(part: float, moved: bool) -> None:
    def nearer(documents: dict[str, Any]) -> None:
        stage = documents["equivalence"]["stages"][1]
        stage["max_rel"] += part * stage["bound"]
        documents["equivalence"]["measured"]["max_rel"] = stage["max_rel"]

    assert kinds(nearer) == ({"figure moved": ["equivalence, layers.0"]} if moved else {})


def test_a_bound() -> None:
    def wider(documents: dict[str, Any]) -> None:
        documents["equivalence"]["stages"][2]["bound"] *= 2

    def of_leaves(documents: dict[str, Any]) -> None:
        documents["roundtrip"]["bound"]["different"] = 1

    assert kinds(wider) == {"bound moved": ["equivalence, layers.1"]}
    assert kinds(of_leaves) == {"bound moved": ["roundtrip, different"]}


def test_whole_numbers_may_not_move() -> None:
    def another(documents: dict[str, Any]) -> None:
        documents["roundtrip"]["measured"]["leaves"] -= 1

    assert kinds(another, tolerance=1.0) == {"figure moved": ["roundtrip, leaves"]}


def test_a_fault_that_is_missed_or_planted_no_more() -> None:
    def missed(documents: dict[str, Any]) -> None:
        documents["equivalence"]["faults"][1]["caught"] = False
        del documents["roundtrip"]["faults"][0]

    assert kinds(missed) == {
        "fault not caught": ["equivalence, gate and up swapped in embedding", "roundtrip, one bit flipped"]
    }


@pytest.mark.parametrize(
    ("state", "kind"), [("no", "verdict worse"), ("not shown", "verdict worse"), ("yes", "verdict better")]
)
def test_a_verdict(state: str, kind: str) -> None:
    def judged(documents: dict[str, Any], state: str) -> None:
        documents["roundtrip"]["state"] = state

    before = row(lambda documents: judged(documents, "yes" if state != "yes" else "not shown")).baseline()
    (drift,) = compared(before, row(lambda documents: judged(documents, state))).drifts
    assert (drift.kind, drift.what) == (kind, "roundtrip")


def test_a_check_that_is_left_out() -> None:
    assert kinds(lambda documents: documents.pop("equivalence")) == {"verdict worse": ["equivalence"]}


def test_a_row_that_stops() -> None:
    stopped = Observed(id="row", verdict="stopped", problem="plan: no rule takes this leaf")
    (drift,) = compared(row().baseline(), stopped).drifts
    assert (drift.kind, drift.now, drift.why) == ("verdict worse", "stopped", "plan: no rule takes this leaf")


def test_a_config_and_a_plan_are_told_apart_from_bytes() -> None:
    def config(documents: dict[str, Any]) -> None:
        documents["convert"]["plan"]["target"]["config"]["model"]["rotary_dim"] = 5
        documents["convert"]["plan_digest"] = "sha256:" + "00" * 32

    assert kinds(config) == {"config changed": ["model.rotary_dim"], "plan changed, same bytes": ["plan"]}


def test_a_source_explains_its_leaves() -> None:
    def other_source(documents: dict[str, Any]) -> None:
        documents["convert"]["source"]["leaves"]["model.embed_tokens.weight"]["digest"] = "xxh3-128:01"
        documents["convert"]["target"]["leaves"][LEAF]["digest"] = "xxh3-128:01"

    drifts = compared(row().baseline(), row(other_source)).drifts
    assert [(one.kind, one.what) for one in drifts] == [("source changed", "leaves"), ("leaf changed", LEAF)]
    assert drifts[1].why.endswith("; the source changed")


def test_versions_explain_what_nothing_else_does() -> None:
    def newer(documents: dict[str, Any]) -> None:
        documents["convert"]["versions"]["numpy"] = "9.9"
        documents["convert"]["target"]["leaves"][LEAF]["digest"] = "xxh3-128:01"

    found = compared(row().baseline(), row(newer))
    assert found.versions == {"numpy": ("2.4.6", "9.9")}
    assert found.drifts[0].why.endswith("from the same source; versions changed")
    silent = compared(row().baseline(), row(lambda documents: documents["convert"]["versions"].update(numpy="9.9")))
    assert (silent.standing, silent.versions) == ("same", {"numpy": ("2.4.6", "9.9")})


def test_leaves_that_are_new_or_gone() -> None:
    def renamed(documents: dict[str, Any]) -> None:
        leaves = documents["convert"]["target"]["leaves"]
        leaves["other"] = leaves.pop(LEAF)

    assert kinds(renamed) == {"leaf gone": [LEAF], "leaf new": ["other"]}


def test_digests_of_another_algorithm_arent_compared() -> None:
    def sha256(documents: dict[str, Any]) -> None:
        for leaf in documents["convert"]["target"]["leaves"].values():
            leaf["digest"] = "sha256:00"

    assert kinds(sha256) == {"other digests": ["leaves and files"]}


LEAF = "model.embedding_layer.word_embeddings.weight"
