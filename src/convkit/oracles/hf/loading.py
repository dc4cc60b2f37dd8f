"""Loads a ``transformers`` model whose parameters are read when a part of it runs, and let go afterwards.

The library's own loader places the tensors. It is given a stand-in for each: one NaN, seen in the tensor's shape, so
that a part that ran without its tensors would show. What the loader joins or pads (experts, which it stacks; biases of
tied heads) is a stand-in again, and what was done is done with the tensors when they are needed. Tensors of which it
makes something else are loaded as ever, and stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from convkit.oracles.tensors import shape_of

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter

#: functions of torch whose results are stand-ins too
_JOINING = {"stack", "cat", "pad"}


@dataclass(frozen=True)
class Source:
    """Where a parameter comes from.

    Attributes:
        keys: the tensors that are read for it.
        of: makes it of the tensors.
    """

    keys: frozenset[str]
    of: Callable[[Mapping[str, Tensor]], Tensor]


#: parameter -> where it comes from
Sources = dict["Parameter", Source]


class StandIns:
    """A stand-in for each tensor, and for what is made of some of them. Each is known by its place in memory."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._sources: dict[int, Source] = {}
        self._shown: list[Tensor] = []  # as long as they are here, no other tensor has their place
        self.state = {
            key: self._show(shape_of(tensors, key), Source(frozenset([key]), itemgetter(key))) for key in tensors
        }

    def _show(self, shape: Iterable[int], source: Source) -> Tensor:
        import torch

        stand_in = torch.full((), torch.nan).expand(tuple(shape))
        if stand_in.numel():
            self._sources[stand_in.data_ptr()] = source
            self._shown.append(stand_in)
        return stand_in

    def source(self, value: Any) -> Source | None:
        """Where a stand-in comes from; None for anything else."""
        import torch

        return self._sources.get(value.data_ptr()) if isinstance(value, torch.Tensor) and not value.is_meta else None

    @contextmanager
    def joining(self) -> Iterator[None]:
        """Stand-ins that are joined or padded make a stand-in."""
        import torch
        from torch.overrides import TorchFunctionMode

        join = self._joined

        class Joining(TorchFunctionMode):
            def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                if getattr(func, "__name__", "") in _JOINING:
                    with torch._C.DisableTorchFunction():
                        made = join(func, args, kwargs or {})
                    if made is not None:
                        return made
                return func(*args, **(kwargs or {}))

        with Joining():
            yield

    def _joined(self, func: Any, args: Any, kwargs: Any) -> Tensor | None:
        import torch
        from torch.utils._pytree import tree_leaves, tree_map

        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        sources = [self.source(value) for value in given]
        known = [source for source in sources if source is not None]
        if not known or len(known) < len(sources):
            return None

        def shapes(value: Any) -> Any:
            return torch.empty(value.shape, device="meta") if isinstance(value, torch.Tensor) else value

        def again(tensors: Mapping[str, Tensor]) -> Tensor:
            def read(value: Any) -> Any:
                source = self.source(value)
                return value if source is None else source.of(tensors)

            their_args, their_kwargs = tree_map(read, (args, kwargs))
            return func(*their_args, **their_kwargs)

        meta_args, meta_kwargs = tree_map(shapes, (args, kwargs))
        shape = func(*meta_args, **meta_kwargs).shape
        return self._show(shape, Source(frozenset().union(*(source.keys for source in known)), again))


def load(
    build: Callable[[dict[str, Tensor]], tuple[Any, Any]], tensors: Mapping[str, Tensor]
) -> tuple[Any, Any, Sources]:
    """The model, what the loader says of it, and the parameters that are to be read.

    Args:
        build: makes model and report of a state dict.
        tensors: float32, by key.
    """
    stand_ins = StandIns(tensors)
    with stand_ins.joining():
        model, report = build(stand_ins.state)
    sources = _sources(model, stand_ins)
    held = [*(parameter for parameter in model.parameters() if parameter not in sources), *model.buffers()]
    if any(value.is_floating_point() and value.isnan().any() for value in held):
        known = {key for source in sources.values() for key in source.keys}
        with stand_ins.joining():
            model, report = build(stand_ins.state | {key: tensors[key] for key in tensors.keys() - known})
        sources = _sources(model, stand_ins)
    return model, report, sources


def _sources(model: Module, stand_ins: StandIns) -> Sources:
    found = ((parameter, stand_ins.source(parameter)) for parameter in model.parameters())
    return {parameter: source for parameter, source in found if source is not None}


@contextmanager
def reading(modules: Iterable[Module], sources: Sources, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """The parameters of these modules (not of those in them) hold their tensors for a while."""
    from torch.nn import Parameter

    own = [
        (module, name, stand_in)
        for module in modules
        for name, stand_in in module._parameters.items()
        if stand_in is not None and stand_in in sources
    ]
    made = {stand_in: Parameter(sources[stand_in].of(tensors), False) for _, _, stand_in in own}
    try:
        for module, name, stand_in in own:
            module._parameters[name] = made[stand_in]
        yield
    finally:
        for module, name, stand_in in own:
            module._parameters[name] = stand_in


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
