"""The workflow as Snakemake runs it: with a stand-in for the command, and once with the real one."""

from __future__ import annotations

import base64
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from campaigns import BACK, BLUNT, GOOD, REFUSED, ROOT, WRONG, Campaign, claim

from convkit.audit.keys import generate, write_pair
from convkit.generate.old_mdl import write_old
from convkit.verify.documents import Described, read_plan
from convkit.verify.equivalence.need import need


@pytest.fixture
def fresh(tmp_path: Path) -> Campaign:
    """A campaign in processes of their own, of the real command beside the interpreter, which isn't on the path."""
    elsewhere = [entry for entry in os.environ["PATH"].split(":") if not Path(entry, "convkit").exists()]
    return Campaign(tmp_path, ":".join(elsewhere))


def test_all_proved(played: Campaign):
    played.write([GOOD, BACK])
    done = played.run()
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("2 of 2 conversions proved\nresults/report.html\n")
    assert played.verdicts() == {"good": "yes", "back": "yes"}


def test_a_framework_alone_and_layouts_on_the_way(played: Campaign):
    """What the framework's layouts are written as is known before a layout is."""
    through = claim(id="through", source="row:good", to="hf", options="--through hf/llama --through cerebras")
    played.write([GOOD | {"to": "cerebras"}, through])
    commands = played.run("-n", "-p").stdout
    assert re.search(r"convkit plan \S*good/fetch.json --to cerebras ", commands)
    assert "--to hf --through hf/llama --through cerebras" in commands
    assert "results/good/target.mdl" in commands
    assert "results/through/target.mdl" not in commands


def test_a_second_run_prints_the_table_and_does_nothing(played: Campaign):
    played.write([GOOD])
    first, second = played.run(), played.run()
    assert "Job 0: the table\n" in second.stderr
    assert "Job 1: " not in second.stderr
    assert second.returncode == 0
    assert second.stdout == first.stdout
    assert second.stdout.endswith("1 of 1 conversion proved\nresults/report.html\n")


def test_a_verdict_that_was_deleted_is_made_again(played: Campaign):
    played.write([GOOD])
    played.run()
    (played.directory / "results" / "good" / "roundtrip.json").unlink()
    assert played.run().returncode == 0
    assert (played.directory / "results" / "good" / "roundtrip.json").exists()


def test_a_verdict_that_is_no_ends_the_campaign_with_an_error_and_a_page(played: Campaign):
    played.write([WRONG, GOOD])
    done = played.run()
    assert done.returncode == 1
    assert "1 of 2 conversions proved" in done.stderr
    assert "not every conversion is proved" in done.stderr
    assert played.verdicts() == {"wrong": "no", "good": "yes"}
    assert (played.directory / "results" / "report.html").exists()


@pytest.mark.slow
def test_snakemakes_own_report_holds_the_page_with_captions(played: Campaign):
    played.write([GOOD])
    assert played.run().returncode == 0
    assert played.run("--report", "campaign.html").returncode == 0
    campaign = (played.directory / "campaign.html").read_text()
    page = (played.directory / "results" / "report.html").read_bytes()
    assert base64.b64encode(page).decode() in campaign
    text = " ".join(campaign.replace("\\n", " ").split())
    assert "each conversion judged by two checks" in text
    assert "The verdict of every conversion, those that" in text and "The figures of the page as JSON" in text


def test_a_verdict_that_missed_a_fault_ends_the_campaign_with_an_error(played: Campaign):
    played.write([BLUNT, GOOD])
    done = played.run()
    assert done.returncode == 1
    assert "1 of 2 conversions proved" in done.stderr
    assert "blunt: equivalence: planted fault missed: " in done.stderr
    assert played.verdicts() == {"blunt": "not shown", "good": "yes"}


def test_a_row_that_is_refused_does_not_stop_the_others(played: Campaign):
    played.write([REFUSED, GOOD])
    done = played.run()
    assert done.returncode == 1
    assert "convkit: no rule takes this leaf" in done.stderr
    assert "refused: plan: convkit: no rule takes this leaf" in done.stderr
    assert played.verdicts() == {"refused": "stopped", "good": "yes"}
    assert (played.directory / "results" / "report.html").exists()


def test_what_a_row_asks_for_reaches_the_command(played: Campaign):
    played.write([GOOD, BACK], threads=1, digest="sha256")
    played.run()
    words = played.document("back/convert.json")["words"]
    asked = ["--to", "hf/llama", "--format", "torch", "--release", "2.9", "--config", "a b.json", "--digest", "sha256"]
    assert words == [
        "results/good/target.mdl",
        "results/back/target",
        *asked,
        "--threads",
        "1",
        "--overwrite",
        "--json",
    ]
    assert played.document("back/inspect.json")["words"] == [
        "results/good/target.mdl",
        "--config=a b.json",
        "--json",
    ]


def test_a_repair_takes_the_place_of_a_conversion(played: Campaign):
    (played.directory / "files").mkdir()
    state = claim(id="state", source="old.mdl", to="data-iter-state", options="-w files -d iterable")
    played.write([state, claim(id="fixed", source="row:state", to="fix-checkpoint-spec")])
    commands = played.run("--dry-run", "--printshellcmds").stdout
    carried = "convkit cerebras data-iter-state --old_checkpoint results/state/fetch.json"
    assert f"{carried} --output_file results/state/target.mdl -w files -d iterable --overwrite" in commands
    fixed = "results/state/target.mdl --fixed_checkpoint_path results/fixed/target.mdl --copy-healthy"
    assert f"convkit cerebras fix-checkpoint-spec {fixed} --dry-run" in commands
    assert "convkit convert" not in commands
    assert "convkit equivalence" not in commands


@pytest.mark.parametrize(
    ("checks", "made"),
    [
        ("", {"roundtrip", "equivalence"}),
        ("roundtrip", {"roundtrip"}),
        ("equivalence:faults=all", {"equivalence"}),
        ("none", set()),
    ],
)
def test_a_check_that_is_left_out_is_not_proved(played: Campaign, checks: str, made: set[str]):
    played.write([GOOD | {"checks": checks}, BACK | {"checks": ""}])
    done = played.run()
    assert {
        stage for stage in ("roundtrip", "equivalence") if (played.directory / f"results/good/{stage}.json").exists()
    } == made
    assert (played.directory / "results/back/equivalence.json").exists()
    left_out = [check for check in ("roundtrip", "equivalence") if check not in made]
    good = played.document("summary.json")["rows"][0]
    assert good["left_out"] == left_out
    if not left_out:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 1
    assert good["verdict"] == "left out"
    assert "1 of 2 conversions proved" in done.stderr
    assert f"good: {' and '.join(left_out)}: not proved, left out by the column checks" in done.stderr
    assert not (played.directory / "results/verdict.txt").exists()


def test_a_check_left_out_later_no_longer_counts(played: Campaign):
    played.write([GOOD | {"checks": ""}])
    assert played.run().returncode == 0
    played.write([GOOD | {"checks": "roundtrip"}])
    done = played.run()
    assert done.returncode == 1
    assert played.verdicts() == {"good": "left out"}
    assert not (played.directory / "results/verdict.txt").exists()


def test_options_of_a_check_reach_the_command_quoted(played: Campaign):
    checks = "equivalence:probe-length=64,equivalence:threads=1,equivalence:stages=$(touch x):;y"
    played.write([GOOD | {"checks": checks}, BACK | {"checks": ""}])
    commands = played.run("--dry-run", "--printshellcmds").stdout
    assert " --probe-length=64 '--stages=$(touch x):;y' --threads 1 --json" in commands
    assert "--probe-length=256 --threads 2 --json" in commands


def test_a_changed_row_is_done_again_and_no_other(played: Campaign):
    played.write([GOOD, BACK])
    played.run()
    played.write([GOOD, BACK | {"options": "--release 2.8"}])
    jobs = set(re.findall(r"Job \d+: (.+)", played.run("--dry-run").stdout))
    assert {"back: convert", "back: round trip", "back: equivalence", "the report", "the verdict"} <= jobs
    assert not [job for job in jobs if job.startswith("good")]


def test_resources_come_out_of_the_plan(played: Campaign):
    played.write([GOOD])
    played.run("results/good/plan.json")
    plan = played.document("good/plan.json")
    plan["summary"] |= {"peak_bytes": 7_000_000_000, "bytes_written": 140_000_000_000, "bytes_read": 140_000_000_000}
    path = played.directory / "results" / "good" / "plan.json"
    path.write_text(json.dumps(plan))
    played.run("results/good/convert.json", "--benchmark-extended")
    recorded = (played.directory / "results" / "good" / "benchmarks" / "convert.tsv").read_text()
    assert "'mem_mb': 8000" in recorded
    assert "'disk_mb': 140050" in recorded
    assert "'_cores': 1}" in recorded  # it is small, and its second thread has little to do
    more = ("--config", "threads=6", "--forcerun", "convert", "--rerun-triggers", "mtime")  # a plan is for two threads
    played.run("results/good/convert.json", "--benchmark-extended", *more)
    recorded = (played.directory / "results" / "good" / "benchmarks" / "convert.tsv").read_text()
    assert "'mem_mb': 22000" in recorded


def test_resources_of_equivalence_follow_the_largest_stage(played: Campaign):
    limited = GOOD | {"id": "limited", "checks": "equivalence:memory=2GB"}
    played.write([GOOD | {"checks": "equivalence:probe-length=512"}, limited])
    played.run("results/good/equivalence.json", "results/limited/equivalence.json", "--benchmark-extended")
    plan = read_plan(Described, played.document("good/plan.json"))
    good, other = (
        (played.directory / f"results/{row}/benchmarks/equivalence.tsv").read_text() for row in ("good", "limited")
    )
    assert f"'mem_mb': {1 + need(plan, positions=512).memory // 1_000_000}" in good
    assert f"'runtime': {10 + int(need(plan, positions=512, threads=2).seconds / 60)}" in good
    assert "'mem_mb': 2001" in other


@pytest.mark.parametrize(("asked", "free"), [([], sys.maxsize), (["--max-jobs-per-timespan", "50/1s"], 50)])
def test_jobs_that_run_here_have_no_limit_a_second_that_wasnt_asked_for(
    played: Campaign, asked: list[str], free: int
) -> None:
    played.write([GOOD])
    said = played.run("--verbose", *asked, "--until", "inspect").stderr
    seen = [int(count) for count in re.findall(r"Resources after job selection: .*'_job_count': (\d+)", said)]
    assert seen
    assert max(seen) == free


def test_dry_run_makes_nothing(played: Campaign):
    played.write([GOOD, BACK])
    done = played.run("--dry-run")
    assert done.returncode == 0
    assert not (played.directory / "results").exists()


def configured(name: str) -> tuple[str, ...]:
    folder = ROOT / ".test" / name
    return str(folder / "config.yaml"), "--config", f"checkpoints={folder / 'checkpoints.tsv'}"


def test_there_and_back_with_the_real_command(real: Campaign):
    config, *options = configured("config_small")
    done = real.run(*options, config=config)
    assert done.returncode == 0, done.stderr
    assert real.verdicts() == {"llama": "yes", "back": "yes", "old": "yes", "fixed": "yes"}
    again = real.run(*options, config=config)
    assert "Job 1: " not in again.stderr
    assert again.stdout.endswith("4 of 4 conversions proved\nresults/report.html\n")
    # with a key in the config, all of it is signed, and nothing else is done anew
    write_pair(generate(), real.directory / "k.pem", None)
    signed = (*options, "signing_key=k.pem", "responsible=A. Reviewer")
    rows = real.verdicts()
    expected = {"sign the campaign", "the audit", "the report", "the verdict", *(f"{row}: sign" for row in rows)}
    assert real.jobs(*signed, config=config) == expected
    assert "4 rows" in (real.directory / "results/audit.txt").read_text()
    assert "A. Reviewer" in (real.directory / "results/report.html").read_text()
    assert real.jobs(*signed, config=config) == set()
    (real.directory / "results/old/target.mdl.model.sig").unlink()
    (real.directory / "results/audit.txt").unlink()
    assert real.run(*signed, config=config).returncode == 1
    assert "removed file" in (real.directory / "results/logs/audit.log").read_text()


def test_a_key_that_isnt_there_is_said_before_anything_runs(played: Campaign):
    played.write([GOOD], signing_key="k.pem")
    done = played.run("--dry-run")
    assert done.returncode == 1
    assert "convkit: config: signing_key: there is no file k.pem" in done.stderr
    assert "convkit: config: public_keys: there is no file k.pub.pem" in done.stderr


def test_a_plan_that_is_refused_by_the_real_command(fresh: Campaign):
    config, *options = configured("config_refused")
    done = fresh.run(*options, config=config)
    assert done.returncode == 1
    assert fresh.verdicts() == {"llama": "yes", "stray": "stopped"}
    assert fresh.document("summary.json")["rows"][1]["stopped_at"] == "plan"


def test_a_repair_needs_no_model(real: Campaign):
    """Nothing beside the file says what model it is."""
    write_old(real.directory / "old.mdl", {"w": np.ones(3), "lr_scheduler": {"last_epoch": 0}, "global_step": 5}, "1.7")
    real.write([claim(id="fixed", source="old.mdl", to="fix-checkpoint-spec")])
    done = real.run("--cores", "1")
    assert done.returncode == 0, done.stderr
    assert real.verdicts() == {"fixed": "yes"}


def test_repairs_with_the_real_command(real: Campaign):
    """Release 1.9's loader state carried over, then the schedulers repaired, and a conversion after each."""
    config, *options = configured("config_repairs")
    done = real.run(*options, config=config)
    assert done.returncode == 0, done.stderr
    assert real.verdicts() == dict.fromkeys(("state", "state-hf", "fixed", "fixed-hf"), "yes")
    samples = {"0": 1500, "1": 1485, "2": 1470}
    for row in ("state", "fixed"):
        assert real.document(f"{row}/convert.json")["complement"]["workers"]["samples"] == samples
        assert real.document(f"{row}/roundtrip.json")["sensitivity"] == "caught 6 of 6"
    assert [repair["what"] for repair in real.document("fixed/convert.json")["repairs"]] == ["last_epoch"] * 4
    assert real.document("fixed-hf/plan.json")["source"]["layout"] == "cerebras/llama"
