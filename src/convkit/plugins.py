"""What other packages bring by entry points: who brings it, and an object of it when it is asked for.

The name of an entry point is the name that users type, so that names are known without importing anything. A plugin
that can't be used never stands in the way of what doesn't need it: :meth:`Group.get` says what is wrong with it, and
:meth:`Group.remedy` adds to the remedy of an error that it may be the reason of.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from msgspec import Struct

from convkit.errors import ConvkitError

__all__ = ["KINDS", "Group", "Plugin", "installed", "version_of"]

#: how the names of the entry point groups begin
_PREFIX = "convkit."
#: how they end, and what a plugin of each is called
KINDS = {"formats": "format", "mappings": "mapping", "oracles": "oracle", "generate": "generated family"}


class Plugin(Struct, frozen=True):
    """An entry point of another package.

    Attributes:
        kind: one of :data:`KINDS`.
        name: of the entry point.
        value: the module, and the object in it.
        package: the distribution that brings it.
        version: of the distribution.
    """

    kind: str
    name: str
    value: str
    package: str
    version: str

    @property
    def group(self) -> str:
        """The entry point group."""
        return _PREFIX + self.kind

    @property
    def module(self) -> str:
        """The module that holds the object."""
        return self.value.partition(":")[0].strip()

    @property
    def what(self) -> str:
        """``format acorn``."""
        return f"{KINDS[self.kind]} {self.name}"

    def __str__(self) -> str:
        return f"{self.package} {self.version}"

    def load(self) -> Any:
        """The object.

        Raises:
            ConvkitError: it can't be imported.
        """
        from importlib.metadata import EntryPoint

        try:
            return EntryPoint(self.name, self.value, self.group).load()
        except (Exception, SystemExit) as error:
            raise self.unusable(f"{type(error).__name__}: {error}") from error

    def unusable(self, why: str) -> ConvkitError:
        """The error that says why the plugin can't be used."""
        problem = f"{self.what} of {self} can't be used: {why}"
        remedy = f"entry point {self.name} = {self.value} in {self.group}: update {self.package}, or uninstall it"
        return ConvkitError(problem, remedy=remedy)


def installed(kind: str) -> list[Plugin]:
    """The plugins of a kind, in the order of their names, then of their packages."""
    if not _any_installed():
        return []
    from importlib.metadata import entry_points

    found = (
        Plugin(kind, one.name, one.value, one.dist.name, one.dist.version)
        for one in entry_points(group=_PREFIX + kind)
        if one.dist is not None
    )
    return sorted(found, key=lambda plugin: (plugin.name, plugin.package))


def _any_installed() -> bool:
    """Whether any package may bring something: looking for its files costs less than importing what reads them."""
    if any(hasattr(finder, "find_distributions") and finder is not PathFinder for finder in sys.meta_path):
        return True
    return any(map(_brings, sys.path))


def _brings(place: str) -> bool:
    """Whether a package in a place on the path may bring something; one in an archive may."""
    folder = Path(place).absolute()
    try:
        return _folder_brings(folder, folder.stat().st_mtime_ns)
    except NotADirectoryError:
        return True
    except OSError:
        return False


@cache
def _folder_brings(folder: Path, changed: int) -> bool:
    """Whether a package in a folder, which was last changed then, may bring something."""
    for entry in os.scandir(folder):
        if entry.name.lower().endswith((".dist-info", "egg-info")):
            try:
                with open(f"{entry.path}/entry_points.txt", "rb", buffering=0) as file:  # noqa: PTH123
                    if f"[{_PREFIX}".encode() in file.read():
                        return True
            except OSError:  # most have none
                continue
    return False


def version_of(package: str) -> str | None:
    """The version of a distribution; None where it isn't installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except (PackageNotFoundError, ValueError):  # no distribution has an empty name
        return None


class Group(Struct, frozen=True):
    """The plugins of a kind whose objects have the names of their entry points.

    Attributes:
        kind: one of :data:`KINDS`.
        ours: the names that are convkit's own.
        fault: why an object isn't what a plugin of this name has to be; empty if it is.
    """

    kind: str
    ours: Collection[str]
    fault: Callable[[Plugin, Any], str]

    def names(self) -> list[str]:
        """The names that other packages bring, except those of convkit's own."""
        return list(dict.fromkeys(one.name for one in installed(self.kind) if one.name not in self.ours))

    def plugin(self, name: str) -> Plugin | None:
        """Who brings a name; None for convkit's own, and for names that nobody brings."""
        return None if name in self.ours else next((one for one in installed(self.kind) if one.name == name), None)

    def get(self, name: str) -> Any:
        """The object of a name of :meth:`names`.

        Raises:
            ConvkitError: it can't be used; the error names the package and the entry point.
        """
        plugin, *others = (one for one in installed(self.kind) if one.name == name)
        if others:
            raise plugin.unusable(f"{others[0]} brings one of the same name")
        found = plugin.load()
        if why := self.fault(plugin, found):
            raise plugin.unusable(why)
        return found

    def each(self) -> Iterator[tuple[str, Any]]:
        """Those that can be used, by name."""
        for name in self.names():
            try:
                found = self.get(name)
            except ConvkitError:
                continue
            yield name, found

    def problems(self) -> list[ConvkitError]:
        """What is wrong with those that can't be used."""
        taken = [one for one in installed(self.kind) if one.name in self.ours]
        found = [one.unusable("convkit itself has one of this name") for one in taken]
        for name in self.names():
            try:
                self.get(name)
            except ConvkitError as error:
                found.append(error)
        return found

    def remedy(self, text: str) -> str:
        """A remedy, to which those are added that can't be used: one of them may be what was meant."""
        return "; ".join([text, *(error.problem for error in self.problems())])
