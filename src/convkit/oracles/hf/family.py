"""What a row of the tables says: where a family of ``transformers`` keeps what.

Modules are named as in the keys of checkpoints. Where a module has another name in the model, or in other releases,
the row gives both, and the first that is there counts.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any

#: a module, or all of its names
Names = str | tuple[str, ...]
#: role -> module
Modules = Mapping[str, Names]
Config = dict[str, Any]
#: role in a layer -> the point that its module's output is
OUTPUTS = {
    "norm_attention": "norm_attention",
    "v": "v",
    "o": "attention",
    "norm_attention_post": "norm_attention_post",
    "norm_cross": "norm_cross",
    "cross_o": "cross",
    "norm_ffn": "norm_ffn",
    "gate": "gate",
    "up": "up",
    "down": "ffn",
    "norm_ffn_post": "norm_ffn_post",
}


@dataclass(frozen=True)
class Architecture:
    """A class of models of a family.

    Attributes:
        name: the class in ``transformers``.
        heads: modules outside the base model, all of which its checkpoints have.
        outputs: head -> the fields of the model's result that hold its logits; several are stacked on the last axis.
    """

    name: str
    heads: tuple[str, ...] = ()
    outputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of models.

    Attributes:
        name: how the names of its classes begin: ``GPT2`` for ``GPT2Config`` and ``GPT2Model``.
        trunk: attribute of the base model within a model with a head, and its prefix in keys; or all that it may be.
        layers: the list of layers in the base model.
        layers_now: the same in the model, where keys have its former name.
        outside: role -> module of the base model.
        inside: role -> module of a layer; ``q+k+v`` is one module with the parts of three roles, in that order.
            ``{e}`` numbers the experts.
        heads: role -> module outside the base model.
        attention: module of a layer that returns its output and the probabilities.
        feed_forward: module of a layer whose output is that of the feed-forward part, where no role ``down`` has it.
        architectures: its classes; the first that fits a checkpoint is taken, the last is the base model.
        cut: the groups and sizes (:class:`~convkit.oracles.parts.Part`) of a fused module, from the config.
        padding: the padding's id, from the config, where positions are counted from it on
            (:class:`~convkit.oracles.oracle.Facts`).
        rotary: ``half`` or ``interleaved``, unless the config says that the model has no rotary positions.
        padded: whether padding leaves the other positions as they are, and its own as other frameworks have them; else
            the models are run without padding.
        spare: how keys end that a checkpoint may lack: the model makes them anew, or doesn't use them for its outputs.
        activation: field of the config; empty where the model has no choice.
        epsilon: field of the config: the norms'.
        minus_one: whether the scales of norms are stored minus one.
        states: hidden state after the layers -> module of the base model.
        wrong: name of a fault in the config -> the fields that it changes.
        tables: role -> parameter of the base model that is a table, of a model of images.
        also: what else ``model_type`` may be in its configs.
        respelled: a config as the library spells it.
    """

    name: str
    trunk: Names
    layers: str
    layers_now: str = ""
    outside: Modules
    inside: Modules
    heads: Modules
    attention: str
    feed_forward: str = ""
    architectures: tuple[Architecture, ...]
    cut: Callable[[Any], tuple[int, tuple[int, ...]]] = lambda config: (1, (1, 1, 1))
    padding: Callable[[Any], int | None] = lambda config: None
    rotary: str = ""
    padded: bool = True
    spare: tuple[str, ...] = ()
    activation: str = ""
    epsilon: str
    minus_one: bool = False
    states: Mapping[str, str]
    wrong: Mapping[str, Callable[[Config], Config]] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    respelled: Callable[[Config], Config] = lambda config: config


def names_of(modules: Modules, role: str) -> tuple[str, ...]:
    """All names of a role's module."""
    found = modules[role]
    return (found,) if isinstance(found, str) else found


def trunk_of(family: Family, embedding: str, keys: Container[str]) -> tuple[str, str]:
    """The base model's attribute, and its prefix in these keys; ``embedding`` is a module that it always has."""
    trunks = (family.trunk,) if isinstance(family.trunk, str) else family.trunk
    found = next((one for one in trunks if f"{one}.{embedding}.weight" in keys), "")
    return found or trunks[0], f"{found}." if found else ""
