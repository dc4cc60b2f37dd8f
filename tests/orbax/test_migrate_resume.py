"""A killed migration is resumed; receipts of earlier releases are read, and never written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convkit.cli import main
from convkit.files.receipt import read_receipt, receipt_path
from convkit.files.staging import Staging
from convkit.formats import open_checkpoint
from convkit.migrate.orbax import checks
from convkit.migrate.orbax.migrate import migrate
from convkit.migrate.orbax.request import Encoding, Request
from convkit.verify.files import verify_files

Layout = Callable[[str], Path]

#: a migration in a process of its own, which is killed when the journal gets its n-th entry
KILLED = """
import os, signal, sys
from pathlib import Path
from convkit.files.staging import Staging
from convkit.migrate.orbax.migrate import migrate
from convkit.migrate.orbax.request import Encoding, Request

record, left = Staging.record, int(sys.argv[3])

def recorded(staging, entry):
    global left
    record(staging, entry)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

Staging.record = recorded
request = Request("v1", "rewrite", encoding=Encoding(ocdbt=sys.argv[4] == "database"))
migrate(Path(sys.argv[1]), Path(sys.argv[2]), request, restored=False, threads=1)
"""
IN_FOLDERS = Request("v1", "rewrite", encoding=Encoding(ocdbt=False))
IN_DATABASE = Request("v1", "rewrite", encoding=Encoding(ocdbt=True))


def journaled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is entered in journals from now on."""
    entries: list[str] = []
    record = Staging.record

    def recorded(staging: Staging, entry: dict[str, Any]) -> None:
        entries.append(entry["key"])
        record(staging, entry)

    monkeypatch.setattr(Staging, "record", recorded)
    return entries


def killed(source: Path, target: Path, at: int, stored: str) -> None:
    """Migrate in a process that is killed at the n-th entry of its journal; arrays lie in folders, or a database."""
    done = subprocess.run([sys.executable, "-c", KILLED, source, target, str(at), stored], check=False)
    assert done.returncode == -signal.SIGKILL


def files(folder: Path) -> dict[str, bytes]:
    """Every file, except what says when it was written."""
    times = ("_CHECKPOINT_METADATA", "commit_success.txt")
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name not in times)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("name", ["v0_manager_root", "v0_legacy_msgpack_only"])
def test_a_killed_rewrite_goes_on(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Killed within an item, behind one, and at the end; what was finished isn't made again."""
    source = layout(name)
    entries = journaled(monkeypatch)
    migrate(source, tmp_path / "plain", IN_FOLDERS, restored=False, threads=1)
    expected, whole = list(entries), files(tmp_path / "plain")
    behind = [n for n, key in enumerate(expected, 1) if key.startswith("written")]
    for at in sorted({2, *behind[:1], len(expected)}):
        target = tmp_path / f"killed{at}"
        killed(source, target, at, "folders")
        assert not target.exists()
        entries.clear()
        receipt = migrate(source, target, IN_FOLDERS, restored=False, threads=1)
        assert receipt["resumed"]
        assert entries == expected[at:]
        assert files(target) == whole
        assert verify_files(target, receipt).passed
        assert checks.roundtrip(source, target, receipt).passed
        plain = read_receipt(tmp_path / "plain")
        assert plain is not None
        for part, other in zip(receipt["parts"], plain["parts"], strict=True):
            assert part["items"] == other["items"]


def test_a_killed_rewrite_of_a_database_goes_on(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = layout("v0_leaves"), tmp_path / "target"
    killed(source, target, 4, "database")
    entries = journaled(monkeypatch)
    receipt = migrate(source, target, IN_DATABASE, restored=True)
    assert receipt["resumed"]
    assert len(entries) == len(set(entries)) == len(receipt["parts"][0]["items"]["state"]["leaves"]) - texts(source) - 2
    assert receipt["restored"].get("measured", {"different": 0})["different"] == 0
    assert verify_files(target, receipt).passed


def texts(source: Path) -> int:
    """How many leaves aren't arrays."""
    with open_checkpoint(source) as opened:
        return sum(leaf.spec is None for leaf in opened.leaves.values())


@pytest.mark.parametrize("when", ["within", "behind"])
def test_two_checkpoints_that_look_the_same_are_never_mixed(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Killed within an item, or when all is written; then each array's bytes are others of the same size and time."""
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(layout("v0_legacy_msgpack_only"), source)
    entries = journaled(monkeypatch)
    migrate(source, tmp_path / "count", IN_FOLDERS, restored=False, threads=1)
    killed(source, target, 4 if when == "within" else len(entries), "folders")
    path = source / "checkpoint"
    status, data = path.stat(), bytearray(path.read_bytes())
    with open_checkpoint(source) as opened:
        values = [opened.read(key).tobytes() for key, leaf in opened.leaves.items() if leaf.spec]
    for value in values:
        start = data.find(value)
        data[start : start + len(value)] = value[::-1]
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    receipt = migrate(source, target, IN_FOLDERS, restored=False, threads=1)
    migrate(source, tmp_path / "plain", IN_FOLDERS, restored=False, threads=1)
    assert not receipt["resumed"]
    assert [line for line in receipt["warnings"] if "of another source: started afresh" in line]
    assert files(target) == files(tmp_path / "plain")


def test_a_killed_migration_starts_afresh_where_something_else_is_asked(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(layout("v0_manager_root"), tmp_path / "target", 4, "folders")
    entries = journaled(monkeypatch)
    receipt = migrate(layout("v0_manager_root"), tmp_path / "target", Request("v1", "rewrite"), restored=False)
    assert not receipt["resumed"]
    assert "files of " in entries
    assert verify_files(tmp_path / "target", receipt).passed


def test_progress_counts_what_is_written_anew(layout: Layout, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    migrate(
        layout("v0_manager_root"),
        tmp_path / "target",
        IN_FOLDERS,
        restored=False,
        progress=lambda done, total: seen.append((done, total)),
    )
    with open_checkpoint(layout("v0_manager_root") / "0") as step:
        nbytes = sum(leaf.spec.nbytes for leaf in step.leaves.values() if leaf.spec)
    assert {total for _, total in seen} == {2 * nbytes}
    assert seen[-1] == (2 * nbytes, 2 * nbytes)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def as_before(target: Path) -> Path:
    """Put in the place of a migration's receipt what earlier releases wrote; returns where."""
    document = json.loads(receipt_path(target).read_text())
    for name in ("kind", "resumed"):
        del document[name]
    old = target.with_name(f"{target.name}.migration.json")
    old.write_text(json.dumps({**document, "schema": "convkit.migration/1"}, indent=1) + "\n")
    receipt_path(target).unlink()
    return old


@pytest.mark.parametrize("name", ["v1_items", "v0_manager_metrics", "v0_direct_standard"])
def test_a_receipt_of_before_is_read_and_used_for_the_way_back(layout: Layout, tmp_path: Path, name: str) -> None:
    source, target = layout(name), tmp_path / "there"
    api = name[:2]
    migrate(source, target, Request("v0" if api == "v1" else "v1"), restored=False)
    as_before(target)
    for check in (["verify", str(target)], ["roundtrip", str(source), str(target)]):
        assert main(check) == 0
    receipt = migrate(target, tmp_path / "back", Request(api), restored=False)
    assert any(part["given_back"] for part in receipt["parts"])
    assert {path.relative_to(source): path.read_bytes() for path in source.rglob("*") if path.is_file()} == {
        path.relative_to(tmp_path / "back"): path.read_bytes()
        for path in (tmp_path / "back").rglob("*")
        if path.is_file()
    }


def test_a_receipt_of_before_is_checked_and_gone_when_its_target_is_replaced(layout: Layout, tmp_path: Path) -> None:
    source, target = layout("v1_save"), tmp_path / "there"
    migrate(source, target, Request("v0"), restored=False)
    old = as_before(target)
    (target / "_CHECKPOINT_METADATA").write_text("{}")
    assert main(["verify", str(target)]) == 1
    receipt = migrate(source, target, Request("v0"), restored=False, overwrite=True)
    assert not old.exists()
    assert read_receipt(target) == receipt
    assert main(["verify", str(target)]) == 0
