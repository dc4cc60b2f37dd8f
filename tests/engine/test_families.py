"""The notation expresses what later families need, each checked against plain numpy.

Facts: the converters of ModelZoo, release 2.10.0 (``tools/checkpoint_converters``), T5X, Pax and
Transformer Engine; the arithmetic is restated here from what those layouts mean.
"""

from __future__ import annotations

import numpy as np
import pytest

from convkit.errors import PlanError
from convkit.mapping import LeftBehind, Rule, inverse
from convkit.mapping.ops import Shift
from engine.memory import Arrays, assert_both_ways, assert_same, carried, mapping_of

RANDOM = np.random.default_rng(7)


def numbers(*shape: int, dtype: str = "float32") -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(dtype)


def interleaved(rows: np.ndarray, heads: int, rotary: int) -> np.ndarray:
    """Per head, the first ``rotary`` rows x0 x1 .. y0 y1 .. become x0 y0 x1 y1 ..; the others stay."""
    out = rows.copy()
    size = len(rows) // heads
    for head in range(heads):
        for n in range(rotary // 2):
            out[head * size + 2 * n] = rows[head * size + n]
            out[head * size + 2 * n + 1] = rows[head * size + rotary // 2 + n]
    return out


HEADS, KV, HD, D = 6, 2, 10, 14


def test_llama_rotary_of_weight_bias_and_norm() -> None:
    mapping = mapping_of(
        Rule("q.{p:weight|bias?}", "proj_q.{p}", "(h two r) ... -> (h r two) ...", h="heads", two=2),
        Rule("q_norm.weight", "q_norm.weight", "(two r) -> (r two)", two=2),
        names=["heads"],
    )
    left = {"q.weight": numbers(HEADS * HD, D), "q.bias": numbers(HEADS * HD), "q_norm.weight": numbers(HD)}
    right = {
        "proj_q.weight": interleaved(left["q.weight"], HEADS, HD),
        "proj_q.bias": interleaved(left["q.bias"], HEADS, HD),
        "q_norm.weight": interleaved(left["q_norm.weight"], 1, HD),
    }
    assert_both_ways(mapping, left, right, {"heads": HEADS})


@pytest.mark.parametrize("rest", [6, 0])
def test_partial_rotary(rest: int) -> None:
    mapping = mapping_of(
        Rule("k.weight", "proj_k.weight", "(h (two r + rest)) d -> (h (r two + rest)) d", h=KV, two=2, r=2, rest=rest)
    )
    weight = numbers(KV * (4 + rest), D)
    assert_both_ways(mapping, {"k.weight": weight}, {"proj_k.weight": interleaved(weight, KV, 4)})


def test_gpt_neox_fused_qkv_with_partial_rotary() -> None:
    rotary = 4
    mapping = mapping_of(
        Rule(
            "attention.query_key_value.{p:weight|bias}",
            "self_attn.proj_{qkv:q|k|v}_dense_layer.{p}",
            "(h (q2 (two r + rest) + k2 (two r + rest) + v2 (two r + rest))) ... -> "
            "q: (h q2 (r two + rest)) ... | k: (h k2 (r two + rest)) ... | v: (h v2 (two r + rest)) ...",
            h="heads", two=2, r=rotary // 2, rest=HD - rotary, q2=1, k2=1, v2=1,
        )
    )  # fmt: skip
    mapping = mapping_of(*mapping.rules, names=["heads"])
    left, right = {}, {}
    for part, shape in (("weight", (3 * HEADS * HD, D)), ("bias", (3 * HEADS * HD,))):
        fused = numbers(*shape)
        left[f"attention.query_key_value.{part}"] = fused
        blocks = fused.reshape(HEADS, 3, HD, *shape[1:])
        for n, name in enumerate("qkv"):
            rows = blocks[:, n].reshape(HEADS * HD, *shape[1:])
            right[f"self_attn.proj_{name}_dense_layer.{part}"] = (
                rows if name == "v" else interleaved(rows, HEADS, rotary)
            )
    assert_both_ways(mapping, left, right, {"heads": HEADS})


def test_falcon_40b_grouped_qkv() -> None:
    """(groups, heads/groups queries + a key + a value, head size): q and k are interleaved over the whole head."""
    groups, queries = 3, 4
    mapping = mapping_of(
        Rule(
            "query_key_value.weight",
            "proj_{qkv:q|k|v}.weight",
            "(g (q two r + k two r + v two r)) d -> q: (g q r two) d | k: (g k r two) d | v: (g v two r) d",
            g="groups", q="queries", k=1, v=1, two=2,  r=HD // 2,
        ),
        names=["groups", "queries"],
    )  # fmt: skip
    fused = numbers(groups * (queries + 2) * HD, D)
    blocks = fused.reshape(groups, queries + 2, HD, D)
    right = {
        "proj_q.weight": interleaved(blocks[:, :-2].reshape(-1, D), groups * queries, HD),
        "proj_k.weight": interleaved(blocks[:, -2].reshape(-1, D), groups, HD),
        "proj_v.weight": blocks[:, -1].reshape(-1, D),
    }
    assert_both_ways(mapping, {"query_key_value.weight": fused}, right, {"groups": groups, "queries": queries})


def test_falcon_grouped_qkv_as_the_design_writes_it() -> None:
    """A placeholder's own name as a summand, and the same tensors without rotary."""
    mapping = mapping_of(
        Rule("qkv.weight", "{qkv:q|k|v}.weight", "(g (q + k + v) r) d -> (g {qkv} r) d", g=3, q=4, k=1, v=1)
    )
    fused = numbers(3 * 6 * HD, D)
    blocks = fused.reshape(3, 6, HD, D)
    parts = {"q": blocks[:, :4], "k": blocks[:, 4:5], "v": blocks[:, 5:]}
    assert_both_ways(
        mapping, {"qkv.weight": fused}, {f"{name}.weight": part.reshape(-1, D) for name, part in parts.items()}
    )


def test_falcon_7b_and_starcoder_one_key_for_all_heads() -> None:
    mapping = mapping_of(Rule("c_attn.{p:weight|bias}", "{n:q|k|v}.{p}", "(q + k + v) ... -> {n} ...", k=HD, v=HD))
    left = {"c_attn.weight": numbers((HEADS + 2) * HD, D), "c_attn.bias": numbers((HEADS + 2) * HD)}
    right: Arrays = {}
    for part in ("weight", "bias"):
        q, k, v = np.split(left[f"c_attn.{part}"], [HEADS * HD, (HEADS + 1) * HD])
        right |= {f"q.{part}": q, f"k.{part}": k, f"v.{part}": v}
    assert_both_ways(mapping, left, right)


def test_codegen_partitions() -> None:
    """Four partitions, each a third of q, then v, then k."""
    mapping = mapping_of(
        Rule("qkv_proj.weight", "proj_{n:q|k|v}.weight", "(mp (q + v + k) r) d -> (mp {n} r) d", mp=4, q=1, v=1, k=1)
    )
    hidden = 24
    fused = numbers(3 * hidden, hidden)
    parts = fused.reshape(4, 3, hidden // 4, hidden)
    right = {f"proj_{name}.weight": parts[:, n].reshape(hidden, hidden) for n, name in enumerate("qvk")}
    assert_both_ways(mapping, {"qkv_proj.weight": fused}, right)


def test_bloom_qkv_by_head() -> None:
    mapping = mapping_of(
        Rule("query_key_value.{p:weight|bias}", "proj_{qkv:q|k|v}.{p}", "(h qkv hd) ... -> qkv (h hd) ...", h="heads"),
        names=["heads"],
    )
    left: Arrays = {}
    right: Arrays = {}
    for part, tail in (("weight", (D,)), ("bias", ())):
        fused = numbers(HEADS * 3 * HD, *tail)
        left[f"query_key_value.{part}"] = fused
        for n, name in enumerate("qkv"):
            right[f"proj_{name}.{part}"] = fused.reshape(HEADS, 3, HD, *tail)[:, n].reshape(HEADS * HD, *tail)
    assert_both_ways(mapping, left, right, {"heads": HEADS})


def test_gpt2_conv1d() -> None:
    """(in, 3 out) transposed and cut in three; its bias cut in three; the other kernels transposed."""
    mapping = mapping_of(
        Rule("c_attn.weight", "proj_{qkv:q|k|v}.weight", "i (qkv o) -> qkv o i"),
        Rule("c_attn.bias", "proj_{qkv:q|k|v}.bias", "(qkv o) -> qkv o"),
        Rule("c_fc.weight", "ffn.weight", "i o -> o i"),
    )
    left = {"c_attn.weight": numbers(D, 3 * D), "c_attn.bias": numbers(3 * D), "c_fc.weight": numbers(D, 17)}
    right: Arrays = {"ffn.weight": left["c_fc.weight"].T.copy()}
    for n, name in enumerate("qkv"):
        right[f"proj_{name}.weight"] = left["c_attn.weight"].T[n * D : (n + 1) * D].copy()
        right[f"proj_{name}.bias"] = left["c_attn.bias"][n * D : (n + 1) * D]
    assert_both_ways(mapping, left, right)


@pytest.mark.parametrize("experts", [3, 12])
def test_mixtral_experts_on_axis_one(experts: int) -> None:
    mapping = mapping_of(
        Rule("layers.{i}.experts.{e}.w1.weight", "layers.{i}.experts.expert_weights", "e o i2 -> o e i2"),
        axes={"i": "layers", "e": "experts"},
        names=["layers", "experts"],
    )
    left = {f"layers.{i}.experts.{e}.w1.weight": numbers(17, D) for i in range(2) for e in range(experts)}
    right = {
        f"layers.{i}.experts.expert_weights": np.stack(
            [left[f"layers.{i}.experts.{e}.w1.weight"] for e in range(experts)], axis=1
        )
        for i in range(2)
    }
    assert_both_ways(mapping, left, right, {"layers": 2, "experts": experts})


def test_vit_class_row_moves_to_the_end() -> None:
    mapping = mapping_of(
        Rule("position_embeddings", "position_embeddings.weight", "1 (c + p) d -> (p + c) d", c=1),
        Rule("cls_token", "cls_embedding", "1 1 d -> d"),
    )
    table, token = numbers(1, 17, D), numbers(1, 1, D)
    right = {
        "position_embeddings.weight": np.concatenate([table[0, 1:], table[0, :1]]),
        "cls_embedding": token.reshape(D),
    }
    assert_both_ways(mapping, {"position_embeddings": table, "cls_token": token}, right)


def test_mllama_patch_convolution() -> None:
    mapping = mapping_of(Rule("conv.weight", "linear.weight", "o c p q -> o (p q c)", c=3, p=4, q=4))
    kernel = numbers(5, 3, 4, 4)
    assert_both_ways(mapping, {"conv.weight": kernel}, {"linear.weight": kernel.transpose(0, 2, 3, 1).reshape(5, -1)})


def test_t5_bias_in_the_first_block_only() -> None:
    """The bias of block 0 is carried; other blocks must not have one, and theirs stays behind if they do."""
    bias = "encoder.block.{}.layer.0.SelfAttention.relative_attention_bias.weight"
    mapping = mapping_of(
        LeftBehind("left", bias.format("{i}"), "only the first block has one"),
        Rule(bias.format(0), "encoder_embeddings.relative_attention_bias.weight", "n h -> n h"),
        Rule("encoder.block.{i}.wo", "layers.{i}.wo", "d f -> d f"),
    )
    left = {bias.format(0): numbers(8, HEADS)} | {f"encoder.block.{i}.wo": numbers(3, 4) for i in range(3)}
    right = {"encoder_embeddings.relative_attention_bias.weight": left[bias.format(0)]}
    right |= {f"layers.{i}.wo": left[f"encoder.block.{i}.wo"] for i in range(3)}
    assert_both_ways(mapping, left, right)
    more = left | {bias.format(2): numbers(8, HEADS)}
    assert sorted(carried(mapping, more)) == sorted(right)
    with pytest.raises(PlanError, match="is missing"):
        carried(mapping, {key: array for key, array in more.items() if key != bias.format(0)})


def test_pax_layers_scanned() -> None:
    """One sub-tree a layer, or all layers on a first axis; config values stand in keys."""
    mapping = mapping_of(
        Rule("x_layers_{i}.linear.w", "repeat.sub.linear.w", "i d f -> i d f"),
        Rule("opt.p#{i}.w", "opt_states_0.p#{=layers}#i-1_2.w", "i d f -> i d f"),
        axes={"i": "layers"},
        names=["layers"],
    )
    left = {f"x_layers_{i}.linear.w": numbers(3, 5) for i in range(4)} | {
        f"opt.p#{i}.w": numbers(3, 5) for i in range(4)
    }
    right = {
        "repeat.sub.linear.w": np.stack([left[f"x_layers_{i}.linear.w"] for i in range(4)]),
        "opt_states_0.p#4#i-1_2.w": np.stack([left[f"opt.p#{i}.w"] for i in range(4)]),
    }
    assert_both_ways(mapping, left, right, {"layers": 4})
    with pytest.raises(PlanError, match=r"layers: is 5, but repeat\.sub\.linear\.w of shape .* has 4 there"):
        carried(inverse(mapping), {"repeat.sub.linear.w": right["repeat.sub.linear.w"]}, {"layers": 5})


def test_t5x_fused_qkv_and_gated_wi() -> None:
    mapping = mapping_of(
        Rule(
            "layers_{i}.attention.{qkv:query|key|value}.kernel",
            "layers_{i}.attention.qkv.kernel",
            "qkv d hd -> d qkv hd",
        ),
        Rule("layers_{i}.mlp.wi_{g:0|1}.kernel", "layers_{i}.mlp.wi_kernel", "g d f -> d g f"),
    )
    left: Arrays = {}
    right: Arrays = {}
    for i in range(2):
        for name in ("query", "key", "value"):
            left[f"layers_{i}.attention.{name}.kernel"] = numbers(D, HEADS * HD)
        for g in range(2):
            left[f"layers_{i}.mlp.wi_{g}.kernel"] = numbers(D, 17)
        right[f"layers_{i}.attention.qkv.kernel"] = np.stack(
            [left[f"layers_{i}.attention.{name}.kernel"] for name in ("query", "key", "value")], axis=1
        )
        right[f"layers_{i}.mlp.wi_kernel"] = np.stack([left[f"layers_{i}.mlp.wi_{g}.kernel"] for g in range(2)], axis=1)
    assert_both_ways(mapping, left, right)


def test_gemma2_norms_are_stored_minus_one() -> None:
    """Exact where the sum is, and never off by more than half a unit in the last place."""
    mapping = mapping_of(Rule("{n:input|post}_layernorm.weight", "{n}.weight", ops=(Shift(1.0),)))
    left = {"input_layernorm.weight": numbers(50), "post_layernorm.weight": np.float32([-1, -0.5, 0.0, 2.0**-23, 1])}
    right = {
        key.replace("_layernorm", ""): (array.astype("float64") + 1).astype("float32") for key, array in left.items()
    }
    assert_same(carried(mapping, left), right)
    back = carried(inverse(mapping), right)
    assert_same({"exact": back["post_layernorm.weight"]}, {"exact": left["post_layernorm.weight"]})
    off = np.abs(back["input_layernorm.weight"] - left["input_layernorm.weight"])
    assert np.all(off <= np.spacing(np.abs(right["input.weight"])) / 2)


def test_fused_gate_by_branches_of_a_pattern() -> None:
    """Santacoder: two kernels transposed, one of them cut in two; a pattern a branch on both sides."""
    mapping = mapping_of(
        Rule("{n:q|kv}_attn.weight", "attn_{n}.weight", {"q": "i o -> o i", "kv": "i (kv2 o) -> (o kv2) i"}, kv2=2)
    )
    left = {"q_attn.weight": numbers(D, 12), "kv_attn.weight": numbers(D, 8)}
    right = {
        "attn_q.weight": left["q_attn.weight"].T.copy(),
        "attn_kv.weight": left["kv_attn.weight"].reshape(D, 2, 4).transpose(2, 1, 0).reshape(8, D),
    }
    assert_both_ways(mapping, left, right)
