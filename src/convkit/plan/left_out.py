"""Leave out of a config that comes back what its source left out: fields that only say what holds without them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from convkit.config import ConfigTable, Release
from convkit.config.tree import MISSING, dig, paths_of, same, uproot
from convkit.errors import ConfigError
from convkit.mapping import Mapping as LayoutMapping
from convkit.plan.names import Known


def left_out(
    config: dict[str, Any], had: Mapping[str, Any], mapping: LayoutMapping, known: Known, release: Release
) -> dict[str, Any]:
    """The config without the fields that weren't there before, as far as it means the same without them.

    Fields by which its layout is recognised stay.

    Args:
        config: what the mapping makes of the source's config, with the fields' earlier names.
        had: the config before the conversion that this one undoes.
        mapping: this conversion's.
        known: what its source shows.
        release: the release of the side that has releases.
    """
    table = mapping.config
    section = table.target_at(had)
    if not isinstance(dig(had, section), dict):
        return config
    recognised = {
        field
        for alternative in mapping.right.signature
        for field, value in alternative.items()
        if None not in (value if isinstance(value, tuple) else (value,))
    }
    here = table.target_at(config)
    means = _meaning(table, config, known, release)
    for path in list(paths_of(dig(config, here))):
        whole = ".".join(filter(None, (here, path)))
        if whole in recognised or dig(had, ".".join(filter(None, (section, path)))) is not MISSING:
            continue
        without = deepcopy(config)
        uproot(without, whole)
        if same(_meaning(table, without, known, release), means):
            config = without
    return config


def _meaning(table: ConfigTable, config: dict[str, Any], known: Known, release: Release) -> Any:
    """What a config becomes by the table read backwards; None if it is refused."""
    try:
        found = table.inverse().convert(config, known.names, release)
    except ConfigError:
        return None
    return found.config, {name: value for name, value in found.names.items() if not callable(value)}
