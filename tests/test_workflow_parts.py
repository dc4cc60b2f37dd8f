"""Runs of a part of the campaign, and campaigns without our profile or within another workflow."""

from __future__ import annotations

import json

from campaigns import BACK, CONFIG, GOOD, REFUSED, ROOT, Campaign, claim

#: no profile sets an option, so that a job that fails stops the others
BARE = ("--cores", "1", "--profile", "none", "--workflow-profile", "none")
#: a workflow of somebody else
OTHER = """\
module convkit:
    snakefile: {snakefile!r}
    config: {config!r}
    prefix: "converted"


use rule * from convkit


rule after:
    input: "converted/results/good/convert.json"
    output: "after.txt"
    shell: "ls -d converted/results/good/target.mdl > {{output}}"
"""


def test_a_run_of_a_part_ends_well_unless_a_stage_ends_with_an_error(played: Campaign):
    played.write([GOOD, REFUSED])
    done = played.run("results/good/plan.json")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    done = played.run("--until", "inspect", "fetch")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    done = played.run("--until", "plan")
    assert done.returncode == 1
    assert "convkit: ended with an error: results/refused/plan.json" in done.stderr
    assert "no rule takes this leaf" in done.stderr
    assert not (played.directory / "results/verdict.txt").exists()


def test_a_row_that_fails_does_not_stop_the_others_whatever_the_profile(played: Campaign):
    """Its document is the error, as is that of each stage after it; the next run tries again, and only that."""
    after = claim(id="after", source="row:refused", to="hf/llama")
    played.write([REFUSED, after, GOOD])
    done = played.run(*BARE)
    assert done.returncode == 1
    assert "refused: plan: convkit: no rule takes this leaf" in done.stderr
    assert done.stderr.count("1 of 3 conversions proved") == 1
    assert played.verdicts() == {"refused": "stopped", "after": "stopped", "good": "yes"}
    assert (played.directory / "results/report.html").exists()
    for document in ("refused/plan", "refused/convert", "refused/equivalence", "after/plan", "after/roundtrip"):
        assert played.document(f"{document}.json")["error"] == "no rule takes this leaf"
    calls = [json.loads(line)[0] for line in (played.directory / "words.jsonl").read_text().splitlines()]
    assert sorted(calls) == sorted(
        [*2 * ["fetch", "inspect", "plan"], "convert", "roundtrip", "equivalence", *2 * ["report"]]
    )
    assert "refused: plan" in played.jobs("--dry-run", "--quiet", "progress")

    played.write([REFUSED | {"source": "generated://llama?seed=1"}, after, GOOD])
    again = played.run(*BARE)
    assert again.returncode == 0, again.stderr
    assert again.stdout.endswith("3 of 3 conversions proved\nresults/report.html\n")
    assert "good: " not in again.stderr
    assert not played.jobs(*BARE)


def test_as_a_module_of_another_workflow(played: Campaign):
    played.write([REFUSED, GOOD, BACK])
    snakefile = played.directory / "Snakefile"
    snakefile.write_text(OTHER.format(snakefile=str(ROOT / "workflow/Snakefile"), config=CONFIG))
    played.command[played.command.index("--snakefile") + 1] = snakefile
    done = played.run(*BARE, "all", "after", config="")
    assert done.returncode == 1
    assert "2 of 3 conversions proved\nconverted/results/report.html" in done.stderr
    assert (played.directory / "after.txt").read_text() == "converted/results/good/target.mdl\n"
    assert not (played.directory / "results").exists()
    played.write([GOOD, BACK])
    done = played.run(*BARE, config="")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("2 of 2 conversions proved\nconverted/results/report.html\n")
    assert not played.jobs(*BARE, config="")
    (played.directory / "converted/results/good/target.mdl").rmdir()
    assert {"good: convert", "good: round trip"} <= played.jobs(*BARE, config="")
