"""Loads a ``transformers`` model whose parameters are read when a part of it runs, and let go afterwards.

The library's own loader places the tensors. It is given a stand-in for each: one NaN, seen in the tensor's shape, so
that a part that ran without its tensors would show. A parameter that is a stand-in afterwards holds the tensor whenever
it is needed. What the loader makes of a tensor or of several (experts, which it stacks) isn't a stand-in: those
tensors are loaded as ever, and stay.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from convkit.oracles.tensors import shape_of

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter

#: parameter -> the key of its tensor
Places = dict["Parameter", str]


def load(
    build: Callable[[dict[str, Tensor]], tuple[Any, Any]], tensors: Mapping[str, Tensor], copied: Iterable[str]
) -> tuple[Any, Any, Places]:
    """The model, what the loader says of it, and the parameters that are to be read.

    Args:
        build: makes model and report of a state dict.
        tensors: float32, by key.
        copied: keys of which the loader is known to make something; others that it changes cost a second run.
    """
    import torch

    state = {key: torch.full((), torch.nan).expand(shape_of(tensors, key)) for key in tensors}
    keys = {stand_in.data_ptr(): key for key, stand_in in state.items() if stand_in.numel()}
    model, report = build(state | {key: tensors[key] for key in copied})
    places = _places(model, keys)
    if any(parameter.isnan().any() for parameter in model.parameters() if parameter not in places):
        model, report = build(state | {key: tensors[key] for key in state.keys() - set(places.values())})
        places = _places(model, keys)
    return model, report, places


def _places(model: Module, keys: Mapping[int, str]) -> Places:
    found = ((parameter, keys.get(parameter.data_ptr())) for parameter in model.parameters())
    return {parameter: key for parameter, key in found if key is not None}


def keep(places: Places, tensors: Mapping[str, Tensor], named: Container[str]) -> None:
    """Read the tensors that no role names once and for all: nothing says which part of the model reads them."""
    for parameter, key in [*places.items()]:
        if key not in named:
            parameter.data = tensors[places.pop(parameter)]


def value(parameter: Parameter, places: Places, tensors: Mapping[str, Tensor]) -> Tensor:
    """The tensor of a parameter."""
    return tensors[places[parameter]] if parameter in places else parameter.data


@contextmanager
def reading(modules: Iterable[Module], places: Places, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """The parameters of these modules (not of those in them) hold their tensors for a while."""
    own = {parameter for module in modules for parameter in module.parameters(recurse=False)}
    held = {parameter: parameter.data for parameter in own if parameter in places}
    for parameter in held:
        parameter.data = tensors[places[parameter]]
    try:
        yield
    finally:
        for parameter, stand_in in held.items():
            parameter.data = stand_in


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the loader: the oracle turns its report into problems."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
