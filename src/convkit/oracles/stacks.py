"""The stages of the two kinds of models: one stack of layers, and an encoder whose output a decoder reads."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from convkit.oracles.oracle import Oracle, State, Trace

if TYPE_CHECKING:
    from torch import Tensor

#: roles of relative positions -> their stack; roles of what stands between the stacks -> its stage
_RELATIVE = {"positions_encoder": "encoder", "positions_decoder": "decoder"}
_BETWEEN = {"norm_encoder": "encoder.norm", "embedding_decoder": "decoder.embedding"}


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


class EncoderDecoder(Oracle):
    """A model of two stacks. Roles and states number the layers through the encoder, then the decoder.

    Between the stacks stand the encoder's norm, whose output each layer of the decoder reads, and the decoder's
    embedding.
    """

    #: the number of layers of ``encoder`` and ``decoder``
    depth: dict[str, int]

    @property
    def layer_stages(self) -> tuple[str, ...]:
        """See :attr:`Oracle.layer_stages`."""
        return tuple(f"{stack}.layers.{i}" for stack, depth in self.depth.items() for i in range(depth))

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
