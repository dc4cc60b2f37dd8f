"""Plant faults on purpose: a check that misses them proves nothing.

Each is a mistake that conversions are known to make. It is planted in memory, in the config or in the tensors of one
layer, which are found by the roles of the target's oracle. A fault isn't planted if it changes no tensor
(such as swapping two norms that are all ones), or if the model has no place for it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.oracle import Oracle


@dataclass(frozen=True)
class Mutant:
    """The config and tensors of an oracle, with one fault in them."""

    name: str
    config: dict[str, Any]
    tensors: Mapping[str, Tensor]


def mutants(oracle: Oracle, outputs: Container[str]) -> Iterator[Mutant]:
    """Every fault that applies to this model, one at a time. Each copies only what it changes.

    Faults are planted in a head only if it is among the ``outputs`` that are compared.
    """
    for fault in _FAULTS:
        for name, changes in fault(oracle):
            seen = {role: value for role, value in changes.items() if _is_seen(role, outputs)}
            if any(not _same(oracle.part(role), value) for role, value in seen.items()):
                yield Mutant(name, oracle.config, oracle.edited(seen))
    for head in ("lm", "mlm"):
        if head in outputs:
            yield from _wrong_ties(oracle, f"head.{head}.weight")
    for name, config in oracle.wrong_configs().items():
        yield Mutant(name, config, oracle.tensors)


#: the name of a fault, and the parts that it replaces, by role
Change = tuple[str, "dict[str, Tensor]"]


#: name of a fault -> the two roles of a layer that are swapped
_PAIRS = {
    "swap q and k": ("q", "k"),
    "swap k and v": ("k", "v"),
    "swap gate and up": ("gate", "up"),
    "swap the norms of a layer": ("norm_attention", "norm_ffn"),
    "swap the norms before and after attention": ("norm_attention", "norm_attention_post"),
    "swap the norms before and after the feed-forward part": ("norm_ffn", "norm_ffn_post"),
}


def _swaps(oracle: Oracle) -> Iterator[Change]:
    """Swap two tensors of a layer, or of each of its experts."""
    for name, pair in _PAIRS.items():
        yield name, _swapped(oracle, _layer(oracle), pair)
    experts: dict[str, Tensor] = {}
    for e in range(_experts(oracle)):
        experts |= _swapped(oracle, f"{_layer(oracle)}experts.{e}.", ("gate", "up"))
    yield "swap gate and up of the experts", experts


def _swapped(oracle: Oracle, at: str, pair: tuple[str, str]) -> dict[str, Tensor]:
    changes: dict[str, Tensor] = {}
    for end in ("weight", "bias"):
        a, b = (f"{at}{role}.{end}" for role in pair)
        if {a, b} <= oracle.roles.keys() and oracle.part(a).shape == oracle.part(b).shape:
            changes |= {a: oracle.part(b), b: oracle.part(a)}
    return changes


def _wrong_experts(oracle: Oracle) -> Iterator[Change]:
    """Number the experts of a layer from another one on, in their weights or in their router's rows."""
    at, experts = f"{_layer(oracle)}experts.", _experts(oracle)
    own = [role.removeprefix(f"{at}0.") for role in oracle.roles if role.startswith(f"{at}0.")]
    yield (
        "experts off by one",
        {f"{at}{e}.{role}": oracle.part(f"{at}{(e + 1) % experts}.{role}") for e in range(experts) for role in own},
    )
    router = _in_a_layer(oracle, "router.weight")
    if router in oracle.roles:
        yield "swap two rows of the router", {router: _first_two_swapped(oracle.part(router))}


def _wrong_rotary(oracle: Oracle) -> Iterator[Change]:
    """Order queries and keys by the other rotary convention, or reorder keys with a wrong number of heads."""
    facts = oracle.facts
    q, k = _in_a_layer(oracle, "q"), _in_a_layer(oracle, "k")
    rows = oracle.part(f"{k}.weight").shape[0]
    own = rows // facts.kv_heads
    if not facts.rotary or own < facts.rotary_dim:
        return
    here, there = (_half_from_pairs, _pairs_from_half)[:: 1 if facts.rotary == "half" else -1]

    def turned(end: str) -> dict[str, Tensor]:
        heads = {f"{q}.{end}": facts.heads, f"{k}.{end}": facts.kv_heads}
        return {role: there(oracle.part(role), heads[role], facts.rotary_dim) for role in heads.keys() & oracle.roles}

    yield "wrong rotary", turned("weight")
    yield "wrong rotary in the biases", turned("bias")
    for heads in (facts.heads, facts.kv_heads // 2, 2 * facts.kv_heads):
        if heads in (0, facts.kv_heads) or rows % heads:
            continue
        width = facts.rotary_dim if own > facts.rotary_dim else rows // heads
        if width % 2 == 0 and width <= rows // heads:
            right = there(oracle.part(f"{k}.weight"), facts.kv_heads, facts.rotary_dim)
            yield "wrong head count", {f"{k}.weight": here(right, heads, width)}
            return


def _transpose(oracle: Oracle) -> Iterator[Change]:
    """Transpose a square weight, which its shape doesn't show."""
    for role in ("o", "q", "v"):
        name = _in_a_layer(oracle, f"{role}.weight")
        weight = oracle.part(name)
        if weight.shape[0] == weight.shape[1]:
            yield f"transpose the square {role}", {name: weight.T}
            return


def _drop_a_bias(oracle: Oracle) -> Iterator[Change]:
    """Set a bias to zero, except that of the keys, which cancels in softmax without rotation."""
    names = {role: _in_a_layer(oracle, f"{role}.bias") for role in ("v", "up", "o")}
    names |= {f"the {head} head": f"head.{head}.bias" for head in ("lm", "mlm")}
    for role, name in names.items():
        if name in oracle.roles:
            yield f"drop the bias of {role}", {name: oracle.part(name) * 0}


def _off_by_one_layer(oracle: Oracle) -> Iterator[Change]:
    """Give every layer the weights of the next one."""
    layers = oracle.facts.layers
    changes: dict[str, Tensor] = {}
    for role in oracle.roles:
        if role.startswith("layers.0."):
            names = [role.replace("layers.0.", f"layers.{i}.") for i in range(layers)]
            changes |= {names[i]: oracle.part(names[(i + 1) % layers]) for i in range(layers)}
    yield "off by one layer", changes if layers > 1 else {}


def _shifted_tables(oracle: Oracle) -> Iterator[Change]:
    """Shift the rows of tables by one."""
    tables = {
        "shift the vocabulary by one row": "embedding.weight",
        "shift the positions by one row": "positions.weight",
        "swap the token types": "segments.weight",
        "shift the rows of a classifier": "head.classifier.weight",
        "swap the classes of the next sentence head": "head.nsp.weight",
    }
    for name, role in tables.items():
        if role in oracle.roles:
            yield name, {role: oracle.part(role).roll(1, 0)}


def _cast_down(oracle: Oracle) -> Iterator[Change]:
    """Round one weight to the widest dtype that changes it."""
    import torch

    name = _in_a_layer(oracle, "v.weight")
    weight = oracle.part(name)
    for dtype in (torch.bfloat16, torch.float8_e4m3fn):
        rounded = weight.to(dtype).float()
        if not torch.equal(rounded, weight):
            yield f"cast one weight to {str(dtype).removeprefix('torch.')}", {name: rounded}
            return


def _wrong_norms(oracle: Oracle) -> Iterator[Change]:
    """Add 1 to the scale of a norm, as if it had been stored minus 1; leave the embedding's norm as it is made."""
    for role in ("norm_ffn", "norm_attention"):
        name = _in_a_layer(oracle, f"{role}.weight")
        if name in oracle.roles:
            yield "norm scale off by one", {name: oracle.part(name) + 1}
            break
    made = {"norm_embedding.weight": 1.0, "norm_embedding.bias": 0.0}
    known = {role: oracle.part(role) * 0 + value for role, value in made.items() if role in oracle.roles}
    yield "the embedding's norm not loaded", known


def _wrong_slopes(oracle: Oracle) -> Iterator[Change]:
    """Give each head the slope of another."""
    if "slopes" in oracle.roles:
        yield "slopes in reverse", {"slopes": oracle.part("slopes").flip(0)}


_FAULTS: tuple[Callable[[Oracle], Iterator[Change]], ...] = (
    _swaps,
    _wrong_experts,
    _wrong_rotary,
    _transpose,
    _drop_a_bias,
    _off_by_one_layer,
    _shifted_tables,
    _cast_down,
    _wrong_norms,
    _wrong_slopes,
)


def _wrong_ties(oracle: Oracle, head: str) -> Iterator[Mutant]:
    """Replace an untied head by the embedding; untie a tied head, with weights that have drifted."""
    import torch

    if not oracle.facts.tied:
        embedding = oracle.part("embedding.weight")
        if not torch.equal(embedding, oracle.part(head)):
            yield Mutant("tie the head to the embedding", oracle.config, oracle.edited({head: embedding}))
        return
    config, tensors = oracle.untied()
    untied = oracle.rebuilt(config, tensors)
    weight = untied.part(head)
    drift = 1 + 0.01 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    yield Mutant("untie the head and let it drift", config, untied.edited({head: weight * drift}))


def _is_seen(role: str, outputs: Container[str]) -> bool:
    return not role.startswith("head.") or role.split(".")[1] in outputs


def _in_a_layer(oracle: Oracle, role: str) -> str:
    """The role in the middle layer: a fault in one layer is enough."""
    return f"{_layer(oracle)}{role}"


def _layer(oracle: Oracle) -> str:
    return f"layers.{oracle.facts.layers // 2}."


def _experts(oracle: Oracle) -> int:
    """The number of experts in the middle layer."""
    at = f"{_layer(oracle)}experts."
    return len({role.removeprefix(at).partition(".")[0] for role in oracle.roles if role.startswith(at)})


def _same(a: Tensor, b: Tensor) -> bool:
    import torch

    return torch.equal(a, b)


def _first_two_swapped(rows: Tensor) -> Tensor:
    import torch

    return torch.cat((rows[:2].flip(0), rows[2:]))


def _pairs_from_half(rows: Tensor, heads: int, width: int) -> Tensor:
    """Reorder the first ``width`` rows of each head."""
    return _reordered(rows, heads, width, (2, -1))


def _half_from_pairs(rows: Tensor, heads: int, width: int) -> Tensor:
    """The inverse of :func:`_pairs_from_half`."""
    return _reordered(rows, heads, width, (-1, 2))


def _reordered(rows: Tensor, heads: int, width: int, pairs: tuple[int, int]) -> Tensor:
    import torch

    own = rows.unflatten(0, (heads, -1))
    turned = own[:, :width].unflatten(1, pairs).transpose(1, 2).flatten(1, 2)
    return torch.cat((turned, own[:, width:]), 1).flatten(0, 1)
