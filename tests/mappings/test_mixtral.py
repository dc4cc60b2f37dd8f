"""hf/mixtral <-> cerebras/mixtral: what is particular about it."""

from __future__ import annotations

from typing import Any

import pytest

from convkit.errors import ConfigError
from convkit.mappings import find_mapping

TABLE = find_mapping("cerebras/mixtral", "hf/mixtral").config
MOE = {"num_experts": 4, "top_k": 2, "load_balancing_loss_coef": 0.01}
MODEL = {"name": "mixtral", "nonlinearity": "swiglu", "norm_type": "rmsnorm", "hidden_size": 32, "num_heads": 4} | {
    "position_embedding_type": "rotary", "rotary_dim": 8, "use_ffn_bias": False, "use_ffn_bias_in_attention": False,
    "use_projection_bias_in_attention": False,
}  # fmt: skip


def back(**moe: Any) -> dict[str, Any]:
    return TABLE.convert({"model": MODEL | {"moe": MOE | moe}}).config


def test_a_mixture_as_people_write_it() -> None:
    said = back(num_experts="4", top_k=2.0, num_shared_experts=0, null_expert_bias=None, router_fp32=False)
    assert (said["num_local_experts"], said["num_experts_per_tok"], said["router_aux_loss_coef"]) == (4, 2, 0.01)


@pytest.mark.parametrize(
    ("moe", "key"),
    [
        ({"num_experts": "x"}, "moe.num_experts"),
        ({"num_experts": None}, "moe.num_experts"),
        ({"num_experts": 1}, "moe.num_experts"),
        ({"top_k": 5}, "moe.top_k"),
        ({"top_k": [2]}, "moe.top_k"),
        ({"num_shared_experts": 1}, "moe.num_shared_experts"),
        ({"moe_implementation": "experimental"}, "moe.moe_implementation"),
        ({"expert_weighting_normalization": False}, "moe.expert_weighting_normalization"),
        ({"routing_algorithm": "hash"}, "moe.routing_algorithm"),
        ({"probability_before_ffn": True}, "moe.probability_before_ffn"),
    ],
)
def test_another_mixture_is_refused_by_name(moe: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        back(**moe)
    assert caught.value.key == key
