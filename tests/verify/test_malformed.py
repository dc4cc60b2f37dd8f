"""Receipts that are damaged anywhere end in a verdict or in one clear error, never in a traceback."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convkit.cli import main
from convkit.generate.old_mdl import write_old
from convkit.state.cerebras.loader_state import Workers, write_workers

#: what may stand where something else stood; no large numbers, which would only ask for large tensors
STRANGE = (None, True, -1, 0, 3, 1.5, float("nan"), "", "x", "a b", [], [1], {}, {"x": 1}, [[]], "\0")
_SOME = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("malformed")
    assert main(["fetch", "generated://llama?layers=1&tied=true", str(folder / "source")]) == 0
    assert main(["convert", str(folder / "source"), str(folder / "made.mdl"), "--to", "cerebras/llama"]) == 0
    return folder


@pytest.fixture(scope="module")
def repaired(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of release 1.7, with loader state put in and repaired; its receipt is that of ``made.mdl``."""
    folder = tmp_path_factory.mktemp("repaired")
    state: dict[str, Any] = {"model": {"b": np.ones(3)}, "lr_scheduler": {"last_epoch": 1}, "global_step": 15}
    write_old(folder / "old.mdl", state, "1.7")
    workers = Workers(15, {0: 3, 1: 4})
    write_workers(folder / "workers", workers)
    carry = ["cerebras", "data-iter-state", "-c", str(folder / "old.mdl"), "-w", str(folder / "workers")]
    assert main([*carry, "-o", str(folder / "source.mdl")]) == 0
    fix = ["cerebras", "fix-checkpoint-spec", str(folder / "source.mdl"), "--copy-healthy"]
    assert main([*fix, "--fixed_checkpoint_path", str(folder / "made.mdl")]) == 0
    return folder


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("orbax.checkpoint")
    folder = tmp_path_factory.mktemp("migrated")
    assert main(["fetch", "generated://orbax-v0", str(folder / "source")]) == 0
    move = ["orbax", "migrate", str(folder / "source"), str(folder / "made.mdl"), "--to", "v1"]
    assert main([*move, "--no-restore"]) == 0
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
@given(data=st.data(), check=st.sampled_from(["verify", "roundtrip", "back", "again"]))
def test_damaged_receipts_of_repairs(data: st.DataObject, check: str, repaired: Path) -> None:
    receipt = data.draw(damaged(json.loads((repaired / "made.mdl.convkit.json").read_text())))
    source, target = str(repaired / "source.mdl"), str(repaired / "made.mdl")
    reverse = ["cerebras", "data-iter-state", "--reverse", "--dry-run", "-c", target]
    commands = {
        "verify": ["verify", target],
        "roundtrip": ["roundtrip", source, target],
        "back": [*reverse, "-w", str(repaired / "back")],
        "again": ["cerebras", "fix-checkpoint-spec", target, "--dry-run"],
    }
    assert with_receipt(repaired, receipt, *commands[check]) in (0, 1, 2, 3)


@_SOME
@given(data=st.data(), check=st.sampled_from(["verify", "roundtrip", "back"]))
def test_damaged_receipts_of_migrations(data: st.DataObject, check: str, migrated: Path) -> None:
    receipt = data.draw(damaged(json.loads((migrated / "made.mdl.convkit.json").read_text())))
    source, target = str(migrated / "source"), str(migrated / "made.mdl")
    commands = {
        "verify": ["verify", target],
        "roundtrip": ["roundtrip", source, target],
        "back": ["orbax", "migrate", target, str(migrated / "back"), "--to", "v0", "--dry-run"],
    }
    assert with_receipt(migrated, receipt, *commands[check]) in (0, 1, 2, 3)


def test_the_error_names_the_place_in_a_repair(repaired: Path, capsys: pytest.CaptureFixture[str]) -> None:
    receipt = json.loads((repaired / "made.mdl.convkit.json").read_text())
    receipt["complement"]["workers"]["samples"] = "many"
    reverse = ["cerebras", "data-iter-state", "--reverse", "-c", str(repaired / "made.mdl")]
    assert with_receipt(repaired, receipt, *reverse, "-w", str(repaired / "back")) == 3
    said = capsys.readouterr().err
    assert "made.mdl.convkit.json: $.complement.workers.samples: expected object, got str (" in said


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("parts", {}, "$.parts: expected array, got object ("),
        ("parts.1.complement.files.x", {}, "$.parts[1].complement.files[...]: a file has a text, or bytes as base64 ("),
        ("parts.1.complement.files.x", {"base64": "a"}, "$.parts[1].complement.files[...]: "),
        (
            "parts.1.complement.files.../x",
            {"text": ""},
            "$.parts[1]: '../x' isn't a path below the checkpoint",
        ),
        ("plan.request.to", "v2", "$.plan.request.to: "),
    ],
)
def test_the_error_names_the_place_in_a_migration(
    name: str, value: Any, says: str, migrated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt = json.loads((migrated / "made.mdl.convkit.json").read_text())
    inside, (*above, last) = receipt, name.split(".", 4)
    for key in above:
        inside = inside[int(key)] if isinstance(inside, list) else inside[key]
    inside[last] = value
    back = ["orbax", "migrate", str(migrated / "made.mdl"), str(migrated / "back"), "--to", "v0"]
    for command in (back, ["roundtrip", str(migrated / "source"), str(migrated / "made.mdl")]):
        assert with_receipt(migrated, receipt, *command) == 3
        assert f"made.mdl.convkit.json: {says}" in capsys.readouterr().err
    assert not (migrated / "back").exists()


@pytest.mark.parametrize("name", ["source", "target", "digest", "plan"])
@pytest.mark.parametrize("value", ["x", True, ["x"], {"x": []}], ids=str)
def test_a_report_on_a_receipt_of_another_form(name: str, value: Any, made: Path, tmp_path: Path) -> None:
    """Read before its form is checked, to find what belongs together; also beside a verdict with such a seal."""
    receipt = json.loads((made / "made.mdl.convkit.json").read_text())
    for place in ("receipt.json", "made.mdl.convkit.json"):
        (tmp_path / place).write_text(json.dumps(receipt | {name: value}))
    verdict = {"schema": "convkit.verdict/1", "check": "roundtrip", "receipt": value}
    (tmp_path / "other.mdl.roundtrip.json").write_text(json.dumps(verdict))
    assert main(["report", str(tmp_path)]) in (0, 1, 2, 3)


@_SOME
@given(data=st.data())
def test_a_report_on_damaged_documents(data: st.DataObject, made: Path, tmp_path: Path) -> None:
    receipt = data.draw(damaged(json.loads((made / "made.mdl.convkit.json").read_text())))
    (tmp_path / "receipt.json").write_text(json.dumps(receipt))
    assert main(["report", str(tmp_path)]) in (0, 1, 2, 3)


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("value", [True, ["x"], {"w": "x"}], ids=str)
def test_a_report_on_leaves_of_another_form(
    side: str, value: Any, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt = json.loads((made / "made.mdl.convkit.json").read_text())
    receipt[side]["leaves"] = value
    (tmp_path / "receipt.json").write_text(json.dumps(receipt))
    assert main(["report", str(tmp_path)]) == 3
    assert f"$.{side}.leaves" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1])
def test_a_report_on_seconds_that_are_no_time(
    seconds: float, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt = json.loads((made / "made.mdl.convkit.json").read_text()) | {"seconds": seconds}
    (tmp_path / "receipt.json").write_text(json.dumps(receipt))
    assert main(["report", str(tmp_path)]) == 3
    assert "receipt.json: $.seconds: " in capsys.readouterr().err


def test_a_receipt_nested_too_deeply_is_an_error(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = made / "made.mdl.convkit.json"
    sound = path.read_text()
    path.write_text("[" * 100_000)
    try:
        assert main(["verify", str(made / "made.mdl")]) == 3
    finally:
        path.write_text(sound)
    assert (
        "made.mdl.convkit.json: is not valid JSON: it is nested too deeply (restore it, or remove it)"
        in capsys.readouterr().err
    )


def test_the_error_names_the_place(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    receipt = json.loads((made / "made.mdl.convkit.json").read_text())
    receipt["plan"]["steps"][3]["sizes"] = "many"
    assert with_receipt(made, receipt, "roundtrip", str(made / "source"), str(made / "made.mdl")) == 3
    said = capsys.readouterr().err
    assert "made.mdl.convkit.json: $.plan.steps[3].sizes: expected object, got str (" in said
    del receipt["target"]["leaves"]
    assert with_receipt(made, receipt, "verify", str(made / "made.mdl")) == 3
    assert "made.mdl.convkit.json: $.target: object missing required field leaves (" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["source", "target", "summary", "source_leaves", "target_leaves", "names"])
def test_a_report_on_a_plan_whose_part_is_null(
    part: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt = json.loads((made / "made.mdl.convkit.json").read_text())
    receipt["plan"][part] = None
    (tmp_path / "receipt.json").write_text(json.dumps(receipt))
    assert main(["report", str(tmp_path)]) == 3
    assert f"plan.{part}" in capsys.readouterr().err
