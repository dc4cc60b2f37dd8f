"""The mapping of a family's checkpoints of one release to those of another."""

from __future__ import annotations

from dataclasses import replace

from convkit.config.classes import Release
from convkit.mapping import Layout, Mapping, Verbatim
from convkit.mappings.cerebras.releases.yaml import yaml_table


def upgrade(layout: Layout, source: Release, target: Release) -> Mapping:
    """The mapping of whole checkpoints of a layout, from release ``source`` to ``target``, up or down.

    Its layouts are called by the release: ``cerebras/gpt2@1.8``.
    """
    family = layout.name.partition("/")[2]
    return Mapping(
        left=at_release(layout, source),
        right=at_release(layout, target),
        rules=(Verbatim("{rest:*}"),),
        config=yaml_table(family, source, target),
    )


def at_release(layout: Layout, release: Release) -> Layout:
    """A layout as one release has it."""
    return replace(layout, name=f"{layout.name}@{'.'.join(map(str, release))}", releases=(release,))
