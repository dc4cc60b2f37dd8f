"""What is written down of the mappings is what their modules declare; what is out of date doesn't count."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from convkit import mappings
from convkit.mappings import catalogue, look_again, releases_of
from convkit.plan.route import layout_at


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the catalogue, which counts here."""
    file = Path(shutil.copy(catalogue.FILE, tmp_path))
    monkeypatch.setattr(catalogue, "FILE", file)
    look_again()
    yield file
    look_again()


def read() -> catalogue.Catalogue:
    return catalogue.catalogue_of(mappings.__name__, mappings.__path__)


def test_the_file_is_of_the_modules_as_they_are() -> None:
    assert catalogue.FILE.read_text("utf-8") == catalogue.text(mappings.__name__, mappings.__path__), "make schemas"


def test_the_file_says_all_that_the_modules_declare(elsewhere: Path) -> None:
    known = read()
    elsewhere.unlink()
    assert (made := read()) == known
    assert [*made.layouts.values()] == [*known.layouts.values()]
    for mapping in mappings.all_mappings():
        for side in (mapping.left, mapping.right):
            assert side == known.layouts[side.name]
            assert mapping in mappings.mappings_of(side.name)


@pytest.mark.parametrize("broken", ["", "{", '{"layouts": []}'])
def test_a_broken_file_does_not_count(elsewhere: Path, broken: str) -> None:
    known = read()
    elsewhere.write_text(broken)
    assert read() == known


def test_a_file_of_other_modules_does_not_count(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed module, which still says the same, and a new one."""
    elsewhere.write_text(elsewhere.read_text().replace("cerebras/llama", "cerebras/lama"))
    assert "cerebras/lama" in mappings.layouts()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "nothing.py").touch()
    monkeypatch.setattr(mappings, "__path__", [*mappings.__path__, str(tmp_path / "more")])
    look_again()
    assert "cerebras/lama" not in mappings.layouts()
    assert layout_at("hf/llama", "cerebras") == "cerebras/llama"
    assert releases_of(mappings.get_layout("cerebras/llama"))[-1] == (2, 10)
