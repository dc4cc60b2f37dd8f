"""The faults that are planted on purpose: a check that misses them proves nothing.

Each kind is a mistake that conversions are known to make. It changes tensors that a stage reads, found by the roles of
the target's oracle, or the config. A fault isn't planted where it changes nothing (such as swapping two norms that are
all ones), or where the model has no place for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from convkit.oracles.oracle import OF_LOGITS
from convkit.oracles.windows import Rows, spread, table

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.oracle import Oracle

#: a gate whose tanh is 1 in float32
_OPEN = 20.0
#: parts that are replaced, by role
Changes = Mapping[str, "Tensor | Callable[[], Tensor]"]


@dataclass(frozen=True)
class Place:
    """Where a fault is planted.

    Attributes:
        oracle: of the target.
        stage: its name.
        layer: the number of the layer; None outside the layers.
        rows: ids whose rows of the embedding the input uses, int64, sorted; their predecessors can be read too.
        heads: the heads whose outputs are compared.
    """

    oracle: Oracle
    stage: str
    layer: int | None = None
    rows: Tensor | None = None
    heads: frozenset[str] = frozenset()

    def role(self, name: str) -> str:
        """The name of a layer's role in the whole model."""
        return f"layers.{self.layer}.{name}"

    def outside(self, name: str) -> str:
        """The name of a role outside the layers in the whole model."""
        return self.oracle.outside(name, self.stage)

    def has(self, role: str) -> bool:
        """Whether the model has this role."""
        return role in self.oracle.roles

    def reads(self, role: str) -> bool:
        """Whether the model has this role outside the layers, and the stage is the first that reads it."""
        return self.has(role) and self.oracle.stage_of(role) == self.stage

    @property
    def experts(self) -> int:
        """The number of experts in the layer."""
        at = self.role("experts.")
        return len({role.removeprefix(at).partition(".")[0] for role in self.oracle.roles if role.startswith(at)})


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        name: its name.
        changes: what it changes in a place.
        config: the config that has it.
        stages: where that config may change anything.
        elsewhere: whether it reads tensors of other stages, which shouldn't be held.
    """

    name: str
    changes: Callable[[Place], Changes] = field(default=lambda place: {})
    config: dict[str, Any] | None = None
    stages: frozenset[str] = frozenset()
    elsewhere: bool = False

    def alters(self, place: Place) -> bool:
        """Whether it changes anything there."""
        if self.config is not None:
            return place.stage in self.stages and (self.name not in OF_LOGITS or bool(place.heads))
        changes = self.changes(place)
        return any(not _same(place.oracle.part(role), _made(value)) for role, value in changes.items())

    def counts(self, place: Place) -> bool:
        """Whether it is missed if nothing shows it there: a config that several stages read may show in a layer."""
        return self.config is None or place.layer is not None or self.stages == {place.stage}


def of_configs(oracle: Oracle) -> list[Kind]:
    """The kinds that a wrong field of the config makes."""
    return [Kind(name, config=config, stages=oracle.shown_in(name)) for name, config in oracle.wrong_configs().items()]


def _made(value: Tensor | Callable[[], Tensor]) -> Tensor:
    return value() if callable(value) else value


def _same(a: Tensor, b: Tensor) -> bool:
    import torch

    return torch.equal(a, b)


def _swap(one: str, other: str, place: Place) -> Changes:
    """Swap two roles of a layer that have the same shapes, weights and biases."""
    return _swapped(place, place.role(one), place.role(other))


def _swapped(place: Place, one: str, other: str) -> dict[str, Tensor]:
    changes: dict[str, Tensor] = {}
    for end in ("weight", "bias"):
        a, b = f"{one}.{end}", f"{other}.{end}"
        if place.has(a) and place.has(b) and (pair := (place.oracle.part(a), place.oracle.part(b))):
            changes |= {a: pair[1], b: pair[0]} if pair[0].shape == pair[1].shape else {}
    return changes


def _swap_in_experts(place: Place) -> Changes:
    changes: dict[str, Tensor] = {}
    for e in range(place.experts):
        changes |= _swapped(place, place.role(f"experts.{e}.gate"), place.role(f"experts.{e}.up"))
    return changes


def _next_expert(place: Place) -> Changes:
    """Number the experts from another one on."""
    at, experts, oracle = place.role("experts."), place.experts, place.oracle
    own = [role.removeprefix(f"{at}0.") for role in oracle.roles if role.startswith(f"{at}0.")]
    return {f"{at}{e}.{role}": oracle.part(f"{at}{(e + 1) % experts}.{role}") for e in range(experts) for role in own}


def _swap_rows_of_router(place: Place) -> Changes:
    role = place.role("router.weight")
    return {role: _first_two_swapped(place.oracle.part(role))} if place.has(role) else {}


def _first_two_swapped(rows: Tensor) -> Tensor:
    import torch

    return torch.cat((rows[:2].flip(0), rows[2:]))


def _other_rotary(end: str, place: Place) -> Changes:
    """Order queries and keys by the other rotary convention."""
    facts, oracle = place.oracle.facts, place.oracle
    heads = {place.role(f"q.{end}"): facts.heads, place.role(f"k.{end}"): facts.kv_heads}
    if not _turns(place):
        return {}
    turn = _pairs_from_half if facts.rotary == "half" else _half_from_pairs
    return {role: turn(oracle.part(role), n, facts.rotary_dim) for role, n in heads.items() if place.has(role)}


def _turns(place: Place) -> bool:
    facts, keys, layer = place.oracle.facts, place.role("k.weight"), place.layer
    if layer is None or not place.oracle.rotates(layer):
        return False
    return place.oracle.part(keys).shape[0] // facts.kv_heads >= facts.rotary_dim


def _wrong_heads(place: Place) -> Changes:
    """Reorder keys by another number of heads."""
    facts, role = place.oracle.facts, place.role("k.weight")
    if not _turns(place):
        return {}
    keys = place.oracle.part(role)
    here, there = (_half_from_pairs, _pairs_from_half)[:: 1 if facts.rotary == "half" else -1]
    rows = keys.shape[0]
    for heads in (facts.heads, facts.kv_heads // 2, 2 * facts.kv_heads):
        if heads in (0, facts.kv_heads) or rows % heads:
            continue
        width = facts.rotary_dim if rows // facts.kv_heads > facts.rotary_dim else rows // heads
        if width % 2 == 0 and width <= rows // heads:
            return {role: here(there(keys, facts.kv_heads, facts.rotary_dim), heads, width)}
    return {}


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


def _transpose(name: str, place: Place) -> Changes:
    """Transpose a square weight, which its shape doesn't show."""
    role = place.role(f"{name}.weight")
    weight = place.oracle.part(role) if place.has(role) else None
    return {role: weight.T} if weight is not None and weight.shape[0] == weight.shape[1] else {}


def _drop_bias(name: str, place: Place) -> Changes:
    """Set a bias to zero, except that of the keys, which cancels in softmax without rotation."""
    role = f"{name}.bias" if name.startswith("head.") else place.role(f"{name}.bias")
    return {role: place.oracle.part(role) * 0} if place.has(role) else {}


def _next_layer(place: Place) -> Changes:
    """Give the layer the weights of the next one; the last gets those of the first."""
    oracle, at = place.oracle, place.role("")
    after = f"layers.{((place.layer or 0) + 1) % oracle.facts.layers}."
    own = [role.removeprefix(at) for role in oracle.roles if role.startswith(at)]
    both = [role for role in own if place.has(after + role)] if after != at else []
    both = [role for role in both if oracle.part_shape(at + role) == oracle.part_shape(after + role)]
    return {at + role: partial(oracle.part, after + role) for role in both}


def _cast(dtype: str, place: Place) -> Changes:
    """Round one weight."""
    import torch

    role = place.role("v.weight")
    return {role: place.oracle.part(role).to(getattr(torch, dtype)).float()} if place.has(role) else {}


def _add_one(place: Place) -> Changes:
    """Add 1 to the scale of a norm, as if it had been stored minus 1."""
    roles = [role for role in map(place.role, ("norm_ffn.weight", "norm_attention.weight")) if place.has(role)]
    return {role: place.oracle.part(role) + 1 for role in roles[:1]}


def _reverse_slopes(place: Place) -> Changes:
    """Give each head the slope of another."""
    return {"slopes": place.oracle.part("slopes").flip(0)} if place.has("slopes") else {}


def _of_the_other_stack(place: Place) -> Changes:
    """Give one stack the relative positions of the other."""
    stacks = {stack: f"positions_{stack}.weight" for stack in ("encoder", "decoder")}
    own = stacks.pop(place.stage.partition(".")[0], "")
    if not own or not all(map(place.has, (own, *stacks.values()))):
        return {}
    (other,) = stacks.values()
    return {own: place.oracle.part(other)} if place.oracle.part_shape(own) == place.oracle.part_shape(other) else {}


def _shift_vocabulary(place: Place) -> Changes:
    """Give each id the row before its own."""
    role = place.outside("embedding.weight")
    if not place.reads(role):
        return {}
    whole, rows = place.oracle.part(role), place.rows
    if rows is None:
        return {role: whole.roll(1, 0)}
    window = Rows(0, rows)
    return {role: spread(whole[(rows - 1) % whole.shape[0]], window, table(window, whole.shape))}


def roll(role: str, place: Place) -> Changes:
    """Shift the rows of a small table by one."""
    role = place.outside(role)
    return {role: place.oracle.part(role).roll(1, 0)} if place.reads(role) else {}


def without_gates(roles: Iterable[str], place: Place) -> Changes:
    """Leave out gates, as if the parts behind them were added as they are."""
    return {role: place.oracle.part(role) * 0 + _OPEN for role in roles if place.has(role)}


def _without_gates_of_a_layer(place: Place) -> Changes:
    return without_gates(map(place.role, ("gate_attention", "gate_ffn")), place)


def _off_by_the_padding(place: Place) -> Changes:
    """Count positions from 0, where the model counts them from the padding's id on."""
    role, padding = "positions.weight", place.oracle.facts.padding
    if padding is None or not place.reads(role):
        return {}
    return {role: place.oracle.part(role).roll(-(padding + 1), 0)}


def _norm_as_made(place: Place) -> Changes:
    """Leave the embedding's norm as it is made."""
    made = {place.outside(f"norm_embedding.{end}"): value for end, value in (("weight", 1.0), ("bias", 0.0))}
    return {role: place.oracle.part(role) * 0 + value for role, value in made.items() if place.reads(role)}


def _of_the_other_encoder(place: Place) -> Changes:
    """Give a layer the weights of the same layer of the other encoder."""
    at = place.role("")
    return of_the_other(place, [role for role in place.oracle.roles if role.startswith(at)])


def of_the_other(place: Place, roles: Iterable[str]) -> Changes:
    """Give these roles what the same roles of the other of two models have, if they have its shape."""
    oracle = place.oracle
    pairs = [(role, other) for role in roles if place.has(other := oracle.other(role))]
    alike = [(role, other) for role, other in pairs if oracle.part_shape(role) == oracle.part_shape(other)]
    return {role: partial(oracle.part, other) for role, other in alike}


def _wrong_tie(head: str, place: Place) -> Changes:
    """Replace an untied head by the embedding."""
    role, tied = f"head.{head}.weight", "embedding.weight"
    if place.oracle.facts.tied or not place.has(role):
        return {}
    embedding, own = place.oracle.part(tied), place.oracle.part(role)
    return {role: embedding} if embedding.shape == own.shape and not _nearly(embedding, own) else {}


def _nearly(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same but for rounding in bfloat16."""
    import torch

    return torch.allclose(a, b, rtol=0.01, atol=0.0)


def _drifted(head: str, place: Place) -> Changes:
    """Untie a tied head, with weights that have drifted."""
    import torch

    role = f"head.{head}.weight"
    if not place.oracle.facts.tied or not place.has(role):
        return {}
    weight = place.oracle.part(role)
    drift = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)).to(weight.device)
    return {role: weight * (1 + 0.01 * drift)}


def _if_compared(head: str, changes: Callable[[Place], Changes]) -> Callable[[Place], Changes]:
    """Plant a fault in a head only if its output is compared."""
    return lambda place: changes(place) if head in place.heads else {}


#: name of a fault -> the two roles of a layer that are swapped
_PAIRS = {
    "swap q and k": ("q", "k"),
    "swap k and v": ("k", "v"),
    "swap gate and up": ("gate", "up"),
    "swap k and v of the cross attention": ("cross_k", "cross_v"),
    "swap the norms of a layer": ("norm_attention", "norm_ffn"),
    "swap the norms before and after attention": ("norm_attention", "norm_attention_post"),
    "swap the norms before and after the feed-forward part": ("norm_ffn", "norm_ffn_post"),
}

#: what can be wrong in a layer
IN_A_LAYER = (
    *(Kind(name, partial(_swap, *pair)) for name, pair in _PAIRS.items()),
    Kind("swap gate and up of the experts", _swap_in_experts),
    Kind("experts off by one", _next_expert),
    Kind("swap two rows of the router", _swap_rows_of_router),
    Kind("wrong rotary", partial(_other_rotary, "weight")),
    Kind("wrong rotary in the biases", partial(_other_rotary, "bias")),
    Kind("wrong head count", _wrong_heads),
    *(Kind(f"transpose the square {name}", partial(_transpose, name)) for name in ("o", "q", "v")),
    *(Kind(f"drop the bias of {name}", partial(_drop_bias, name)) for name in ("v", "up", "o")),
    Kind("off by one layer", _next_layer, elsewhere=True),
    *(Kind(f"cast one weight to {dtype}", partial(_cast, dtype)) for dtype in ("bfloat16", "float8_e4m3fn")),
    Kind("norm scale off by one", _add_one),
    Kind("slopes in reverse", _reverse_slopes),
    Kind("gates left out", _without_gates_of_a_layer),
    Kind("relative positions of the other stack", _of_the_other_stack, elsewhere=True),
    Kind("a layer of the other encoder", _of_the_other_encoder, elsewhere=True),
)
#: what can be wrong before the layers
BEFORE_THE_LAYERS = (
    Kind("shift the vocabulary by one row", _shift_vocabulary),
    Kind("shift the positions by one row", partial(roll, "positions.weight")),
    Kind("positions off by the padding", _off_by_the_padding),
    Kind("swap the token types", partial(roll, "segments.weight")),
    Kind("the embedding's norm not loaded", _norm_as_made),
)
#: what can be wrong after them
AFTER_THE_LAYERS = (
    *(
        Kind(f"drop the bias of the {head} head", _if_compared(head, partial(_drop_bias, f"head.{head}")))
        for head in ("lm", "mlm")
    ),
    Kind(
        "shift the rows of a classifier",
        _if_compared("classifier", partial(roll, "head.classifier.weight")),
    ),
    Kind(
        "swap the classes of the next sentence head",
        _if_compared("nsp", partial(roll, "head.nsp.weight")),
    ),
    *(Kind("tie the head to the embedding", _if_compared(head, partial(_wrong_tie, head))) for head in ("lm", "mlm")),
    *(Kind("untie the head and let it drift", _if_compared(head, partial(_drifted, head))) for head in ("lm", "mlm")),
)
