"""What checkpoints of a framework look like to whoever opens them as a model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

Config = Mapping[str, Any]
#: where the yamls of ModelZoo hold the fields of the model
MODEL_AT = ("trainer.init.model", "model")


@dataclass(frozen=True)
class Framework:
    """How checkpoints of one framework are recognised and opened.

    Attributes:
        layout: the layout's name, from the names of the leaves and the config; empty where they don't say it.
        leaf: how a key ends, in one of these ways, that all its checkpoints have, and no others.
        config: suffixes of the config beside a checkpoint; empty where checkpoints have none.
        named_in: the field of the config that names the model.
        within: how keys of the model begin in a checkpoint that holds more than the model.
        model_at: where a YAML holds the fields of the model: one of these paths, ``""`` for all of it. All of a JSON
            config are fields of the model.
    """

    layout: Callable[[Collection[str], Config], str] = lambda keys, config: ""
    leaf: tuple[str, ...] = ()
    config: tuple[str, ...] = ()
    named_in: str | None = None
    within: str = ""
    model_at: tuple[str, ...] = MODEL_AT
