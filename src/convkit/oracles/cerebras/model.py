"""Base of the Cerebras oracles: prefixes, the accounting of keys, activations, and the scales of muP.

Source of every convention: Cerebras ModelZoo 2.10.0, ``layers/{activations,norms,RMSNorm,
AttentionLayer,MultiQueryAttentionLayer,FeedForwardNetwork}.py``, and runs of its models on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from convkit.errors import ConvkitError
from convkit.oracles.blocks.attention import Attention
from convkit.oracles.blocks.weights import Weights
from convkit.oracles.oracle import Oracle
from convkit.oracles.parts import Cut, Part
from convkit.oracles.tensors import same, shape_of

if TYPE_CHECKING:
    from torch import Tensor

#: a ``.mdl`` holds the model under this prefix; the trainer's wrapper adds a second one
WRAPPERS = ("model.", "model.model.", "")

#: an activation and its closest relative, for a planted fault: what a careless conversion would write
NEIGHBOUR = {"swiglu": "geglu", "geglu": "swiglu", "reglu": "swiglu", "gelu": "gelu_new", "relu": "gelu"}

#: bias flag of the yaml -> the roles that have a bias if it is true
BIAS_FLAGS = {
    "use_projection_bias_in_attention": ("q", "k", "v"),
    "use_ffn_bias_in_attention": ("o",),
    "use_ffn_bias": ("gate", "up", "down"),
}


def encoder_layer(at: str) -> dict[str, str]:
    """The modules of an encoder's layer by their roles; ``at`` is where it lies, with the placeholder ``{i}``."""
    return {
        **{role: f"{at}self_attn.proj_{role}_dense_layer" for role in "qkv"},
        "o": f"{at}self_attn.proj_output_dense_layer",
        "norm_attention": f"{at}norm1",
        "up": f"{at}ffn.ffn.0.linear_layer",
        "down": f"{at}ffn.ffn.1.linear_layer",
        "norm_ffn": f"{at}norm2",
    }


def find_prefix(
    tensors: Mapping[str, Tensor],
    trunks: Iterable[str],
    anchor: str = "embedding_layer.word_embeddings.weight",
    wrappers: Iterable[str] = WRAPPERS,
) -> tuple[str, str]:
    """The prefixes of wrapper and trunk before the key of the ``anchor``.

    Raises:
        ConvkitError: no such key.
    """
    for trunk in trunks:
        for wrapper in wrappers:
            if f"{wrapper}{trunk}{anchor}" in tensors:
                return wrapper, trunk
    raise ConvkitError("no such key", key=anchor, remedy="is this a checkpoint of that layout?")


def activation(name: str | None) -> Callable[[Tensor], Tensor]:
    """The activation with this name; for a gated one, the function applied to ``linear_layer_for_glu``.

    Raises:
        ConvkitError: ModelZoo 2.10 has no such activation.
    """
    import torch
    from torch.nn import functional

    known: dict[str, Callable[[Tensor], Tensor]] = {
        "gelu": functional.gelu,
        "geglu": functional.gelu,
        "gelu_new": lambda x: functional.gelu(x, approximate="tanh"),
        # ModelZoo's converter writes this name of transformers', which ModelZoo doesn't know
        "gelu_pytorch_tanh": lambda x: functional.gelu(x, approximate="tanh"),
        "gelu_fast": lambda x: functional.gelu(x, approximate="tanh"),
        "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
        "squared_gelu": lambda x: functional.gelu(x) ** 2,
        "relu": functional.relu,
        "reglu": functional.relu,
        "squared_relu": lambda x: functional.relu(x) ** 2,
        "relu6": functional.relu6,
        "leaky_relu": functional.leaky_relu,
        "silu": functional.silu,
        "swish": functional.silu,
        "swiglu": functional.silu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "mish": functional.mish,
        "linear": lambda x: x,
        "liglu": lambda x: x,
    }
    name = "linear" if name is None else name.lower()
    if name not in known:
        raise ConvkitError(f"no activation is called {name!r}", remedy=f"activations: {', '.join(known)}")
    return known[name]


class CerebrasOracle(Oracle):
    """The keys, biases and norms of a Cerebras model. Subclasses claim tensors and run the model."""

    #: fields of the model's class that the oracle reads -> their defaults
    defaults: ClassVar[dict[str, Any]]
    #: fields that this oracle doesn't support and that would change the result -> harmless value
    not_covered: ClassVar[dict[str, Any]]
    #: fields of which the oracle covers some values -> these
    covered: ClassVar[dict[str, tuple[Any, ...]]] = {}
    #: role inside a layer -> its module, with ``{i}`` for the layer
    layer_modules: ClassVar[dict[str, str]] = {}
    #: whether keys are divided by the root of a head's size where a yaml with a name doesn't say it; None: in muP
    by_d: ClassVar[bool | None] = None
    #: whether the embeddings are multiplied behind their norm, if they have one
    scaled_behind_norm: ClassVar[bool] = True
    #: what may stand before the keys of the model
    wrappers: ClassVar[tuple[str, ...]] = WRAPPERS

    wrapper: str
    #: the size of a head, and what multiplies the logits
    head_dim: int
    scale: float = 1.0

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path | None = None) -> None:
        self.config, self.tensors, self.path = dict(config), tensors, path
        self.roles, self.twins, self.problems, self.notes = {}, {}, [], []
        self.weights = Weights(self.part, self.has)
        for name, harmless in self.not_covered.items():
            value = self.config.get(name, harmless)
            if value != harmless and (value or harmless):
                raise self.uncovered(name, value)
        for name, known in self.covered.items():
            if self.value(name) not in known:
                raise self.uncovered(name, self.value(name), f"covered: {', '.join(map(str, known))}")
        self.eps = float(self.value("layer_norm_epsilon"))

    def uncovered(self, name: str, value: Any, remedy: str = "this model can't be run yet") -> ConvkitError:
        """The error for a field whose value the oracle doesn't cover."""
        return ConvkitError(
            f"the oracle of {self.layout} doesn't cover {value!r}", path=self.path, key=name, remedy=remedy
        )

    def value(self, name: str) -> Any:
        """What the yaml says of a field, or the class's default; names of variants in lower case.

        Raises:
            ConvkitError: no number, size or flag where the class has one.
        """
        default = self.defaults[name]
        found = self.config.get(name, default)
        if isinstance(default, bool):
            if not isinstance(found, bool):
                raise self.unreadable(name, found, "true or false")
            return found
        if isinstance(default, int | float):
            number = self.number(name, default)
            if default >= 1 and (isinstance(number, float) or number < 1):
                raise self.unreadable(name, found, "a size")
            return number
        return found.lower() if isinstance(found, str) else found

    def number(self, name: str, default: float | None = None) -> Any:
        """The number of a field; YAML 1.1 reads some as text. The default where the yaml doesn't say it, or says null.

        Raises:
            ConvkitError: no number.
        """
        found = self.config.get(name)
        if found is None:
            return default
        try:
            number = float("nan" if isinstance(found, bool) else found)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise self.unreadable(name, found, "a number")
        return int(number) if number.is_integer() else number

    def unreadable(self, name: str, value: Any, expected: str) -> ConvkitError:
        """The error for a field whose value has another type."""
        return ConvkitError(f"is {value!r}, not {expected}", path=self.path, key=name, remedy="correct the yaml")

    def has(self, name: str) -> bool:
        """Whether a role has a tensor."""
        return name in self.roles

    def claim(self, role: str, key: str, shape: tuple[int, ...]) -> None:
        """Assign a role to the tensor of a key; see :meth:`expect`."""
        self.expect(key, shape)
        self.roles[role] = Part(key)

    def expect(self, key: str, shape: tuple[int, ...]) -> None:
        """Make sure of a tensor.

        Raises:
            ConvkitError: the tensor is missing, or its shape isn't the config's.
        """
        if key not in self.tensors:
            raise ConvkitError("missing key", path=self.path, key=key, remedy="the config says that the model has it")
        found = shape_of(self.tensors, key)
        if found != shape:
            remedy = "config and tensors are of different models"
            raise ConvkitError(f"shape {found}, the config says {shape}", path=self.path, key=key, remedy=remedy)

    def claim_linear(self, role: str, module: str, rows: int, columns: int, bias: bool) -> None:
        """Claim ``module.weight`` ``[rows, columns]`` and, with ``bias``, ``module.bias`` ``[rows]``."""
        self.claim(f"{role}.weight", f"{module}.weight", (rows, columns))
        if bias:
            self.claim(f"{role}.bias", f"{module}.bias", (rows,))

    def claim_experts(self, role: str, part: str, key: str, shape: tuple[int, int, int]) -> None:
        """Claim each expert's part of a stacked tensor ``[out, experts, in]``."""
        self.expect(key, shape)
        for expert in range(shape[1]):
            self.roles[f"{role}.{expert}.{part}.weight"] = Cut(key, at=(None, expert), ins=(1,))

    def claim_norm(self, role: str, module: str, width: int, bias: bool = True) -> None:
        """Claim a norm's scale and, with ``bias``, its shift."""
        self.claim(f"{role}.weight", f"{module}.weight", (width,))
        if bias:
            self.claim(f"{role}.bias", f"{module}.bias", (width,))

    def claim_encoder_layers(self, at: str, hidden: int, filter_size: int) -> None:
        """Claim the modules of :func:`encoder_layer` in every layer; ``at`` is the prefix of their names."""
        qkv, out, ffn = self.biases()
        for i in range(self.facts.layers):
            module, layer = {role: at + name.format(i=i) for role, name in self.layer_modules.items()}, f"layers.{i}"
            for role in "qkv":
                self.claim_linear(f"{layer}.{role}", module[role], hidden, hidden, qkv)
            self.claim_linear(f"{layer}.o", module["o"], hidden, hidden, out)
            self.claim_norm(f"{layer}.norm_attention", module["norm_attention"], hidden)
            self.claim_linear(f"{layer}.up", module["up"], filter_size, hidden, ffn)
            self.claim_linear(f"{layer}.down", module["down"], hidden, filter_size, ffn)
            self.claim_norm(f"{layer}.norm_ffn", module["norm_ffn"], hidden)

    def claim_embeddings(self, module: str, width: int, positions: int) -> None:
        """Claim the word embeddings, and a table of that many ``positions``, whose key was shorter before 2.1."""
        self.claim("embedding.weight", f"{module}.word_embeddings.weight", (self.facts.vocab_size, width))
        if positions:
            old, new = f"{module}.position_embeddings.weight", f"{module}.position_embeddings.embed.weight"
            self.claim("positions.weight", old if old in self.tensors else new, (positions, width))

    def claim_twin(self, key: str, twin: str) -> None:
        """Note ``twin`` as a second name of the same parameter, which may be missing but may not differ."""
        if twin not in self.tensors:
            self.notes.append(f"{twin} is missing: in the framework it is a second name of {key}")
            return
        self.twins[twin] = key
        if not same(self.tensors, key, twin):
            self.problems.append(f"{twin} differs from {key}: in the framework they are one parameter")

    def refuse_strangers(self) -> None:
        """Keys of the model without a role: the framework's strict loading would refuse them."""
        known = {part.key for part in self.roles.values()} | self.twins.keys()
        self.refuse(key for key in self.tensors if key.startswith(self.wrapper) and key not in known)

    def biases(self) -> tuple[bool, bool, bool]:
        """Whether, by the yaml, there is a bias in queries, keys and values; in the attention's output; in the FFN."""
        qkv, out, ffn = (self.value(flag) for flag in BIAS_FLAGS)
        return qkv, out, ffn

    def logit_scale(self) -> float:
        """What multiplies the logits of a muP model: by the width or its root, where the yaml gives base sizes.

        Raises:
            ConvkitError: a base size without the other, which ModelZoo refuses, or muP's fields without base sizes.
        """
        names = "mup_base_hidden_size", "mup_base_filter_size"
        base, filters = (self.number(name) for name in names)
        if bool(base) != bool(filters):
            key = names[0] if base else names[1]
            raise ConvkitError("one base size without the other", path=self.path, key=key, remedy="give both")
        alpha = self.number("output_logits_alpha") or 1.0
        if not base:
            if alpha != 1.0:
                raise self.uncovered("output_logits_alpha", alpha, "give muP's base sizes too")
            return 1.0
        width = self.value("hidden_size") / base
        return alpha / (width if self.config.get("scale_output_logits_by_d", True) else math.sqrt(width))

    def attention(self, head_dim: int, **options: Any) -> Attention:
        """The attention that the yaml describes: scores divided by the root of the head's size, or in muP by it."""
        root, scaled = head_dim**-0.5, self.value("attention_type") == "scaled_dot_product"
        alpha = self.number("attention_logits_alpha")
        return Attention(
            head_dim,
            scale=root if scaled else 1.0,
            key_scale=root if scaled and self.divided_by_d() else 1.0,
            score_scale=1.0 if alpha is None else alpha,
            **options,
        )

    def divided_by_d(self) -> bool:
        """Whether scores are divided by the size of a head in place of its root. Yamls have names since 2.4."""
        said = self.config.get("scale_qk_dot_by_d", self.by_d if "name" in self.config else None)
        return bool(self.config.get("mup_base_hidden_size") if said is None else said)

    def factors(self) -> dict[str, float]:
        """See :meth:`Oracle.factors`: those of a muP model's embeddings, keys and logits."""
        if not self.config.get("mup_base_hidden_size") and not self.config.get("output_logits_scale"):
            return {}
        embeddings = self.number("embeddings_scale")
        alpha = self.number("attention_logits_alpha")
        keys = 1.0 if alpha is None else alpha
        if self.divided_by_d() and self.value("attention_type") == "scaled_dot_product":
            keys *= self.head_dim**-0.5
        after = "norm_embedding" if self.scaled_behind_norm and self.has("norm_embedding.weight") else "embedding"
        return {
            after: 1.0 if embeddings is None else embeddings,
            **{f"layers.{i}.k": keys for i in range(self.facts.layers)},
            **{role: self.scale for role in ("head.lm", "head.mlm", "head.nsp") if self.has(f"{role}.weight")},
        }

    def mup_faults(self) -> dict[str, dict[str, Any]]:
        """Changes of a muP model's yaml, by the fault that they are: a factor left out, or applied twice."""
        if not self.config.get("mup_base_hidden_size"):
            return {}
        factors, alpha = self.factors(), self.number("attention_logits_alpha")
        keys, score, logits = factors["layers.0.k"], 1.0 if alpha is None else alpha, self.scale
        whole = self.number("output_logits_alpha") or 1.0
        embeddings = factors.get("embedding", factors.get("norm_embedding", 1.0))
        # a norm behind the embeddings hides what multiplies them before
        shown = self.scaled_behind_norm or not self.has("norm_embedding.weight")
        head = any(role.startswith("head.") for role in factors)
        faults: dict[str, tuple[bool, dict[str, Any]]] = {
            "scale of the logits left out": (head and logits != 1, {"output_logits_alpha": whole / logits}),
            "scale of the logits applied twice": (head and logits != 1, {"output_logits_alpha": whole * logits}),
            "scale of the keys left out": (keys != 1, {"attention_logits_alpha": score / keys}),
            "scale of the keys applied twice": (keys != 1, {"attention_logits_alpha": score * keys}),
            "scale of the embeddings left out": (shown and embeddings != 1, {"embeddings_scale": 1.0}),
            "scale of the embeddings applied twice": (shown and embeddings != 1, {"embeddings_scale": embeddings**2}),
        }
        return {name: change for name, (has, change) in faults.items() if has}

    @classmethod
    def reconcile(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], list[str]]:
        """Let the tensors overrule the bias flags: converted yamls sometimes deny biases that the file has."""
        corrected, notes = dict(config), []
        for flag, roles in BIAS_FLAGS.items():
            modules = [cls.layer_modules[role] for role in roles if role in cls.layer_modules]
            if not modules:
                continue
            ends = tuple(f"{module.format(i=0)}.bias" for module in modules)
            found = any(key.endswith(ends) for key in tensors)
            if bool(said := config.get(flag, cls.defaults[flag])) != found:
                corrected[flag] = found
                notes.append(f"{flag}: the yaml says {said}, the tensors say {found}")
        return corrected, notes
