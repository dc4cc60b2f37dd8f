"""One run of pytest can hold all the tests: it imports a test file outside of a package by its bare name."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parent.parent


def test_files_outside_of_packages_have_names_of_their_own() -> None:
    names = Counter(
        file.name
        for file in TESTS.rglob("*.py")
        if file.name != "conftest.py"
        if not (file.parent / "__init__.py").exists()
    )
    assert names["test_names.py"] == 1
    assert [name for name, times in names.items() if times > 1] == []
