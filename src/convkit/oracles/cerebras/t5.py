"""The Cerebras T5 class: an encoder and a decoder with relative positions.

Source: Cerebras ModelZoo 2.10.0, ``models/nlp/t5/{t5_model,model}.py``, ``layers/TransformerDecoderLayer.py``; and
runs of its models on a CPU. Options that no recorded model has are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from convkit.errors import ConvkitError
from convkit.oracles.blocks.attention import Attention, causal, padding
from convkit.oracles.blocks.block import Block
from convkit.oracles.blocks.feed_forward import FeedForward
from convkit.oracles.blocks.norms import Norm
from convkit.oracles.blocks.relative import relative
from convkit.oracles.cerebras.model import NEIGHBOUR, CerebrasOracle, activation, find_prefix
from convkit.oracles.inputs import Input
from convkit.oracles.oracle import Facts, State, Trace
from convkit.oracles.stacks import EncoderDecoder

if TYPE_CHECKING:
    from torch import Tensor

_ATTENTION = {part: f"proj_{name}_dense_layer" for part, name in zip("qkvo", ("q", "k", "v", "output"), strict=True)}
#: the norms of a layer, by stack: role -> module
_NORMS = {
    "encoder": {"norm_attention": "norm1", "norm_ffn": "norm2"},
    "decoder": {"norm_attention": "norm1", "norm_cross": "norm2", "norm_ffn": "norm3"},
}
#: the embedding of a stack, where each has its own
_EMBEDDING = {"encoder": "embedding", "decoder": "embedding_decoder"}
#: an activation and the closest one that ModelZoo's T5 takes
_OTHER = NEIGHBOUR | {"gelu": "relu"}


class CerebrasT5(CerebrasOracle, EncoderDecoder):
    """Pre-norm stacks of unscaled attention and plain or gated FFNs.

    Both stacks have the activation that the yaml names for the encoder. Where the head shares the embedding, the hidden
    states are scaled before it.
    """

    layout = "cerebras/t5"
    defaults: ClassVar[dict[str, Any]] = {
        "d_ff": 2048,
        "d_kv": 64,
        "d_model": 512,
        "encoder_nonlinearity": "relu",
        "encoder_num_hidden_layers": 6,
        "extra_ids": 0,
        "layer_norm_epsilon": 1e-5,
        "norm_type": "rmsnorm",
        "num_heads": 8,
        "position_embedding_type": "relative",
        "relative_attention_num_buckets": 32,
        "share_embedding_weights": True,
        "share_encoder_decoder_embedding": True,
        "src_max_position_embeddings": 512,
        "src_vocab_size": 32128,
        "use_ffn_bias": False,
        "use_pre_encoder_decoder_layer_norm": True,
        "use_projection_bias_in_attention": False,
    }
    not_covered: ClassVar[dict[str, Any]] = {
        "attention_module": "aiayn_attention",
        "tie_encoder_decoder": False,
        "use_transformer_initialization": False,
    }
    covered: ClassVar[dict[str, tuple[Any, ...]]] = {
        "encoder_nonlinearity": ("relu", "gelu", "reglu", "geglu", "swiglu"),
        "norm_type": ("rmsnorm",),
        "position_embedding_type": ("relative",),
        "use_ffn_bias": (False,),
        "use_pre_encoder_decoder_layer_norm": (True,),
        "use_projection_bias_in_attention": (False,),
    }

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path | None = None) -> None:
        super().__init__(config, tensors, path)
        value, number = self.value, self.number
        self.hidden, heads = value("d_model"), value("num_heads")
        encoder = value("encoder_num_hidden_layers")
        self.depth = {"encoder": encoder, "decoder": number("decoder_num_hidden_layers", encoder)}
        self.nonlinearity = value("encoder_nonlinearity")
        if self.config.get("decoder_nonlinearity") not in (None, self.nonlinearity):
            raise self.uncovered("decoder_nonlinearity", self.config["decoder_nonlinearity"])
        if number("tgt_vocab_size", value("src_vocab_size")) != value("src_vocab_size"):
            raise self.uncovered("tgt_vocab_size", number("tgt_vocab_size"))
        self.facts = Facts(
            sum(self.depth.values()),
            heads,
            heads,
            value("src_vocab_size") + value("extra_ids"),
            value("src_max_position_embeddings"),
            causal=False,
            tied=value("share_embedding_weights"),
        )
        self.gated = self.nonlinearity.endswith("glu")
        feed = FeedForward(activation(self.nonlinearity), self.gated)
        self.width = self._width()
        self.blocks = {
            stack: Block("pre", Norm(self.eps, rms=True), self._attention(stack), feed) for stack in self.depth
        }
        self.norm = self.blocks["encoder"].norm
        self.wrapper, _ = find_prefix(tensors, ["encoder_embeddings."], anchor="word_embeddings.weight")
        for stack in self.depth:
            self._claim_stack(stack)
        if self.facts.tied:
            self.roles["head.lm.weight"] = self.roles["embedding.weight"]
            self.claim_twin(self.roles["embedding.weight"].key, f"{self.wrapper}lm_head.weight")
        else:
            self.claim("head.lm.weight", f"{self.wrapper}lm_head.weight", (self.facts.vocab_size, self.hidden))
        self.refuse_strangers()

    def _claim_stack(self, stack: str) -> None:
        at, hidden, inner = f"{self.wrapper}{stack}", self.hidden, self.facts.heads * self.value("d_kv")
        words = f"{at}_embeddings.word_embeddings.weight"
        if stack == "encoder" or not self.value("share_encoder_decoder_embedding"):
            self.claim(f"{_EMBEDDING[stack]}.weight", words, (self.facts.vocab_size, hidden))
        else:
            self.claim_twin(self.roles["embedding.weight"].key, words)
        buckets = (self.value("relative_attention_num_buckets"), self.facts.heads)
        table = f"{at}_embeddings.position_embed_helper.relative_attention_bias.weight"
        self.claim(f"positions_{stack}.weight", table, buckets)
        self.claim_norm(f"norm_{stack}", f"{at}.norm", hidden, bias=False)
        for i in range(self.depth[stack]):
            role = f"layers.{i if stack == 'encoder' else self.depth['encoder'] + i}."
            module = f"{at}.layers.{i}."
            for part, name in _ATTENTION.items():
                rows, columns = (hidden, inner) if part == "o" else (inner, hidden)
                self.claim_linear(f"{role}{part}", f"{module}self_attn.{name}", rows, columns, bias=False)
                if stack == "decoder":
                    self.claim_linear(
                        f"{role}cross_{part}", f"{module}multihead_attn.{name}", rows, columns, bias=False
                    )
            ffn, filters = f"{module}ffn.ffn.", self.value("d_ff")
            if self.gated:
                self.claim_linear(f"{role}gate", f"{ffn}0.linear_layer_for_glu", filters, hidden, bias=False)
            self.claim_linear(f"{role}up", f"{ffn}0.linear_layer", filters, hidden, bias=False)
            self.claim_linear(f"{role}down", f"{ffn}1.linear_layer", hidden, filters, bias=False)
            for norm, name in _NORMS[stack].items():
                self.claim_norm(f"{role}{norm}", f"{module}{name}", hidden, bias=False)

    def _width(self) -> float:
        """How many times as wide as its base the model is; 0 if it isn't muP.

        Raises:
            ConvkitError: a base size without the other, which ModelZoo refuses.
        """
        wide, filters, heads = (self.number(f"mup_base_{name}") for name in ("d_model", "d_ff", "d_kv"))
        if bool(wide) != bool(filters) or (heads and not wide):
            key = "mup_base_d_ff" if wide else "mup_base_d_model"
            raise ConvkitError("is missing", path=self.path, key=key, remedy="give all base sizes of muP")
        return self.hidden / wide if wide else 0.0

    def factors(self) -> dict[str, float]:
        """See :meth:`Oracle.factors`; those of queries and keys are of each stack, those of the width of both."""
        if not self.width:
            return {}
        alpha = self.number("embeddings_alpha")
        found = {
            "embedding": (1.0 if alpha is None else alpha) * self.hidden**0.5,
            "head.lm": self._logit_scale(),
        }
        for i in range(self.facts.layers):
            of = self.blocks["encoder" if i < self.depth["encoder"] else "decoder"].attention
            own = {"q": of.scale, "k": of.key_scale * of.score_scale, "v": of.value_scale, "o": of.out_scale}
            crossing = "" if i < self.depth["encoder"] else "cross_"
            found |= {f"layers.{i}.{at}{role}": by for at in {"", crossing} for role, by in own.items()}
        return found

    def _attention(self, stack: str) -> Attention:
        """A stack's attention: unscaled, or in muP with factors of the size of a head and of the model's width."""
        size, alpha = self.value("d_kv"), self.number(f"{stack}_attention_logits_alpha")
        if not self.width:
            return Attention(size, score_scale=1.0 if alpha is None else alpha)
        part = 1.0 if self.number("mup_base_d_kv") else self.width**-0.5
        by_d = self.config.get(f"scale_{stack}_qk_dot_by_d") is not False
        return Attention(
            size,
            scale=part * size**-0.5,
            key_scale=part * size**-0.5 if by_d else part,
            score_scale=1.0 if alpha is None else alpha,
            value_scale=part,
            out_scale=1 / part,
        )

    @property
    def inputs(self) -> dict[str, Input]:
        """See :attr:`Oracle.inputs`; ModelZoo's model takes a mask for its decoder too, which has no effect."""
        longest = self.number("tgt_max_position_embeddings")
        return {
            **super().inputs,
            "attention_mask": Input(2, like="input_ids"),
            "decoder_input_ids": Input(self.facts.vocab_size, positions=longest, needed=True),
            "decoder_attention_mask": Input(2, like="decoder_input_ids"),
        }

    def start(self, inputs: Mapping[str, Tensor]) -> State:
        """See :meth:`Oracle.start`: ``input_ids`` and ``attention_mask`` go to the encoder."""
        import torch

        ids = inputs["input_ids"]
        seen = padding(inputs.get("attention_mask", torch.ones_like(ids)))
        return State({}, {"encoder": ids, "decoder": inputs["decoder_input_ids"], "seen": seen})

    def embedded(self, stack: str, given: Mapping[str, Any]) -> Tensor:
        """See :meth:`EncoderDecoder.embedded`."""
        own = f"{_EMBEDDING[stack]}.weight"
        x = self.weights[own if own in self.roles else "embedding.weight"][given[stack]]
        alpha = self.number("embeddings_alpha")
        return x * (1.0 if alpha is None else alpha) * (self.hidden**0.5 if self.width else 1.0)

    def encoded(self, x: Tensor) -> Tensor:
        """See :meth:`EncoderDecoder.encoded`."""
        return self.norm(self.weights, "norm_encoder", x)

    def layer(self, i: int, stack: str, flow: Mapping[str, Tensor], given: Mapping[str, Any], trace: Trace) -> Tensor:
        """See :meth:`EncoderDecoder.layer`."""
        x, weights = flow["hidden"], self.weights.within(f"layers.{i}.")
        leave, across = partial(trace.point, i), None
        bias = relative(self.weights[f"positions_{stack}.weight"], x.shape[1], both_ways=stack == "encoder")
        if stack == "decoder":
            across = partial(self.blocks[stack].attention.across, weights, flow["encoded"], given["seen"], leave)
        bias = bias + (given["seen"] if stack == "encoder" else causal(x.shape[1]))
        return self.blocks[stack](weights, x, bias, None, leave, across=across)

    def after(self, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """See :meth:`EncoderDecoder.after`."""
        x = self.norm(self.weights, "norm_decoder", x)
        trace.state("final", x)
        trace.outputs["lm"] = self.weights.linear("head.lm", x) * self._logit_scale()
        return x

    def _logit_scale(self) -> float:
        """What multiplies the logits: in muP by the root of the width, else of the model's where the head is shared."""
        if not self.width:
            return float(self.hidden**-0.5) if self.facts.tied else 1.0
        by_d = self.config.get("scale_output_logits_by_d")
        return (self.number("output_logits_alpha") or 1.0) / float(self.width if by_d else self.width**0.5)

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        wrong: dict[str, dict[str, Any]] = {
            "wrong activation": {"encoder_nonlinearity": _OTHER[self.nonlinearity], "decoder_nonlinearity": None},
            "wrong norm epsilon": {"layer_norm_epsilon": max(1e-4, 100 * self.eps)},
        }
        if self.width:
            wrong |= self._mup_left_out()
        elif f"{self.wrapper}lm_head.weight" in self.tensors and not self.ties_alike(self.hidden**-0.5):
            wrong["scale before the head wrong"] = {"share_embedding_weights": not self.facts.tied}
        return {name: {**self.config, **change} for name, change in wrong.items()}

    def _mup_left_out(self) -> dict[str, dict[str, Any]]:
        """Changes of a muP model's yaml, by the fault that they are."""
        width = {"mup_base_d_model": self.hidden, "mup_base_d_kv": None}
        return {
            "scale of the width left out": width if self.width != 1 else {"scale_encoder_qk_dot_by_d": False},
            "encoder's scores divided by the root": {
                "scale_encoder_qk_dot_by_d": self.config.get("scale_encoder_qk_dot_by_d") is False
            },
            "decoder's scores divided by the root": {
                "scale_decoder_qk_dot_by_d": self.config.get("scale_decoder_qk_dot_by_d") is False
            },
        }
