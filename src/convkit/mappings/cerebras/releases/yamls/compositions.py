"""Yamls of models that are made of others: encoders of a retriever, towers of vision, a policy that DPO trains.

Facts: ModelZoo 2.10.0, ``tools/checkpoint_converters/dpr.py``, ``mm_simple.py``, ``models/nlp/{dpr,dpo}``;
Release 2.2.1, ``models/nlp/dpr``: similarities are divided by the square root of the hidden size, or they aren't.
"""

from __future__ import annotations

import math
from typing import Any

from convkit.config.tree import MISSING, dig
from convkit.config.values import shown
from convkit.errors import ConfigError
from convkit.mappings.cerebras.classes.bert import DPR_ENCODER
from convkit.mappings.cerebras.releases.yamls.document import Document

Section = dict[str, Any]

_ENCODERS = ("q_encoder", "ctx_encoder")
#: whether encoders have a pooling layer -> how the retriever calls that
_POOLERS = {False: "cls", True: "ffn_pooler"}


def retriever_up(document: Document) -> None:
    """The retriever says itself how it pools and how similarities are scaled.

    Raises:
        ConfigError: only one of the encoders has a pooling layer.
    """
    model = document.model
    pooling = {bool(encoder.get("add_pooling_layer", False)) for encoder in _encoders(model)}
    if len(pooling) > 1:
        raise ConfigError(
            "is true for one encoder only",
            key="add_pooling_layer",
            remedy="since 2.3 both encoders have it, or neither",
        )
    for has in pooling:
        model["pooler_type"] = _POOLERS[has]
    scaled = model.pop("scale_similarity", False)
    model["softmax_temperature"] = _width(model) if scaled else 1.0
    model.setdefault("use_biencoder", True)
    model.setdefault("mutual_information", False)


def retriever_down(document: Document) -> None:
    """The way back.

    Raises:
        ConfigError: it pools otherwise, or has another temperature.
    """
    model = document.model
    pooler, temperature = model.pop("pooler_type", "cls"), model.pop("softmax_temperature", 1.0)
    if pooler not in _POOLERS.values():
        raise ConfigError(f"is {shown(pooler)}", key="pooler_type", remedy="before 2.3 there are cls and ffn_pooler")
    for encoder in _encoders(model):
        if pooler == "ffn_pooler" or "add_pooling_layer" in encoder:
            encoder["add_pooling_layer"] = pooler == "ffn_pooler"
    if temperature not in (1, _width(model)):
        raise ConfigError(
            f"is {shown(temperature)}",
            key="softmax_temperature",
            remedy="before 2.3 it is 1, or the square root of the hidden size: scale_similarity",
        )
    model["scale_similarity"] = temperature != 1
    for name, usual in (("use_biencoder", True), ("mutual_information", False)):
        if model.get(name) == usual:
            del model[name]


def _encoders(model: Section) -> list[Section]:
    return [model[name] for name in _ENCODERS if isinstance(model.get(name), dict)]


def _width(model: Section) -> float:
    """The square root of the hidden size of the encoder of questions."""
    encoder = next(iter(_encoders(model)), {})
    size = encoder.get("hidden_size", DPR_ENCODER.fields["hidden_size"].default)
    if isinstance(size, bool) or not isinstance(size, int | float) or not size > 0:
        raise ConfigError(f"is {shown(size)}", key="q_encoder.hidden_size", remedy="it must be a whole number from 1")
    return math.sqrt(size)


_TOWERS = "image_model_list.image_models"


def towers_up(document: Document) -> None:
    """A vision tower is an ``image_encoder``; before 2.4 it is a list of models, one after another.

    Raises:
        ConfigError: there are several in a row.
    """
    for number, tower in enumerate(_towers(document)):
        models = tower.get("image_model")
        if isinstance(models, list) and len(models) != 1:
            raise ConfigError(
                f"has {len(models)} models in a row",
                key=f"{_TOWERS}.{number}.image_model",
                remedy="a tower of 2.4 has one encoder",
            )
        if isinstance(models, list):
            tower["image_encoder"] = tower.pop("image_model")[0]


def towers_down(document: Document) -> None:
    """The way back."""
    for tower in _towers(document):
        if "image_encoder" in tower:
            tower["image_model"] = [tower.pop("image_encoder")]


def _towers(document: Document) -> list[Section]:
    found = dig(document.model, _TOWERS)
    return [tower for tower in found if isinstance(tower, dict)] if isinstance(found, list) else []


def policy_flat(document: Document) -> None:
    """Before 2.4 the fields of a policy stand beside DPO's own, and ``model_name`` names its class."""
    model = document.model
    policy = model.get("policy_model")
    if not isinstance(policy, dict):
        return
    del model["policy_model"]
    name = policy.pop("name", MISSING)
    model |= {field: value for field, value in policy.items() if field not in model}
    if name is not MISSING:
        model.setdefault("model_name", name)
