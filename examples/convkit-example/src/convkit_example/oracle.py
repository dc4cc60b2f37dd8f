"""Acorn's decoder as it is defined, a stage at a time, in torch: what the mapping is judged by.

It is written from the README, and imports nothing that converts. Each tensor has a *role*, the same in every layout;
from roles the faults are made that the check has to catch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convkit.errors import ConvkitError
from convkit.oracles.blocks.attention import Attention, causal
from convkit.oracles.blocks.block import Block
from convkit.oracles.blocks.feed_forward import FeedForward
from convkit.oracles.blocks.norms import Norm
from convkit.oracles.blocks.weights import Weights
from convkit.oracles.framework import Framework
from convkit.oracles.oracle import Facts, State, Trace
from convkit.oracles.parts import Part
from convkit.oracles.stacks import Stack
from convkit.oracles.tensors import shape_of

if TYPE_CHECKING:
    from torch import Tensor

_NEEDED = ("width", "depth", "heads", "groups", "inner", "vocab", "context")
_DEFAULTS = {"theta": 10000.0, "eps": 1e-5, "tied": False, "activation": "silu"}


class AcornDecoder(Stack):
    """Acorn's decoder."""

    layout = "acorn/decoder"
    framework = Framework(lambda keys, config: "acorn/decoder", leaf=(".gate_up",), config=(".json",))

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path | None = None) -> None:
        from torch.nn import functional

        if missing := [field for field in _NEEDED if field not in config]:
            raise ConvkitError("missing field", path=path, key=missing[0], remedy="restore Acorn's config.json")
        self.config, self.tensors, self.path = {**_DEFAULTS, **config}, tensors, path
        self.roles, self.twins, self.problems, self.notes = {}, {}, [], []
        get = self.config.__getitem__
        self.head_dim = get("width") // get("heads")
        self.facts = Facts(
            layers=get("depth"),
            heads=get("heads"),
            kv_heads=get("groups"),
            vocab_size=get("vocab"),
            positions=get("context"),
            rotary="interleaved",
            rotary_dim=self.head_dim,
            tied=get("tied"),
        )
        self.block = Block(
            "pre",
            Norm(get("eps"), rms=True),
            Attention(self.head_dim, score_scale=self.head_dim**-0.5),
            FeedForward(getattr(functional, get("activation")), gated=True),
        )
        self.weights = Weights(self.part, lambda role: role in self.roles)
        for role, part, shape in self._parts():
            self._claim(role, part, shape)
        self.refuse(self.tensors.keys() - {part.key for part in self.roles.values()})

    # --- tensors -----------------------------------------------------------------------------------------------

    def _parts(self) -> Iterator[tuple[str, Part, tuple[int, ...]]]:
        """Role, place, and shape as the file has it, of everything that the model reads."""
        width, inner, vocab = (self.config[name] for name in ("width", "inner", "vocab"))
        heads, groups = self.facts.heads, self.facts.kv_heads
        yield "embedding.weight", Part("tokens"), (vocab, width)
        for i in range(self.facts.layers):
            at, block = f"layers.{i}.", f"blocks.{i}."
            yield f"{at}norm_attention.weight", Part(f"{block}norm_1"), (width,)
            for index, role in enumerate("qkv"):
                part = Part(f"{block}qkv", index=index, sizes=(heads, groups, groups))
                yield f"{at}{role}.weight", part, ((heads + 2 * groups) * self.head_dim, width)
            yield f"{at}o.weight", Part(f"{block}out", transposed=True), (width, width)
            yield f"{at}norm_ffn.weight", Part(f"{block}norm_2"), (width,)
            for index, role in enumerate(("gate", "up")):
                yield f"{at}{role}.weight", Part(f"{block}gate_up", index=index, sizes=(1, 1)), (2 * inner, width)
            yield f"{at}down.weight", Part(f"{block}down", transposed=True), (inner, width)
        yield "norm_final.weight", Part("norm"), (width,)
        yield "head.lm.weight", Part("tokens" if self.facts.tied else "head"), (vocab, width)

    def _claim(self, role: str, part: Part, shape: tuple[int, ...]) -> None:
        if part.key not in self.tensors:
            raise ConvkitError("missing tensor", path=self.path, key=part.key, remedy="restore the checkpoint")
        if (found := tuple(shape_of(self.tensors, part.key))) != shape:
            problem, remedy = f"has the shape {found}, the config says {shape}", "correct the config"
            raise ConvkitError(problem, path=self.path, key=part.key, remedy=remedy)
        self.roles[role] = part

    # --- the forward pass --------------------------------------------------------------------------------------

    def start(self, inputs: Mapping[str, Tensor]) -> State:
        """Nothing flows yet; the ids, and the mask of what comes later."""
        ids = inputs["input_ids"]
        return State({}, {"ids": ids, "mask": causal(ids.shape[1])})

    def before(self, given: Mapping[str, Any]) -> Tensor:
        """The embedding."""
        return self.weights["embedding.weight"][given["ids"]]

    def layer(self, i: int, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """One block; it leaves the points inside it to the trace."""
        turn = partial(rotate, theta=self.config["theta"])
        return self.block(self.weights.within(f"layers.{i}."), x, given["mask"], turn, partial(trace.point, i))

    def after(self, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """The last norm, and the logits."""
        x = self.block.norm(self.weights, "norm_final", x)
        trace.state("final", x)
        trace.outputs["lm"] = self.weights.linear("head.lm", x)
        return x

    # --- faults of the config ----------------------------------------------------------------------------------

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """Configs with one wrong field each: a check that doesn't see them proves nothing."""
        wrong = {
            "wrong activation": {"activation": "gelu"},
            "wrong norm epsilon": {"eps": max(1e-4, 100 * self.config["eps"])},
        }
        rebased = self.rebased(1.1)
        named = {name: {**self.config, **change} for name, change in wrong.items()}
        return named | ({"wrong rotary base": rebased} if rebased else {})

    def rebased(self, factor: float) -> dict[str, Any] | None:
        """The config with another base of the rotary frequencies."""
        theta = factor * self.config["theta"]
        return {**self.config, "theta": theta} if self.facts.base_matters else None


def rotate(x: Tensor, theta: float) -> Tensor:
    """Turn the pairs (2i, 2i + 1) of each head by position times ``theta ** (-2i / dim)``.

    Args:
        x: queries or keys ``[batch, positions, heads, dim]``, float32.
        theta: the base of the frequencies.
    """
    import torch

    positions, dim = x.shape[1], x.shape[-1]
    frequencies = theta ** (-torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), frequencies)[:, None]
    even, odd = x[..., ::2], x[..., 1::2]
    turned = even * angles.cos() - odd * angles.sin(), even * angles.sin() + odd * angles.cos()
    return torch.stack(turned, dim=-1).flatten(-2)
