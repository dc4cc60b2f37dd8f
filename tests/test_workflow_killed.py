"""A campaign whose Snakemake was killed in the middle: the same command goes on."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from campaigns import GOOD, Campaign, scripts

killed_runs = scripts("killed_runs")
RECORDS, Record, Run = killed_runs.RECORDS, killed_runs.Record, killed_runs.Run
remove_stale_locks = killed_runs.remove_stale_locks

#: a command whose conversion doesn't end while there is a file ``hold``
HELD = """\
#!/bin/bash
if [ "$1" = convert ] && [ -e hold ]; then touch begun; exec sleep 600; fi
exec {command} "$@"
"""


def until(what: Callable[[], object]) -> None:
    while not what():
        time.sleep(0.02)


def sleeping(campaign: Campaign) -> list[psutil.Process]:
    """The jobs of a campaign that stand still."""
    jobs = {"name": "sleep", "cwd": str(campaign.directory)}
    # the given attributes are asked for at once: a process that ends meanwhile is passed over
    return [process for process in psutil.process_iter([*jobs]) if process.info == jobs]


@pytest.fixture
def held(played: Campaign, fake: Path) -> Iterator[Campaign]:
    """A campaign that stands still in its conversion."""
    folder = played.directory / "bin"
    folder.mkdir()
    (folder / "convkit").write_text(HELD.format(command=fake))
    (folder / "convkit").chmod(0o755)
    played.search = f"{folder}:{played.search}"
    (played.directory / "hold").touch()
    yield played
    for process in sleeping(played):
        process.kill()


def run_until_held(campaign: Campaign) -> psutil.Process:
    """Start a campaign; returns Snakemake's process once the conversion runs."""
    campaign.start()
    until((campaign.directory / "begun").exists)
    until(lambda: sleeping(campaign))
    records = list((campaign.directory / RECORDS).glob("*.json"))
    assert len(records) == 1
    return psutil.Process(Record.read(records[0].read_bytes()).process)


@pytest.mark.parametrize("alone", [False, True], ids=["with its jobs", "alone"])
def test_the_same_command_goes_on(held: Campaign, alone: bool):
    held.write([GOOD])
    process = run_until_held(held)
    (job,) = sleeping(held)
    meanwhile = held.run()
    assert meanwhile.returncode == 1
    assert "cannot be locked" in meanwhile.stderr, "a run that lives keeps its lock"
    process.kill()
    process.wait()
    assert list((held.directory / ".snakemake/locks").iterdir())
    (held.directory / "hold").unlink()
    if not alone:
        job.kill()
        done = held.run()
    else:
        again = held.start()
        line = next(line for line in again.stderr if "a killed run left" in line)
        assert re.fullmatch(rf"convkit: waiting for .* \(to go on at once: kill( \d+)* {job.pid}\)\n", line)
        assert not (held.directory / "results/good/convert.json").read_text()
        job.kill()
        out, err = again.communicate()
        done = subprocess.CompletedProcess([], again.returncode, out, err)
    assert done.returncode == 0, done.stderr
    assert held.verdicts() == {"good": "yes"}
    assert not list((held.directory / RECORDS).iterdir())
    assert not held.jobs()


def test_locks_are_removed_only_where_their_run_has_ended_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVKIT_RUN", "")
    Path("mine").touch()
    Path("other").touch()
    run = Run(["mine", "absent"])
    assert remove_stale_locks() == [], "it lives"
    record = next(RECORDS.iterdir())
    content = record.read_bytes()
    run.end()
    elsewhere = content.replace(b'"host": "', b'"host": "not-')
    for kept in (elsewhere, b"", b"[]", content[:-3]):
        record.write_bytes(kept)
        assert remove_stale_locks() == []
        assert Path("mine").exists()
    record.write_bytes(content)
    os.utime("mine")
    assert remove_stale_locks() == [], "another run made a lock of the same name"
    Path("mine").unlink()
    assert remove_stale_locks() == []
    record.unlink()
    Path("mine").touch()
    run = Run(["mine"])
    content = next(RECORDS.iterdir()).read_bytes()
    run.end()
    record.write_bytes(content)
    assert remove_stale_locks() == [Path("mine")]
    assert Path("other").exists()


def test_without_locks_of_the_file_system_nothing_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVKIT_RUN", "")
    monkeypatch.setattr("fcntl.flock", refused)
    Path("mine").touch()
    run = Run(["mine"])
    assert not list(RECORDS.iterdir())
    run.end()
    assert remove_stale_locks() == []
