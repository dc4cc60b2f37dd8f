"""The Hugging Face oracles: the real ``transformers`` model, loaded by its own loader.

A family is a row of a table (:mod:`.decoders`, :mod:`.encoders`); everything else is here. The model is built from the
config, with tensors that are read when a stage runs: float32, eager attention, evaluation mode. Code in a checkpoint is
never run, and nothing is downloaded.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from convkit.errors import ConvkitError
from convkit.oracles.devices import device_of, moved
from convkit.oracles.hf.family import OUTPUTS, Architecture, Family, names_of, trunk_of
from convkit.oracles.hf.loading import load, quiet, reading
from convkit.oracles.hf.stages import Listener, Parts, first, in_order, listening, part_of_output, second
from convkit.oracles.hf.wrong import other_base, wrong_rotary
from convkit.oracles.inputs import Input
from convkit.oracles.oracle import A_SHORTER_WINDOW, Facts, Oracle, State, Trace
from convkit.oracles.parts import Part
from convkit.oracles.tensors import same, shape_of

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

#: Tensors in checkpoints that models don't read: rebuilt buffers, and poolers under heads without one.
_UNREAD = (
    ".attn.bias",
    ".attn.masked_bias",
    ".attention.bias",
    ".attention.masked_bias",
    "rotary_emb.inv_freq",
    "embeddings.position_ids",
    "pooler.dense.weight",
    "pooler.dense.bias",
)
#: an activation and its closest relative, for a planted fault: what a careless conversion would write
NEIGHBOUR = {"silu": "gelu", "gelu": "gelu_new", "gelu_new": "gelu", "relu": "gelu", "gelu_pytorch_tanh": "gelu"}
#: roles of a head that is the embedding where a model is tied
_TIED = ("head.lm", "head.mlm")
#: names of a parameter in checkpoints
_SPELLINGS = {"weight": ("weight", "gamma"), "bias": ("bias", "beta")}
#: input length for a model without a table of positions
_POSITIONS = 2048


class HfOracle(Oracle):
    """A ``transformers`` model of one family."""

    packages = ("transformers",)
    family: ClassVar[Family]

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path | None = None) -> None:
        import transformers

        family = self.family
        self.tensors, self.path = tensors, path
        self.twins, self.problems, self.notes = {}, [], []
        if config.get("quantization_config"):
            remedy = "only checkpoints of plain floats can be run"
            raise ConvkitError("a quantized checkpoint", path=path, key="quantization_config", remedy=remedy)
        with self._refusing(), quiet():
            self.parsed = getattr(transformers, f"{family.name}Config").from_dict(family.respelled(dict(config)))
        self.config = self.parsed.to_dict()
        if not self.text.num_hidden_layers:
            raise ConvkitError("no layers", path=path, key="num_hidden_layers", remedy="see config.json")
        self.text.use_cache = False  # a cache would make a layer's second call another one than its first
        self.trunk, self.prefix = trunk_of(family, self._embedding, tensors)
        if f"{self.prefix}{self._embedding}.weight" not in tensors:
            remedy = f"is this a checkpoint of {self.layout}?"
            raise ConvkitError("missing key", path=path, key=f"{self._embedding}.weight", remedy=remedy)
        self.architecture = self._architecture()
        self.model = self._load()
        self.base = dict(self.model.named_modules()).get(self.trunk, self.model)
        self.facts = self._facts()
        self.roles = dict(self._roles())

    @property
    def text(self) -> Any:
        """The library's config of the model of text, which is the whole in most families."""
        return self.parsed

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """What the library says of a config or of tensors that it can't make a model of, as one error."""
        try:
            yield
        except Exception as error:  # validators raise their own exception types
            problem = f"transformers refuses the config: {error}"
            raise ConvkitError(problem, path=self.path, remedy="see config.json") from error

    @property
    def _embedding(self) -> str:
        return names_of(self.family.outside, "embedding")[0]

    @abstractmethod
    def _architecture(self) -> Architecture:
        """The class that fits the checkpoint."""

    def has(self, module: str) -> bool:
        """Whether the checkpoint has a weight of this module."""
        return any(f"{module}.{end}" in self.tensors for end in _SPELLINGS["weight"])

    def _load(self) -> Any:
        import torch
        import transformers

        import convkit.oracles.hf.renaming  # noqa: F401 (what its import builds, the loader finds)

        def build(state: dict[str, Tensor]) -> Any:
            with self._refusing(), quiet():
                return getattr(transformers, self.architecture.name).from_pretrained(
                    None,
                    config=self.parsed,
                    state_dict=state,
                    attn_implementation="eager",
                    dtype=torch.float32,
                    ignore_mismatched_sizes=True,
                    output_loading_info=True,
                    **self._arguments(),
                )

        model, info, self.sources = load(build, self.tensors)
        for key, found, expected in sorted(info["mismatched_keys"]):
            problem = f"shape {tuple(found)}, the config says {tuple(expected)}"
            raise ConvkitError(problem, path=self.path, key=key, remedy="config and tensors are of different models")
        for key in sorted(key for key in info["missing_keys"] if not key.endswith(self.family.spare or "\0")):
            remedy = f"{self.architecture.name} needs it: is the checkpoint complete?"
            raise ConvkitError("missing key", path=self.path, key=key, remedy=remedy)
        self.refuse(key for key in info["unexpected_keys"] if not key.endswith(_UNREAD))
        if getattr(self.parsed, "tie_word_embeddings", False):
            for copy, original in (model._tied_weights_keys or {}).items():
                self._tie(copy, original if self.prefix else original.removeprefix(f"{self.trunk}."))
        return model.eval().requires_grad_(False)

    def _arguments(self) -> dict[str, Any]:
        """Arguments for the model's class."""
        return {}

    def _tie(self, copy: str, original: str) -> None:
        module, _, end = copy.rpartition(".")
        spellings = (names_of(self.family.heads, role) for role in self.family.heads)
        for name in next((names for names in spellings if module in names), (module,)):
            twin = f"{name}.{end}"
            if twin != original and {twin, original} <= self.tensors.keys():
                self.twins[twin] = original
                if not same(self.tensors, twin, original):
                    self.problems.append(f"{twin} differs from {original}: the config says that they are tied")

    def _facts(self) -> Facts:
        config, family, rope = self.text, self.family, self._rope
        heads, rotary_dim = config.num_attention_heads, self._rotary_dim()
        if any("+" in role for role in family.inside):
            kv_heads = heads // family.cut(config)[1][0]
        else:
            kv_heads = getattr(config, "num_key_value_heads", None) or heads
        padding, positions = family.padding(config), getattr(config, "max_position_embeddings", _POSITIONS)
        return Facts(
            layers=config.num_hidden_layers,
            heads=heads,
            kv_heads=kv_heads,
            vocab_size=config.vocab_size,
            positions=positions if padding is None else positions - padding - 1,
            padding=padding,
            rotary=family.rotary if rotary_dim else "",
            rotary_dim=rotary_dim,
            switches_at=rope["original_max_position_embeddings"] if rope.get("rope_type") == "longrope" else 0,
            tied=bool(getattr(config, "tie_word_embeddings", False)),
        )

    @property
    def _rope(self) -> dict[str, Any]:
        return getattr(self.text, "rope_parameters", None) or {}

    def _rotary_dim(self) -> int:
        """Dims of a head that are rotated; 0 for a model with other positions."""
        config = self.text
        tables = getattr(config, "alibi", False) or getattr(config, "position_embedding_type", "") == "absolute"
        if not self.family.rotary or tables:
            return 0
        return getattr(config, "rotary_dim", None) or int(self._head_dim * self._rope.get("partial_rotary_factor", 1.0))

    @property
    def _head_dim(self) -> int:
        return getattr(self.text, "head_dim", None) or self.text.hidden_size // self.text.num_attention_heads

    def _roles(self) -> Iterator[tuple[str, Part]]:
        family = self.family
        for role in family.outside:
            yield from self._parts(role, [self.prefix + name for name in names_of(family.outside, role)])
        for i in range(self.facts.layers):
            layer = f"{self.prefix}{family.layers}.{i}"
            for role in family.inside:
                for e in range(self.parsed.num_local_experts if "{e}" in role else 1):
                    names = [f"{layer}.{name.format(e=e)}" for name in names_of(family.inside, role)]
                    yield from self._parts(f"layers.{i}.{role.format(e=e)}", names)
        for role in family.heads:
            if self.facts.tied and role in _TIED and role.removeprefix("head.") in self.architecture.outputs:
                yield from self._parts(role, [self.prefix + self._embedding])
            yield from self._parts(role, names_of(family.heads, role))

    def _parts(self, role: str, modules: Iterable[str]) -> Iterator[tuple[str, Part]]:
        """Weight and bias of a role, or of the roles that share a fused module."""
        stem, dot, name = role.rpartition(".")
        roles = [f"{stem}{dot}{one}" for one in name.split("+")]
        groups, sizes = self._cut(roles)
        for end, spellings in _SPELLINGS.items():
            keys = (f"{module}.{spelling}" for module in modules for spelling in spellings)
            for key in [key for key in keys if key in self.tensors and key not in self.twins][:1]:
                for index, one in enumerate(roles):
                    yield f"{one}.{end}", Part(key, self._transposed(key), index, sizes, groups)

    def _transposed(self, key: str) -> bool:
        """Whether a weight is stored ``[in, out]``, as those of a Conv1D are."""
        return key.removeprefix(self.prefix).rpartition(".")[0] in self._conv1d

    @cached_property
    def _conv1d(self) -> frozenset[str]:
        from transformers.pytorch_utils import Conv1D

        return frozenset(name for name, module in self.base.named_modules() if isinstance(module, Conv1D))

    @property
    def inputs(self) -> dict[str, Input]:
        """See :attr:`Oracle.inputs`; a model without a table of positions may name no limit."""
        longest = self.facts.positions if hasattr(self.parsed, "max_position_embeddings") else None
        ids = Input(self.facts.vocab_size, positions=longest, needed=True)
        found = {"input_ids": ids}
        if self.family.padded:
            found["attention_mask"] = Input(2, like="input_ids")
        if self.facts.segments:
            found["token_type_ids"] = Input(self.facts.segments, like="input_ids")
        return found

    def start(self, inputs: Mapping[str, Tensor]) -> State:
        """See :meth:`Oracle.start`; what the model computed when it was built goes where its tensors are."""
        device = device_of(self.tensors)
        for module in self.model.modules():
            held = {name: buffer for name, buffer in module._buffers.items() if buffer is not None}
            module._buffers.update(moved(held, device))
        for parameter in set(self.model.parameters()) - self.sources.keys():
            parameter.data = parameter.data.to(device)
        return State(given={"inputs": inputs, "calls": self.parts.calls(inputs)})

    def step(self, name: str, state: State, trace: Trace) -> State:
        """See :meth:`Oracle.step`."""
        with reading(self._modules(name), self.sources, self.tensors):
            hidden = self._stage(name, state, trace)
        return State({"hidden": hidden}, state.given)

    def _stage(self, name: str, state: State, trace: Trace) -> Tensor:
        parts, given = self.parts, state.given
        if name == self.stages[0]:
            hidden = parts.entering(given["inputs"])
        elif name == self.stages[-1]:
            hidden = state.flow["hidden"]
            with listening(self._after(), trace.state):
                trace.outputs.update(self._logits(parts.leaving(given["inputs"], hidden)))
            return hidden
        else:
            i = self.layer_stages.index(name)
            points: dict[str, Tensor] = {}
            with listening(self._points(parts.layers[i]) if i == trace.detail else (), points.__setitem__):
                hidden = first(given["calls"][i].of(parts.layers[i], state.flow["hidden"]))
            for point in in_order(points):
                trace.point(i, point, points[point])
        trace.state(name, hidden)
        return hidden

    def _modules(self, stage: str) -> Iterable[Module]:
        """The modules that a stage runs."""
        if stage == self.stages[0]:
            return [*self.parts.before, *self._unnamed]
        if stage == self.stages[-1]:
            return self.parts.after
        return self.parts.layers[self.layer_stages.index(stage)].modules()

    @cached_property
    def _unnamed(self) -> list[Module]:
        """Modules outside the layers with parameters that no role names: nothing says when they run."""
        named = {part.key for part in self.roles.values()} | self.twins.keys()
        unnamed = {parameter for parameter, source in self.sources.items() if not source.keys <= named}
        return [module for module in self.parts.after if unnamed & set(module.parameters(recurse=False))]

    @cached_property
    def parts(self) -> Parts:
        """The model and its parts."""
        outside = self.family.outside
        first_read = [role for role in outside if self.stage_of(role) == self.stages[0]]
        modules = dict(self.base.named_modules())
        before = [modules[name] for role in first_read if (name := names_of(outside, role)[0]) in modules]
        return Parts(self.model, before, [*self.base.get_submodule(self.family.layers_now or self.family.layers)])

    def _after(self) -> Iterator[Listener]:
        """What leaves hidden states after the layers."""
        modules = dict(self.base.named_modules())
        for state, name in self.family.states.items():
            if name in modules:
                yield state, modules[name], first

    def _points(self, layer: Module) -> Iterator[Listener]:
        """What leaves the points inside a layer."""
        modules, family = dict(layer.named_modules()), self.family
        yield "probabilities", modules[family.attention], second
        if family.feed_forward:
            yield "ffn", modules[family.feed_forward], first
        for role in family.inside:
            roles = role.split("+")
            groups, sizes = self._cut(roles)
            for module in [modules[name] for name in names_of(family.inside, role) if name in modules][:1]:
                for index, one in enumerate(roles):
                    if one in OUTPUTS:
                        yield OUTPUTS[one], module, partial(part_of_output, Part("", True, index, sizes, groups))

    def _cut(self, roles: Sequence[str]) -> tuple[int, tuple[int, ...]]:
        """How the module of these roles is cut: groups and sizes."""
        return self.family.cut(self.parsed) if len(roles) > 1 else (1, (1,))

    def _logits(self, result: Any) -> dict[str, Tensor]:
        """The logits in the model's return value, by head."""
        import torch

        found = {head: [result[name] for name in names] for head, names in self.architecture.outputs.items()}
        return {head: logits[0] if len(logits) == 1 else torch.stack(logits, -1) for head, logits in found.items()}

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        config, family, facts = self.config, self.family, self.facts
        wrong: dict[str, dict[str, Any]] = {}
        if family.activation:
            wrong["wrong activation"] = {family.activation: NEIGHBOUR.get(config[family.activation], "relu")}
        wrong["wrong norm epsilon"] = {family.epsilon: max(1e-4, 100 * float(config[family.epsilon]))}
        if facts.rotary:
            wrong |= wrong_rotary(config, self._rope, facts, self._head_dim)
        elif facts.heads % 2 == 0 and facts.kv_heads == facts.heads:
            field = self.parsed.attribute_map.get("num_attention_heads", "num_attention_heads")
            wrong["wrong head count"] = {field: facts.heads // 2}
        wrong |= {name: change(config) for name, change in family.wrong.items()}
        return {name: {**config, **change} for name, change in wrong.items() if not change.items() <= config.items()}

    def offset(self, role: str) -> float:
        """See :meth:`Oracle.offset`."""
        return float(self.family.minus_one and ".norm_" in f".{role}")

    def shown_in(self, fault: str) -> frozenset[str]:
        """See :meth:`Oracle.shown_in`."""
        kinds = getattr(self.parsed, "layer_types", None)
        if kinds and fault == A_SHORTER_WINDOW:
            return frozenset(
                stage for stage, kind in zip(self.layer_stages, kinds, strict=True) if kind == "sliding_attention"
            )
        return super().shown_in(fault)

    def rebased(self, factor: float) -> dict[str, Any] | None:
        """See :meth:`Oracle.rebased`; a model without a field for the base has a fixed one."""
        found = other_base(self._rope, self.facts, factor)
        return {**self.config, **found} if found else None


class HfDecoder(HfOracle):
    """A model with one head, over the vocabulary, or none."""

    def _architecture(self) -> Architecture:
        """See :meth:`HfOracle._architecture`; some of the hub's checkpoints have a head and no prefix, and say so."""
        headed, base = self.family.architectures
        claims = headed.name in (self.parsed.architectures or ()) and self.parsed.tie_word_embeddings
        return headed if self.prefix or claims or any(map(self.has, names_of(self.family.heads, "head.lm"))) else base


class HfEncoder(HfOracle):
    """A model in the class that fits the heads in the file: a checkpoint may hold more than its config says."""

    def _architecture(self) -> Architecture:
        """See :meth:`HfOracle._architecture`; of classes that return the same, the one that the config names."""
        fitting = [one for one in self.family.architectures if all(map(self.has, one.heads))]
        alike = [one for one in fitting if one.outputs == fitting[0].outputs]
        return next((one for one in alike if one.name in (self.parsed.architectures or ())), fitting[0])

    def _arguments(self) -> dict[str, Any]:
        """See :meth:`HfOracle._arguments`; a base model may lack its pooler."""
        if "classifier.weight" in self.tensors:
            self.parsed.num_labels = shape_of(self.tensors, "classifier.weight")[0]
        based = self.architecture == self.family.architectures[-1] and "pooler" in self.family.outside
        return {"add_pooling_layer": self.has(f"{self.prefix}pooler.dense")} if based else {}

    def _facts(self) -> Facts:
        return replace(super()._facts(), segments=getattr(self.parsed, "type_vocab_size", 0), causal=False)
