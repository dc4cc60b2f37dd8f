"""The row of a mixture of experts; it declares ``experts``, their number.

ModelZoo stacks the experts in the second axis of its tensors if ``moe_implementation`` is ``optimized``: the default of
releases up to 2.5. Its converter writes such tensors for every release without saying so in the yaml, which convkit
does. ModelZoo has mixtures of experts since release 2.3.

Facts: ModelZoo release 2.10.0, ``layers/FeedForwardNetwork.py`` (``MoEConfig``, also that of 2.3.1 ... 2.9.0),
``tools/checkpoint_converters/mixtral.py``; transformers, ``models/mixtral``.
"""

from __future__ import annotations

from typing import Any

from convkit.config import Answer, ConfigError, Coupled

Values = dict[str, Any]
#: what a Mixtral is; the values are ModelZoo's defaults, apart from the first
FIXED = {"moe_implementation": "optimized", "num_shared_experts": None, "null_expert_bias": 0.0,
         "router_use_bias": False, "routing_algorithm": "learned", "router_selection_nonlinearity": "softmax",
         "expert_weighting_nonlinearity": "softmax", "expert_weighting_normalization": True,
         "probability_before_ffn": False}  # fmt: skip


def _to_cerebras(values: Values, names: Values) -> Answer:
    usual: Values = {"num_local_experts": 8, "num_experts_per_tok": 2, "router_aux_loss_coef": 0.001}
    experts, chosen, loss = ((usual | values)[field] for field in usual)
    _chosen_of(experts, chosen, "num_experts_per_tok")
    moe = {"num_experts": experts, "top_k": chosen, "load_balancing_loss_coef": loss}
    left_out = {field: value for field, value in usual.items() if field not in values}
    return Answer({"moe": moe | {"moe_implementation": "optimized"}}, {"experts": experts}, defaults=left_out)


def _to_hf(values: Values, names: Values) -> Answer:
    moe = values.get("moe") or {}
    experts, chosen = moe.get("num_experts", 0), moe.get("top_k", 1)
    for field, value in FIXED.items():
        if moe.get(field, value) != value and (value or moe[field]):  # null and 0 are the same where it is none
            remedy = f"transformers' model is {value!r} there, and its tensors are; correct the yaml if they are"
            raise ConfigError(f"is {moe[field]!r}", key=f"moe.{field}", remedy=remedy)
    if not experts or experts < 2:
        raise ConfigError(f"is {experts}", key="moe.num_experts", remedy="a Mixtral has at least two experts")
    _chosen_of(experts, chosen, "moe.top_k")
    fields = {"num_local_experts": experts, "num_experts_per_tok": chosen}
    loss = moe.get("load_balancing_loss_coef") or 0.0
    return Answer(fields | {"router_aux_loss_coef": loss}, {"experts": experts})


def _chosen_of(experts: int, chosen: int, key: str) -> None:
    if not 1 <= chosen <= experts:
        raise ConfigError(f"is {chosen}, of {experts} experts", key=key, remedy="correct the config")


EXPERTS = Coupled(("num_local_experts", "num_experts_per_tok", "router_aux_loss_coef"), ("moe",), _to_cerebras, _to_hf)
