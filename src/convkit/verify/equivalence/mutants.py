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


def _swaps(oracle: Oracle) -> Iterator[Change]:
    """Swap two tensors of a layer."""
    pairs = {
        "swap q and k": ("q", "k"),
        "swap k and v": ("k", "v"),
        "swap gate and up": ("gate", "up"),
        "swap the norms of a layer": ("norm_attention", "norm_ffn"),
    }
    for name, (one, other) in pairs.items():
        changes: dict[str, Tensor] = {}
        for end in ("weight", "bias"):
            a, b = _in_a_layer(oracle, f"{one}.{end}"), _in_a_layer(oracle, f"{other}.{end}")
            if {a, b} <= oracle.roles.keys() and oracle.part(a).shape == oracle.part(b).shape:
                changes |= {a: oracle.part(b), b: oracle.part(a)}
        yield name, changes


def _wrong_rotary(oracle: Oracle) -> Iterator[Change]:
    """Order queries and keys by the other rotary convention, or reorder keys with a wrong number of heads."""
    facts = oracle.facts
    q, k = _in_a_layer(oracle, "q.weight"), _in_a_layer(oracle, "k.weight")
    rows = oracle.part(k).shape[0]
    if not facts.rotary or rows != facts.kv_heads * facts.rotary_dim:
        return
    to_half, to_pairs = _half_from_pairs, _pairs_from_half
    here, there = (to_half, to_pairs) if facts.rotary == "half" else (to_pairs, to_half)
    yield "wrong rotary", {q: there(oracle.part(q), facts.heads), k: there(oracle.part(k), facts.kv_heads)}
    for heads in (facts.heads, facts.kv_heads // 2, 2 * facts.kv_heads):
        if heads not in (0, facts.kv_heads) and rows % (2 * heads) == 0:
            yield "wrong head count", {k: here(there(oracle.part(k), facts.kv_heads), heads)}
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
    for role in ("v", "up", "o"):
        name = _in_a_layer(oracle, f"{role}.bias")
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


def _norm_offset(oracle: Oracle) -> Iterator[Change]:
    """Add 1 to the scale of a norm, as if it had been stored minus 1."""
    name = _in_a_layer(oracle, "norm_ffn.weight")
    if name in oracle.roles:
        yield "norm scale off by one", {name: oracle.part(name) + 1}


_FAULTS: tuple[Callable[[Oracle], Iterator[Change]], ...] = (
    _swaps,
    _wrong_rotary,
    _transpose,
    _drop_a_bias,
    _off_by_one_layer,
    _shifted_tables,
    _cast_down,
    _norm_offset,
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
    return f"layers.{oracle.facts.layers // 2}.{role}"


def _same(a: Tensor, b: Tensor) -> bool:
    import torch

    return torch.equal(a, b)


def _pairs_from_half(rows: Tensor, heads: int) -> Tensor:
    return rows.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def _half_from_pairs(rows: Tensor, heads: int) -> Tensor:
    return rows.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)
