"""The base class of oracles: a forward pass that reads one layout natively and names what it reads.

An oracle takes a config and the tensors of a checkpoint as they lie on disk, and runs them in
float32. It shares no code with any mapping, so if two oracles agree, that is evidence for the conversion between their
layouts. It names what it reads by *role* (``layers.3.q.weight``), the same in every layout: faults are planted by role,
and a disagreement is attributed to one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from convkit.oracles.devices import CPU, device_of, moved, on
from convkit.oracles.framework import Framework
from convkit.oracles.inputs import Input
from convkit.oracles.parts import Part
from convkit.oracles.tensors import copy_of, shape_of, window_of
from convkit.oracles.windows import Slice

if TYPE_CHECKING:
    from torch import Tensor

#: how many keys a message names before it counts the rest
_SHOWN = 3

#: Points inside a layer, in the order of computation in a pre-norm decoder, and the roles that feed each. An oracle
#: leaves those that its layers have and that it can see. Queries and keys are compared by the resulting probabilities,
#: because layouts with different rotary conventions agree only there.
POINTS: dict[str, tuple[str, ...]] = {
    "norm_attention": ("norm_attention",),
    "v": ("v",),
    "probabilities": ("q", "k"),
    "attention": ("o",),
    "norm_attention_post": ("norm_attention_post",),
    "norm_cross": ("norm_cross",),
    "cross_probabilities": ("cross_q", "cross_k", "norm_cross_q", "norm_cross_k"),
    "cross": ("cross_v", "cross_o"),
    "norm_ffn": ("norm_ffn",),
    "router": ("router",),
    "gate": ("gate",),
    "up": ("up",),
    "ffn": ("down",),
    "norm_ffn_post": ("norm_ffn_post",),
}


@dataclass(frozen=True)
class Facts:
    """The facts of a model, in terms that all layouts share."""

    layers: int
    heads: int
    kv_heads: int
    vocab_size: int
    #: positions the model allows
    positions: int
    #: the padding's id, where positions are counted from it on, without padding, whose row of the table that id is
    padding: int | None = None
    #: number of token types in the input; 0 if the model takes none
    segments: int = 0
    causal: bool = True
    #: ``half`` or ``interleaved`` for rotary models, else empty
    rotary: str = ""
    #: dims of a head that are rotated
    rotary_dim: int = 0
    #: for longrope, the input length above which the model uses other frequencies
    switches_at: int = 0
    #: whether the head is tied to the embedding
    tied: bool = False
    #: channels, height and width of the images that the model takes, instead of ids or besides; before them, where it
    #: takes several tiles an image, the numbers of images and of tiles; empty for text alone
    image: tuple[int, ...] = ()
    #: height and width of a patch of them
    patch: tuple[int, ...] = ()
    #: how many shapes there are into which tiles make an image
    shapes: int = 0

    @property
    def base_matters(self) -> bool:
        """Whether a model depends on the base of its rotary frequencies.

        Frequencies are ``base ** -(2 * i / rotary_dim)``: the first is 1 whatever the base, and a model that rotates
        one pair of dims has no other.
        """
        return bool(self.rotary) and self.rotary_dim > 2

    def other_rotary_dim(self, head_dim: int) -> int:
        """A wrong number of dims to rotate: half of them, or a pair more or less where half makes no pairs; or 0."""
        dim = self.rotary_dim
        if dim % 4 == 0:
            return dim // 2
        return dim + 2 if dim + 2 <= head_dim else dim - 2


#: the point at which a layer leaves the numbers of the experts that no token chose
IDLE = "idle"


@dataclass
class Trace:
    """The record of a run: hidden states ``[batch, positions, hidden]`` by name, in order, and outputs."""

    #: the layer whose inner points are kept as well
    detail: int | None = None
    states: dict[str, Tensor] = field(default_factory=dict)
    #: logits by the name of their head
    outputs: dict[str, Tensor] = field(default_factory=dict)
    #: the experts of the layer that no token chose
    idle: list[int] = field(default_factory=list)

    def state(self, name: str, value: Tensor) -> None:
        """Keep a hidden state."""
        self.states[name] = value

    def point(self, layer: int, point: str, value: Tensor) -> None:
        """Keep a state inside ``layer``, if that layer was requested, and the numbers of its :data:`IDLE` experts."""
        if point == IDLE:
            self.idle = value.tolist()
        elif layer == self.detail:
            self.states[f"layers.{layer}.{point}"] = value


@dataclass(frozen=True)
class State:
    """What enters or leaves a stage.

    Attributes:
        flow: what one stage leaves to the next, float32, under names that all layouts share: ``hidden`` ``[batch,
            positions, hidden]``; in an encoder-decoder also ``encoded``, what the encoder gives to each layer of the
            decoder. Empty before the first stage.
        given: what the oracle made of the inputs (ids, masks, tables of positions). It has meaning to that oracle only.
    """

    flow: Mapping[str, Tensor] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)

    def fed(self, other: State) -> State:
        """This oracle's state, with what flows in another's."""
        return State(other.flow, self.given)


#: Roles outside the layers that the first stage reads, and those that every layer does; the last reads the others.
_BEFORE = (
    *("embedding", "positions", "segments", "norm_embedding"),
    *("patches", "class_token", "class_position", "patch_positions"),
)
_IN_EACH_LAYER = ("slopes",)
#: faults of a config that show before the layers only, in logits only, in layers only, whatever the model
_OF_EMBEDDINGS = (
    "scale of the embeddings left out",
    "scale of the embeddings applied twice",
    "norm of the embeddings left out",
)
OF_LOGITS = (
    "scale of the logits left out",
    "scale of the logits applied twice",
    "softcap of the logits left out",
    "scale before the head wrong",
)
#: faults of a config that show in what a text becomes only
OF_TEXTS = ("projection left out", "an activation behind the projection", "mean of all tokens for the first")
A_SHORTER_WINDOW = "a window of one position less"
_IN_LAYERS = (
    A_SHORTER_WINDOW,
    "wrong head count",
    "wrong rotary base",
    "rotary scaling left out",
    "wrong number of rotary dims",
    "softcap of the scores left out",
    "scale of the keys left out",
    "scale of the keys applied twice",
    "one expert a token",
    "one norm for both parts of a layer",
    "parallel residual left out",
    "window on the wrong layers",
)
#: the longest window that an input of the usual length exceeds
SHORT_WINDOW = 128
#: roles of the heads whose logits are scores of the vocabulary
VOCABULARY_HEADS = ("head.lm", "head.mlm")


class Oracle(ABC):
    """A model of one layout, ready to run.

    Raises:
        ConvkitError: the config asks for something that this oracle can't run, or tensors are missing.
    """

    #: the name of the layout that it reads
    layout: ClassVar[str]
    #: whether torch runs it, and may run it elsewhere than on the processor
    in_torch: ClassVar[bool] = True
    #: the packages that run it, apart from numpy and torch
    packages: ClassVar[tuple[str, ...]] = ()
    #: how its checkpoints are recognised and opened, where that isn't as convkit knows it of the layout's framework
    framework: ClassVar[Framework | None] = None

    #: the config as the framework reads it
    config: dict[str, Any]
    tensors: Mapping[str, Tensor]
    facts: Facts
    path: Path | None
    #: role -> part; covers every tensor that the model reads
    roles: dict[str, Part]
    #: second names of a parameter, if the checkpoint holds both: copy -> original
    twins: dict[str, str]
    #: contradictions between config and tensors, with which the framework would refuse to load the checkpoint
    problems: list[str]
    #: oddities that don't change the model's results
    notes: list[str]

    @abstractmethod
    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path | None = None) -> None:
        """Bind the config and the tensors (float32, by checkpoint key); ``path`` is for messages."""

    @property
    def layer_stages(self) -> tuple[str, ...]:
        """The stage of each layer, in the order in which roles and states number them (``layers.3``)."""
        return tuple(f"layers.{i}" for i in range(self.facts.layers))

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages, in order: what comes before the layers, each layer, what comes after them."""
        return ("embedding", *self.layer_stages, "head")

    def stage_of(self, role: str) -> str:
        """The first stage that reads a role."""
        name, _, rest = role.partition(".")
        if name == "layers":
            return self.layer_stages[int(rest.partition(".")[0])]
        if name in _IN_EACH_LAYER:
            return self.layer_stages[0]
        return self.stages[0] if name in _BEFORE else self.stages[-1]

    def outside(self, role: str, stage: str) -> str:
        """The name of a role outside the layers, as a stage reads it: a model of several models has several."""
        return role

    def other(self, role: str) -> str:
        """The same role in the other of two models that are made alike; empty where there aren't two."""
        return ""

    @property
    def inputs(self) -> dict[str, Input]:
        """What :meth:`begin` takes, by name."""
        return {"input_ids": Input(self.facts.vocab_size, positions=self.facts.positions, needed=True)}

    def begin(self, inputs: Mapping[str, Tensor]) -> State:
        """The state before the first stage, from the model's :attr:`inputs`, int64."""
        device = device_of(self.tensors)
        with on(device):
            return self.start(moved(inputs, device))

    @abstractmethod
    def start(self, inputs: Mapping[str, Tensor]) -> State:
        """See :meth:`begin`; the inputs are where the tensors are."""

    def stage(self, name: str, state: State, trace: Trace) -> State:
        """Run one stage: the state after it; hidden states, points and outputs are left in ``trace``.

        A stage depends on nothing else, and reads its tensors when it runs: it can be run again, and fed with what
        flows elsewhere (:meth:`State.fed`). It runs where the tensors are; what flows and the trace are on the CPU.
        """
        device, found = device_of(self.tensors), Trace(trace.detail)
        with on(device):
            left = self.step(name, State(moved(state.flow, device), state.given), found)
        trace.states |= moved(found.states, CPU)
        trace.outputs |= moved(found.outputs, CPU)
        trace.idle = found.idle
        return State(moved(left.flow, CPU), left.given)

    @abstractmethod
    def step(self, name: str, state: State, trace: Trace) -> State:
        """See :meth:`stage`; what flows is where the tensors are."""

    def run(self, inputs: Mapping[str, Tensor], detail: int | None = None) -> Trace:
        """Run all stages on the inputs of :meth:`begin`; of layer ``detail``, inner points are kept as well."""
        import torch

        trace = Trace(detail)
        with torch.no_grad():
            state = self.begin(inputs)
            for name in self.stages:
                state = self.stage(name, state, trace)
        return trace

    @abstractmethod
    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """Configs with one wrong field each, by the name of the fault."""

    def shown_in(self, fault: str) -> frozenset[str]:
        """The stages in which one of the :meth:`wrong_configs` may change anything."""
        if fault in (*_OF_EMBEDDINGS, *OF_LOGITS, *OF_TEXTS):
            return frozenset({self.stages[0 if fault in _OF_EMBEDDINGS else -1]})
        if fault in _IN_LAYERS:
            return frozenset(self.layer_stages)
        if fault == "wrong norm epsilon":
            return frozenset(self.stage_of(role) for role in self.roles if ".norm_" in f".{role}")
        return frozenset(self.stages)

    def factors(self) -> dict[str, float]:
        """By role, what the model multiplies that roles give, if another framework has that in its weights (muP)."""
        return {}

    def rebased(self, factor: float) -> dict[str, Any] | None:
        """The config with the base of its rotary frequencies multiplied; None where no base matters."""
        return None

    def refuse(self, strangers: Iterable[str]) -> None:
        """Note the keys of the file that the model doesn't have, if any."""
        keys = sorted(strangers)
        if keys:
            shown = ", ".join(keys[:_SHOWN]) + (f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")
            self.problems.append(f"the file holds what the config's model does not have: {shown}")

    def part(self, role: str) -> Tensor:
        """The tensor of a role, ``[out, in]`` or ``[out]``."""
        return self.roles[role].of(self.tensors)

    def rotates(self, layer: int) -> bool:
        """Whether a layer has rotary positions."""
        return bool(self.facts.rotary)

    def offset(self, role: str) -> float:
        """What the model adds to the elements of a role as they are stored: 1 for scales of norms stored minus one."""
        return 0.0

    def part_shape(self, role: str) -> tuple[int, ...]:
        """The shape of :meth:`part`; nothing is read for it."""
        part = self.roles[role]
        return part.shape_of(shape_of(self.tensors, part.key))

    @property
    def vocabulary(self) -> dict[str, int]:
        """The tensors whose rows are the vocabulary at a head, with the axis on which they lie.

        The last stage can be run with a range of these rows: the head's logits are those of these tokens.
        """
        return self._rows_of(f"{head}.{end}" for head in VOCABULARY_HEADS for end in ("weight", "bias"))

    @property
    def tables(self) -> dict[str, int]:
        """The tables of token embeddings, with the axis on which the rows lie; only those of the input are used."""
        return self._rows_of(f"{role}.weight" for role in ("embedding", "embedding_decoder"))

    def _rows_of(self, roles: Iterable[str]) -> dict[str, int]:
        parts = {part.key: part for part in (self.roles[role] for role in roles if role in self.roles)}
        own = {key: part.rows_axis(len(shape_of(self.tensors, key))) for key, part in parts.items()}
        return own | {copy: own[original] for copy, original in self.twins.items() if original in own}

    def edits(self, changes: Mapping[str, Tensor | Callable[[], Tensor]]) -> dict[str, Callable[[], Tensor]]:
        """How the tensors with these roles' parts, and their second names, are made with the parts replaced.

        A part can be given as a function, which is called when the tensor is made.
        """
        by_key: dict[str, dict[Part, Tensor | Callable[[], Tensor]]] = {}
        for role, value in changes.items():
            part = self.roles[role]
            by_key.setdefault(part.key, {})[part] = value
        made: dict[str, Callable[[], Tensor]] = {key: partial(self._edit, key, parts) for key, parts in by_key.items()}
        return made | {copy: made[original] for copy, original in self.twins.items() if original in made}

    def _edit(self, key: str, parts: Mapping[Part, Tensor | Callable[[], Tensor]]) -> Tensor:
        window = window_of(self.tensors, key)
        for part, value in parts.items():
            if part.is_whole:  # and then it's the only one: nothing of the tensor as it was is needed
                return part.stored(value() if callable(value) else value, window)
        whole = copy_of(self.tensors, key)
        for part, value in parts.items():
            if not isinstance(window, Slice) or part.within(window):
                part.put(whole, value() if callable(value) else value, window)
        return whole

    def rebuilt(self, config: Mapping[str, Any] | None = None, tensors: Mapping[str, Tensor] | None = None) -> Oracle:
        """The same oracle class with another config or other tensors."""
        tensors = self.tensors if tensors is None else tensors
        return type(self)(config or self.config, tensors, self.path)

    @classmethod
    def reconcile(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], list[str]]:
        """The config corrected where tensors may overrule it, and a line for each correction."""
        return dict(config), []
