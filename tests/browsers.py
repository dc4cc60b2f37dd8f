"""A real browser for tests: ``CONVKIT_BROWSER``, or the first on the path. Without one, these tests are skipped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")


@contextmanager
def launched() -> Iterator:
    """The browser, without a window."""
    named = os.environ.get("CONVKIT_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if named is None:
        pytest.skip(f"there is no browser: none of {', '.join(NAMES)} is on the path, and CONVKIT_BROWSER isn't set")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=named, chromium_sandbox=os.geteuid() != 0)
        yield browser
        browser.close()
