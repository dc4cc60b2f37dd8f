"""Layouts of one framework that differ from release to release: their names, and the mappings between them."""

from __future__ import annotations

from collections import abc
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from convkit.config.classes import Release
from convkit.mapping.algebra import Mapping
from convkit.mapping.layout import Layout, parse_release

#: between a layout's name and a release
MARK = "@"


class Upgrades(Struct, frozen=True):
    """How a framework's checkpoints of one release become those of another, for a module of ``convkit.mappings``.

    Attributes:
        framework: the part of a layout's name before the slash.
        releases: of a layout, all that it has had, the current one last.
        mapping: of a layout, from one of them to another, up or down.
        today: the model's section of a config of any release in the words of the current one, to recognise its layout.
    """

    framework: str
    releases: Callable[[Layout], tuple[Release, ...]]
    mapping: Callable[[Layout, Release, Release], Mapping]
    today: Callable[[abc.Mapping[str, Any]], dict[str, Any]] = dict


def at_release(layout: Layout, release: Release) -> Layout:
    """A layout as one release has it."""
    return replace(layout, name=name_at(layout.name, release), releases=(release,), by_name=True)


def name_at(layout: str, release: Release) -> str:
    """The name of a layout as one release has it.

    >>> name_at("cerebras/gpt2", (1, 8)), split_name("cerebras/gpt2@1.8"), split_name("hf/gpt2")
    ('cerebras/gpt2@1.8', ('cerebras/gpt2', (1, 8)), ('hf/gpt2', ()))
    """
    return f"{layout}{MARK}{'.'.join(map(str, release))}"


def split_name(name: str) -> tuple[str, Release]:
    """A layout's own name, and the release that is said with it; empty if none is.

    Raises:
        UsageError: what stands there isn't a release.
    """
    layout, _, release = name.partition(MARK)
    return layout, parse_release(release)
