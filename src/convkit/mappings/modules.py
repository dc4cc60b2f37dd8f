"""The modules of a package, and the mappings that each declares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from convkit.errors import ConvkitError
from convkit.mapping import Mapping


def imported(package: str, path: Sequence[str]) -> Iterator[tuple[str, ModuleType]]:
    """Every module of a package, with its name.

    Raises:
        ConvkitError: one can't be imported.
    """
    for name in _modules(list(path), f"{package}."):
        yield name, module(name)


def module(name: str) -> ModuleType:
    """The module with this name.

    Raises:
        ConvkitError: it can't be imported.
    """
    try:
        return import_module(name)
    except Exception as error:
        problem = f"mapping module {name} can't be imported: {type(error).__name__}: {error}"
        raise ConvkitError(problem, remedy="correct it") from error


def declared(name: str) -> Iterator[Mapping]:
    """The mappings that a module declares; one may come twice.

    Raises:
        ConvkitError: it can't be imported, or declares something else.
    """
    found = module(name)
    for value in (getattr(found, "MAPPING", ()), getattr(found, "MAPPINGS", ())):
        yield from listed(name, value)


def listed(where: str, value: Any) -> tuple[Mapping, ...]:
    """The mappings that a module or an entry point declares.

    Raises:
        ConvkitError: it declares something else.
    """
    mappings = (value,) if isinstance(value, Mapping) else tuple(value) if isinstance(value, list | tuple) else (value,)
    if other := [one for one in mappings if not isinstance(one, Mapping)]:
        problem = f"{where} gives a {type(other[0]).__name__} where a mapping is expected"
        raise ConvkitError(problem, remedy="correct the module, or the entry point convkit.mappings")
    return mappings


def _modules(path: list[str], prefix: str) -> Iterator[str]:
    """The modules below a package, which needn't be imported for that."""
    for found in iter_modules(path, prefix):
        yield found.name
        if found.ispkg:
            below = [f"{place}/{found.name.removeprefix(prefix)}" for place in path]
            yield from _modules(below, f"{found.name}.")
