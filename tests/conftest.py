"""Puts this folder on the import path, so that tests in its subfolders can say ``from goldens import golden_dir``.

Where the goldens are known to be there, ``CONVKIT_GOLDEN_TESTS=run`` makes a golden test that is skipped fail, unless
it is for want of ModelZoo's source; where they are known not to be, ``CONVKIT_GOLDEN_TESTS=skip`` makes one fail that
isn't skipped.
"""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import goldens
import modelzoo
import once
import pytest
from campaigns import QUICK, Campaign
from hypothesis import HealthCheck, settings
from warm import warm
from xdist.scheduler import LoadFileScheduling

# no deadline, because the machine may be busy
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

#: of the folder of a run
_PREFIX = "convkit-tests-"
_MEMORY = Path("/dev/shm")


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder that the processes of a run share; look for garbage less often: a tenth of the time."""
    gc.set_threshold(100_000, 20, 100)
    if not hasattr(config, "workerinput"):
        _clear_old()
        os.environ[once.FOLDER] = folder = tempfile.mkdtemp(prefix=_PREFIX, dir=_memory(1 << 30))
        _locked(folder)
        if "not slow" in config.option.markexpr and _memory(4 << 30):  # slow tests make large files
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", folder)


def _memory(needed: int) -> Path | None:
    """A folder in memory, if so many bytes are free: a third of the time of many tests goes to a disk's small files."""
    return _MEMORY if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > needed else None


def _clear_old() -> None:
    """Remove what runs left that were killed or had failures."""
    for left in chain(_MEMORY.glob(f"{_PREFIX}*"), Path(tempfile.gettempdir()).glob(f"{_PREFIX}*")):
        with suppress(OSError):  # it is in use, or of another user
            os.close(_locked(left))
            shutil.rmtree(left, ignore_errors=True)


def _locked(folder: str | Path) -> int:
    """Lock a folder while this process lives, or until the number that is returned is closed."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(opened)
        raise
    return opened


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remove the folder of the run; what failed tests made stays until the next one."""
    if not hasattr(session.config, "workerinput") and exitstatus != pytest.ExitCode.TESTS_FAILED:
        session.config.add_cleanup(lambda: shutil.rmtree(os.environ[once.FOLDER]))


class _ByImports(LoadFileScheduling):
    """Gives the tests of a file to one process, and all files of the workflow to one, which imports snakemake once."""

    def _split_scope(self, nodeid: str) -> str:
        scope = super()._split_scope(nodeid)
        return "workflow" if scope.startswith("tests/test_workflow") else scope


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    return _ByImports(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_finish() -> None:
    """Look for no garbage among the modules."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    goldens.running = item
    try:
        return (yield)
    finally:
        goldens.running = None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    wanted, marked = os.environ.get("CONVKIT_GOLDEN_TESTS"), item.get_closest_marker("golden") is not None
    if report.skipped and not marked and goldens.MISSING in str(report.longrepr):  # also by a fixture that is shared
        problem = "a test without the mark `golden` was skipped for want of one"
    elif report.skipped and marked and wanted == "run" and modelzoo.MISSING not in str(report.longrepr):
        problem = "a golden test was skipped although the goldens are there"
    elif report.passed and report.when == "call" and marked and wanted == "skip":
        problem = "a golden test passed although the goldens aren't there"
    else:
        return report
    report.outcome = "failed"
    report.longrepr = f"{item.nodeid}: {problem}"
    return report


@pytest.fixture(scope="session")
def snakemake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with warm(tmp_path_factory.mktemp("s") / "snakemake", "snakemake_runs:main") as command:
        yield command


@pytest.fixture(scope="session")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with warm(tmp_path_factory.mktemp("f") / "convkit", "fake_convkit:play", "warm_report") as command:
        yield command


@pytest.fixture(scope="session")
def convkit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The real command, and the models that it is asked for."""
    with warm(tmp_path_factory.mktemp("c") / "convkit", "convkit.cli:main", "warm_convkit", "warm_report") as command:
        yield command


@pytest.fixture
def real(tmp_path: Path, snakemake: Path, convkit: Path) -> Campaign:
    """A campaign of the real command."""
    return Campaign(tmp_path, f"{convkit.parent}:{os.environ['PATH']}", snakemake, *QUICK)


@pytest.fixture
def played(tmp_path: Path, snakemake: Path, fake: Path) -> Campaign:
    """A campaign whose convkit command is played."""
    return Campaign(tmp_path, f"{fake.parent}:{os.environ['PATH']}", snakemake, *QUICK)
