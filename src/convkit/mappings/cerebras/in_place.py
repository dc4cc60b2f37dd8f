"""Configs between two layouts of ModelZoo: the model's section stays where it is, and what stands beside it is kept."""

from __future__ import annotations

from collections import abc
from copy import deepcopy
from typing import Any

from msgspec.structs import replace

from convkit.config import ConfigTable, Converted, Release
from convkit.config.tree import MISSING, dig, plant, unseen


class InPlace(ConfigTable, frozen=True):
    """A table between two layouts of one framework."""

    def convert(
        self, config: abc.Mapping[str, Any], facts: abc.Mapping[str, Any] | None = None, release: Release = ()
    ) -> Converted:
        """See :meth:`ConfigTable.convert`; what stands beside the model is carried over as it is."""
        found = super().convert(config, facts, release)
        at = self.kept_at(config)
        whole, lost = deepcopy(unseen(config, {at})), dict[str, Any]()
        plant(whole, at, dig(found.config, self.written_at))
        if (own := dig(found.lost, at)) is not MISSING:
            plant(lost, at, own)
        return replace(found, config=whole, lost=lost)

    def kept_at(self, config: abc.Mapping[str, Any]) -> str:
        """Where the source has the model's section, and the target too."""
        return self.section_path(config)
