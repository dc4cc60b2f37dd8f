"""Running a ``transformers`` model in parts, by its own code.

A model embeds its input, calls its layers one after another with arguments of its own making (masks, rotary tables),
and computes logits. The arguments are found by a run in which no layer does anything; what enters the layers, by a run
that ends at the first; and what comes after them, by a run whose last layer returns what it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from convkit.oracles.parts import Part

#: the name of a state, the module whose output holds it, and how it's taken from that
Listener = tuple[str, "Module", Callable[[Any], "Tensor"]]


@dataclass(frozen=True)
class Call:
    """The arguments of a layer's call, apart from the hidden states ``[batch, positions, hidden]``."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def of(self, layer: Module, hidden: Tensor) -> Any:
        """Call a layer."""
        return layer(hidden, *self.args, **self.kwargs)


def _either(hidden: Tensor) -> Tensor:
    """Hidden states as the output of a layer: a model takes that, or the first of several things in it."""
    import torch

    class Either(torch.Tensor):
        def __getitem__(self, index: Any) -> Any:
            plain = self.as_subclass(torch.Tensor)
            return plain if type(index) is int and index == 0 else plain[index]

        __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    return hidden.as_subclass(Either)


@dataclass(frozen=True)
class Parts:
    """A model and its parts.

    Attributes:
        model: the whole.
        before: the modules that it calls before its layers: tables, and their norm.
        layers: its layers, in order.
        nothing: what modules before the layers do where they are to do nothing.
        left: what a layer returns that leaves these hidden states.
    """

    model: Module
    before: Sequence[Module]
    layers: Sequence[Module]
    nothing: Mapping[Module, Callable[..., Any]] = field(default_factory=dict)
    left: Callable[[Tensor], Any] = _either

    def calls(self, inputs: Mapping[str, Tensor]) -> dict[int, Call]:
        """How the model calls each of its layers, by number; no module with parameters runs.

        A layer that these inputs don't need isn't there.
        """
        found: dict[int, Call] = {}

        def record(i: int, hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
            found[i] = Call(args, kwargs)
            if i + 1 == len(self.layers):
                raise _Stopped
            return self.left(hidden_states)

        layers = {layer: partial(record, i) for i, layer in enumerate(self.layers)}
        with instead(self._nothing_before() | layers), suppress(_Stopped):
            self.model(**inputs)
        return found

    def entering(self, inputs: Mapping[str, Tensor], layer: int = 0) -> Tensor:
        """The hidden states that enter the first layer, or those that enter a later one if those before it do
        nothing.
        """
        return self.reaching(inputs, layer, {})[0]

    def reaching(self, inputs: Mapping[str, Tensor], layer: int, returned: Mapping[int, Tensor]) -> tuple[Tensor, Call]:
        """The hidden states that enter a layer, and its call, if those before it return these hidden states: by their
        numbers, where one that isn't named does nothing.
        """
        found: list[tuple[Tensor, Call]] = []

        def stop(hidden_states: Tensor, *args: Any, **kwargs: Any) -> None:
            found.append((hidden_states, Call(args, kwargs)))
            raise _Stopped

        before = dict.fromkeys(self.layers[:layer], self._passed)
        before |= {self.layers[i]: partial(self._returning, hidden) for i, hidden in returned.items()}
        with instead(before | {self.layers[layer]: stop}), suppress(_Stopped):
            self.model(**inputs)
        return found[0]

    def leaving(self, inputs: Mapping[str, Tensor], hidden: Tensor, last: int = -1) -> Any:
        """What the model returns if its last layer, or the ``last`` that it calls, returns these hidden states."""
        layers = dict.fromkeys(self.layers, self._passed) | {self.layers[last]: partial(self._returning, hidden)}
        with instead(self._nothing_before() | layers):
            return self.model(**inputs)

    @contextmanager
    def idle(self, returned: Mapping[int, Tensor]) -> Iterator[None]:
        """Neither the layers nor what is before them do anything for a while, except that layers return these hidden
        states, by their numbers.
        """
        layers = dict.fromkeys(self.layers, self._passed)
        layers |= {self.layers[i]: partial(self._returning, hidden) for i, hidden in returned.items()}
        with instead(self._nothing_before() | layers):
            yield

    def _returning(self, hidden: Tensor, *_: Any, **__: Any) -> Any:
        return self.left(hidden)

    def _passed(self, hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        return self.left(hidden_states)

    @property
    def after(self) -> list[Module]:
        """The modules that aren't before the layers nor in them."""
        others = {*self.before, *(module for layer in self.layers for module in layer.modules())}
        return [module for module in self.model.modules() if module not in others]

    def _nothing_before(self) -> dict[Module, Callable[..., Any]]:
        return {module: partial(_nothing, module) for module in self.before} | dict(self.nothing)


class _Stopped(Exception):  # noqa: N818  (it isn't an error)
    """The run has shown what it was for."""


def _nothing(module: Module, x: Tensor) -> Tensor:
    """Zeros ``[..., hidden]`` for ids, and what a norm is given."""
    import torch

    return torch.zeros(*x.shape, module.embedding_dim) if isinstance(module, torch.nn.Embedding) else x


@contextmanager
def instead(forwards: Mapping[Module, Callable[..., Any]]) -> Iterator[None]:
    """Modules compute something else for a while."""
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in forwards:
            del module.forward


@contextmanager
def listening(listeners: Iterable[Listener], keep: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Keep what modules return: a copy, since some models add to it in place."""
    with ExitStack() as stack:
        for name, module, take in listeners:
            hook = partial(_keep, keep, name, take)
            stack.callback(module.register_forward_hook(hook).remove)
        yield


def _keep(keep: Callable[[str, Tensor], None], name: str, take: Callable[[Any], Tensor], *call: Any) -> None:
    keep(name, take(call[-1]).clone())


def first(output: Any) -> Tensor:
    """The tensor that a module returns, or the first of several."""
    return output[0] if isinstance(output, tuple) else output


def last(output: Any) -> Tensor:
    """The probabilities that an attention module returns at the end."""
    return output[-1]


def second(output: Any) -> Tensor:
    """The probabilities that an attention module returns besides its output."""
    return output[1]


def in_order(points: Iterable[str]) -> list[str]:
    """As they are computed: an attention module returns its probabilities when its output projection has run."""
    order = list(points)
    for probabilities, after in (("probabilities", "attention"), ("cross_probabilities", "cross")):
        if probabilities in order:
            order.remove(probabilities)
            order.insert(order.index(after), probabilities)
    return order


def part_of_output(part: Part, output: Any) -> Tensor:
    """The part of a fused module's output, whose last axis is cut as the weight's rows."""
    return part.view(first(output)).flatten(0, 1).movedim(0, -1)
