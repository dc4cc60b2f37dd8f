"""Campaigns on a real Slurm of two nodes: ``make test-slurm``. Where a stage is played by a stub, the test says so."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from campaigns import Campaign, claim

from slurm.cluster import Cluster, Job
from slurm.conftest import campaign

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1200)]
SECONDS = 300


def checked(row: dict[str, str], checks: str) -> dict[str, str]:
    return row | {"checks": checks}


def until(happened: Callable[[], Any]) -> Any:
    """Wait for something, and return it."""
    end = time.monotonic() + SECONDS
    while not (found := happened()):
        assert time.monotonic() < end
        time.sleep(0.2)
    return found


def logs(run: Campaign, row: str) -> dict[str, str]:
    """The logs of a row by stage."""
    return {path.stem: path.read_text() for path in (run.directory / f"results/{row}/logs").glob("*.log")}


def slurm_logs(run: Campaign) -> list[Path]:
    """The logs of jobs that Slurm's executor has kept."""
    return sorted((run.directory / ".snakemake/slurm_logs").rglob("*.log"))


def in_minutes(limit: str) -> int:
    """A time limit of Slurm."""
    days, _, clock = limit.rpartition("-")
    *hours, minutes, _ = clock.split(":")
    return 1440 * int(days or 0) + 60 * int(hours[0] if hours else 0) + int(minutes)


def test_rows_share_jobs_which_ask_for_what_their_plans_say(accounted: Cluster, tmp_path: Path):
    """The real convkit: three rows that are right, of which one reads another's output, and one that is refused."""
    run = campaign(accounted, tmp_path, Path(sys.executable).parent)
    before = accounted.last()
    run.write(
        [
            checked(claim(id="llama", source="generated://llama?tied=false"), "roundtrip,equivalence:faults=none"),
            checked(claim(id="gpt2", source="generated://gpt2", to="cerebras/gpt2"), "roundtrip"),
            checked(claim(id="broken", source="broken.safetensors"), "roundtrip"),
            checked(claim(id="back", source="row:llama", to="hf/llama"), "roundtrip"),
        ]
    )
    assert run.run().returncode == 1
    rows = {row["id"]: row for row in run.document("summary.json")["rows"]}
    assert [rows[id]["roundtrip"]["state"] for id in ("llama", "gpt2", "back")] == ["yes"] * 3
    assert "broken" in (tmp_path / "results/report.html").read_text()
    assert rows["broken"]["stopped_at"] == "inspect"

    jobs = accounted.jobs(after=before)
    assert [job.state for job in jobs] == ["COMPLETED"] * 4
    parts = [job.comment.removeprefix("rule_").split("_")[:2] for job in jobs]
    assert parts == [["prepare", "0"], ["prove", "0"], ["prepare", "1"], ["prove", "1"]]
    # the last one converts, then makes the round trip
    summary = run.document("back/plan.json")["summary"]
    assert jobs[-1].memory == f"{1000 + 2 * summary['peak_bytes'] // 1_000_000}M"
    minutes = 10 + int((summary["bytes_read"] + summary["bytes_written"]) / 20e6 / 60)
    assert in_minutes(jobs[-1].limit) == 2 * minutes
    assert jobs[-1].cores == "2"
    words = ("--allusers", "--noheader", "--allocations", "--parsable2", "--format=jobid,state,account")
    told = accounted.ask("sacct", *words)
    assert [line.split("|") for line in told.splitlines() if int(line.split("|")[0]) > before] == [
        [job.id, "COMPLETED", "models"] for job in jobs
    ]

    # Slurm's logs of what has succeeded are removed; each stage has its own
    assert not slurm_logs(run)
    assert {*logs(run, "llama")} == {"fetch", "inspect", "plan", "convert", "roundtrip", "equivalence"}
    # a worker of their job carried out what it could
    costs = {path.name for path in (tmp_path / "results/llama/logs").glob("*.cost")}
    assert costs == {f"{stage}.log.cost" for stage in logs(run, "llama")}
    assert "source.safetensors: is empty" in logs(run, "broken")["inspect"]
    assert logs(run, "broken")["convert"].startswith("not begun: ")


def test_a_job_that_needs_more_memory_gets_it_and_the_others_go_on(accounted: Cluster, stubs: Path, tmp_path: Path):
    """Stub stages: one takes more memory than its plan says, and Slurm kills its job."""
    run = campaign(accounted, tmp_path, stubs)
    before = accounted.last()
    hungry = checked(claim(id="hungry", source="generated://llama?seed=20"), "none")
    run.write([hungry, checked(claim(id="other", source="generated://llama?seed=1"), "none")])
    run.run("--group-components", "prepare_0=2")
    jobs = [job for job in accounted.jobs(after=before) if job.comment.startswith("rule_prove")]
    asked = sorted((job.memory, job.state == "COMPLETED") for job in jobs)
    assert asked == [("1000M", False), ("1000M", True), ("2000M", True)]
    assert {row["id"]: row["left_out"] for row in run.document("summary.json")["rows"]}.keys() == {"hungry", "other"}
    assert logs(run, "hungry")["convert"] == "converted as seed=20\n"
    # Slurm's log of the job that it has killed stays, and says why
    (kept,) = slurm_logs(run)
    assert "exceeded memory limit" in kept.read_text()


def waiting(cluster: Cluster, run: Campaign) -> Job:
    """The job that waits, once it is the only one that runs."""
    until((run.directory / "started").exists)

    def alone() -> list[Job]:
        running = [job for job in cluster.jobs() if job.state == "RUNNING"]
        return running if len(running) == 1 else []

    return until(alone)[0]


HELD = claim(id="held", source="generated://llama?seed=30")
FREE = claim(id="free", source="generated://llama?seed=1")


def test_a_node_that_dies_costs_its_jobs_only(cluster: Cluster, stubs: Path, tmp_path: Path):
    """Stub stages, of which one waits: its node is killed, and the campaign ends well on the other one."""
    run = campaign(cluster, tmp_path, stubs)
    before = cluster.last()
    run.write([HELD])
    started = run.start()
    cluster.kill_node(waiting(cluster, run).node)
    (tmp_path / "go").touch()
    printed = started.communicate()
    assert started.returncode == 0, printed
    assert run.verdicts() == {"held": "yes"}
    first, second = [job for job in cluster.jobs(after=before) if job.comment.startswith("rule_prove")]
    assert (first.state, second.state) == ("NODE_FAIL", "COMPLETED")
    assert first.node != second.node


def test_a_job_that_was_cancelled_is_done_by_the_next_run(cluster: Cluster, stubs: Path, tmp_path: Path):
    """Stub stages, of which one waits and is cancelled: the page says so, the other row is done, and stays done."""
    run = campaign(cluster, tmp_path, stubs)
    run.write([HELD, FREE])
    started = run.start("--retries", "0", "--group-components", "prepare_0=2")
    until((run.directory / "results/free/equivalence.json").exists)
    cluster.ask("scancel", waiting(cluster, run).id)
    printed = started.communicate()
    assert started.returncode == 1, printed
    assert run.verdicts()["free"] == "yes"
    assert run.verdicts()["held"] != "yes"
    (tmp_path / "go").touch()
    done = run.jobs("--group-components", "prepare_0=2")
    assert {"held: convert", "held: equivalence"} <= done
    assert not {job for job in done if job.startswith("free")}
    assert run.verdicts() == {"held": "yes", "free": "yes"}


def test_parts_on_two_nodes_of_which_one_dies(cluster: Cluster, tmp_path: Path):
    """The real convkit, through a command that holds the second part back until its node was killed."""
    held = tmp_path / "commands/convkit"
    held.parent.mkdir()
    held.write_text(HOLDING.format(folder=tmp_path, convkit=Path(sys.executable).with_name("convkit")))
    held.chmod(0o755)
    run = campaign(cluster, tmp_path, held.parent)
    before = cluster.last()
    row = checked(claim(id="cut", source="generated://llama?tied=false", to="hf/llama", format="safetensors"), "none")
    whole = row | {"id": "whole"}
    run.write([row, whole], parts={"into": 2, "rows": ["cut"]})
    started = run.start()
    cluster.kill_node(waiting(cluster, run).node)
    (tmp_path / "go").touch()
    printed = started.communicate()[1]
    jobs = cluster.jobs(after=before)
    parts = [job for job in jobs if job.comment.startswith("rule_part")]
    assert sorted(job.state for job in parts) == ["COMPLETED", "COMPLETED", "NODE_FAIL"], printed
    assert {job.node for job in parts} == {"n1", "n2"}
    made, expected = (
        {path.name: path.read_bytes() for path in (tmp_path / f"results/{id}/target").glob("*.safetensors")}
        for id in ("cut", "whole")
    )
    assert made == expected != {}


#: the second part of a conversion waits before it begins, until there is a file
HOLDING = """\
#!/bin/sh
case "$*" in
    *"--part 2/2"*) touch "{folder}/started"; until [ -e "{folder}/go" ]; do sleep 0.1; done ;;
esac
exec "{convkit}" "$@"
"""
