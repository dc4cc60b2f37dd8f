"""A baseline that was tampered with is refused: by its seal, by what is signed, and by whose key signed it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from audit.made import edit_payload, keys
from sample_campaign import all_stages, write_row

from convkit.baseline.store import Store
from convkit.cli import main
from convkit.files.seal import sealed

ROW = "row"


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A campaign of one row, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    write_row(tmp_path / "results" / ROW, stages=all_stages())
    return tmp_path / "results"


def baseline(*words: str) -> int:
    return main(["baseline", *words])


def signed() -> list[str]:
    return ["--key", str(keys() / "p256.pem"), "--responsible", "A. Reviewer"]


def trusted(key: str = "p256") -> list[str]:
    return ["--public-key", str(keys() / f"{key}.pub.pem")]


def edit(path: Path, *, seal: bool) -> None:
    """Make a baseline say that the row was never proved; with a seal that fits, as who knows how could."""
    document = json.loads(path.read_text()) | {"verdict": "no"}
    path.write_bytes(sealed(document)[1] if seal else (json.dumps(document, indent=2) + "\n").encode())


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert baseline(*words) == 3
    return capsys.readouterr().err


def test_a_broken_seal(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert baseline("record", "results") == 0
    path = Path("baselines", f"{ROW}.json")
    edit(path, seal=False)
    for verb in (["compare"], ["accept", "--reason", "why"], ["record"]):
        assert "its seal is broken" in refused(capsys, verb[0], "results", *verb[1:])


def test_another_rows_baseline(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    baseline("record", "results")
    Path("baselines", f"{ROW}.json").rename("baselines/other.json")
    assert "is the baseline of the row row" in refused(capsys, "compare", "results")


def test_one_that_is_sealed_anew_isnt_what_was_signed(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert baseline("record", "results", *signed()) == 0
    assert baseline("compare", "results", *trusted()) == 0
    edit(Path("baselines", f"{ROW}.json"), seal=True)
    assert "isn't what row.json.intoto.jsonl signs" in refused(capsys, "compare", "results")
    assert "isn't what row.json.intoto.jsonl signs" in refused(capsys, "compare", "results", *trusted())


def remove(bundle: Path) -> None:
    bundle.unlink()


def say_otherwise(bundle: Path) -> None:
    edit_payload(bundle, 0, lambda statement: statement["predicate"].update(verdict="no"))


@pytest.mark.parametrize("tamper", [remove, say_otherwise])
def test_a_signature_that_is_gone_or_of_something_else(
    results: Path, capsys: pytest.CaptureFixture[str], tamper: Callable[[Path], None]
) -> None:
    baseline("record", "results", *signed())
    tamper(Path("baselines", f"{ROW}.json.intoto.jsonl"))
    assert "isn't signed as it must be" in refused(capsys, "compare", "results", *trusted())


def test_another_key(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    baseline("record", "results", *signed())
    assert "isn't signed as it must be" in refused(capsys, "compare", "results", *trusted("other"))
    assert baseline("compare", "results", *trusted("other"), *trusted()) == 0


def test_what_is_signed_is_accepted_by_a_key_only(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    baseline("record", "results", *signed())
    stages = all_stages()
    stages["convert"]["plan_digest"] = "sha256:" + "6f" * 32
    write_row(results / ROW, stages=stages)
    assert baseline("accept", "results", "--reason", "why") == 2
    assert "give --key" in capsys.readouterr().err
    assert baseline("accept", "results", "--reason", "why", *signed()) == 0
    found = Store(Path("baselines")).read(ROW)
    assert found is not None
    assert [one.reason for one in found.accepted] == ["recorded for the first time", "why"]
    assert baseline("compare", "results", *trusted()) == 0
