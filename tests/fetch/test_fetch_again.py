"""Fetching to a destination that exists."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from convkit.errors import ConvkitError, UsageError
from convkit.fetch import fetch
from convkit.fetch.staging import Parts
from convkit.files.unchanged import state_of


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "a").write_text("one")
    (folder / "b").write_text("two")
    return folder


@pytest.fixture(autouse=True)
def _copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filesystem that clones: no hard link between source and destination."""

    def clone(source: Path, target: Path) -> bool:
        target.write_bytes(source.read_bytes())
        return True

    monkeypatch.setattr("convkit.files.sharing._clone", clone)


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_same_again_does_nothing(source: Path, tmp_path: Path) -> None:
    first = fetch(str(source), tmp_path / "m")
    before = state_of(tmp_path / "m")
    second = fetch(str(source), tmp_path / "m")
    assert first | {"fetched": False} == second
    assert state_of(tmp_path / "m") == before
    assert fetch("https://elsewhere.invalid/x", tmp_path / "m", sha256=first["sha256"]) == second


def test_source_that_is_gone_is_not_needed_again(source: Path, tmp_path: Path) -> None:
    fetch(str(source), tmp_path / "m")
    source.rename(tmp_path / "away")
    assert fetch(str(source), tmp_path / "m")["fetched"] is False


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: os.utime(folder / "a", ns=(0, 0)),
        lambda folder: (folder / ".timestamp").touch(),
    ],
)
def test_changes_that_are_none(source: Path, tmp_path: Path, change: Callable[[Path], object]) -> None:
    fetch(str(source), tmp_path / "m")
    change(tmp_path / "m")
    assert fetch(str(source), tmp_path / "m")["fetched"] is False


@pytest.mark.parametrize(
    "change",
    [
        lambda made: (made / "a").write_text("ONE"),
        lambda made: (made / "a").write_text("longer"),
        lambda made: (made / "a").unlink(),
    ],
)
def test_destination_that_changed(source: Path, tmp_path: Path, change: Callable[[Path], object]) -> None:
    fetch(str(source), tmp_path / "m")
    change(tmp_path / "m")
    with pytest.raises(UsageError, match="m: exists and isn't what a fetch left there"):
        fetch(str(source), tmp_path / "m")
    fetch(str(source), tmp_path / "m", overwrite=True)
    assert texts(tmp_path / "m") == {"a": "one", "b": "two"}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda made: (made / "c").touch(), "holds c, which convkit didn't write"),
        (lambda made: made.with_name("m.fetch.json").unlink(), "is a folder that convkit didn't write"),
        (lambda made: made.with_name("m.fetch.json").write_text("{}"), "is a folder that convkit didn't write"),
        (lambda made: made.with_name("m.fetch.json").write_text("nonsense"), "is a folder that convkit didn't write"),
    ],
)
def test_a_folder_that_holds_files_of_others(
    source: Path, tmp_path: Path, change: Callable[[Path], object], problem: str
) -> None:
    fetch(str(source), tmp_path / "m")
    change(tmp_path / "m")
    with pytest.raises(UsageError, match="m: exists and isn't what a fetch left there"):
        fetch(str(source), tmp_path / "m")
    before = texts(tmp_path / "m")
    with pytest.raises(UsageError, match=problem):
        fetch(str(source), tmp_path / "m", overwrite=True)
    assert texts(tmp_path / "m") == before


def test_source_that_changed(source: Path, tmp_path: Path) -> None:
    fetch(str(source), tmp_path / "m")
    (source / "a").write_text("ONE")
    with pytest.raises(UsageError, match="m: exists, and its source has changed since"):
        fetch(str(source), tmp_path / "m")
    fetch(str(source), tmp_path / "m", overwrite=True)
    assert texts(tmp_path / "m") == {"a": "ONE", "b": "two"}


def test_another_sha256(source: Path, tmp_path: Path) -> None:
    record = fetch(str(source), tmp_path / "m")
    with pytest.raises(UsageError, match=f"m: exists with the sha256 {record['sha256']}"):
        fetch(str(source), tmp_path / "m", sha256="0" * 64)


def test_overwriting_a_file_by_a_folder_and_back(source: Path, tmp_path: Path) -> None:
    (tmp_path / "m").write_text("mine")
    fetch(str(source), tmp_path / "m", overwrite=True)
    assert texts(tmp_path / "m") == {"a": "one", "b": "two"}
    fetch(str(source / "a"), tmp_path / "m", overwrite=True)
    assert (tmp_path / "m").read_text() == "one"
    fetch(str(source / "b"), tmp_path / "m", overwrite=True)
    assert (tmp_path / "m").read_text() == "two"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "m.fetch.json", "source"]


def test_failure_leaves_what_was_there(source: Path, tmp_path: Path) -> None:
    fetch(str(source), tmp_path / "m")
    with pytest.raises(ConvkitError, match="sha256 is"):
        fetch(str(source / "a"), tmp_path / "m", sha256="0" * 64, overwrite=True)
    assert fetch(str(source), tmp_path / "m")["fetched"] is False


def test_death_before_the_rename(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(self: Parts, *published: object, **how: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "publish_payload", die)
        with pytest.raises(KeyboardInterrupt):
            fetch(str(source), tmp_path / "m")
    assert not (tmp_path / "m").exists()
    fetch(str(source), tmp_path / "m")
    assert texts(tmp_path / "m") == {"a": "one", "b": "two"}


def test_left_over_staging_of_a_dead_process(source: Path, tmp_path: Path) -> None:
    part = tmp_path / ".m.convkit-part"
    (part / "payload").mkdir(parents=True)
    (part / "payload" / "stray").write_text("?")
    (part / "state.json").write_text(json.dumps({"uri": str(source), "versions": {}}))
    (part / "old").mkdir()
    fetch(str(source), tmp_path / "m")
    assert texts(tmp_path / "m") == {"a": "one", "b": "two"}
    assert not part.exists()


@pytest.mark.parametrize("sha256", ["", "0" * 63, "g" * 64, "sha256:" + "0" * 64])
def test_sha256_that_is_none(source: Path, tmp_path: Path, sha256: str) -> None:
    with pytest.raises(UsageError, match=r"isn't a sha256 \(give 64 hexadecimal digits\)"):
        fetch(str(source), tmp_path / "m", sha256=sha256)


@pytest.mark.parametrize("destination", ["/", "x/.."])
def test_destination_that_is_none(source: Path, destination: str) -> None:
    with pytest.raises(UsageError, match="can't be a destination"):
        fetch(str(source), destination)
