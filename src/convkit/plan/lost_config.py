"""Find what a converted config loses of its source's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convkit.config import ConfigTable, Converted, Release
from convkit.config.tree import MISSING, dig, missing_from, paths_of, plant, same
from convkit.errors import ConfigError


def lost_config(
    table: ConfigTable, config: Mapping[str, Any], converted: Converted, release: Release
) -> dict[str, Any]:
    """Find the config fields that the inverse conversion wouldn't restore, or of which it would make something else
    without having read them.
    """
    if not config:
        return {}
    try:
        back = table.inverse().convert(converted.config, converted.names, release).config
    except ConfigError:
        return converted.lost
    lost = missing_from(back, config)
    for path in paths_of(converted.lost):
        value = dig(converted.lost, path)
        if value is not MISSING and dig(back, path) is not MISSING and not same(dig(back, path), value):
            plant(lost, path, value)
    return lost
