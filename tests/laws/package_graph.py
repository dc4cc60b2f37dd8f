"""A package as a graph of imports, read from its source once.

Every import statement counts, those inside functions too, except those for type checkers. A string that
names a module counts as an import of it (tables of formats, of layouts, of commands), and an f-string that
starts like one as an import of all that start so. Importing a module imports the packages it lies in; a
module that imports something has imported its own packages before.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class PackageGraph:
    """The modules of the package in the folder ``root``, and what each imports of the others.

    Modules are called without the package's own name: ``formats.t5x.format``; the package itself is ``""``.
    ``silent`` names modules whose strings don't count.
    """

    root: Path
    silent: frozenset[str] = field(default=frozenset())

    @cached_property
    def modules(self) -> dict[str, Path]:
        """Every module by name."""
        found = {}
        for path in sorted(self.root.rglob("*.py")):
            parts = path.relative_to(self.root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        return found

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """Every module's source, parsed."""
        return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in self.modules.items()}

    @cached_property
    def rooms(self) -> dict[str, list[str]]:
        """The modules of each room: a folder of the package, or a file beside them."""
        found: dict[str, list[str]] = {}
        for name in self.modules:
            found.setdefault(room(name), []).append(name)
        return found

    @cached_property
    def stated(self) -> dict[str, frozenset[str]]:
        """What the statements of each module import."""
        return {name: self._with_packages(name, self._stated(name)) for name in self.modules}

    @cached_property
    def imports(self) -> dict[str, frozenset[str]]:
        """What each module imports, by statements and by strings."""
        silent = self.silent
        named = {name: () if name in silent else self._with_packages(name, self._named(name)) for name in self.modules}
        return {name: stated.union(named[name]) for name, stated in self.stated.items()}

    def reached(self, start: str) -> dict[str, str]:
        """Every module that one reaches, through whatever others, and the module that led there."""
        found, open_ends = {start: ""}, [start]
        while open_ends:
            here = open_ends.pop()
            for name in sorted(self.imports[here].union(packages(here))):
                if name not in found:
                    found[name] = here
                    open_ends.append(name)
        return found

    def circles(self) -> list[list[str]]:
        """The largest groups of modules in which each reaches each other by statements.

        Strings don't count here: a command's table that names the commands' modules knows no more of them.
        """
        return circles({name: set(found) for name, found in self.stated.items()})

    def room_circles(self) -> list[list[str]]:
        """The largest groups of rooms in which each reaches each other."""
        arrows: dict[str, set[str]] = {one: set() for one in self.rooms}
        for name, found in self.imports.items():
            arrows[room(name)] |= {room(other) for other in found} - {room(name)}
        return circles(arrows)

    def private_names(self) -> Iterator[tuple[str, str]]:
        """Names with a leading underscore that a module takes from another room: the module, the name."""
        for name in self.modules:
            held = {alias: other for other, alias in self._held(name) if room(other) != room(name)}
            for node in ast.walk(self.trees[name]):
                if isinstance(node, ast.ImportFrom):
                    base = self._base(name, node)
                    taken = [f"{base}.{alias.name}" for alias in node.names] if base is not None else []
                    yield from ((name, one) for one in taken if room(one) != room(name) and _private(one))
                elif (
                    isinstance(node, ast.Attribute)
                    and isinstance(node.value, ast.Name)
                    and node.value.id in held
                    and _private(node.attr)
                ):
                    yield name, f"{held[node.value.id]}.{node.attr}"

    def functions(self) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        """Every function, methods and inner ones too, by the module it stands in and its name."""
        for module, tree in self.trees.items():
            open_ends: list[tuple[str, ast.AST]] = [(f"{module}:", tree)]
            while open_ends:
                name, above = open_ends.pop()
                for node in ast.iter_child_nodes(above):
                    inner = name
                    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                        inner = f"{name}{'' if name.endswith(':') else '.'}{node.name}"
                    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                        yield inner, node
                    open_ends.append((inner, node))

    def _with_packages(self, module: str, found: Iterable[str]) -> frozenset[str]:
        """The packages included in which others lie, except those in which the module lies itself."""
        said = frozenset(found)
        return said | {above for other in said for above in packages(other) if above not in (module, *packages(module))}

    def _stated(self, module: str) -> Iterator[str]:
        for node in _run(self.trees[module]):
            if isinstance(node, ast.Import):
                yield from self._ours(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and (base := self._base(module, node)) is not None:
                for alias in node.names:
                    whole = f"{base}.{alias.name}".lstrip(".")
                    yield whole if whole in self.modules else base

    def _named(self, module: str) -> Iterator[str]:
        for node in _run(self.trees[module]):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from set(self._ours([node.value.partition(":")[0]])) - {"", *packages(module)}
            elif isinstance(node, ast.JoinedStr):
                top, dot, start = self._start(module, node).partition(".")
                if (top, dot) == (self.root.name, "."):
                    yield from (name for name in self.modules if name.startswith(start) and name not in ("", module))

    def _start(self, module: str, text: ast.JoinedStr) -> str:
        """How an f-string starts, as far as it is known: `__name__` is."""
        start = ""
        for value in text.values:
            if isinstance(value, ast.Constant):
                start += str(value.value)
            elif isinstance(value, ast.FormattedValue) and ast.unparse(value.value) == "__name__":
                start += f"{self.root.name}.{module}"
            else:
                break
        return start

    def _ours(self, names: Iterable[str]) -> Iterator[str]:
        """Modules of this package by their full names; what else is named is left out."""
        for name in names:
            top, _, rest = name.partition(".")
            if top == self.root.name and rest in self.modules:
                yield rest

    def _base(self, module: str, node: ast.ImportFrom) -> str | None:
        """The module of this package that a ``from`` names; none where it is another package's."""
        if not node.level:
            return next(self._ours([node.module or ""]), None)
        package = module if self.modules[module].name == "__init__.py" else module.rpartition(".")[0]
        above = package.split(".") if package else []
        return ".".join([*above[: len(above) - node.level + 1], *([node.module] if node.module else [])])

    def _held(self, module: str) -> Iterator[tuple[str, str]]:
        """The modules of this package that a module has a name for: the other module, the name."""
        for node in ast.walk(self.trees[module]):
            if isinstance(node, ast.ImportFrom) and (base := self._base(module, node)) is not None:
                for alias in node.names:
                    whole = f"{base}.{alias.name}".lstrip(".")
                    if whole in self.modules:
                        yield whole, alias.asname or alias.name
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    yield from ((one, alias.asname) for one in self._ours([alias.name]) if alias.asname)


def room(module: str) -> str:
    """The room of a module: ``formats`` of ``formats.t5x.format``."""
    return module.partition(".")[0]


def packages(module: str) -> list[str]:
    """The packages that a module lies in, without the outermost: ``formats`` and ``formats.t5x``."""
    parts = module.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def way(found: dict[str, str], name: str) -> str:
    """How a module is reached: ``plan.make <- execute <- verify.diff``."""
    steps = [name]
    while found[steps[-1]]:
        steps.append(found[steps[-1]])
    return " <- ".join(steps)


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """The largest groups of more than one node in which each reaches each other."""
    reach = {start: _reach(arrows, start) for start in arrows}
    groups = {frozenset(one for one in reach[start] if start in reach[one]) for start in arrows}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def _reach(arrows: dict[str, set[str]], start: str) -> set[str]:
    found, open_ends = {start}, [start]
    while open_ends:
        new = arrows[open_ends.pop()] - found
        found |= new
        open_ends += new
    return found


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that is run: not what only type checkers read."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from (child for other in node.orelse for child in (other, *_run(other)))
        else:
            yield node
            yield from _run(node)


def _private(name: str) -> bool:
    return any(part.startswith("_") and not part.startswith("__") for part in name.split("."))
