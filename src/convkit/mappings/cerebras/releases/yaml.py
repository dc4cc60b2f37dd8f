"""The yaml of a family from one release to another: steps in between, each of them declared once for all families."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from itertools import pairwise
from typing import Any

from convkit.config import ConfigTable, Row
from convkit.config.classes import Release
from convkit.config.conversion import Conversion
from convkit.config.tree import MISSING
from convkit.config.values import shown
from convkit.errors import ConfigError
from convkit.mappings.cerebras.classes import RELEASES
from convkit.mappings.cerebras.releases.yamls.classes import fitted, warn_of_gained
from convkit.mappings.cerebras.releases.yamls.document import Document, shown_release
from convkit.mappings.cerebras.releases.yamls.steps import STEPS

Section = dict[str, Any]

#: all releases whose yamls are known, the oldest first
KNOWN: tuple[Release, ...] = ((1, 6), (1, 7), (1, 8), (1, 9), (2, 0), *RELEASES)


def yaml_table(family: str, source: Release, target: Release) -> ConfigTable:
    """The table that brings a whole yaml of ``source`` to ``target``; its inverse is that of the other direction.

    Args:
        family: the part of the layout's name after the slash: ``gpt2``.
        source: a release, such as ``(1, 8)``.
        target: another one, earlier or later.
    """
    return YamlTable((Steps(family, source, target),))


class Steps(Row, frozen=True):
    """The whole yaml, through every release between two."""

    family: str
    source: Release
    target: Release

    def convert(self, run: Conversion) -> None:
        """Bring the yaml from the source's release to the target's.

        Raises:
            ConfigError: a release on the way can't say what the yaml says; it isn't a yaml of ModelZoo's.
        """
        config = deepcopy(dict(run.source.config))
        run.source.seen.update(config)
        before, after = run.turned(self.source, self.target)
        trainers = config.get("trainer")
        if not isinstance(trainers, list):
            run.target.section.update(self._brought(config, before, after, run.warnings))
            return
        for number, one in enumerate(trainers):
            if not isinstance(one, dict):
                raise ConfigError(f"is {shown(one)}", key=f"trainer.{number}", remedy="it must be a section: trainer")
        brought = [self._brought(one, before, after, run.warnings) for one in trainers]
        if all("trainer" in one for one in brought):
            run.target.section.update(config | {"trainer": brought})
        elif len(brought) == 1:
            run.target.section.update(brought[0])
        else:
            raise ConfigError(
                f"has {len(brought)} trainers, and a yaml of release {shown_release(after)} is of one run",
                key="trainer",
                remedy="make a yaml of each trainer",
            )

    def _brought(self, config: Section, before: Release, after: Release, warnings: list[str]) -> Section:
        document = Document(config, self.family, warnings)
        _ = document.at  # there is a model
        way = [release for release in KNOWN if min(before, after) <= release <= max(before, after)]
        if before > after:
            way.reverse()
        for here, there in pairwise(way):
            newer = max(here, there)
            if here < there:
                warn_of_gained(document, here, there)
            steps = [step for step in STEPS if step.since == newer and self._concerned(step.families)]
            for step in steps if here < there else reversed(steps):
                (step.up if here < there else step.down)(document)
            fitted(document, here, there)
        return document.config

    def _concerned(self, families: frozenset[str]) -> bool:
        return not families or self.family.removeprefix("dpo-") in families


class YamlTable(ConfigTable, frozen=True):
    """A table of whole yamls of one layout in two releases."""

    def respelled(self, config: Section, earlier: Mapping[str, Any]) -> None:
        """Take from an ``earlier`` yaml all that only went forth and back since, in a converted config, which is
        changed: both are of the same release.
        """
        try:
            natural = self.convert(self.inverse().convert(earlier).config).config
        except ConfigError:
            return
        if config != natural and ("trainer" in config) != ("trainer" in earlier):
            return  # two forms that have no field in common
        restored = _restored(config, natural, earlier)
        config.clear()
        config.update(restored)


def _restored(now: Any, natural: Any, earlier: Any) -> Any:
    """What stands in ``earlier``, except where ``now`` isn't what came back by itself."""
    if now == natural:
        return deepcopy(earlier)
    if all(isinstance(one, dict) for one in (now, natural, earlier)):
        names = [*earlier, *(name for name in now if name not in earlier)]
        merged = {name: _of_field(*(one.get(name, MISSING) for one in (now, natural, earlier))) for name in names}
        return {name: value for name, value in merged.items() if value is not MISSING}
    if all(isinstance(one, list) and len(one) == len(now) for one in (now, natural, earlier)):
        return [_restored(*three) for three in zip(now, natural, earlier, strict=True)]
    return now


def _of_field(now: Any, natural: Any, earlier: Any) -> Any:
    """One field, of which any may be missing."""
    if MISSING not in (now, natural, earlier):
        return _restored(now, natural, earlier)
    if now is MISSING and natural is MISSING:
        return earlier
    return earlier if now == natural else now
