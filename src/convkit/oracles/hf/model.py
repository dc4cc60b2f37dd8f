"""Base of the Hugging Face oracles: the real ``transformers`` model, loaded by its own loader.

A family's file names its classes, its modules and its heads; everything else is here. The model
is built from the config and from tensors in memory: float32, eager attention, evaluation mode. Code in a checkpoint is
never run, and nothing is downloaded.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from convkit.errors import ConvkitError
from convkit.oracles.oracle import Facts, Oracle, Part, Trace

if TYPE_CHECKING:
    from torch import Tensor

#: Tensors in checkpoints that models don't read: rebuilt buffers, and poolers under heads without one.
_UNREAD = (
    ".attn.bias",
    ".attn.masked_bias",
    "rotary_emb.inv_freq",
    "embeddings.position_ids",
    "pooler.dense.weight",
    "pooler.dense.bias",
)

#: an activation and its closest relative, for a planted fault: what a careless conversion would write
NEIGHBOUR = {"silu": "gelu", "gelu": "gelu_new", "gelu_new": "gelu", "relu": "gelu", "gelu_pytorch_tanh": "gelu"}


class HfOracle(Oracle):
    """A ``transformers`` model whose states are captured by hooks."""

    #: name of the config class in ``transformers``
    config_class: ClassVar[str]
    #: attribute of the base model in a model with a head, and its prefix in keys
    trunk: ClassVar[str]
    #: the list of layers in the base model
    layers: ClassVar[str]
    #: role -> key without the trunk and without ``.weight``; ``{i}`` is the layer
    modules: ClassVar[dict[str, str]]
    #: roles whose weight is stored ``[in, out]``
    transposed: ClassVar[frozenset[str]] = frozenset()
    #: role -> (index, number) of its part in a fused tensor of equal parts
    fused: ClassVar[dict[str, tuple[int, int]]] = {}
    #: point inside a layer -> module and the function that takes the state from its output
    points: ClassVar[dict[str, tuple[str, Callable[[Any], Tensor]]]]
    #: hidden state after the layers -> module of the base model
    states: ClassVar[dict[str, str]] = {}
    #: name of the embedding in the keys, without the trunk
    embedding: ClassVar[str]

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path | None = None) -> None:
        import transformers

        self.tensors, self.path = tensors, path
        self.twins, self.problems, self.notes = {}, [], []
        if config.get("quantization_config"):
            remedy = "only checkpoints of plain floats can be run"
            raise ConvkitError("a quantized checkpoint", path=path, key="quantization_config", remedy=remedy)
        try:
            with _quiet():
                self.parsed = getattr(transformers, self.config_class).from_dict(dict(config))
        except Exception as error:  # validators raise their own exception types
            problem = f"transformers refuses the config: {error}"
            raise ConvkitError(problem, path=path, remedy="see config.json") from error
        self.config = self.parsed.to_dict()
        self.prefix = f"{self.trunk}." if f"{self.trunk}.{self.embedding}" in tensors else ""
        if f"{self.prefix}{self.embedding}" not in tensors:
            remedy = f"is this a checkpoint of {self.layout}?"
            raise ConvkitError("missing key", path=path, key=self.embedding, remedy=remedy)
        self.model = self._load()
        self.base = getattr(self.model, self.trunk, self.model)
        self.facts = self._facts()
        self.roles = dict(self._roles())

    @abstractmethod
    def model_class(self) -> tuple[str, dict[str, Any]]:
        """The ``transformers`` class that fits the checkpoint, and arguments for it."""

    @abstractmethod
    def outputs(self, result: Any) -> dict[str, Tensor]:
        """The logits in the model's return value, by head."""

    @abstractmethod
    def heads(self) -> dict[str, str]:
        """Role -> full key without ``.weight``, for tensors outside the trunk."""

    def _load(self) -> Any:
        import torch
        import transformers

        name, arguments = self.model_class()
        with _quiet():
            model, info = getattr(transformers, name).from_pretrained(
                None,
                config=self.parsed,
                state_dict=dict(self.tensors),
                attn_implementation="eager",
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **arguments,
            )
        for key, found, expected in sorted(info["mismatched_keys"]):
            problem = f"shape {tuple(found)}, the config says {tuple(expected)}"
            raise ConvkitError(problem, path=self.path, key=key, remedy="config and tensors are of different models")
        for key in sorted(info["missing_keys"]):
            remedy = f"{name} needs it: is the checkpoint complete?"
            raise ConvkitError("missing key", path=self.path, key=key, remedy=remedy)
        self.refuse(key for key in info["unexpected_keys"] if not key.endswith(_UNREAD))
        if self.parsed.tie_word_embeddings:
            for copy, original in (model._tied_weights_keys or {}).items():
                self._tie(copy, original if self.prefix else original.removeprefix(f"{self.trunk}."))
        return model.eval()

    def _tie(self, copy: str, original: str) -> None:
        import torch

        if {copy, original} <= self.tensors.keys():
            self.twins[copy] = original
            if not torch.equal(self.tensors[copy], self.tensors[original]):
                self.problems.append(f"{copy} differs from {original}: the config says that they are tied")

    def _facts(self) -> Facts:
        config = self.parsed
        return Facts(
            layers=config.num_hidden_layers,
            heads=config.num_attention_heads,
            kv_heads=getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
            vocab_size=config.vocab_size,
            positions=config.max_position_embeddings,
            tied=bool(config.tie_word_embeddings),
        )

    def _roles(self) -> Iterator[tuple[str, Part]]:
        for role, module in self.modules.items():
            if "{i}" in module:
                for i in range(self.facts.layers):
                    yield from self._parts(role, f"layers.{i}.{role}", self.prefix + module.format(i=i))
            else:
                yield from self._parts(role, role, self.prefix + module)
        for role, module in self.heads().items():
            yield from self._parts(role, role, module)

    def _parts(self, role: str, name: str, module: str) -> Iterator[tuple[str, Part]]:
        index, parts = self.fused.get(role, (0, 1))
        for end, spellings in (("weight", ("weight", "gamma")), ("bias", ("bias", "beta"))):
            for spelling in spellings:
                if f"{module}.{spelling}" in self.tensors:
                    transposed = role in self.transposed
                    yield f"{name}.{end}", Part(f"{module}.{spelling}", transposed, index, (1,) * parts)

    def run(self, inputs: Mapping[str, Tensor], detail: int | None = None) -> Trace:
        """See :meth:`Oracle.run`."""
        import torch

        trace, handles = Trace(detail), []
        layers = self.base.get_submodule(self.layers)

        def listen(module: Any, name: str, take: Callable[[Any], Tensor]) -> None:
            handles.append(module.register_forward_hook(lambda _, __, out: trace.state(name, take(out))))

        def enter(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            trace.state("embedding", args[0] if args else kwargs["hidden_states"])

        handles.append(layers[0].register_forward_pre_hook(enter, with_kwargs=True))
        if detail is not None:
            for point, (name, take) in self.points.items():
                listen(layers[detail].get_submodule(name), f"layers.{detail}.{point}", take)
        for i, layer in enumerate(layers):
            listen(layer, f"layers.{i}", first)
        for state, name in self.states.items():
            if getattr(self.base, name, None) is not None:
                listen(self.base.get_submodule(name), state, first)
        try:
            with torch.no_grad():
                trace.outputs = self.outputs(self.model(**inputs))
        finally:
            for handle in handles:
                handle.remove()
        return trace

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        act, eps = self.wrong_fields
        wrong: dict[str, dict[str, Any]] = {
            "wrong activation": {act: NEIGHBOUR.get(self.config[act], "relu")},
            "wrong norm epsilon": {eps: max(1e-4, 100 * float(self.config[eps]))},
        }
        return {name: {**self.config, **change} for name, change in wrong.items()}

    #: config fields of the activation and of the norm's epsilon
    wrong_fields: ClassVar[tuple[str, str]]

    def untied(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """See :meth:`Oracle.untied`."""
        state = self.model.state_dict()
        own = {copy: state[copy] for copy in self.model._tied_weights_keys}
        return {**self.config, "tie_word_embeddings": False}, {**self.tensors, **own}


def first(output: Any) -> Tensor:
    """The tensor that a module returns, or the first of several."""
    return output[0] if isinstance(output, tuple) else output


def second(output: Any) -> Tensor:
    """The probabilities that an attention module returns besides its output."""
    return output[1]


@contextmanager
def _quiet() -> Iterator[None]:
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
