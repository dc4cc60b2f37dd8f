"""Puts this folder on the import path, so that tests in its subfolders can say ``from goldens import golden_dir``.

Where ``CONVKIT_NO_SKIPPED_GOLDENS`` is set, a golden test that is skipped fails.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and item.get_closest_marker("golden") and os.environ.get("CONVKIT_NO_SKIPPED_GOLDENS"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: a golden test was skipped although the goldens are there"
    return report
