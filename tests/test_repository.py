"""What the repository says of itself in several places is the same in each: version, targets, tools, Pythons."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import convkit

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((ROOT / ".github/workflows").glob("*.yml"))}
MAKEFILE = (ROOT / "Makefile").read_text()
CI = (ROOT / ".ci/run").read_text()


def jobs() -> Iterator[dict[str, Any]]:
    for workflow in WORKFLOWS.values():
        yield from workflow["jobs"].values()


def steps() -> Iterator[dict[str, Any]]:
    for job in jobs():
        yield from job["steps"]


def targets_of_ci() -> set[str]:
    """The targets of make that ``.ci/run`` calls, one by one and in its loop."""
    named = re.findall(r"^(?:suite|make) ([\w-]+)$", CI, re.MULTILINE)
    (loop,) = re.findall(r"^for target in ([\w -]+); do$", CI, re.MULTILINE)
    return {*named, *loop.split()}


def targets_of_workflows() -> set[str]:
    """The targets of make that the workflows call, by name and from a matrix."""
    named = {name for step in steps() for name in re.findall(r"^make ([\w-]+)$", step.get("run", ""), re.MULTILINE)}
    return named.union(*(job.get("strategy", {}).get("matrix", {}).get("target", ()) for job in jobs()))


def test_the_version_stands_in_one_place_and_what_quotes_it_agrees() -> None:
    assert "version" in PYPROJECT["project"]["dynamic"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "convkit.__version__"}
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == convkit.__version__
    released = re.findall(r"^## \[(\d\S*)\] - ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == convkit.__version__


def test_a_release_that_is_dated_is_dated_in_both() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    (date,) = re.findall(rf"^## \[{re.escape(convkit.__version__)}\] - (.*)$", changelog, re.MULTILINE)
    assert date == str(yaml.safe_load((ROOT / "CITATION.cff").read_text()).get("date-released", "Unreleased"))


def test_ci_and_the_workflows_call_the_same_targets_of_make() -> None:
    assert targets_of_ci() == targets_of_workflows()
    assert targets_of_ci() <= set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE))


@pytest.mark.parametrize("fails", ["", *sorted(targets_of_ci())])
def test_ci_fails_if_any_target_does(fails: str, tmp_path: Path) -> None:
    commands = tmp_path / "commands"
    commands.mkdir()
    scripts = dict.fromkeys(("chromium", "radosgw", "slurmctld"), "exit 1") | {"make": f'test "$1" != "{fails}"'}
    for name, script in scripts.items():
        (commands / name).write_text(f"#!/bin/sh\n{script}\n")
        (commands / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{commands}:{os.environ['PATH']}", "CI_MINUTES": "60"}
    done = subprocess.run([ROOT / ".ci/run"], env=environment, check=False, capture_output=True)
    assert (done.returncode == 0) == (fails == "")


def test_every_target_without_a_file_is_phony() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert set(phony.split()) == set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE))


def test_the_pythons_of_the_workflows_are_the_declared_ones() -> None:
    prefix = "Programming Language :: Python :: 3."
    declared = {
        line.removeprefix(prefix[:-2]) for line in PYPROJECT["project"]["classifiers"] if line.startswith(prefix)
    }
    assert PYPROJECT["project"]["requires-python"] == f">={min(declared, key=lambda one: int(one[2:]))}"
    matrices = [
        job["strategy"]["matrix"]["python"] for job in jobs() if "python" in job.get("strategy", {}).get("matrix", {})
    ]
    assert matrices
    assert all(set(matrix) == declared for matrix in matrices)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_read_the_repository_and_no_more(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in WORKFLOWS[name]["jobs"].values())
    assert all("timeout-minutes" in job for job in WORKFLOWS[name]["jobs"].values())


def test_actions_are_pinned_by_commit_and_leave_no_token_behind() -> None:
    used = [step["uses"] for step in steps() if "uses" in step]
    assert used
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in used)
    checkouts = [step for step in steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_what_is_checked_before_a_commit_is_what_make_lint_runs() -> None:
    (recipe,) = re.findall(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        words = [word for word in hook["entry"].split() if not word.startswith("--")]
        assert f"\t{' '.join(words)}" in recipe, hook["id"]
