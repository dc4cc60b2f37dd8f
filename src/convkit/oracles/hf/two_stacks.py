"""Encoder-decoders of ``transformers``: two stacks, run a layer at a time by the library's own code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from inspect import signature
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar

from convkit.oracles.hf.encoder_decoders import TwoStacks
from convkit.oracles.hf.family import OUTPUTS, Architecture, Modules, names_of
from convkit.oracles.hf.loading import Source, reading
from convkit.oracles.hf.model import HfOracle
from convkit.oracles.hf.stages import Call, Listener, Parts, first, in_order, last, listening
from convkit.oracles.inputs import Input
from convkit.oracles.oracle import Facts, State, Trace
from convkit.oracles.parts import Part
from convkit.oracles.stacks import EncoderDecoder

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


class HfEncoderDecoder(EncoderDecoder, HfOracle):
    """A model whose layers have one bias of positions a stack, which the stack's first layer makes."""

    family: ClassVar[TwoStacks]

    def _architecture(self) -> Architecture:
        """See :meth:`HfOracle._architecture`."""
        return self.family.architectures[0]

    def _load(self) -> Any:
        """See :meth:`HfOracle._load`; each stack has a module of the embedding, and all of them read one tensor."""
        model = super()._load()
        for parameter, source in self.sources.items():
            for original in [self.twins[key] for key in source.keys if key in self.twins]:
                self.sources[parameter] = Source(frozenset([original]), itemgetter(original))
        return model

    def _tie(self, copy: str, original: str) -> None:
        """See :meth:`HfOracle._tie`; a head is one of its own where the hidden states aren't scaled before it."""
        if copy not in self._heads or self.parsed.scale_decoder_outputs:
            super()._tie(copy, original)

    @property
    def _heads(self) -> list[str]:
        return [f"{name}.weight" for role in self.family.heads for name in names_of(self.family.heads, role)]

    def _facts(self) -> Facts:
        """See :meth:`HfOracle._facts`."""
        self.depth = {"encoder": self.parsed.num_layers, "decoder": self.parsed.num_decoder_layers}
        own = any(head in self.tensors and head not in self.twins for head in self._heads)
        return replace(super()._facts(), layers=sum(self.depth.values()), causal=False, tied=not own)

    def _place(self, i: int) -> tuple[str, int]:
        """The stack of a layer, and its number there."""
        stack, _, number = self.layer_stages[i].split(".")
        return stack, int(number)

    def _inside(self, stack: str) -> Modules:
        return self.family.inside if stack == "encoder" else self.family.inside_decoder

    def _roles(self) -> Iterator[tuple[str, Part]]:
        """See :meth:`HfOracle._roles`."""
        family = self.family
        for role in family.outside:
            yield from self._parts(role, names_of(family.outside, role))
        for i in range(self.facts.layers):
            stack, number = self._place(i)
            inside = self._inside(stack)
            for role in inside:
                modules = [f"{stack}.{family.layers}.{number}.{name}" for name in names_of(inside, role)]
                yield from self._parts(f"layers.{i}.{role}", modules)
        for role in family.heads:
            yield from self._parts(role, [self._embedding] if self.facts.tied else names_of(family.heads, role))

    @property
    def inputs(self) -> dict[str, Input]:
        """See :attr:`Oracle.inputs`."""
        return {
            **super().inputs,
            "decoder_input_ids": Input(self.facts.vocab_size, needed=True),
            "decoder_attention_mask": Input(2, like="decoder_input_ids"),
        }

    @cached_property
    def parts(self) -> Parts:
        """The model and its parts."""
        before = [self._module(stack, self.family.embeddings) for stack in self.depth]
        layers = [layer for stack in self.depth for layer in self._module(stack, self.family.layers).children()]
        return Parts(self.model, before, layers, left=lambda hidden: (hidden, None, None))

    def _module(self, stack: str, name: str) -> Module:
        found: Module = self.base.get_submodule(f"{stack}.{name}")
        return found

    def _outside(self, role: str) -> Module:
        found: Module = self.base.get_submodule(names_of(self.family.outside, role)[0])
        return found

    def step(self, name: str, state: State, trace: Trace) -> State:
        """See :meth:`Oracle.step`."""
        with reading(self._modules(name), self.sources, self.tensors):
            return super().step(name, state, trace)

    def _modules(self, stage: str) -> Iterable[Module]:
        """See :meth:`HfOracle._modules`; each layer reads its stack's table of positions."""
        if stage in self.layer_stages:
            layer = self.parts.layers[self.layer_stages.index(stage)]
            return [*layer.modules(), self._outside(f"positions_{stage.partition('.')[0]}")]
        if stage == "head":
            return [
                self._outside("norm_decoder"),
                *(self.base.get_submodule(head.rpartition(".")[0]) for head in self._heads),
            ]
        if stage == "encoder.norm":
            return [self._outside("norm_encoder")]
        return [self._module("encoder" if stage == "embedding" else "decoder", self.family.embeddings)]

    def embedded(self, stack: str, given: Mapping[str, Any]) -> Tensor:
        """See :meth:`EncoderDecoder.embedded`."""
        return self.parts.entering(given["inputs"], 0 if stack == "encoder" else self.depth["encoder"])

    def encoded(self, x: Tensor) -> Tensor:
        """See :meth:`EncoderDecoder.encoded`."""
        found: Tensor = self._outside("norm_encoder")(x)
        return found

    def layer(self, i: int, stack: str, flow: Mapping[str, Tensor], given: Mapping[str, Any], trace: Trace) -> Tensor:
        """See :meth:`EncoderDecoder.layer`."""
        layer, call = self.parts.layers[i], given["calls"][i]
        points: dict[str, Tensor] = {}
        with listening(self._points(layer) if i == trace.detail else (), points.__setitem__):
            hidden = first(self._called(layer, i, stack, call, flow))
        for point in in_order(points):
            trace.point(i, point, points[point])
        return hidden

    def _called(self, layer: Module, i: int, stack: str, call: Call, flow: Mapping[str, Tensor]) -> Any:
        """What a layer returns, in a call as the model makes it once the layers before it have run."""
        hidden = flow["hidden"]
        bound = signature(type(layer).forward).bind(layer, hidden, *call.args, **call.kwargs)
        given = {name: value for name, value in bound.arguments.items() if name not in ("self", "kwargs")}
        if number := self._place(i)[1]:
            maker: Any = self.parts.layers[i - number].get_submodule(self.family.attention)
            given["position_bias"] = maker.compute_bias(hidden.shape[1], hidden.shape[1], device=hidden.device)
        if stack == "decoder":
            given["encoder_hidden_states"] = flow["encoded"]
        return layer(**given, **bound.arguments.get("kwargs", {}))

    def _points(self, layer: Module) -> Iterator[Listener]:
        """See :meth:`HfOracle._points`."""
        modules, family = dict(layer.named_modules()), self.family
        inside = self._inside("decoder" if family.cross_attention in modules else "encoder")
        yield "probabilities", modules[family.attention], last
        if family.cross_attention in modules:
            yield "cross_probabilities", modules[family.cross_attention], last
        for role in inside:
            for name in [name for name in names_of(inside, role) if name in modules and role in OUTPUTS][:1]:
                yield OUTPUTS[role], modules[name], first

    def after(self, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """See :meth:`EncoderDecoder.after`."""
        with listening(self._after(), trace.state):
            trace.outputs.update(self._logits(self.parts.leaving(given["inputs"], x)))
        return x

    def _after(self) -> Iterator[Listener]:
        """See :meth:`HfOracle._after`."""
        yield from ((state, self.base.get_submodule(name), first) for state, name in self.family.states.items())

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`; the table of positions shows the number of heads."""
        wrong = super().wrong_configs()
        wrong.pop("wrong head count", None)
        if self.ties_alike(float(self.parsed.d_model**-0.5)):
            wrong.pop("scale before the head wrong", None)
        return wrong
