"""Documents obey the schemas that the package ships, and these are made from their types."""

from __future__ import annotations

import json
import shlex
from importlib.resources import files
from pathlib import Path
from socket import gethostname
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource

from convkit.cli import main, schemas
from convkit.report import build_report
from convkit.version import commit


def validator(name: str) -> jsonschema.Draft202012Validator:
    documents = {path.name: json.loads(path.read_text()) for path in (files("convkit") / "schemas").iterdir()}
    registry = Registry().with_resources([(key, Resource.from_contents(value)) for key, value in documents.items()])
    return jsonschema.Draft202012Validator(documents[f"{name}.schema.json"], registry=registry)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schemas")
    assert main(["fetch", "generated://llama?layers=1&tied=true", str(folder / "source")]) == 0
    assert main(["convert", str(folder / "source"), str(folder / "made.mdl"), "--to", "cerebras/llama"]) == 0
    return folder


def printed(capsys: pytest.CaptureFixture[str], *command: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_plan(converted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = printed(capsys, "plan", str(converted / "source"), "--to", "cerebras/llama")
    validator("plan").validate(plan)
    del plan["steps"][0]["sources"][0]["axes"]
    assert not validator("plan").is_valid(plan)


def test_receipt(converted: Path) -> None:
    receipt = json.loads((converted / "made.mdl.convkit.json").read_text())
    validator("receipt").validate(receipt)
    made = ("convert", str(converted / "source"), str(converted / "made.mdl"), "--to", "cerebras/llama")
    assert receipt["command_line"] == shlex.join(("convkit", *made))
    assert (receipt["commit"], receipt["host"]) == (commit(), gethostname())
    receipt["plan"]["source_leaves"]["lm_head.weight"] = {"shape": [1], "dtype": "float32", "fate": "forgotten"}
    assert not validator("receipt").is_valid(receipt)


@pytest.mark.parametrize("check", ["roundtrip", "equivalence", "diff"])
def test_verdicts(check: str, converted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = "source" if check == "diff" else "made.mdl"
    validator("verdict").validate(printed(capsys, check, str(converted / "source"), str(converted / other)))


def test_verify(converted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    validator("verdict").validate(printed(capsys, "verify", str(converted / "made.mdl")))


@pytest.mark.parametrize("name", schemas.NAMES)
def test_schemas_are_those_of_the_types(name: str) -> None:
    committed = (files("convkit") / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8")
    assert committed == schemas.text(name), "a type has changed: run make schemas"


def test_fetch(converted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads((converted / "source.fetch.json").read_text())
    validator("fetch").validate(record)
    printed_again = printed(capsys, "fetch", "generated://llama?layers=1&tied=true", str(converted / "source"))
    assert printed_again == record | {"fetched": False}
    validator("fetch").validate(printed_again)
    record["files"][0]["sha256"] = "unknown"
    assert not validator("fetch").is_valid(record)


def test_summary(converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = str(converted / "made.mdl")
    (tmp_path / "receipt.json").write_text((converted / "made.mdl.convkit.json").read_text())
    for check in ("roundtrip", "equivalence"):
        verdict = printed(capsys, check, str(converted / "source"), made)
        (tmp_path / f"{check}.json").write_text(json.dumps(verdict))
    build_report(tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    validator("summary").validate(summary)
    assert [row["verdict"] for row in summary["rows"]] == ["yes"]
    summary["rows"][0]["verdict"] = "perhaps"
    assert not validator("summary").is_valid(summary)
