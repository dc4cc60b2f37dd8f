"""The base class of oracles: a forward pass that reads one layout natively and names what it reads.

An oracle takes a config and the tensors of a checkpoint as they lie on disk, and runs them in
float32. It shares no code with any mapping, so if two oracles agree, that is evidence for the conversion between their
layouts. It names what it reads by *role* (``layers.3.q.weight``), the same in every layout: faults are planted by role,
and a disagreement is attributed to one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from torch import Tensor

#: how many keys a message names before it counts the rest
_SHOWN = 3

#: Points inside a layer that every layout has, in the order of computation in a pre-norm decoder, and the roles that
#: feed each. Queries and keys are compared by the resulting probabilities, because layouts with different rotary
#: conventions agree only there.
POINTS: dict[str, tuple[str, ...]] = {
    "norm_attention": ("norm_attention",),
    "v": ("v",),
    "probabilities": ("q", "k"),
    "attention": ("o",),
    "norm_ffn": ("norm_ffn",),
    "gate": ("gate",),
    "up": ("up",),
    "ffn": ("down",),
}


@dataclass(frozen=True, slots=True)
class Part:
    """The place of a role: a tensor, or one of the equal parts of a fused tensor."""

    key: str
    #: the layout stores ``[in, out]``
    transposed: bool = False
    index: int = 0
    parts: int = 1

    def of(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The part as ``[out, in]`` (or ``[out]``), a view: writing to it changes the tensor."""
        whole = tensors[self.key]
        whole = whole.movedim(-1, 0) if self.transposed else whole
        rows = whole.shape[0] // self.parts
        return whole[self.index * rows : (self.index + 1) * rows]


@dataclass(frozen=True)
class Facts:
    """The facts of a model, in terms that all layouts share."""

    layers: int
    heads: int
    kv_heads: int
    vocab_size: int
    #: positions the model allows
    positions: int
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

    @property
    def base_matters(self) -> bool:
        """Whether a model depends on the base of its rotary frequencies.

        Frequencies are ``base ** -(2 * i / rotary_dim)``: the first is 1 whatever the base, and a model that rotates
        one pair of dims has no other.
        """
        return bool(self.rotary) and self.rotary_dim > 2


@dataclass
class Trace:
    """The record of a run: hidden states ``[batch, positions, hidden]`` by name, in order, and outputs."""

    #: the layer whose inner points are kept as well
    detail: int | None = None
    states: dict[str, Tensor] = field(default_factory=dict)
    #: logits by the name of their head
    outputs: dict[str, Tensor] = field(default_factory=dict)

    def state(self, name: str, value: Tensor) -> None:
        """Keep a hidden state."""
        self.states[name] = value

    def point(self, layer: int, point: str, value: Tensor) -> None:
        """Keep a state inside ``layer``, if that layer was requested."""
        if layer == self.detail:
            self.states[f"layers.{layer}.{point}"] = value


class Oracle(ABC):
    """A model of one layout, ready to run.

    Raises:
        ConvkitError: the config asks for something that this oracle can't run, or tensors are missing.
    """

    #: the name of the layout that it reads
    layout: ClassVar[str]

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

    @abstractmethod
    def run(self, inputs: Mapping[str, Tensor], detail: int | None = None) -> Trace:
        """Run ``input_ids`` [b, s] with ``attention_mask`` and ``token_type_ids``, if the model takes them."""

    @abstractmethod
    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """Configs with one wrong field each, by the name of the fault."""

    def rebased(self, factor: float) -> dict[str, Any] | None:
        """The config with the base of its rotary frequencies multiplied; None where no base matters."""
        return None

    @abstractmethod
    def untied(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Config and tensors of a tied model, changed so that the head has a tensor of its own."""

    def refuse(self, strangers: Iterable[str]) -> None:
        """Note the keys of the file that the model doesn't have, if any."""
        keys = sorted(strangers)
        if keys:
            shown = ", ".join(keys[:_SHOWN]) + (f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")
            self.problems.append(f"the file holds what the config's model does not have: {shown}")

    def part(self, role: str) -> Tensor:
        """The tensor of a role, ``[out, in]`` or ``[out]``."""
        return self.roles[role].of(self.tensors)

    def edited(self, changes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A copy of the tensors with these roles' parts, and their second names, replaced."""
        tensors = dict(self.tensors)
        touched = {self.roles[role].key for role in changes}
        for key in touched:
            tensors[key] = tensors[key].clone()
        for role, value in changes.items():
            self.roles[role].of(tensors).copy_(value)
        return tensors | {copy: tensors[original] for copy, original in self.twins.items() if original in touched}

    def rebuilt(self, config: Mapping[str, Any] | None = None, tensors: Mapping[str, Tensor] | None = None) -> Oracle:
        """The same oracle class with another config or other tensors."""
        return type(self)(config or self.config, tensors or self.tensors, self.path)

    @classmethod
    def reconcile(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], list[str]]:
        """The config corrected where tensors may overrule it, and a line for each correction."""
        return dict(config), []
