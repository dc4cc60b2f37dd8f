"""Rotary scalings of the llama-like families, both ways.

Facts: ModelZoo, ``layers/RotaryPositionEmbeddingHelper.py`` of releases 2.1.0 ... 2.10.0 (scalings, their first
releases, their defaults) and ``tools/checkpoint_converters/llama.py`` of 2.10.0
(spelling); transformers 5.23, ``modeling_rope_utils.py``.

transformers 4 writes ``rope_theta`` and ``rope_scaling``, transformers 5 a single ``rope_parameters`` with both;
convkit writes the older spelling, which both read. ModelZoo's ``yarn`` multiplies cos and sin by ``mscale_a *
ln(factor) + mscale_b``, which transformers calls ``attention_factor``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from msgspec import Struct

from convkit.config import Answer, Coupled, Deviation, Release
from convkit.errors import ConfigError
from convkit.mapping import Derived

Values = dict[str, Any]

#: ModelZoo's scalings, and the first release that computes each (2.3: from 2.3.1 on)
SCALINGS: dict[str, Release] = {"linear": (2, 1), "yarn": (2, 3), "llama3": (2, 3), "longrope": (2, 4)}
#: those of ModelZoo's GPT-J class
GPTJ_SCALINGS = {kind: since for kind, since in SCALINGS.items() if kind != "llama3"}
#: yarn's options with the same name on both sides: default, first release
YARN_OPTIONS: dict[str, tuple[Any, Release]] = {
    "beta_fast": (32, (2, 3)),
    "beta_slow": (1, (2, 3)),
    "truncate": (True, (2, 10)),
}
#: ModelZoo's defaults for llama3's ``pos_scaling_extra_args``
LLAMA3_DEFAULTS = {"low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 8192}
#: ModelZoo's default for the base of the frequencies, and that of most classes of transformers'
BASE = 10000.0
ORIGINAL = "original_max_position_embeddings"
LONG_ALWAYS = (
    "longrope: Cerebras takes long_factor for every length where transformers takes short_factor up to the original one"
)


class _Rotation(Struct, frozen=True):
    """What differs between families; see :func:`rope`."""

    usual: float
    base: str
    whole: bool
    said: bool
    scalings: Mapping[str, Release]

    def unsaid(self, theta: float | None) -> bool:
        """Whether the base may stay unsaid: it is left out, and means the same to both sides."""
        return theta is None and self.usual == BASE and self.base == "rope_theta" and not self.said


def _to_cerebras(of: _Rotation, values: Values, names: Values) -> Answer:
    field = "rope_scaling" if values.get("rope_scaling") else "rope_parameters"
    parameters = dict(values.get(field) or {})
    theta = parameters.pop("rope_theta", values.get(of.base))
    share = parameters.pop("partial_rotary_factor", values.get("partial_rotary_factor"))
    if of.whole and share not in (None, 1):
        raise ConfigError(f"is {share!r}", key="partial_rotary_factor", remedy="this family rotates whole heads")
    declared, defaults = _base(theta, of.usual)
    out: Values = {} if of.unsaid(theta) else declared.copy()
    kind = str(parameters.get("rope_type") or parameters.get("type") or ("" if parameters else "default")).lower()
    parameters.pop("type", None)
    if kind == "default":
        return Answer(out | {"pos_scaling_factor": 1.0}, declared, defaults=defaults)
    if kind not in of.scalings:
        raise _refusal(field, f"type {kind!r} has no counterpart", f"Cerebras has {', '.join(of.scalings)}")
    if names["release"] and names["release"] < of.scalings[kind]:
        first = ".".join(map(str, of.scalings[kind]))
        raise _refusal(
            field, f"release {'.'.join(map(str, names['release']))} has no {kind}", f"--release {first} or later"
        )
    if kind != "linear":
        parameters[ORIGINAL] = values.get(ORIGINAL) or parameters.get(ORIGINAL)
        if parameters[ORIGINAL] is None:
            parameters[ORIGINAL] = defaults[ORIGINAL] = names["positions"]
    if kind == "longrope" and "factor" not in parameters:
        parameters["factor"] = defaults[f"{field}.factor"] = names["positions"] / parameters[ORIGINAL]
    if kind == "longrope" and not (parameters.get("short_factor") and parameters.get("long_factor")):
        raise _refusal(field, "has no short_factor and long_factor", "add them")
    if parameters.get("factor") is None:
        raise _refusal(field, "has no factor", "add it")
    out |= {"pos_scaling_factor": parameters.pop("factor"), "pos_scaling_type": kind}
    if kind != "linear":
        out["pos_scaling_extra_args"] = EXTRA_OF[kind](field, parameters, out["pos_scaling_factor"], names)
    if kind != "longrope" or not _switches(parameters, names):
        return Answer(out, declared, defaults=defaults)
    short, long = values[field]["short_factor"], parameters["long_factor"]
    deviation = Deviation(f"{field}.short_factor", short, long, LONG_ALWAYS)
    return Answer(out, declared, deviations=(deviation,), defaults=defaults)


def _base(theta: float | None, usual: float = BASE) -> tuple[Values, Values]:
    """The declared name of the base of the frequencies, and the default that it is if the config leaves it out."""
    base: Values = {"rope_theta": usual if theta is None else theta}
    return base, dict(base) if theta is None else {}


def _switches(parameters: Values, names: Values) -> bool:
    """Whether transformers takes other factors beyond the original length; ModelZoo's context has grown for good."""
    return parameters.get("short_factor") != parameters.get("long_factor") and names["positions"] > parameters[ORIGINAL]


def _yarn_extra(field: str, parameters: Values, factor: float, names: Values) -> Values:
    extra = {ORIGINAL: parameters[ORIGINAL]}
    for key, (default, since) in YARN_OPTIONS.items():
        value = parameters.get(key)
        if value not in (None, default):
            if names["release"] and names["release"] < since:
                raise _refusal(field, f"this release has no {key}", f"--release {'.'.join(map(str, since))} or later")
            extra[key] = value
    attention_factor = parameters.get("attention_factor")
    if attention_factor is None and parameters.get("mscale") and parameters.get("mscale_all_dim"):
        over, under = (0.1 * parameters[key] * math.log(factor) + 1 for key in ("mscale", "mscale_all_dim"))
        attention_factor = over / under
    if attention_factor is not None:
        extra |= {"mscale_a": 0.0, "mscale_b": attention_factor}
    return extra


def _llama3_extra(field: str, parameters: Values, factor: float, names: Values) -> Values:
    for key in ("low_freq_factor", "high_freq_factor"):
        if key not in parameters:
            raise _refusal(field, f"has no {key}", "add it: transformers has no default")
    return {key: parameters[key] for key in LLAMA3_DEFAULTS}


def _longrope_extra(field: str, parameters: Values, factor: float, names: Values) -> Values:
    return _with_attention_factor(parameters, meant=factor, assumed=names["positions"] / parameters[ORIGINAL])


EXTRA_OF = {"yarn": _yarn_extra, "llama3": _llama3_extra, "longrope": _longrope_extra}


def _to_hf(of: _Rotation, values: Values, names: Values) -> Answer:
    theta = values.get("rope_theta")
    declared, defaults = _base(theta)
    out: Values = {} if of.unsaid(theta) else {of.base: declared["rope_theta"]}
    unscaled: Values = {"pos_scaling_factor": 1.0, "pos_scaling_type": "linear"}
    defaults |= {key: value for key, value in unscaled.items() if key not in values}
    factor, kind = ((unscaled | values)[key] for key in unscaled)
    kind = kind.lower()
    said = values.get("pos_scaling_extra_args") or {}
    extra = {key: value for key, value in said.items() if value is not None}
    if factor == 1.0 and kind != "longrope":
        return Answer(out | {"rope_scaling": None}, declared, defaults=defaults)
    if kind not in of.scalings:
        raise ConfigError(
            f"{kind!r} has no counterpart", key="pos_scaling_type", remedy=f"known: {', '.join(of.scalings)}"
        )
    if kind == "linear":
        extra = {}
    elif kind == "llama3":
        defaults |= {f"pos_scaling_extra_args.{key}": LLAMA3_DEFAULTS[key] for key in LLAMA3_DEFAULTS.keys() - extra}
        extra = {key: extra.get(key, default) for key, default in LLAMA3_DEFAULTS.items()}
    elif ORIGINAL not in extra:
        raise ConfigError(f"{kind} has no {ORIGINAL}", key="pos_scaling_extra_args", remedy="add it")
    elif kind == "longrope" and not (extra.get("short_factor") and extra.get("long_factor")):
        raise ConfigError(
            "longrope has no short_factor and long_factor", key="pos_scaling_extra_args", remedy="add them"
        )
    elif kind == "yarn":
        extra = _from_yarn_extra(extra, factor)
    else:
        grown = names["positions"] / extra[ORIGINAL]
        scales = {key: extra.pop(key, None) for key in ("long_mscale", "short_mscale")}
        mscale = scales["long_mscale" if grown > 1 else "short_mscale"]
        if mscale is not None:
            extra["attention_factor"] = mscale
        extra = _with_attention_factor(extra, meant=grown, assumed=factor)
        out[ORIGINAL] = extra[ORIGINAL]
    spelling = "rope_type" if kind == "llama3" else "type"
    written = {spelling: kind, "factor": factor, **extra}
    if kind != "longrope" or not _switches(extra, names):
        return Answer(out | {"rope_scaling": written}, declared, defaults=defaults)
    short, long = extra["short_factor"], extra["long_factor"]
    deviation = Deviation("rope_scaling.short_factor", short, long, LONG_ALWAYS, side="target")
    return Answer(out | {"rope_scaling": written}, declared, deviations=(deviation,), defaults=defaults)


def _from_yarn_extra(extra: Values, factor: float) -> Values:
    if extra.get("extrapolation_factor", 1.0) != 1.0:
        raise ConfigError(
            f"yarn's extrapolation_factor = {extra['extrapolation_factor']}",
            key="pos_scaling_extra_args",
            remedy="transformers can't say it",
        )
    out = {ORIGINAL: extra[ORIGINAL]} | {key: extra[key] for key in YARN_OPTIONS if key in extra}
    if "mscale_a" in extra or "mscale_b" in extra:
        out["attention_factor"] = extra.get("mscale_a", 0.1) * math.log(factor) + extra.get("mscale_b", 1.0)
    return out


def _with_attention_factor(extra: Values, meant: float, assumed: float) -> Values:
    """Write longrope's attention factor if the other side would compute another one. ModelZoo derives it from the
    actual growth of the context, transformers from ``factor``.
    """
    if "attention_factor" in extra or meant == assumed:
        return extra
    if extra[ORIGINAL] < 2:
        raise ConfigError(f"is {extra[ORIGINAL]}", key=ORIGINAL, remedy="longrope scales from at least 2 positions")
    return extra | {"attention_factor": math.sqrt(1 + math.log(max(meant, 1)) / math.log(extra[ORIGINAL]))}


def _refusal(field: str, problem: str, remedy: str) -> ConfigError:
    return ConfigError(problem, key=field, remedy=remedy)


def rope(
    usual: float = BASE,
    base: str = "rope_theta",
    whole: bool = True,
    said: bool = False,
    scalings: Mapping[str, Release] = SCALINGS,
) -> Coupled:
    """The row of rotary positions and their scaling; it declares ``rope_theta``, the base of the frequencies.

    Args:
        usual: the default of the base in transformers' class.
        base: the field of transformers 4 for it.
        whole: whether heads are rotated whole; otherwise another row reads how much of them.
        said: whether the base is written even if it is left out and has the same default on both sides.
        scalings: those of ModelZoo's class, with their first releases.
    """
    share = ("partial_rotary_factor",) if whole else ()
    rotation = _Rotation(usual, base, whole, said, scalings)
    return Coupled(
        left=("rope_scaling", base, "rope_parameters", *share, ORIGINAL),
        right=("rope_theta", "pos_scaling_factor", "pos_scaling_type", "pos_scaling_extra_args"),
        to_right=partial(_to_cerebras, rotation),
        to_left=partial(_to_hf, rotation),
    )


#: what transformers below 4.32 saved with each layer
FREQUENCIES = Derived(
    "left",
    "{=hf}layers.{i}.self_attn.rotary_emb.inv_freq",
    "inverse frequencies",
    {"theta": "rope_theta", "dim": "head_dim"},
)
