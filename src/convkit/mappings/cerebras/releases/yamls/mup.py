"""muP in yamls: until 2.2 three fields and a factor of the optimizer, since 2.3 the sizes of the base model.

Facts: ModelZoo 2.10.0, ``tools/checkpoint_converters/mup.py``. With m = hidden_size / mup_base_hidden_size: the rate of
kernels is divided by m, the logits are scaled by output_logits_alpha / m, initializers are those of the base model.
"""

from __future__ import annotations

import math
from typing import Any

from convkit.config.tree import MISSING, dig
from convkit.config.values import POSITIVE, KindError, shown
from convkit.errors import ConfigError
from convkit.mappings.cerebras.classes.gpt2 import GPT2
from convkit.mappings.cerebras.releases.yamls.document import Document

_TRIO = ("scale_qk_dot_by_d", "embeddings_scale", "output_logits_scale")
_BASES = ("mup_base_hidden_size", "mup_base_filter_size")
#: families whose yamls have the three fields in all releases, which their classes still read
_AS_THEY_ARE = ("btlm", "jais")
_KERNEL = "optimizer.adjust_learning_rate.decoder_kernel"


def mup_up(document: Document, *, only_whole: bool = False) -> None:
    """From the three fields to the base model's sizes. ``only_whole``: leave them where one is missing, as 2.3 does.

    Raises:
        ConfigError: only some of them are there, or the factor of the learning rate isn't.
    """
    model = document.model
    if document.family in _AS_THEY_ARE:
        return
    if only_whole and not (all(model.get(name) for name in _TRIO) and dig(document.config, _KERNEL) is not MISSING):
        return
    if not (model.get("scale_qk_dot_by_d") or model.get("output_logits_scale")):
        return  # an embeddings_scale alone isn't muP
    for name in _TRIO:
        if not model.get(name):
            raise ConfigError(
                f"is missing, though {' and '.join(one for one in _TRIO if model.get(one))} is there",
                key=f"model.{name}",
                remedy=f"muP needs all of {', '.join(_TRIO)}; without muP leave out all of them",
            )
    factor = document.section("optimizer.adjust_learning_rate").get("decoder_kernel")
    width = 1 / _number(factor, _KERNEL, "the factor of the learning rate: the base model's width by this model's")
    document.take("optimizer.adjust_learning_rate")
    model["mup_base_hidden_size"] = _size(model, "hidden_size") / width
    model["mup_base_filter_size"] = _size(model, "filter_size") / width
    model["output_logits_alpha"] = _number(model.pop("output_logits_scale"), "output_logits_scale") * width
    _rescale(model, math.sqrt(width), math.sqrt(2 * _size(model, "num_hidden_layers")))


def mup_down(document: Document) -> None:
    """The way back.

    Raises:
        ConfigError: only one of the base sizes is there, or the model is wider than its base by two factors.
    """
    model = document.model
    if not any(model.get(name) is not None for name in _BASES):
        return
    bases = [_number(model.get(name), name, f"a number: muP needs both {' and '.join(_BASES)}") for name in _BASES]
    hidden, filter_size = (_size(model, name) for name in ("hidden_size", "filter_size"))
    if not math.isclose(hidden / bases[0], filter_size / bases[1], rel_tol=1e-9):
        raise ConfigError(
            f"is {shown(bases[1])}: the filter isn't as much wider than the base model's as hidden_size is",
            key="mup_base_filter_size",
            remedy="release 2.2 has one factor for both",
        )
    if model.get("scale_qk_dot_by_d") is False:
        raise ConfigError("is False", key="scale_qk_dot_by_d", remedy="with muP, release 2.2 has only True")
    factor = bases[0] / hidden
    for name in _BASES:
        del model[name]
    alpha = model.pop("output_logits_alpha", None)
    model["output_logits_scale"] = (1.0 if alpha is None else _number(alpha, "output_logits_alpha")) / (1 / factor)
    model["scale_qk_dot_by_d"] = True
    model.setdefault("embeddings_scale", 1.0)
    _rescale(model, 1 / math.sqrt(1 / factor), 1 / math.sqrt(2 * _size(model, "num_hidden_layers")))
    document.put(_KERNEL, factor)


def _number(value: Any, key: str, remedy: str = "") -> float:
    """The number above 0 that a field is.

    Raises:
        ConfigError: it is missing, or another value.
    """
    try:
        return float(POSITIVE.read(value))
    except KindError as error:
        problem = "is missing" if value is None else str(error)
        raise ConfigError(problem, key=key, remedy=f"it must be {remedy or error.kind}") from None


def _size(model: dict[str, Any], name: str) -> float:
    return _number(model.get(name, GPT2.fields[name].default), name)


def _rescale(model: dict[str, Any], wide: float, deep: float) -> None:
    """Multiply the spread of the initializers; that of output layers also by what the depth makes of it."""
    for name, scale in (("initializer", wide), ("output_layer_initializer", wide * deep)):
        found = model.get(name)
        if isinstance(found, list):
            model[name] = [_scaled(one, scale) for one in found]
        elif found is not None:
            model[name] = _scaled(found, scale)


def _scaled(initializer: Any, scale: float) -> Any:
    told = {"name": initializer} if isinstance(initializer, str) else initializer
    if not isinstance(told, dict) or str(told.get("name")).lower() not in ("normal", "truncated_normal"):
        return initializer
    std = _number(told.get("std", 1.0), "initializer.std")
    spread = {"std": std}
    if told["name"].lower() == "truncated_normal":
        for name, usual in (("a", -2 * std), ("b", 2 * std)):
            spread[name] = usual if told.get(name) is None else told[name]
    for name, value in spread.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"is {shown(value)}", key=f"initializer.{name}", remedy="it must be a number")
    return told | {name: value * scale for name, value in spread.items()}
