"""Receipts that are damaged anywhere end in a verdict or in one clear error, never in a traceback."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convkit.cli import main

#: what may stand where something else stood; no large numbers, which would only ask for large tensors
STRANGE = (None, True, -1, 0, 3, 1.5, float("nan"), "", "x", "a b", [], [1], {}, {"x": 1}, [[]], "\0")
_SOME = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("malformed")
    assert main(["fetch", "generated://llama?layers=1&tied=true", str(folder / "source")]) == 0
    assert main(["convert", str(folder / "source"), str(folder / "made.mdl"), "--to", "cerebras/llama"]) == 0
    return folder


def places(document: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything in a document."""
    entries: Any = ()
    if isinstance(document, dict):
        entries = document.items()
    elif isinstance(document, list):
        entries = enumerate(document)
    for name, inner in entries:
        yield (*above, name)
        yield from places(inner, (*above, name))


@st.composite
def damaged(draw: st.DrawFn, document: Any) -> Any:
    """The document with a few entries gone or replaced."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 2))):
        # a kind of place first: most places are names of leaves
        kinds: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
        for place in places(document):
            kinds.setdefault(tuple("" if isinstance(name, int) else str(name)[:9] for name in place), []).append(place)
        place = draw(st.sampled_from(draw(st.sampled_from(list(kinds.values())))))
        inside = document
        for name in place[:-1]:
            inside = inside[name]
        if draw(st.booleans()):
            del inside[place[-1]]
        else:
            inside[place[-1]] = copy.deepcopy(draw(st.sampled_from(STRANGE)))
    return document


def with_receipt(folder: Path, document: Any, *command: str) -> int:
    """The exit code of a command while the receipt is this one."""
    path = folder / "made.mdl.convkit.json"
    sound = path.read_text()
    path.write_text(json.dumps(document))
    try:
        return main(list(command))
    finally:
        path.write_text(sound)


@_SOME
@given(data=st.data(), check=st.sampled_from(["verify", "roundtrip", "back"]))
def test_damaged_receipts(data: st.DataObject, check: str, made: Path) -> None:
    receipt = data.draw(damaged(json.loads((made / "made.mdl.convkit.json").read_text())))
    source, target = str(made / "source"), str(made / "made.mdl")
    commands = {
        "verify": ["verify", target],
        "roundtrip": ["roundtrip", source, target],
        "back": ["plan", target, "--to", "hf/llama"],
    }
    assert with_receipt(made, receipt, *commands[check]) in (0, 1, 2, 3)


@_SOME
@given(data=st.data())
def test_a_report_on_damaged_documents(data: st.DataObject, made: Path, tmp_path: Path) -> None:
    receipt = data.draw(damaged(json.loads((made / "made.mdl.convkit.json").read_text())))
    (tmp_path / "receipt.json").write_text(json.dumps(receipt))
    assert main(["report", str(tmp_path)]) in (0, 1, 2, 3)


def test_a_receipt_nested_too_deeply_is_an_error(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = made / "made.mdl.convkit.json"
    sound = path.read_text()
    path.write_text("[" * 100_000)
    try:
        assert main(["verify", str(made / "made.mdl")]) == 3
    finally:
        path.write_text(sound)
    assert "made.mdl.convkit.json: is nested too deeply (restore it, or remove it)" in capsys.readouterr().err


def test_the_error_names_the_place(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    receipt = json.loads((made / "made.mdl.convkit.json").read_text())
    receipt["plan"]["steps"][3]["sizes"] = "many"
    assert with_receipt(made, receipt, "roundtrip", str(made / "source"), str(made / "made.mdl")) == 3
    said = capsys.readouterr().err
    assert "made.mdl.convkit.json: $.plan.steps[3].sizes: expected object, got str (" in said
    del receipt["target"]["leaves"]
    assert with_receipt(made, receipt, "verify", str(made / "made.mdl")) == 3
    assert "made.mdl.convkit.json: $.target: object missing required field leaves (" in capsys.readouterr().err
