"""A yaml while it goes from release to release, and a step of its way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from convkit.config.classes import Release
from convkit.config.tree import MISSING, dig, plant, uproot
from convkit.config.values import shown
from convkit.errors import ConfigError
from convkit.mappings.cerebras.common import MODEL_AT


@dataclass
class Document:
    """A yaml of one run: with sections of its own for model, optimizer and run (until 2.2), or a ``trainer``.

    Attributes:
        config: the yaml, which steps change.
        family: the part of its layout's name after the slash.
        warnings: what people ought to know, one sentence each.
    """

    config: dict[str, Any]
    family: str
    warnings: list[str] = field(default_factory=list)

    @property
    def at(self) -> str:
        """Where the model's section lies.

        Raises:
            ConfigError: nowhere.
        """
        found = next((path for path in MODEL_AT if isinstance(dig(self.config, path), dict)), None)
        if found is None:
            raise ConfigError(
                "is missing, and so is trainer.init.model",
                key="model",
                remedy="give the whole yaml of a run or a model",
            )
        return found

    @property
    def model(self) -> dict[str, Any]:
        """The model's section."""
        section: dict[str, Any] = dig(self.config, self.at)
        return section

    @property
    def decoders(self) -> list[dict[str, Any]]:
        """The sections that may describe a decoder: the model's, and those of models in it."""
        inner = (self.model.get(name) for name in ("policy_model", "text_model"))
        return [self.model, *(one for one in inner if isinstance(one, dict))]

    def section(self, path: str) -> dict[str, Any]:
        """The section at a path; an empty one, which isn't part of the yaml, if there is none."""
        found = dig(self.config, path)
        return found if isinstance(found, dict) else {}

    def take(self, path: str) -> Any:
        """Remove the value at a path, with sections that are empty without it; MISSING if there is none."""
        value = dig(self.config, path)
        if value is not MISSING:
            uproot(self.config, path)
        return value

    def put(self, path: str, value: Any) -> None:
        """Set the value at a path, unless it is MISSING; see :func:`put`."""
        if value is not MISSING:
            put(self.config, path, value)


def put(config: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a path of a yaml; a section that is null is made.

    Raises:
        ConfigError: what the path leads through isn't a section.
    """
    above = path.rpartition(".")[0]
    if above and dig(config, above) is None:
        plant(config, above, {})
    section = dig(config, above)
    if not isinstance(section, dict) and section is not MISSING:
        raise ConfigError(f"is {shown(section)}", key=above, remedy="it must be a section")
    plant(config, path, value)


Change = Callable[[Document], None]


@dataclass(frozen=True)
class Step:
    """What a release changed, up and down.

    Attributes:
        since: the first release that has it.
        up: brings a yaml of the release before to this one.
        down: the way back.
        families: the families that it is for; none: all.
    """

    since: Release
    up: Change
    down: Change
    families: frozenset[str] = frozenset()


def nothing(document: Document) -> None:
    """Leave a yaml as it is: what is lost upwards is kept as complement."""


def dropped(since: Release, *paths: str) -> Step:
    """Fields that a release no longer has; what they said has no counterpart."""

    def up(document: Document) -> None:
        for path in paths:
            document.take(path)

    return Step(since, up, nothing)


def shown_release(release: Release) -> str:
    """A release as people write it."""
    return ".".join(map(str, release))
