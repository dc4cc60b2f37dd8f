"""Documents with an entry for each of very many leaves: their pages are the same, and hostile ones are refused."""

from __future__ import annotations

import gc
import json
import tracemalloc
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sample_campaign as sample

from convkit.checkpoint import json_text
from convkit.errors import ConvkitError
from convkit.files import long_document
from convkit.files.document import from_json
from convkit.files.long_document import Rows, Table, read_long
from convkit.report import page
from convkit.report.campaign import read_campaign
from convkit.report.documents import check_form
from convkit.report.summary import summarize

#: the limit of values that the tests set in the place of two million
FEW = 100


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "VALUES_LIMIT", FEW)
    monkeypatch.setattr(long_document, "_SHORT", FEW // 2)


def leaves(number: int) -> dict[str, Any]:
    return {f'w"{i}\u2028é': {"shape": [2, i], "dtype": "float32", "fate": "moved", "step": i} for i in range(number)}


def plain(value: Any) -> Any:
    if isinstance(value, Table):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, Rows):
        return [plain(entry) for entry in value]
    return {key: plain(entry) for key, entry in value.items()} if type(value) is dict else value


def long_plan(number: int) -> dict[str, Any]:
    return {
        "schema": "convkit.plan/1",
        "source": {"layout": "hf/llama", "config": {"clip": {"__float__": "Infinity"}}},
        "source_leaves": leaves(number),
        "steps": [{"rule": f"{i}", "ops": [{"by": {"__float__": "NaN"}}]} for i in range(number)],
    }


def test_what_a_long_document_says_is_what_it_would_say_at_once(few: None) -> None:
    text = json.dumps({"plan": long_plan(200), "source": {"leaves": leaves(300)}, "digest": "sha256:0"}).encode()
    with pytest.raises(json_text.OverLimitError):
        from_json(text)
    found = read_long(text)
    assert isinstance(found["plan"]["source_leaves"], Table)
    assert isinstance(found["plan"]["steps"], Rows)
    assert str(plain(found)) == str(json.loads(text, object_hook=_number))  # texts, since no NaN equals itself
    table, rows = found["plan"]["source_leaves"], found["plan"]["steps"]
    assert (len(table), len(rows)) == (200, 200)
    assert table[[*table][7]] == [*table.values()][7]
    assert (rows[3]["rule"], [one["rule"] for one in rows[-2:]]) == ("3", ["198", "199"])


def _number(found: dict[str, Any]) -> Any:
    return float(found["__float__"]) if "__float__" in found else found


def test_the_text_of_a_long_document_is_not_held_beside_what_was_made_of_it(few: None) -> None:
    text = json.dumps({"steps": [0] * 2 * FEW, "note": "." * 10_000_000}).encode()
    gc.disable()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        made = len(read_long(text)["steps"])
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert made == 2 * FEW
    assert after - before < 1_000_000


def test_a_document_within_the_limits_is_made_at_once() -> None:
    text = json.dumps(long_plan(3)).encode()
    assert plain(read_long(text)) is not None
    assert type(read_long(text)["source_leaves"]) is dict


def test_a_page_of_long_documents_is_that_of_short_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = sample.write_campaign(tmp_path / "results")
    moments = count()

    def rendered() -> str:
        rows = read_campaign(results)
        held = [value for row in rows for value in row.plan.values() if isinstance(value, Table | Rows)]
        assert bool(held) == bool(next(moments))
        summary = summarize(rows)
        return page.render(summary, rows).replace(str(summary.made), "now")

    whole = rendered()
    monkeypatch.setattr(json_text, "VALUES_LIMIT", FEW)
    assert rendered() == whole


def test_a_page_lists_some_of_many_leaves_and_counts_all(few: None, tmp_path: Path) -> None:
    dropped = {key: leaf | {"fate": "dropped", "reason": "so"} for key, leaf in leaves(1000).items()}
    (tmp_path / "m.plan.json").write_text(json.dumps(long_plan(1) | {"source_leaves": dropped}))
    rows = read_campaign(tmp_path)
    html = page.render(summarize(rows), rows)
    assert html.count("and 600 more, in the plan") == 2
    assert '<td class="num">1,000</td>' in html


def test_a_malformed_leaf_of_a_long_plan_is_one_clear_error(few: None, tmp_path: Path) -> None:
    bad = leaves(200) | {"late": {"shape": "wide"}}
    with pytest.raises(ConvkitError, match=r"expected array \| null, got str") as caught:
        check_form(read_long(json.dumps(long_plan(1) | {"source_leaves": bad}).encode()), tmp_path / "plan.json")
    assert caught.value.key == "$.source_leaves['late'].shape"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ({"steps": [], "other": [[]] * 300}, "values, over 100"),
        ({f"k{i}": 0 for i in range(300)}, "values, over 100"),
        ({"source_leaves": {"w": [[]] * 300, "v": {}}}, "values, over 100"),
        ([{}] * 300, "values, over 100"),
    ],
)
def test_many_values_outside_of_tables_are_refused(few: None, text: Any, why: str) -> None:
    with pytest.raises(json_text.OverLimitError, match=why):
        plain(read_long(json.dumps(text).encode()))


def test_tables_that_lie_too_deep_are_refused(few: None) -> None:
    nested: dict[str, Any] = {"steps": [[]] * 300}
    for _ in range(3):
        nested = {"plan": nested}
    assert len(read_long(json.dumps(nested).encode())["plan"]["plan"]["plan"]["steps"]) == 300
    with pytest.raises(json_text.OverLimitError, match="values, over 100"):
        read_long(json.dumps({"plan": nested}).encode())


def test_tables_of_too_many_keys_or_values_are_refused(few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_document, "TABLE_KEYS_LIMIT", 999)
    monkeypatch.setattr(long_document, "TABLE_VALUES_LIMIT", 1999)
    with pytest.raises(json_text.OverLimitError, match="its leaves hold 1000 keys, over 999"):
        read_long(json.dumps({"leaves": {f"k{i}": 0 for i in range(1000)}}).encode())
    with pytest.raises(json_text.OverLimitError, match="its steps hold 2000 values, over 1999"):
        read_long(json.dumps({"steps": [[]] * 1000}).encode())


@pytest.mark.parametrize("end", ["", '"\ud800"]}'.encode("utf-8", "surrogatepass").decode("latin1"), "[" * 5000])
def test_a_long_document_that_isnt_json_is_refused(few: None, end: str) -> None:
    with pytest.raises(ValueError, match=r"truncated|malformed|nested|UTF-8|invalid"):
        read_long(b'{"steps": [' + b"[0], " * 300 + end.encode("latin1"))
