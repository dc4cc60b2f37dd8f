"""The packages whose code took part in what a document says, beside convkit's own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from convkit.plugins import Plugin


class Package(Struct, frozen=True):
    """A package whose code took part, beside convkit's own."""

    name: str
    version: str
    brought: Annotated[tuple[str, ...], Meta(description="what of it took part: format acorn, mapping acorn")]


def packages(plugins: Iterable[Plugin | None]) -> tuple[Package, ...] | UnsetType:
    """The packages that bring these plugins, None being convkit itself; UNSET where there are none."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for plugin in plugins:
        if plugin is not None:
            found.setdefault((plugin.package, plugin.version), {})[plugin.what] = None
    return tuple(Package(*of, tuple(what)) for of, what in sorted(found.items())) or UNSET
