"""Rotary scalings of the llama-like families, both ways.

Facts: ModelZoo 2.10.0, ``tools/checkpoint_converters/llama.py`` (``convert_pi``); transformers
``modeling_rope_utils.py``. transformers 4 writes ``rope_theta`` and ``rope_scaling``, transformers 5
one ``rope_parameters`` with both; the older spelling is written, which both releases read.
"""

from __future__ import annotations

from typing import Any

from convkit.config import ABSENT, ConfigError, Coupled

SCALINGS = ("linear", "yarn", "llama3", "longrope")
#: what ModelZoo's ``yarn`` computes with, whatever the config says (ModelZoo 2.10.0, rotary embeddings)
YARN_FIXED = {"beta_fast": 32, "beta_slow": 1, "truncate": True, "attention_factor": None, "mscale": None}
#: keys of one scaling that the yaml carries
EXTRA = {
    "linear": (),
    "yarn": ("original_max_position_embeddings",),
    "llama3": ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}


def _to_cerebras(values: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    parameters = dict(values.get("rope_parameters") or {})
    scaling = dict(values.get("rope_scaling") or parameters)
    theta = values.get("rope_theta", parameters.get("rope_theta"))
    out: dict[str, Any] = {"=rope_theta": theta if theta is not None else 10000.0}
    if theta is not None:
        out["rope_theta"] = theta
    scaling.pop("rope_theta", None)
    scaling.pop("partial_rotary_factor", None)
    kind = scaling.pop("type", None) or scaling.get("rope_type")
    if kind in (None, "default") and not scaling.get("factor"):
        return out | {"pos_scaling_factor": 1.0}
    if kind not in SCALINGS:
        raise ConfigError(
            f"rope_scaling of type {kind!r} has no counterpart",
            key="rope_scaling",
            remedy=f"Cerebras has {', '.join(SCALINGS)}",
        )
    if "factor" not in scaling:
        raise ConfigError("rope_scaling has no factor", key="rope_scaling", remedy="add its factor")
    out |= {"pos_scaling_factor": scaling.pop("factor"), "pos_scaling_type": kind}
    if kind == "yarn":
        _refuse_other_yarn(scaling)
    if kind == "longrope":
        out["pos_scaling_extra_args"] = scaling
    elif kind != "linear":
        out["pos_scaling_extra_args"] = {key: scaling[key] for key in EXTRA[kind] if key in scaling}
    return out


def _to_hf(values: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    theta = values.get("rope_theta")
    out: dict[str, Any] = {"=rope_theta": theta if theta is not None else 10000.0}
    out["rope_theta"] = theta if theta is not None else ABSENT
    factor = values.get("pos_scaling_factor", 1.0)
    kind = values.get("pos_scaling_type") or "linear"
    if factor == 1.0 and kind == "linear":
        return out | {"rope_scaling": None}
    extra = dict(values.get("pos_scaling_extra_args") or {})
    spelling = "rope_type" if kind == "llama3" else "type"
    return out | {"rope_scaling": {spelling: kind, "factor": factor, **extra}}


def _refuse_other_yarn(scaling: dict[str, Any]) -> None:
    for key, fixed in YARN_FIXED.items():
        if scaling.get(key, fixed) not in (fixed, None):
            raise ConfigError(
                f"rope_scaling.{key} = {scaling[key]!r}: Cerebras computes yarn with {fixed!r} and can't say otherwise",
                key="rope_scaling",
                remedy=f"remove {key} if {fixed!r} is what the model was trained with",
            )


ROPE = Coupled(
    left=("rope_scaling", "rope_theta", "rope_parameters"),
    right=("rope_theta", "pos_scaling_factor", "pos_scaling_type", "pos_scaling_extra_args"),
    to_right=_to_cerebras,
    to_left=_to_hf,
)
