"""Families are found where they are declared; an unusable one is reported by name."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from convkit import mappings
from convkit.cli import main
from convkit.errors import ConvkitError
from convkit.mappings import all_mappings, find_mapping, look_again, problems

Write = Callable[[str, str], None]
DECLARE = """
from convkit.mapping import Layout, Mapping, Rule

def mapping(left, right):
    return Mapping(Layout(left, left, "safetensors", ""), Layout(right, right, "torch", ""), (Rule("a", "b"),))
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes further modules of the package of mappings."""
    before = set(sys.modules)
    monkeypatch.setattr(mappings, "__path__", [*mappings.__path__, str(tmp_path)])
    look_again()

    def write(name: str, text: str) -> None:
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        (path.parent / "__init__.py").touch() if path.parent != tmp_path else None
        path.write_text(DECLARE + text)

    yield write
    for name in set(sys.modules) - before:
        if name.startswith(f"{mappings.__name__}."):
            del sys.modules[name]
            vars(mappings).pop(name.split(".")[2], None)
    look_again()


@pytest.fixture
def entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Installs a package that brings an entry point."""
    site = tmp_path / "site"
    (site / "further-1.dist-info").mkdir(parents=True)
    (site / "further-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: further\nVersion: 1\n")
    monkeypatch.syspath_prepend(str(site))

    def install(value: str, text: str) -> None:
        (site / "further-1.dist-info" / "entry_points.txt").write_text(f"[convkit.mappings]\nours = {value}\n")
        (site / f"{value.partition(':')[0]}.py").write_text(DECLARE + text)
        look_again()

    yield install
    for name in ("further", "further_broken"):
        sys.modules.pop(name, None)
    look_again()


def names() -> list[str]:
    return [mapping.name for mapping in all_mappings()]


def test_a_module_may_declare_several(module: Write) -> None:
    before = names()
    look_again()
    module("one", "MAPPING = mapping('x', 'y')")
    module("others/many", "MAPPINGS = [mapping('x', 'z'), mapping('x', 'w')]\nMAPPING = MAPPINGS[0]")
    module("again", "from convkit.mappings.one import MAPPING  # another module's is no second one")
    assert names() == sorted([*before, "x <-> y", "x <-> z", "x <-> w"])
    assert find_mapping("w", "x").right.name == "x"


def test_one_mapping_declared_twice_is_said_with_both_places(module: Write) -> None:
    module("one", "MAPPING = mapping('x', 'y')")
    module("two", "MAPPINGS = (mapping('x', 'y'),)")
    with pytest.raises(
        ConvkitError, match=r"mappings\.one and convkit\.mappings\.two both declare the mapping x <-> y"
    ):
        all_mappings()


@pytest.mark.parametrize(("text", "why"), [("import no_such_package", "ModuleNotFoundError: No module named"),
                                           ("Rule('a', 'b', 'x -> y')", "PatternError: rule a <-> b")])  # fmt: skip
def test_a_module_that_can_not_be_imported_is_named(
    module: Write, text: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module("others/broken", text)
    assert main(["list", "mappings"]) == 3
    said = capsys.readouterr().err
    assert "mapping module convkit.mappings.others.broken can't be imported" in said and why in said


def test_what_is_no_mapping_is_said(module: Write) -> None:
    module("odd", "MAPPINGS = [mapping('x', 'y'), 3]")
    with pytest.raises(ConvkitError, match=r"convkit\.mappings\.odd gives a int where a mapping is expected"):
        all_mappings()


def test_an_entry_point_brings_one_or_several(entry_point: Write) -> None:
    entry_point("further:ONE", "ONE = mapping('x', 'y')\nMANY = (ONE, mapping('x', 'z'))")
    assert "x <-> y" in names() and "x <-> z" not in names()
    entry_point("further:MANY", "ONE = mapping('x', 'y')\nMANY = (ONE, mapping('x', 'z'))")
    assert {"x <-> y", "x <-> z"} <= set(names())


def test_an_entry_point_that_can_not_be_loaded_is_named_where_it_may_be_meant(entry_point: Write) -> None:
    before = names()
    entry_point("further_broken:ONE", "import no_such_package")
    assert names() == before
    why = r"mapping ours of further 1 can't be used: ModuleNotFoundError: No module named 'no_such_package'"
    for source in ("x", "hf/llama"):
        with pytest.raises(ConvkitError, match=why):
            find_mapping(source, "y")


@pytest.mark.parametrize(
    ("declared", "why"),
    [
        ("[mapping('x', 'y'), 3]", r"gives a int where a mapping is expected"),
        ("mapping('hf/llama', 'y')", r"its layout hf/llama isn't that of convkit itself"),
        ("mapping('cerebras/llama', 'hf/llama')", r"convkit itself also declares the mapping cerebras/llama"),
    ],
)
def test_a_mapping_that_would_change_what_others_do_is_not_used(entry_point: Write, declared: str, why: str) -> None:
    before = names()
    entry_point("further:ONE", f"ONE = {declared}")
    assert names() == before
    (problem,) = problems()
    assert re.search(why, str(problem)) and "further 1" in str(problem) and "ours = further:ONE" in str(problem)
