"""BTLM and Jais: GPT-2 with a gated feed-forward part, ALiBi, and the scales of muP; SantaCoder: GPT-2 with one key.

Source: the papers of BTLM (arXiv 2309.11568: SwiGLU, ALiBi, muP) and ALiBi (2108.12409); the model cards of
``cerebras/btlm-3b-8k-base`` and ``inceptionai/jais-30b-v3``; vLLM, ``model_executor/models/jais.py`` (the order of the
gate's operands, attention divided by the size of a head, the factors of embeddings and logits); SantaCoder's paper
(2301.03988) and that of attention with one key (1911.02150); transformers, ``models/gpt2`` for everything else, and
``models/gpt_bigcode``, into which it took SantaCoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from convkit.errors import ConvkitError
from convkit.oracles.blocks.attention import Attention, alibi, causal
from convkit.oracles.blocks.block import Block
from convkit.oracles.blocks.feed_forward import FeedForward
from convkit.oracles.blocks.norms import Norm
from convkit.oracles.blocks.weights import Weights
from convkit.oracles.oracle import Facts, State, Trace
from convkit.oracles.parts import Part
from convkit.oracles.stacks import Stack
from convkit.oracles.tensors import same, shape_of

if TYPE_CHECKING:
    from torch import Tensor

#: second names of fields, by the first; the first Jais has those of muP's fields
_SPELLINGS = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
    "embeddings_scale": "mup_embeddings_scale",
    "scale_qk_dot_by_d": "mup_scale_qk_dot_by_d",
}
#: causal masks and their fill value, which models make themselves
_UNREAD = (".attn.bias", ".attn.masked_bias")
#: module of a layer -> the roles that share it, beside queries, keys and values
_MODULES = {
    "ln_1": ("norm_attention",),
    "attn.c_proj": ("o",),
    "ln_2": ("norm_ffn",),
    "mlp.c_fc": ("up",),
    "mlp.c_fc2": ("gate",),
    "mlp.c_proj": ("down",),
}


def _activation(name: str) -> Any:
    """An activation by its name in transformers; of a gate, the function of the second operand."""
    import torch
    from torch.nn import functional
    from transformers.activations import ACT2FN

    gates = {"swiglu": functional.silu, "geglu": functional.gelu}
    if name in gates:
        return gates[name]
    if name not in ACT2FN:
        raise ConvkitError(f"no activation is called {name!r}", key="activation_function", remedy="see config.json")
    found: torch.nn.Module = ACT2FN[name]
    return found


class HubDecoder(Stack):
    """A pre-norm decoder with biases everywhere; positions are slopes of distance, or learned."""

    layout = "hf/btlm"
    packages = ("transformers",)
    modules: ClassVar[dict[str, tuple[str, ...]]] = _MODULES | {"attn.c_attn": ("q", "k", "v")}
    #: whether all heads share one key and one value
    multi_query: ClassVar[bool] = False
    defaults: ClassVar[dict[str, Any]] = {
        "activation_function": "gelu_new",
        "alibi_scaling": None,
        "layer_norm_epsilon": 1e-5,
        "mup_embeddings_scale": 1.0,
        "mup_output_alpha": 1.0,
        "mup_scale_qk_dot_by_d": False,
        "mup_width_scale": 1.0,
        "n_embd": 768,
        "n_head": 12,
        "n_inner": None,
        "n_layer": 12,
        "n_positions": 1024,
        "position_embedding_type": "learned",
        "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True,
        "tie_word_embeddings": True,
        "vocab_size": 50257,
        "width_scale": None,
    }

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path | None = None) -> None:
        self.config = self.defaults | {_SPELLINGS.get(name, name): value for name, value in config.items()}
        self.tensors, self.path = tensors, path
        self.roles, self.twins, self.problems, self.notes = {}, {}, [], []
        self.weights = Weights(self.part, lambda role: role in self.roles)
        get = self.config.__getitem__
        self.gated = get("activation_function").endswith("glu")
        self.alibi = get("position_embedding_type") == "alibi"
        self.stretch = self._stretch()
        if get("scale_attn_by_inverse_layer_idx"):
            raise self._uncovered("scale_attn_by_inverse_layer_idx")
        self.facts = Facts(
            layers=get("n_layer"),
            heads=get("n_head"),
            kv_heads=1 if self.multi_query else get("n_head"),
            vocab_size=get("vocab_size"),
            positions=get("n_positions"),
            tied=get("tie_word_embeddings"),
        )
        size = get("n_embd") // get("n_head")
        power = 1.0 if get("mup_scale_qk_dot_by_d") else 0.5
        self.block = Block(
            "pre",
            Norm(float(get("layer_norm_epsilon"))),
            Attention(size, score_scale=size**-power if get("scale_attn_weights") else 1.0),
            FeedForward(_activation(get("activation_function")), self.gated),
        )
        whole = get("width_scale")
        self.scale = get("mup_output_alpha") * get("mup_width_scale") if whole is None else whole
        self._claim_all()

    def _uncovered(self, field: str) -> ConvkitError:
        problem = f"the oracle of {self.layout} doesn't cover {self.config[field]!r}"
        return ConvkitError(problem, path=self.path, key=field, remedy="this model can't be run yet")

    def _stretch(self) -> float:
        """What distances are divided by."""
        scaling = self.config["alibi_scaling"] or {}
        if scaling.get("train_seq_len") is not None:
            raise self._uncovered("alibi_scaling")
        return float(scaling.get("factor") or 1.0)

    # --- tensors -----------------------------------------------------------------------------------------------

    def _claim_all(self) -> None:
        hidden, vocabulary = self.config["n_embd"], self.facts.vocab_size
        base = next((base for base in ("transformer.", "") if f"{base}wte.weight" in self.tensors), None)
        if base is None:
            remedy = f"is this a checkpoint of {self.layout}?"
            raise ConvkitError("missing key", path=self.path, key="wte.weight", remedy=remedy)
        self._claim(Part(f"{base}wte.weight"), "embedding.weight", (vocabulary, hidden))
        if self.alibi:
            self._claim(Part(f"{base}relative_pe.slopes"), "slopes", (self.facts.heads, 1))
        else:
            self._claim(Part(f"{base}wpe.weight"), "positions.weight", (self.facts.positions, hidden))
        for i in range(self.facts.layers):
            for role, part, shape in self._layer(f"{base}h.{i}."):
                self._claim(part, f"layers.{i}.{role}", shape)
        for end in ("weight", "bias"):
            self._claim(Part(f"{base}ln_f.{end}"), f"norm_final.{end}", (hidden,))
        self._claim_head(base)
        known = {part.key for part in self.roles.values()} | self.twins.keys()
        self.refuse(key for key in self.tensors if key not in known and not key.endswith(_UNREAD))

    def _layer(self, at: str) -> Iterator[tuple[str, Part, tuple[int, ...]]]:
        """Role, place and shape ``[out, in]`` of each tensor of a layer; matrices are stored ``[in, out]``."""
        hidden = self.config["n_embd"]
        inner = self.config["n_inner"] or 4 * hidden
        keys = self.facts.kv_heads * hidden // self.facts.heads
        shapes = {"up": (inner, hidden), "gate": (inner, hidden), "down": (hidden, inner)}
        shapes |= dict.fromkeys("kv", (keys, hidden))
        for module, roles in self.modules.items():
            for index, role in enumerate(roles):
                if role == "gate" and not self.gated:
                    continue
                shape: tuple[int, ...] = shapes.get(role, (hidden, hidden))
                shape = shape[:1] if role.startswith("norm") else shape
                sizes = (1,) * len(roles)
                yield f"{role}.weight", Part(f"{at}{module}.weight", len(shape) == 2, index, sizes), shape
                yield f"{role}.bias", Part(f"{at}{module}.bias", False, index, sizes), shape[:1]

    def _claim(self, part: Part, role: str, shape: tuple[int, ...]) -> None:
        if part.key not in self.tensors:
            remedy = "the config says that the model has it"
            raise ConvkitError("missing key", path=self.path, key=part.key, remedy=remedy)
        stored = shape_of(self.tensors, part.key)
        expected = [length * (len(part.sizes) if axis == 0 else 1) for axis, length in enumerate(shape)]
        if list(stored) != (expected[::-1] if part.transposed else expected):
            problem, remedy = f"shape {stored}, the config says {shape}", "config and tensors are of different models"
            raise ConvkitError(problem, path=self.path, key=part.key, remedy=remedy)
        self.roles[role] = part

    def _claim_head(self, base: str) -> None:
        words, head = f"{base}wte.weight", "lm_head.weight"
        if not self.facts.tied and head in self.tensors:
            self._claim(Part(head), "head.lm.weight", (self.facts.vocab_size, self.config["n_embd"]))
        elif self.facts.tied and base:
            self.roles["head.lm.weight"] = self.roles["embedding.weight"]
        if self.facts.tied and head in self.tensors:
            self.twins[head] = words
            if not same(self.tensors, words, head):
                self.problems.append(f"{head} differs from {words}: the config says that they are tied")

    # --- the forward pass --------------------------------------------------------------------------------------

    def start(self, inputs: Mapping[str, Tensor]) -> State:
        """See :meth:`Oracle.start`."""
        ids = inputs["input_ids"]
        return State({}, {"ids": ids, "mask": causal(ids.shape[1])})

    def before(self, given: Mapping[str, Any]) -> Tensor:
        """See :meth:`Stack.before`."""
        x = self.weights["embedding.weight"][given["ids"]]
        if not self.alibi:
            x = x + self.weights["positions.weight"][: x.shape[1]]
        return x * self.config["mup_embeddings_scale"]

    def layer(self, i: int, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """See :meth:`Stack.layer`."""
        bias = given["mask"]
        if self.alibi:
            bias = bias + alibi(self.weights["slopes"] / self.stretch, x.shape[1])
        return self.block(self.weights.within(f"layers.{i}."), x, bias, None, partial(trace.point, i))

    def after(self, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """See :meth:`Stack.after`."""
        x = self.block.norm(self.weights, "norm_final", x)
        trace.state("final", x)
        if "head.lm.weight" in self.weights:
            trace.outputs["lm"] = self.weights.linear("head.lm", x) * self.scale
        return x

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        config = self.config
        faults: dict[str, tuple[Any, dict[str, Any]]] = {
            "wrong activation": (True, {"activation_function": "geglu" if self.gated else "relu"}),
            "wrong norm epsilon": (True, {"layer_norm_epsilon": max(1e-4, 100 * float(config["layer_norm_epsilon"]))}),
            "wrong head count": (
                not self.alibi and not self.multi_query and self.facts.heads % 2 == 0,
                {"n_head": self.facts.heads // 2},
            ),
            "scale of the embeddings left out": (config["mup_embeddings_scale"] != 1, {"mup_embeddings_scale": 1.0}),
            "scale of the logits left out": (self.scale != 1, {"width_scale": 1.0}),
            "scores divided by the root": (
                config["scale_attn_weights"] and config["mup_scale_qk_dot_by_d"],
                {"mup_scale_qk_dot_by_d": False},
            ),
            "scale of distances left out": (self.stretch != 1, {"alibi_scaling": None}),
        }
        return {name: {**config, **change} for name, (has, change) in faults.items() if has}


class HubJais(HubDecoder):
    """The same model by another name."""

    layout = "hf/jais"


class HubSantacoder(HubDecoder):
    """A GPT-2 whose heads share one key and one value, which have a module of their own."""

    layout = "hf/santacoder"
    multi_query = True
    modules: ClassVar[dict[str, tuple[str, ...]]] = _MODULES | {"attn.q_attn": ("q",), "attn.kv_attn": ("k", "v")}
