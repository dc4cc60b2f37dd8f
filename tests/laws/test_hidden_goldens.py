"""Tests that need recorded goldens have the marker, and skip visibly if the goldens are missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
SAMPLE = """
import pytest
from goldens import golden_cases, golden_dir
from modelzoo import real_classes

@pytest.fixture(scope="session")
def shared():
    return golden_dir("some.tar.gz")

@pytest.mark.golden
def test_marked():
    assert (golden_dir("some.tar.gz") / "file").read_text() == "golden"

@pytest.mark.golden
def test_fixture(shared):
    assert (shared / "file").is_file()

@pytest.mark.parametrize("case", golden_cases("some.tar.gz", lambda: golden_dir("some.tar.gz").iterdir()))
def test_cases(case):
    assert case.is_file()

@pytest.mark.parametrize("name", [pytest.param("some.tar.gz", marks=pytest.mark.golden), "other.tar.gz"])
def test_one_case_forgotten(name):
    golden_dir(name)

def test_forgotten(shared):
    golden_dir("some.tar.gz")

@pytest.mark.golden
def test_needs_none():
    pass

@pytest.mark.golden
def test_needs_more():
    with real_classes():
        pass
"""
USES = ("marked", "fixture", "cases", "one_case_forgotten[some.tar.gz]")
FORGOTTEN = ("one_case_forgotten[other.tar.gz]", "forgotten")


def outcomes(folder: Path, there: bool, wanted: str = "") -> dict[str, str]:
    """What becomes of each test of the sample, with the archive there or not."""
    (folder / "test_sample.py").write_text(SAMPLE)
    if there:
        (folder / "file").write_text("golden")
        with tarfile.open(folder / "some.tar.gz", "w:gz") as archive:
            archive.add(folder / "file", "file")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "CONVKIT"))}
    search = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment |= {"CONVKIT_GOLDENS": str(folder), "CONVKIT_GOLDEN_TESTS": wanted, "PYTHONPATH": search}
    plugins = ["-p", "conftest", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", *plugins, "-o", "markers=golden", "--rootdir", folder, "test_sample.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    found = re.findall(r"^test_sample.py::test_(\S+) (PASSED|FAILED|SKIPPED|ERROR)", done.stdout, re.MULTILINE)
    assert len(found) == len(dict(found)), done.stdout
    return {re.sub(r"^cases\[.*", "cases", name): outcome.lower() for name, outcome in found}


@pytest.mark.parametrize("there", [True, False])
def test_who_forgets_the_mark_fails_wherever_it_runs(tmp_path: Path, there: bool) -> None:
    found = outcomes(tmp_path, there)
    assert {found[name] for name in FORGOTTEN} <= {"failed", "error"}


def test_without_the_goldens_those_who_use_them_are_skipped(tmp_path: Path) -> None:
    found = outcomes(tmp_path, there=False)
    assert {name: found[name] for name in (*USES, "needs_none")} == dict.fromkeys(USES, "skipped") | {
        "needs_none": "passed"
    }


def test_with_the_goldens_they_run(tmp_path: Path) -> None:
    found = outcomes(tmp_path, there=True, wanted="run")
    assert {name: found[name] for name in USES} == dict.fromkeys(USES, "passed")
    assert found["needs_more"] == "skipped"


def test_where_the_goldens_must_be_there_a_skipped_test_fails(tmp_path: Path) -> None:
    found = outcomes(tmp_path, there=False, wanted="run")
    assert {found[name] for name in USES} == {"failed", "error"}


def test_where_they_must_not_a_test_that_passes_fails(tmp_path: Path) -> None:
    found = outcomes(tmp_path, there=False, wanted="skip")
    assert found["needs_none"] == "failed"
    assert {found[name] for name in USES} == {"skipped"}
