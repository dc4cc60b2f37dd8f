"""The stages of the kinds of models: one stack of layers, an encoder whose output a decoder reads, or one of images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from convkit.errors import ConvkitError
from convkit.oracles.oracle import Oracle, State, Trace
from convkit.oracles.tensors import copy_of, shape_of

if TYPE_CHECKING:
    from torch import Tensor

#: roles of relative positions -> their stack; roles of what stands between the stacks -> its stage
_RELATIVE = {"positions_encoder": "encoder", "positions_decoder": "decoder"}
_BETWEEN = {"norm_encoder": "encoder.norm", "embedding_decoder": "decoder.embedding"}
#: tensors are the same if their elements differ by less, relatively: factors multiplied and rounded in float32
_ROUNDED = 1e-6
#: roles of a reader of images outside its layers -> their stage
_OF_AN_IMAGE = {
    "norm_encoder": "encoder.between",
    "tiles_after": "encoder.between",
    "projector": "encoder.projection",
    "embedding": "decoder.embedding",
} | dict.fromkeys(("tiles_before", "tile_positions"), "embedding")


class Stack(Oracle):
    """A model of one stack of layers: subclasses say what is before them, in one of them, and after them."""

    @abstractmethod
    def before(self, given: Mapping[str, Any]) -> Tensor:
        """The hidden states ``[b, s, hidden]`` that enter the layers."""

    @abstractmethod
    def layer(self, i: int, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """The hidden states that leave layer ``i``; points inside it are left in ``trace``."""

    @abstractmethod
    def after(self, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """The hidden states after the last layer; those and the heads' outputs are left in ``trace``."""

    def step(self, name: str, state: State, trace: Trace) -> State:
        """See :meth:`Oracle.step`."""
        if name == self.stages[0]:
            x = self.before(state.given)
            trace.state("embedding", x)
        elif name == self.stages[-1]:
            x = self.after(state.flow["hidden"], state.given, trace)
        else:
            i = self.layer_stages.index(name)
            x = self.layer(i, state.flow["hidden"], state.given, trace)
            trace.state(f"layers.{i}", x)
        return State({"hidden": x}, state.given)


class TwoStacks(Oracle):
    """A model of an encoder and a decoder, whose layers are stages in this order."""

    #: the number of layers of ``encoder`` and ``decoder``
    depth: dict[str, int]

    @property
    def layer_stages(self) -> tuple[str, ...]:
        """See :attr:`Oracle.layer_stages`."""
        return tuple(f"{stack}.layers.{i}" for stack, depth in self.depth.items() for i in range(depth))


class EncoderDecoder(TwoStacks):
    """A model of two stacks. Roles and states number the layers through the encoder, then the decoder.

    Between the stacks stand the encoder's norm, whose output each layer of the decoder reads, and the decoder's
    embedding.
    """

    @property
    def stages(self) -> tuple[str, ...]:
        """See :attr:`Oracle.stages`."""
        layers, first = self.layer_stages, self.depth["encoder"]
        return ("embedding", *layers[:first], "encoder.norm", "decoder.embedding", *layers[first:], "head")

    def stage_of(self, role: str) -> str:
        """See :meth:`Oracle.stage_of`; each stack has a table of relative positions, read by all its layers."""
        name = role.partition(".")[0]
        if name in _RELATIVE:
            return f"{_RELATIVE[name]}.layers.0"
        return _BETWEEN.get(name) or super().stage_of(role)

    def ties_alike(self, scale: float) -> bool:
        """Whether a head of its own is the embedding times what the hidden states before a tied head are multiplied by.

        The same model has two configs then, and neither is a fault of the other.
        """
        import torch

        keys = [self.roles[role].key for role in ("head.lm.weight", "embedding.weight")]
        if self.facts.tied or shape_of(self.tensors, keys[0]) != shape_of(self.tensors, keys[1]):
            return False
        head, embedding = (copy_of(self.tensors, key) for key in keys)
        return torch.allclose(head, embedding.mul_(scale), rtol=_ROUNDED, atol=0.0)

    @abstractmethod
    def embedded(self, stack: str, given: Mapping[str, Any]) -> Tensor:
        """The hidden states ``[b, s, hidden]`` that enter a stack."""

    @abstractmethod
    def encoded(self, x: Tensor) -> Tensor:
        """What the decoder reads of the encoder's last hidden states."""

    @abstractmethod
    def layer(self, i: int, stack: str, flow: Mapping[str, Tensor], given: Mapping[str, Any], trace: Trace) -> Tensor:
        """The hidden states that leave layer ``i``, from ``flow``: see :class:`State`."""

    @abstractmethod
    def after(self, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """The hidden states after the last layer; those and the heads' outputs are left in ``trace``."""

    def step(self, name: str, state: State, trace: Trace) -> State:
        """See :meth:`Oracle.step`."""
        flow, given = state.flow, state.given
        if name == "embedding":
            left = {"hidden": self.embedded("encoder", given)}
            trace.state("embedding", left["hidden"])
        elif name == "encoder.norm":
            left = {"encoded": self.encoded(flow["hidden"])}
            trace.state("encoded", left["encoded"])
        elif name == "decoder.embedding":
            left = {"encoded": flow["encoded"], "hidden": self.embedded("decoder", given)}
        elif name == "head":
            left = {"hidden": self.after(flow["hidden"], given, trace)}
        else:
            i, stack = self.layer_stages.index(name), name.partition(".")[0]
            left = {**flow, "hidden": self.layer(i, stack, flow, given, trace)}
            trace.state(f"layers.{i}", left["hidden"])
        return State(left, given)


class ImageReader(TwoStacks):
    """A model of text, some of whose layers attend to an image, which an encoder reads.

    Something stands between the encoder's first layers and those after them. What it gives is the last hidden states,
    beside those that some of the first layers leave. Without an image nothing flows through the encoder.
    """

    #: the number of the encoder's first layers
    first_layers: int
    #: those of them whose hidden states are kept, in the order in which they are kept
    kept: list[int]

    @property
    def stages(self) -> tuple[str, ...]:
        """See :attr:`Oracle.stages`."""
        layers, first, all_ = self.layer_stages, self.first_layers, self.depth["encoder"]
        encoder = ("embedding", *layers[:first], "encoder.between", *layers[first:all_], "encoder.projection")
        return (*encoder, "decoder.embedding", *layers[all_:], "head")

    def stage_of(self, role: str) -> str:
        """See :meth:`Oracle.stage_of`."""
        return _OF_AN_IMAGE.get(role.partition(".")[0]) or super().stage_of(role)

    @abstractmethod
    def embedded(self, stack: str, given: Mapping[str, Any]) -> Tensor:
        """The hidden states ``[b, s, hidden]`` that enter a stack."""

    @abstractmethod
    def between(self, x: Tensor, given: Mapping[str, Any]) -> Tensor:
        """What the encoder's later layers read of the hidden states that its first ones leave."""

    @abstractmethod
    def projected(self, x: Tensor, kept: Tensor, given: Mapping[str, Any]) -> Tensor:
        """What the text's layers read, ``[b, image positions, hidden]``, of the encoder's last hidden states, and of
        those that were kept, on the last axis.
        """

    @abstractmethod
    def layer(self, i: int, stack: str, flow: Mapping[str, Tensor], given: Mapping[str, Any], trace: Trace) -> Tensor:
        """The hidden states that leave layer ``i``, from ``flow``: see :class:`State`."""

    @abstractmethod
    def after(self, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """The hidden states after the last layer; those and the heads' outputs are left in ``trace``."""

    def shape_of_image(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The number of each image's shape in tiles, int64 ``[b, 1]``, from 1 on.

        Raises:
            ConvkitError: the input has pixels only.
        """
        if "aspect_ratio_ids" in inputs:
            return inputs["aspect_ratio_ids"]
        remedy = "give it beside pixel_values, [batch, 1]: 1 for the first of supported_aspect_ratios"
        raise ConvkitError("missing", path=self.path, key="aspect_ratio_ids", remedy=remedy)

    def step(self, name: str, state: State, trace: Trace) -> State:
        """See :meth:`Oracle.step`."""
        flow, given = state.flow, state.given
        if not given["image"] and (name == "embedding" or name.startswith("encoder.")):
            return state
        left = dict(flow)
        if name == "embedding":
            left["hidden"] = x = self.embedded("encoder", given)
            left["kept"] = x.new_zeros(*x.shape, len(self.kept))
            trace.state("embedding", x)
        elif name == "encoder.between":
            left["hidden"] = self.between(flow["hidden"], given)
            trace.state(name, left["hidden"])
        elif name == "encoder.projection":
            left = {"encoded": self.projected(flow["hidden"], flow["kept"], given)}
            trace.state("encoded", left["encoded"])
        elif name == "decoder.embedding":
            left["hidden"] = self.embedded("decoder", given)
            trace.state(name, left["hidden"])
        elif name == "head":
            left = {"hidden": self.after(flow["hidden"], given, trace)}
        else:
            i, stack = self.layer_stages.index(name), name.partition(".")[0]
            left["hidden"] = x = self.layer(i, stack, flow, given, trace)
            if i < self.first_layers:
                left["kept"] = self._keeping(i, x, flow["kept"])
                trace.state(f"layers.{i}.kept", left["kept"])
            trace.state(f"layers.{i}", x)
        return State(left, given)

    def _keeping(self, i: int, x: Tensor, kept: Tensor) -> Tensor:
        """What is kept after layer ``i``."""
        kept = kept.clone()
        for place, layer in enumerate(self.kept):
            if layer == i:
                kept[..., place] = x
        return kept
