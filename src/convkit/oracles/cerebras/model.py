"""Base of the Cerebras oracles: prefixes, the accounting of keys, and the layers' building blocks.

Source of every convention: Cerebras ModelZoo 2.10.0, ``layers/{activations,norms,RMSNorm,
AttentionLayer,MultiQueryAttentionLayer,FeedForwardNetwork}.py``, and runs of its models on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from convkit.errors import ConvkitError
from convkit.oracles.oracle import Oracle, Part
from convkit.oracles.tensors import same, shape_of

if TYPE_CHECKING:
    from torch import Tensor

#: a ``.mdl`` holds the model under this prefix; the trainer's wrapper adds a second one
_WRAPPERS = ("model.", "model.model.", "")

#: an activation and its closest relative, for a planted fault: what a careless conversion would write
NEIGHBOUR = {"swiglu": "geglu", "geglu": "swiglu", "reglu": "swiglu", "gelu": "gelu_new", "relu": "gelu"}

#: bias flag of the yaml -> the roles that have a bias if it is true
BIAS_FLAGS = {
    "use_projection_bias_in_attention": ("q", "k", "v"),
    "use_ffn_bias_in_attention": ("o",),
    "use_ffn_bias": ("gate", "up", "down"),
}


def find_prefix(tensors: Mapping[str, Tensor], trunks: Iterable[str]) -> tuple[str, str]:
    """The prefixes of wrapper and trunk before ``embedding_layer.word_embeddings.weight``.

    Raises:
        ConvkitError: no such key.
    """
    anchor = "embedding_layer.word_embeddings.weight"
    for trunk in trunks:
        for wrapper in _WRAPPERS:
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


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mixed values ``[b, s, heads * head_dim]`` and probabilities ``[b, heads, s, s]``.

    Args:
        q: ``[b, s, heads, head_dim]``.
        k: ``[b, s, kv_heads, head_dim]``: a key serves ``heads / kv_heads`` consecutive query heads; the same for
        ``v``.
        scale: multiplies ``q``.
        mask: added to the scores: 0 where a key is visible, -inf elsewhere.
    """
    import torch

    served = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(served, dim=2), v.repeat_interleave(served, dim=2)
    scores = torch.einsum("bqhd,bkhd->bhqk", q * scale, k) + mask
    probabilities = torch.softmax(scores, dim=-1)
    return torch.einsum("bhqk,bkhd->bqhd", probabilities, v).flatten(2), probabilities


class CerebrasOracle(Oracle):
    """The keys, biases and norms of a Cerebras model. Subclasses claim tensors and run the model."""

    #: fields that this oracle doesn't support and that would change the result -> harmless value
    not_covered: ClassVar[dict[str, Any]]
    #: role inside a layer -> its module, with ``{i}`` for the layer
    layer_modules: ClassVar[dict[str, str]]

    wrapper: str

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path | None = None) -> None:
        self.config, self.tensors, self.path = dict(config), tensors, path
        self.roles, self.twins, self.problems, self.notes = {}, {}, [], []
        for name, harmless in self.not_covered.items():
            value = self.config.get(name, harmless)
            if value != harmless and (value or harmless):
                problem, remedy = f"the oracle of {self.layout} doesn't cover {value!r}", "this model can't be run yet"
                raise ConvkitError(problem, path=path, key=name, remedy=remedy)

    def has(self, name: str) -> bool:
        """Whether a role has a tensor."""
        return name in self.roles

    def claim(self, role: str, key: str, shape: tuple[int, ...]) -> None:
        """Assign a role to the tensor of a key.

        Raises:
            ConvkitError: the tensor is missing, or its shape isn't the config's.
        """
        if key not in self.tensors:
            raise ConvkitError("missing key", path=self.path, key=key, remedy="the config says that the model has it")
        found = shape_of(self.tensors, key)
        if found != shape:
            remedy = "config and tensors are of different models"
            raise ConvkitError(f"shape {found}, the config says {shape}", path=self.path, key=key, remedy=remedy)
        self.roles[role] = Part(key)

    def claim_linear(self, role: str, module: str, rows: int, columns: int, bias: bool) -> None:
        """Claim ``module.weight`` ``[rows, columns]`` and, with ``bias``, ``module.bias`` ``[rows]``."""
        self.claim(f"{role}.weight", f"{module}.weight", (rows, columns))
        if bias:
            self.claim(f"{role}.bias", f"{module}.bias", (rows,))

    def claim_norm(self, role: str, module: str, width: int, bias: bool = True) -> None:
        """Claim a norm's scale and, with ``bias``, its shift."""
        self.claim(f"{role}.weight", f"{module}.weight", (width,))
        if bias:
            self.claim(f"{role}.bias", f"{module}.bias", (width,))

    def claim_embeddings(self, module: str, width: int, positions: bool) -> None:
        """Claim the word embeddings and, with ``positions``, their table, whose key was shorter before release 2.1."""
        self.claim("embedding.weight", f"{module}.word_embeddings.weight", (self.facts.vocab_size, width))
        if positions:
            old, new = f"{module}.position_embeddings.weight", f"{module}.position_embeddings.embed.weight"
            self.claim("positions.weight", old if old in self.tensors else new, (self.facts.positions, width))

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
        qkv, out, ffn = (bool(self.config.get(flag, True)) for flag in BIAS_FLAGS)
        return qkv, out, ffn

    def linear(self, role: str, x: Tensor) -> Tensor:
        """``x @ weight.T + bias``; Cerebras stores every weight ``[out, in]``."""
        from torch.nn import functional

        bias = self.part(f"{role}.bias") if self.has(f"{role}.bias") else None
        return functional.linear(x, self.part(f"{role}.weight"), bias)

    def layer_norm(self, role: str, x: Tensor, eps: float) -> Tensor:
        """Layer norm with the biased variance."""
        from torch.nn import functional

        bias = self.part(f"{role}.bias") if self.has(f"{role}.bias") else None
        return functional.layer_norm(x, x.shape[-1:], self.part(f"{role}.weight"), bias, eps)

    @classmethod
    def reconcile(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], list[str]]:
        """Let the tensors overrule the bias flags: converted yamls sometimes deny biases that the file has."""
        corrected, notes = dict(config), []
        for flag, roles in BIAS_FLAGS.items():
            modules = [cls.layer_modules[role] for role in roles if role in cls.layer_modules]
            ends = tuple(f"{module.format(i=0)}.bias" for module in modules)
            found = any(key.endswith(ends) for key in tensors)
            if bool(config.get(flag, True)) != found:
                corrected[flag] = found
                notes.append(f"{flag}: the yaml says {config.get(flag, True)}, the tensors say {found}")
        return corrected, notes
