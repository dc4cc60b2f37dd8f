"""The laws of the package's rooms, over its real imports: what judges a conversion shares no code with what makes it.

A law is a function from a package to those who break it, all of them at once. Each is shown on a small package,
made up here, that breaks it: a check that cannot fail proves nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from package_graph import PackageGraph, packages, room, way

import convkit

#: Imports run downwards only: a room imports rooms of lower floors, and nothing beside itself.
FLOORS = (
    ("__main__",),
    ("cli",),
    ("migrate", "testing"),  # the laws of mappings convert and verify; nothing imports `testing`
    ("execute", "verify", "fetch"),
    ("plan", "oracles", "generate", "orbax"),
    ("mappings", "formats", "report"),
    ("baseline",),
    ("audit",),
    ("mapping", "state", "files"),
    ("config", "checkpoint"),
    ("extras", "plugins"),
    ("deferred", "errors", "version"),
    ("",),  # the version, and what older import paths are called now
)
#: What a room may reach, through whatever others, beside itself.
REACH = {
    "verify": {"oracles", "formats", "state", "files", "checkpoint", "plugins", "extras", "errors"},
    "oracles": {"formats", "state", "files", "checkpoint", "plugins", "extras", "errors"},
    "formats": {"state", "files", "checkpoint", "plugins", "extras", "errors"},
    "state": {"files", "checkpoint", "plugins", "errors"},
    "mappings": {"mapping", "config", "checkpoint", "plugins", "errors"},
    "audit": {"files", "checkpoint", "plugins", "errors", "version"},
    "baseline": {"audit", "files", "checkpoint", "plugins", "errors", "version"},
}
#: What of the room `verify` may not even reach the oracles: all of it, except what compares outputs of models.
ORACLES_FOR = "verify.equivalence"
#: Who may import the worker that runs the real Orbax, and what it predicts.
ORBAX_CHECK_FOR = ("orbax.check", "migrate.orbax.restore", "cli")
#: The one file that makes sure of what is on the disk.
SYNC = "files.sync"
#: Where a leaf is walked from its start to its end: what is read says how, runs of a conversion are cut,
#: and once in `verify`, which shares neither.
WALKS = ("checkpoint", "execute.runs")
#: Modules beside the rooms.
BESIDE = {"", "__main__", "deferred", "errors", "extras", "plugins", "version"}
LINES_OF_A_MODULE, LINES_OF_A_FUNCTION = 400, 60
#: Modules whose strings name others without importing them: the aliases of older import paths.
SILENT = frozenset({""})

Law = Callable[[PackageGraph], Iterator[str]]
LAWS: dict[str, Law] = {}


def law(name: str) -> Callable[[Law], Law]:
    """Enter a law in the table."""
    return lambda function: LAWS.setdefault(name, function)


@law("downwards")
def upward_imports(package: PackageGraph) -> Iterator[str]:
    """Imports of a room on the same floor or above, and rooms on no floor."""
    height = {one: floor for floor, rooms in enumerate(reversed(FLOORS)) for one in rooms}
    yield from (f"{one} has no floor" for one in package.rooms if one not in height)
    for name, found in package.imports.items():
        for other in found:
            if room(name) != room(other) and height.get(room(name), 0) <= height.get(room(other), len(FLOORS)):
                yield f"{name} -> {other}"


@law("no circle of rooms")
def circles_of_rooms(package: PackageGraph) -> Iterator[str]:
    """Rooms that reach each other."""
    return map(", ".join, package.room_circles())


@law("no circle of modules")
def circles_of_modules(package: PackageGraph) -> Iterator[str]:
    """Modules that reach each other."""
    return map(", ".join, package.circles())


@law("reach")
def forbidden_reach(package: PackageGraph) -> Iterator[str]:
    """What a room reaches that isn't its to know, and how."""
    for one, allowed in REACH.items():
        for name in package.rooms.get(one, []):
            found = package.reached(name)
            yield from (way(found, other) for other in found if room(other) not in {one, *allowed, ""})


@law("no model in a round trip")
def oracles_reached(package: PackageGraph) -> Iterator[str]:
    """Whoever in `verify` reaches the oracles without being there for them."""
    for name in package.rooms.get("verify", []):
        if not f"{name}.".startswith(f"{ORACLES_FOR}."):
            found = package.reached(name)
            yield from (way(found, other) for other in found if room(other) == "oracles")


@law("one user of the real Orbax")
def users_of_orbax_check(package: PackageGraph) -> Iterator[str]:
    """Whoever imports `orbax.check` without being named for it."""
    for name, found in package.imports.items():
        if not f"{name}.".startswith(tuple(f"{one}." for one in ORBAX_CHECK_FOR)):
            yield from (f"{name} -> {other}" for other in found if f"{other}.".startswith("orbax.check."))


@law("private names stay in their room")
def private_names(package: PackageGraph) -> Iterator[str]:
    """Names with a leading underscore that are taken from another room."""
    return (f"{name} -> {taken}" for name, taken in package.private_names())


@law("rooms only")
def beside_the_rooms(package: PackageGraph) -> Iterator[str]:
    """Modules that lie in no room."""
    return (one for one in package.rooms if package.rooms[one] == [one] and one not in BESIDE)


@law("rooms say what they are")
def silent_rooms(package: PackageGraph) -> Iterator[str]:
    """Folders of modules without an `__init__.py`, or one without a docstring."""
    for one in {above for name in package.modules for above in packages(name)}:
        if one not in package.trees or not ast.get_docstring(package.trees[one]):
            yield one


@law("small modules")
def long_modules(package: PackageGraph) -> Iterator[str]:
    """Modules with too many lines."""
    for name, path in package.modules.items():
        if len(path.read_text(encoding="utf-8").splitlines()) > LINES_OF_A_MODULE:
            yield name


@law("small functions")
def long_functions(package: PackageGraph) -> Iterator[str]:
    """Functions with too many lines, the docstring included."""
    for name, function in package.functions():
        if (function.end_lineno or 0) - function.lineno + 1 > LINES_OF_A_FUNCTION:
            yield name


@law("one file syncs")
def syncers(package: PackageGraph) -> Iterator[str]:
    """Modules that call `fsync` themselves."""
    for name, tree in package.trees.items():
        called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        called |= {node.name for node in ast.walk(tree) if isinstance(node, ast.alias)}
        if name != SYNC and called & {"fsync", "fdatasync"}:
            yield name


@law("a leaf is walked in one place")
def walkers(package: PackageGraph) -> Iterator[str]:
    """Modules with a loop over all elements of a leaf: `range(0, leaf.spec.size, ...)`."""
    found = [name for name, tree in package.trees.items() if any(map(_walks, ast.walk(tree)))]
    judges = [name for name in found if room(name) == "verify"]
    yield from (name for name in found if name not in judges and not name.startswith(WALKS))
    yield from judges if len(judges) > 1 else ()


@law("rows answer with objects")
def keys_that_mean_something(package: PackageGraph) -> Iterator[str]:
    """Mappings whose functions answer with keys that stand for something else than a field: `"=name"`, `"!"`."""
    for name in package.rooms.get("mappings", []):
        keys = [key for node in ast.walk(package.trees[name]) if isinstance(node, ast.Dict) for key in node.keys if key]
        texts = [one.value for key in keys for one in ast.walk(key) if isinstance(one, ast.Constant)]
        if any(isinstance(text, str) and (text == "!" or text.startswith("=")) for text in texts):
            yield name


def _walks(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range"):
        return False
    texts = [ast.unparse(argument) for argument in node.args]
    return len(texts) > 1 and texts[0] == "0" and (texts[1] == "size" or texts[1].endswith("spec.size"))


@cache
def convkit_graph() -> PackageGraph:
    return PackageGraph(Path(convkit.__file__).parent, SILENT)


@pytest.mark.parametrize("name", LAWS)
def test_the_package_obeys(name: str) -> None:
    assert not set(LAWS[name](convkit_graph())), "these break the law"


def made_up(folder: Path, modules: dict[str, str]) -> PackageGraph:
    """A package of these modules; every folder gets an `__init__.py` with a docstring, where none is given."""
    root = folder / "sample"
    for name in modules:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    for above in (root, *(path for path in root.rglob("*") if path.is_dir())):
        (above / "__init__.py").write_text('"""A room."""\n')
    for name, text in modules.items():
        (root / name).write_text(text)
    return PackageGraph(root, SILENT)


#: law: modules that break it, who is caught
BROKEN: dict[str, list[tuple[dict[str, str], set[str]]]] = {
    "downwards": [
        (
            {"config/table.py": "from sample.mapping.rules import Rule", "mapping/rules.py": ""},
            {"config.table -> mapping", "config.table -> mapping.rules"},
        ),
        (
            {"verify/diff.py": "", "execute/seen.py": "def f():\n    import sample.verify.diff"},
            {"execute.seen -> verify", "execute.seen -> verify.diff"},
        ),
        ({"attic/box.py": ""}, {"attic has no floor"}),
    ],
    "no circle of rooms": [
        (
            {
                "config/a.py": "from sample import errors",
                "errors.py": "import sample.mapping.b",
                "mapping/b.py": "from ..config import c",
                "config/c.py": "",
            },
            {"config, errors, mapping"},
        )
    ],
    "no circle of modules": [
        ({"plan/a.py": "from sample.plan.b import x", "plan/b.py": "from .a import y"}, {"plan.a, plan.b"}),
        ({"plan/__init__.py": '"""A room."""\nimport sample.plan.a', "plan/a.py": "from . import x"}, {"plan, plan.a"}),
        ({"cli/a.py": "COMMANDS = {'b': 'sample.cli.b'}", "cli/b.py": "from . import a"}, set()),
    ],
    "reach": [
        (
            {
                "verify/diff.py": "from sample.files import disk",
                "files/disk.py": "NAMES = {'x': 'sample.mapping.ops:cast'}",
                "mapping/ops.py": "",
            },
            {"mapping <- files.disk <- verify.diff", "mapping.ops <- files.disk <- verify.diff"},
        ),
        (
            {
                "oracles/run.py": "def load(n):\n    return import_module(f'sample.plan.{n}')",
                "plan/make.py": "",
            },
            {"plan <- oracles.run", "plan.make <- oracles.run"},
        ),
        (
            {"formats/pax.py": "from sample import mappings", "mappings/gpt2.py": "from sample.formats import pax"},
            {"mappings <- formats.pax", "formats <- mappings.gpt2", "formats.pax <- mappings.gpt2"},
        ),
        ({"state/tree.py": "from sample import config", "config/__init__.py": '"""A."""'}, {"config <- state.tree"}),
    ],
    "no model in a round trip": [
        (
            {
                "verify/roundtrip/check.py": "from sample.verify.equivalence import run",
                "verify/equivalence/run.py": "import sample.oracles",
                "oracles/__init__.py": '"""A."""',
            },
            {"oracles <- verify.equivalence.run <- verify.roundtrip.check"},
        )
    ],
    "one user of the real Orbax": [
        (
            {
                "orbax/check/calls.py": "",
                "orbax/guide.py": "from sample.orbax.check import calls",
                "migrate/orbax/restore.py": "from sample.orbax.check import calls",
                "cli/orbax.py": "from sample.orbax import check",
            },
            {"orbax.guide -> orbax.check", "orbax.guide -> orbax.check.calls"},
        )
    ],
    "private names stay in their room": [
        (
            {
                "plan/a.py": "from sample.mapping.rules import _solve\nfrom sample.plan.b import _fine",
                "plan/b.py": "from sample.mapping import rules\nrules._solve(), self._fine()",
                "mapping/rules.py": "",
            },
            {"plan.a -> mapping.rules._solve", "plan.b -> mapping.rules._solve"},
        ),
        (
            {"plan/a.py": "from sample.mapping import _rules", "mapping/_rules.py": ""},
            {"plan.a -> mapping._rules"},
        ),
    ],
    "rooms only": [({"keys.py": "", "errors.py": "", "plan/make.py": ""}, {"keys"})],
    "rooms say what they are": [
        ({"plan/make.py": "", "plan/__init__.py": "x = 1", "formats/t5x/read.py": ""}, {"plan"}),
    ],
    "small modules": [({"plan/a.py": "x = 1\n" * 400, "plan/b.py": "x = 1\n" * 401}, {"plan.b"})],
    "one file syncs": [
        (
            {
                "files/sync.py": "import os\nos.fsync(1)",
                "plan/a.py": "import os\ndef f():\n    os.fsync(1)",
                "plan/b.py": "from os import fsync",
                "plan/c.py": "from sample.files import sync",
            },
            {"plan.a", "plan.b"},
        )
    ],
    "a leaf is walked in one place": [
        (
            {
                "checkpoint/read.py": "range(0, spec.size, 2)",
                "plan/a.py": "def f():\n    for n in range(0, size, 2): g()",
                "plan/b.py": "[n for n in range(0, self.leaf.spec.size, step)]",
                "plan/c.py": "range(0, data.size, 2), range(1, spec.size), range(spec.size)",
                "verify/d.py": "range(0, size, 4)",
            },
            {"plan.a", "plan.b"},
        ),
        ({"verify/a.py": "range(0, size, 4)", "verify/b.py": "range(0, size, 4)"}, {"verify.a", "verify.b"}),
    ],
    "rows answer with objects": [
        (
            {
                "mappings/a.py": "def f(v, n):\n    return {'=heads': 2}",
                "mappings/b.py": "def f(v, n):\n    return {f'={n}': 2}",
                "mappings/c.py": "X = {'!': 'a warning'}",
                "mappings/d.py": "X = {'heads': '=1', '!x': '!'}",
            },
            {"mappings.a", "mappings.b", "mappings.c"},
        )
    ],
    "small functions": [
        (
            {
                "plan/a.py": "def short():\n" + "    x = 1\n" * 59,
                "plan/b.py": "class C:\n    async def long(self):\n" + "        x = 1\n" * 60,
            },
            {"plan.b:C.long"},
        )
    ],
}


def test_every_law_is_broken_once() -> None:
    assert BROKEN.keys() == LAWS.keys()


@pytest.mark.parametrize(
    ("name", "modules", "caught"),
    [(name, *case) for name, cases in BROKEN.items() for case in cases],
    ids=[f"{name}-{n}" for name, cases in BROKEN.items() for n in range(len(cases))],
)
def test_who_breaks_a_law_is_caught(tmp_path: Path, name: str, modules: dict[str, str], caught: set[str]) -> None:
    assert set(LAWS[name](made_up(tmp_path, modules))) == caught


def test_what_runs_counts_as_an_import_and_what_only_type_checkers_read_does_not(tmp_path: Path) -> None:
    text = """
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from sample.plan import for_checkers
        else:
            from sample.plan import otherwise
        TABLE = {"a": "sample.plan.table", "b": "sample.plan", "c": "elsewhere.plan.nothing"}
        class C:
            def f(self, name):
                import sample.plan.inside
                import_module(f"sample.formats.{name}")
                import_module(f"{__name__}.{name}")
    """
    names = ("for_checkers", "otherwise", "table", "inside", "nothing")
    modules = {"cli/a/__init__.py": "\n".join(line[8:] for line in text.splitlines()), "formats/t5x/read.py": ""}
    package = made_up(tmp_path, {**modules, "cli/a/b.py": "", **{f"plan/{name}.py": "" for name in names}})
    assert package.imports["cli.a"] == {
        *("plan", "plan.otherwise", "plan.table", "plan.inside"),
        *("formats", "formats.t5x", "formats.t5x.read"),
        "cli.a.b",
    }


def test_aliases_of_older_paths_are_not_imports(tmp_path: Path) -> None:
    aliases = "OLD = {'sample.chain': 'sample.execute.chain'}"
    assert not made_up(tmp_path, {"__init__.py": aliases, "execute/chain.py": ""}).imports[""]


def test_the_walk_sees_what_it_should() -> None:
    """Known imports of the package, of each kind."""
    imports = convkit_graph().imports
    assert "mapping.ops" in convkit_graph().reached("execute")
    assert "formats.safetensors" in imports["formats"]  # in a table of names
    assert "formats.cerebras_h5.writer" in imports["formats.cerebras_h5.format"]  # inside a function
    assert "cli.convert" in imports["cli"]  # an f-string
    assert "plan.step" not in imports["execute.slabs"]  # for type checkers only
    assert "plan" in convkit_graph().reached("cli.check")
    assert {"formats", "verify.roundtrip.reconvert"} <= convkit_graph().reached("verify.roundtrip.check").keys()
