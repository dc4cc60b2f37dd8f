"""Every package that convkit imports is declared: as a dependency, or by an extra that the error without it names."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from package_graph import PackageGraph
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import convkit
from convkit.errors import ConvkitError
from convkit.extras import DISTRIBUTION, EXTRA_OF, install, named_extras
from convkit.files.stores.driver import DRIVERS

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGE = PackageGraph(Path(convkit.__file__).parent)
#: what may import a package of an extra as soon as it is imported itself: nothing imports these before it is needed
AT_ONCE = ("orbax.check.real", "testing.")


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


CORE = names(PROJECT["dependencies"])
EXTRAS = {extra: names(lines) for extra, lines in PROJECT["optional-dependencies"].items()}


def imported(tree: ast.AST) -> Iterator[str]:
    """The top-level modules of other packages that a module imports when it runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            found = [node.module or ""]
        tops = {name.partition(".")[0] for name in found}
        yield from tops - sys.stdlib_module_names - {"convkit"}
        yield from imported(node)


IMPORTED = {name: set(imported(tree)) for name, tree in PACKAGE.trees.items()}
USED = set().union(*IMPORTED.values())


@pytest.mark.parametrize("module", sorted(USED))
def test_an_imported_package_is_a_dependency_or_its_extra_declares_it(module: str) -> None:
    distributions = {canonicalize_name(name) for name in packages_distributions()[module]}
    declared = EXTRAS[EXTRA_OF[module]] if module in EXTRA_OF else CORE
    assert distributions & declared, f"{module} comes from {distributions}"


def test_the_table_of_extras_holds_what_is_used_and_what_fsspec_imports_for_us() -> None:
    assert set(EXTRA_OF) - USED == set(DRIVERS.values()) - USED
    assert all(canonicalize_name(module) in EXTRAS[EXTRA_OF[module]] for module in DRIVERS.values())
    assert set(EXTRA_OF.values()) <= set(EXTRAS)
    assert PROJECT["name"] == DISTRIBUTION


def test_a_package_of_an_extra_is_imported_only_where_it_is_used() -> None:
    at_once = {
        (name, module)
        for name, tree in PACKAGE.trees.items()
        for module in EXTRA_OF
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom) and module in imported(ast.Module([node], []))
    }
    assert {(name, module) for name, module in at_once if not name.startswith(AT_ONCE)} == set()
    assert all(any(name.startswith(one) for name, _ in at_once) for one in AT_ONCE)


@pytest.mark.parametrize("module", sorted(EXTRA_OF))
def test_without_it_one_line_names_the_extra(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConvkitError) as caught, named_extras():
        __import__(module)
    assert str(caught.value) == f"{module} isn't installed ({install(module)})"
    assert install(module) == f"pip install '{PROJECT['name']}[{EXTRA_OF[module]}]'"


def test_another_module_that_is_missing_is_a_fault() -> None:
    with pytest.raises(ModuleNotFoundError), named_extras():
        __import__("convkit.no_such_module")
