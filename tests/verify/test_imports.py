"""The trust argument: what judges a conversion shares no code with what makes it. Walked over the real imports.

Every import statement counts, those inside functions too, but not those for type checkers; a string that
names a module counts as an import of it (tables of formats, of layouts, of commands).
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from recorded import HERE

import convkit

ROOT = Path(convkit.__file__).parent

#: what says, plans and carries out conversions
ENGINE = (
    "audit", "bind", "cli", "condition", "config", "execute", "mapping", "mappings", "ops", "pattern", "plan",
    "recipes", "slabs", "source", "staging", "testing", "fetch", "generate", "report",
)  # fmt: skip
#: all that a format may reach
OF_FORMATS = {"errors", "tensors", "checkpoint", "digests", "keys", "state", "formats"}
HEAVY = ("torch", "jax", "transformers", "tensorstore", "pandas")


@cache
def modules() -> dict[str, Path]:
    """Every module by name."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = ("convkit", *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of convkit that one imports itself, their packages included."""
    found: set[str] = set()
    package = module if modules()[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in _run(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
        elif isinstance(node, ast.JoinedStr) and isinstance(first := node.values[0], ast.Constant):
            start = str(first.value)
            found |= {name for name in modules() if start.startswith("convkit.") and name.startswith(start)}
    whole = {".".join(name.split(".")[:n]) for name in found for n in range(1, name.count(".") + 2)}
    return frozenset(whole & modules().keys())


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that is run: not what only type checkers read."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from (child for other in node.orelse for child in (other, *_run(other)))
        else:
            yield node
            yield from _run(node)


def reached(module: str) -> dict[str, str]:
    """Every module that one reaches, through whatever others, and by which it was reached."""
    found, open_ends = {module: ""}, [module]
    while open_ends:
        here = open_ends.pop()
        for name in sorted(imports(here)):
            if name not in found:
                found[name] = here
                open_ends.append(name)
    return found


def way(found: dict[str, str], name: str) -> str:
    """How a module is reached."""
    steps = [name]
    while found[steps[-1]]:
        steps.append(found[steps[-1]])
    return " <- ".join(steps)


def below(*packages: str) -> list[str]:
    return sorted(name for name in modules() if name.startswith(tuple(f"convkit.{package}" for package in packages)))


@pytest.mark.parametrize("module", below("verify", "oracles"))
def test_what_judges_never_reaches_what_converts(module: str) -> None:
    found = reached(module)
    wrong = [way(found, name) for name in found if name.split(".")[1:2] and name.split(".")[1] in ENGINE]
    assert not wrong


@pytest.mark.parametrize("module", below("formats", "state"))
def test_formats_know_no_layout(module: str) -> None:
    found = reached(module)
    assert not [way(found, name) for name in found if name != "convkit" and name.split(".")[1] not in OF_FORMATS]


def test_the_round_trip_reaches_little() -> None:
    found = reached("convkit.verify.roundtrip.check")
    assert {name.split(".")[1] for name in found if name != "convkit"} <= OF_FORMATS | {"receipt", "verify"}


def test_the_walk_sees_what_it_should() -> None:
    """A check that cannot fail proves nothing: known imports, of each kind."""
    assert "convkit.mapping.ops" in reached("convkit.execute")
    assert "convkit.formats.safetensors" in imports("convkit.formats")  # in a table of names
    assert "convkit.formats.cerebras_h5.writer" in imports("convkit.formats.cerebras_h5.format")  # inside a function
    assert "convkit.cli.convert" in imports("convkit.cli")  # an f-string
    assert "convkit.plan.step" not in imports("convkit.execute.slabs")  # for type checkers only
    assert "convkit.plan" in reached("convkit.cli.check")
    assert {"convkit.formats", "convkit.verify.roundtrip.reconvert"} <= reached("convkit.verify.roundtrip.check").keys()


def loaded(code: str, *arguments: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after some code."""
    end = "\nimport json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    command = [sys.executable, "-c", code + end, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return set(json.loads(done.stdout.splitlines()[-1]))


MAIN = "import sys\nfrom convkit.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass"


def test_importing_convkit_and_asking_for_help_is_light() -> None:
    assert not loaded("import convkit").intersection([*HEAVY, "numpy"])
    assert not loaded(MAIN, "--help").intersection([*HEAVY, "numpy", "h5py", "yaml"])


def test_converting_and_checking_safetensors_is_light(tmp_path: Path) -> None:
    source, target = str(HERE / "llama_gqa" / "hf"), str(tmp_path / "cs")
    layout = ["--to", "cerebras/llama", "--format", "safetensors"]
    assert not loaded(MAIN, "convert", source, target, *layout).intersection(HEAVY)
    assert (tmp_path / "cs.convkit.json").is_file()
    assert not loaded(MAIN, "roundtrip", source, target).intersection(HEAVY)
    assert not loaded(MAIN, "verify", target).intersection(HEAVY)
    assert not loaded(MAIN, "diff", target, target).intersection(HEAVY)
