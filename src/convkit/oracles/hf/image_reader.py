"""Models of ``transformers`` whose text attends to images: run a layer at a time by the library's own code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from convkit.oracles.hf.family import OUTPUTS, Architecture, Modules, names_of
from convkit.oracles.hf.image_readers import TextAndImage
from convkit.oracles.hf.loading import reading
from convkit.oracles.hf.model import NEIGHBOUR, HfOracle
from convkit.oracles.hf.stages import Call, Listener, Parts, first, in_order, listening, second
from convkit.oracles.hf.wrong import other_base, wrong_rotary
from convkit.oracles.inputs import Input
from convkit.oracles.oracle import Facts, State, Trace
from convkit.oracles.parts import Cut, Lines, Part
from convkit.oracles.stacks import ImageReader

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

_OF_IMAGE = " of the image's layers"
_KEPT = "hidden states of other layers kept"


class HfImageReader(ImageReader, HfOracle):
    """A model that reads text, and an image a row. Each token sees all tiles of its row's image, and no others."""

    family: ClassVar[TextAndImage]

    def _architecture(self) -> Architecture:
        """See :meth:`HfOracle._architecture`."""
        return self.family.architectures[0]

    @property
    def text(self) -> Any:
        """See :attr:`HfOracle.text`."""
        return self.parsed.text_config

    @property
    def vision(self) -> Any:
        """The library's config of the image's model."""
        return self.parsed.vision_config

    @property
    def _embedding(self) -> str:
        """See :attr:`HfOracle._embedding`: as published, or as the model has it."""
        name = f"{self.family.trunk}.{super()._embedding}.weight"
        return self._key(name).removeprefix(f"{self.family.trunk}.").removesuffix(".weight")

    def _key(self, name: str) -> str:
        """The key of a parameter in this checkpoint."""
        if name in self.tensors:
            return name
        begins = ((now, before) for now, before in self.family.published.items() if name.startswith(now))
        return next((before + name.removeprefix(now) for now, before in begins), name)

    def _facts(self) -> Facts:
        """See :meth:`HfOracle._facts`."""
        facts, vision = super()._facts(), self.vision
        self.first_layers = vision.num_hidden_layers
        self.kept = [i % self.first_layers for i in vision.intermediate_layers_indices]
        self.depth = {"encoder": self.first_layers + vision.num_global_layers, "decoder": facts.layers}
        return replace(
            facts,
            layers=sum(self.depth.values()),
            tied=False,
            image=(1, vision.max_num_tiles, vision.num_channels, vision.image_size, vision.image_size),
            patch=(vision.patch_size, vision.patch_size),
            shapes=len(vision.supported_aspect_ratios),
        )

    def rotates(self, layer: int) -> bool:
        """See :meth:`Oracle.rotates`."""
        return self._kind(layer)[0] is self.family.inside

    def _kind(self, i: int) -> tuple[Modules, Mapping[str, str], str]:
        """Of a layer: the modules and gates inside it, and where it is in the base model."""
        family, number = self.family, i - self.depth["encoder"]
        if i < self.first_layers:
            return family.inside_image, {}, f"{family.first}.{i}"
        if number < 0:
            return family.inside_image, family.gates_image, f"{family.later}.{i - self.first_layers}"
        crossing = number in self.text.cross_attention_layers
        modules = (family.inside_crossing, family.gates) if crossing else (family.inside, {})
        return *modules, f"{family.layers}.{number}"

    def _roles(self) -> Iterator[tuple[str, Part]]:
        """See :meth:`HfOracle._roles`."""
        family, at = self.family, f"{self.family.trunk}."
        for role, name in family.parameters.items():
            key = self._key(at + name)
            kinds = {"patches.weight": Cut(key, ins=(1, 2, 3)), "class_token.weight": Lines(key)}
            yield role, kinds.get(role, Part(key))
        for role in family.outside:
            yield from self._of_module(role, at + self._of(role))
        for i in range(self.facts.layers):
            inside, gates, place = self._kind(i)
            for role in inside:
                yield from self._of_module(f"layers.{i}.{role}", f"{at}{place}.{names_of(inside, role)[0]}")
            for role, name in gates.items():
                yield f"layers.{i}.{role}", Part(self._key(f"{at}{place}.{name}"))
        for role in family.heads:
            yield from self._parts(role, names_of(family.heads, role))

    def _of_module(self, role: str, module: str) -> Iterator[tuple[str, Part]]:
        """Weight and bias of a role."""
        for end in ("weight", "bias"):
            if (key := self._key(f"{module}.{end}")) in self.tensors:
                yield f"{role}.{end}", Part(key)

    @property
    def inputs(self) -> dict[str, Input]:
        """See :attr:`Oracle.inputs`."""
        return {
            **super().inputs,
            "pixel_values": Input(image=self.facts.image),
            "aspect_ratio_ids": Input(self.facts.shapes + 1, positions=1),
        }

    @cached_property
    def parts(self) -> Parts:
        """The model and its parts."""
        import torch

        base, family, vision = self.model.get_submodule(self.family.trunk), self.family, self.vision
        sides = (vision.image_size // vision.patch_size,) * 2

        def no_patches(pixels: Tensor) -> Tensor:
            return torch.zeros(len(pixels), vision.hidden_size, *sides)

        def not_projected(states: Tensor) -> Tensor:
            return torch.zeros(*states.shape[:-1], self.text.hidden_size)

        nothing = {base.get_submodule(family.patches): no_patches, base.get_submodule(family.projector): not_projected}
        layers = [base.get_submodule(self._kind(i)[2]) for i in range(self.facts.layers)]
        return Parts(self.model, [self._outside("embedding")], layers, nothing)

    def _outside(self, role: str) -> Module:
        found: Module = self.model.get_submodule(f"{self.family.trunk}.{self._of(role)}")
        return found

    def start(self, inputs: Mapping[str, Tensor]) -> State:
        """See :meth:`Oracle.start`; the masks are those that the library's processor makes."""
        import torch

        given = {
            name: value for name, value in inputs.items() if name != "aspect_ratio_ids" or "pixel_values" in inputs
        }
        if "pixel_values" in inputs:
            areas = [1, *(rows * columns for rows, columns in self.vision.supported_aspect_ratios)]
            count = torch.tensor(areas)[self.shape_of_image(inputs)]
            there = (torch.arange(self.vision.max_num_tiles) < count[..., None]).long()
            given["aspect_ratio_mask"] = there
            given["cross_attention_mask"] = there[:, None].expand(-1, inputs["input_ids"].shape[1], -1, -1)
        state = super().start(given)
        return State(given={**state.given, "image": "pixel_values" in inputs})

    def step(self, name: str, state: State, trace: Trace) -> State:
        """See :meth:`Oracle.step`."""
        with reading(self._modules(name), self.sources, self.tensors):
            return ImageReader.step(self, name, state, trace)

    def _modules(self, stage: str) -> Iterable[Module]:
        """See :meth:`HfOracle._modules`."""
        if stage in self.layer_stages:
            return self.parts.layers[self.layer_stages.index(stage)].modules()
        family, trunk = self.family, self.model.get_submodule(self.family.trunk)
        own = {
            "encoder.between": family.between,
            "encoder.projection": (family.projector,),
            "decoder.embedding": (self._of("embedding"),),
            "head": (self._of("norm_final"),),
        }
        modules = {name: {*self._below(trunk, names)} for name, names in own.items()}
        if stage == "head":
            return [*modules[stage], self.model.get_output_embeddings()]
        if stage in own:
            return modules[stage]
        others = {module for layer in self.parts.layers for module in layer.modules()}.union(*modules.values())
        return [module for module in trunk.modules() if module not in others]

    def _below(self, trunk: Module, names: Iterable[str]) -> Iterator[Module]:
        for name in names:
            yield from trunk.get_submodule(name).modules()

    def _of(self, role: str) -> str:
        """The module of a role outside the layers."""
        return names_of(self.family.outside, role)[0]

    def embedded(self, stack: str, given: Mapping[str, Any]) -> Tensor:
        """See :meth:`ImageReader.embedded`."""
        return self.parts.entering(given["inputs"], 0 if stack == "encoder" else self.depth["encoder"])

    def between(self, x: Tensor, given: Mapping[str, Any]) -> Tensor:
        """See :meth:`ImageReader.between`."""
        first_ = self.first_layers
        return self.parts.reaching(given["inputs"], first_, {first_ - 1: x})[0]

    def projected(self, x: Tensor, kept: Tensor, given: Mapping[str, Any]) -> Tensor:
        """See :meth:`ImageReader.projected`."""
        whole = self.depth["encoder"]
        returned = {layer: kept[..., place] for place, layer in enumerate(self.kept)} | {whole - 1: x}
        _, call = self.parts.reaching(given["inputs"], whole, returned)
        states: Tensor = call.kwargs["cross_attention_states"]
        return states.reshape(len(x), -1, states.shape[-1])

    def layer(self, i: int, stack: str, flow: Mapping[str, Tensor], given: Mapping[str, Any], trace: Trace) -> Tensor:
        """See :meth:`ImageReader.layer`."""
        x, layer = flow["hidden"], self.parts.layers[i]
        if i not in given["calls"]:
            return x
        call: Call = given["calls"][i]
        if "encoded" in flow:
            call = replace(call, kwargs={**call.kwargs, "cross_attention_states": flow["encoded"]})
        points: dict[str, Tensor] = {}
        with listening(self._inner(i) if i == trace.detail else (), points.__setitem__):
            hidden = first(call.of(layer, x))
        for point in in_order(points):
            trace.point(i, point, points[point])
        return hidden

    def _inner(self, i: int) -> Iterator[Listener]:
        """What leaves the points inside a layer."""
        inside, modules = self._kind(i)[0], dict(self.parts.layers[i].named_modules())
        if self.family.cross_attention in modules:
            yield "cross_probabilities", modules[self.family.cross_attention], second
        else:
            yield "probabilities", modules[self.family.attention], second
        for role in inside:
            if role in OUTPUTS:
                yield OUTPUTS[role], modules[names_of(inside, role)[0]], first

    def after(self, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """See :meth:`ImageReader.after`."""
        with listening([("final", self._outside("norm_final"), first)], trace.state):
            trace.outputs.update(self._logits(self.parts.leaving(given["inputs"], x, max(given["calls"]))))
        return x

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        text, vision = self.config["text_config"], self.config["vision_config"]
        wrong: dict[str, dict[str, Any]] = {
            "wrong activation": {"hidden_act": NEIGHBOUR.get(text["hidden_act"], "relu")},
            "wrong norm epsilon": {"rms_norm_eps": max(1e-4, 100 * float(text["rms_norm_eps"]))},
            **wrong_rotary(text, self._rope, self.facts, self._head_dim),
        }
        others = [(i + 1) % self.depth["decoder"] for i in text["cross_attention_layers"]]
        if sorted(others) != sorted(text["cross_attention_layers"]):
            wrong["other layers attend to the image"] = {"cross_attention_layers": others}
        image: dict[str, dict[str, Any]] = {
            f"wrong activation{_OF_IMAGE}": {"hidden_act": NEIGHBOUR.get(vision["hidden_act"], "relu")},
            f"wrong norm epsilon{_OF_IMAGE}": {"norm_eps": max(1e-4, 100 * float(vision["norm_eps"]))},
        }
        if vision["attention_heads"] % 2 == 0:
            image[f"wrong head count{_OF_IMAGE}"] = {"attention_heads": vision["attention_heads"] // 2}
        if self.first_layers > 1:
            image[_KEPT] = {"intermediate_layers_indices": [(i + 1) % self.first_layers for i in self.kept]}
        found: dict[str, dict[str, Any]] = {name: {"text_config": {**text, **change}} for name, change in wrong.items()}
        found |= {name: {"vision_config": {**vision, **change}} for name, change in image.items()}
        return {name: {**self.config, **change} for name, change in found.items()}

    def shown_in(self, fault: str) -> frozenset[str]:
        """See :meth:`Oracle.shown_in`."""
        encoder = self.layer_stages[: self.depth["encoder"]]
        if fault == _KEPT:
            return frozenset(encoder[: self.first_layers])
        if fault.endswith(_OF_IMAGE):
            return frozenset(encoder)
        return super().shown_in(fault) & {*self.layer_stages[len(encoder) :], "head"}

    def rebased(self, factor: float) -> dict[str, Any] | None:
        """See :meth:`Oracle.rebased`."""
        found = other_base(self._rope, self.facts, factor)
        return {**self.config, "text_config": {**self.config["text_config"], **found}} if found else None
