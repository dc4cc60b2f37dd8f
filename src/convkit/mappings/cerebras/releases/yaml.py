"""The yaml of a family from one release to another."""

from __future__ import annotations

from convkit.config import ConfigTable, Field
from convkit.config.classes import Release


def yaml_table(family: str, source: Release, target: Release) -> ConfigTable:
    """The table that brings a whole yaml of ``source`` to ``target``; its inverse is that of the other direction.

    Args:
        family: the part of the layout's name after the slash: ``gpt2``.
        source: a release, such as ``(1, 8)``.
        target: another one, earlier or later.
    """
    return ConfigTable((Field("", "", name="config"),))
