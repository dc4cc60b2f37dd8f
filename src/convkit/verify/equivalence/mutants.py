"""Faults planted on purpose: a check that can't see them proves nothing.

Each is a mistake that conversions are known to make, planted in one layer by the roles that the
target's oracle names, on tensors or config in memory. A fault that would change nothing (norms
that are all ones can be swapped) or that the model has no place for is not planted.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.oracle import Oracle


@dataclass(frozen=True)
class Mutant:
    """An oracle's config and tensors with one fault in them."""

    name: str
    config: dict[str, Any]
    tensors: dict[str, Tensor]


def mutants(oracle: Oracle, outputs: Container[str]) -> Iterator[Mutant]:
    """Every fault that applies to this model, one at a time; each holds copies of what it changes only.

    Heads get faults only if they are among the ``outputs`` that are compared.
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
        yield Mutant(name, config, dict(oracle.tensors))


#: name of a fault and the parts it replaces, by role
Change = tuple[str, "dict[str, Tensor]"]


def _swaps(oracle: Oracle) -> Iterator[Change]:
    """Two tensors of a layer under each other's name."""
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
    """Queries and keys in the order of the other convention; keys reordered with the wrong number of heads."""
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
    """A square weight the other way round: its shape can't tell."""
    for role in ("o", "q", "v"):
        name = _in_a_layer(oracle, f"{role}.weight")
        weight = oracle.part(name)
        if weight.shape[0] == weight.shape[1]:
            yield f"transpose the square {role}", {name: weight.T}
            return


def _drop_a_bias(oracle: Oracle) -> Iterator[Change]:
    """Biases of zero. Not that of the keys: softmax doesn't see it where there is no rotation."""
    for role in ("v", "up", "o"):
        name = _in_a_layer(oracle, f"{role}.bias")
        if name in oracle.roles:
            yield f"drop the bias of {role}", {name: oracle.part(name) * 0}


def _off_by_one_layer(oracle: Oracle) -> Iterator[Change]:
    """Every layer has the weights of the next."""
    layers = oracle.facts.layers
    changes: dict[str, Tensor] = {}
    for role in oracle.roles:
        if role.startswith("layers.0."):
            names = [role.replace("layers.0.", f"layers.{i}.") for i in range(layers)]
            changes |= {names[i]: oracle.part(names[(i + 1) % layers]) for i in range(layers)}
    yield "off by one layer", changes if layers > 1 else {}


def _shifted_tables(oracle: Oracle) -> Iterator[Change]:
    """Tables whose rows begin one too late."""
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
    """One weight rounded to the widest dtype that changes it."""
    import torch

    name = _in_a_layer(oracle, "v.weight")
    weight = oracle.part(name)
    for dtype in (torch.bfloat16, torch.float8_e4m3fn):
        rounded = weight.to(dtype).float()
        if not torch.equal(rounded, weight):
            yield f"cast one weight to {str(dtype).removeprefix('torch.')}", {name: rounded}
            return


def _norm_offset(oracle: Oracle) -> Iterator[Change]:
    """A norm's scale stored minus one, read as it stands."""
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
    """A head that is the embedding where it has weights of its own, or has drifted from it where it is tied."""
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
    """The role in the middle layer: one layer is enough to see a fault."""
    return f"layers.{oracle.facts.layers // 2}.{role}"


def _same(a: Tensor, b: Tensor) -> bool:
    import torch

    return torch.equal(a, b)


def _pairs_from_half(rows: Tensor, heads: int) -> Tensor:
    return rows.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def _half_from_pairs(rows: Tensor, heads: int) -> Tensor:
    return rows.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)
