"""The trust argument: what judges a conversion shares no code with what converts, not even through another module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import convkit

ROOT = Path(convkit.__file__).parent
CONVERTERS = ("ops", "pattern", "mapping", "mappings", "bind", "plan", "execute", "slabs", "config", "source")
JUDGES = [path for folder in ("verify", "oracles", "formats") for path in sorted((ROOT / folder).rglob("*.py"))]


def imports(path: Path) -> Iterator[str]:
    """Modules of convkit that a file imports anywhere in it, but for type checkers."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def reached(path: Path, seen: set[str]) -> set[str]:
    for name in imports(path):
        if name.split(".")[0] != "convkit" or name in seen:
            continue
        try:
            spec = find_spec(name)
        except ModuleNotFoundError:
            continue  # a name in a module
        if spec and spec.origin:
            seen.add(name)
            reached(Path(spec.origin), seen)
    return seen


@pytest.mark.parametrize("path", JUDGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_judges_never_reach_converters(path: Path) -> None:
    converters = {f"convkit.{name}" for name in CONVERTERS}
    met = {name for name in reached(path, set()) if any(f"{name}.".startswith(f"{one}.") for one in converters)}
    assert not met


def test_the_walk_finds_what_is_there() -> None:
    assert "convkit.mapping.ops" in reached(ROOT / "execute.py", set())
