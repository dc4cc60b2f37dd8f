"""The Cerebras encoder classes, BERT's and ESM-2's, with the heads that the file holds.

Source: Cerebras ModelZoo 2.10.0, ``models/nlp/bert/{bert_model,bert_pretrain_models}.py``, ``models/nlp/esm2``,
``models/nlp/bert/{classifier,token_classifier}/``, ``layers/TransformerEncoderLayer.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from convkit.oracles.blocks import rotary
from convkit.oracles.blocks.attention import padding
from convkit.oracles.blocks.block import Block
from convkit.oracles.blocks.feed_forward import FeedForward
from convkit.oracles.blocks.norms import Norm
from convkit.oracles.cerebras.model import NEIGHBOUR, CerebrasOracle, activation, encoder_layer, find_prefix
from convkit.oracles.inputs import Input
from convkit.oracles.oracle import Facts, State, Trace
from convkit.oracles.stacks import Stack
from convkit.oracles.tensors import shape_of

if TYPE_CHECKING:
    from torch import Tensor

#: of ESM's tokens, 15 % were chosen, and of those 80 % masked
_LEFT_IN_TRAINING = 1 - 0.15 * 0.8
_LAYER = "transformer_encoder.layers.{i}."
POOLER = "pooler.pooler.ffn.0.linear_layer"


class CerebrasBert(CerebrasOracle, Stack):
    """A post-norm encoder. Heads: MLM, NSP, and a sequence (pooled) or token (not pooled) classifier."""

    layout = "cerebras/bert"
    order: ClassVar[Literal["pre", "post"]] = "post"
    #: what may stand before the keys of the encoder, and the role of the pooler's tensors
    trunks: ClassVar[tuple[str, ...]] = ("bert_encoder.", "bert.", "")
    pooler_role: ClassVar[str] = "pooler"
    scaled_behind_norm: ClassVar[bool] = False
    defaults: ClassVar[dict[str, Any]] = {
        "attention_type": "scaled_dot_product",
        "embedding_layer_norm": True,
        "filter_size": 3072,
        "hidden_size": 768,
        "layer_norm_epsilon": 1e-5,
        "max_position_embeddings": 1024,
        "num_heads": 12,
        "num_hidden_layers": 12,
        "pad_token_id": 0,
        "position_embedding_type": "learned",
        "share_embedding_weights": True,
        "use_ffn_bias": True,
        "use_ffn_bias_in_attention": True,
        "use_final_layer_norm": False,
        "use_projection_bias_in_attention": True,
        "vocab_size": 50257,
    }
    not_covered: ClassVar[dict[str, Any]] = {
        "attention_module": "aiayn_attention",
        "embedding_layer_norm": True,
        "norm_first": False,
        "position_embedding_type": "learned",
        "use_final_layer_norm": False,
    }
    layer_modules: ClassVar[dict[str, str]] = encoder_layer(_LAYER)

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path | None = None) -> None:
        super().__init__(config, tensors, path)
        get, value = self.config.get, self.value
        self.hidden, heads = value("hidden_size"), value("num_heads")
        self.head_dim = self.hidden // heads
        self.nonlinearity = str(get("encoder_nonlinearity", get("nonlinearity", "gelu"))).lower()
        if self.nonlinearity.endswith("glu"):
            raise self.uncovered("encoder_nonlinearity", self.nonlinearity)
        self.mlm_act = activation(get("mlm_nonlinearity") or self.nonlinearity)
        self.pooler_act = activation(get("pooler_nonlinearity") or self.nonlinearity)
        self.wrapper, trunk = find_prefix(tensors, self.trunks)
        self.trunk = self.wrapper + trunk
        segments = f"{self.trunk}embedding_layer.segment_embeddings.weight"
        turned = value("position_embedding_type") == "rotary"
        rotary_dim = self.number("rotary_dim") or int(self.hidden // heads * 0.25) if turned else 0
        self.pad = value("pad_token_id") if get("mask_padding_in_positional_embed") and not turned else None
        self.facts = Facts(
            layers=value("num_hidden_layers"),
            heads=heads,
            kv_heads=heads,
            vocab_size=value("vocab_size"),
            positions=value("max_position_embeddings"),
            padding=self.pad,
            segments=shape_of(tensors, segments)[0] if segments in tensors else 0,
            causal=False,
            rotary="interleaved" if turned else "",
            rotary_dim=rotary_dim,
            tied=value("share_embedding_weights"),
        )
        self.norm = Norm(self.eps)
        self.block = Block(
            self.order, self.norm, self.attention(self.head_dim), FeedForward(activation(self.nonlinearity))
        )
        self.scale = self.logit_scale()
        self._claim()

    def _claim(self) -> None:
        facts, hidden, ffn = self.facts, self.hidden, self.value("use_ffn_bias")
        before = 0 if self.pad is None else self.pad + 1
        rows = 0 if facts.rotary else facts.positions + before
        self.claim_embeddings(f"{self.trunk}embedding_layer", hidden, rows)
        if facts.segments:
            rows = self.config.get("num_segments") or facts.segments
            self.claim("segments.weight", f"{self.trunk}embedding_layer.segment_embeddings.weight", (rows, hidden))
        if self.value("embedding_layer_norm"):
            self.claim_norm("norm_embedding", f"{self.trunk}embed_ln_f", hidden)
        if self.value("use_final_layer_norm"):
            self.claim_norm("norm_final", f"{self.trunk}transformer_encoder.norm", hidden)
        self.claim_encoder_layers(self.trunk, hidden, self.value("filter_size"))
        pooler = self.trunk + POOLER
        if f"{pooler}.weight" in self.tensors:
            self.claim_linear(self.pooler_role, pooler, hidden, hidden, ffn)
        self._claim_mlm_head()
        self._claim_classifiers(ffn)
        self.refuse_strangers()

    def _claim_mlm_head(self) -> None:
        hidden, get, head = self.hidden, self.config.get, f"{self.wrapper}bert_mlm_head"
        if f"{head}.mlm_transform.ln.weight" not in self.tensors:
            return
        bias = get("use_ffn_bias_in_mlm", True)
        self.claim_linear("transform", f"{head}.mlm_transform.ffn.ffn.0.linear_layer", hidden, hidden, bias)
        self.claim_norm("norm_transform", f"{head}.mlm_transform.ln", hidden)
        decoder = f"{head}.classifier.ffn.0.linear_layer"
        if self.facts.tied:
            self.roles["head.mlm.weight"] = self.roles["embedding.weight"]
            self.claim_twin(self.roles["embedding.weight"].key, f"{decoder}.weight")
        else:
            self.claim("head.mlm.weight", f"{decoder}.weight", (self.facts.vocab_size, hidden))
        if get("use_output_bias_in_mlm", True):
            self.claim("head.mlm.bias", f"{decoder}.bias", (self.facts.vocab_size,))

    def _claim_classifiers(self, bias: bool) -> None:
        nsp, classifier = f"{self.wrapper}bert_cls_head.classifier.ffn.0.linear_layer", f"{self.wrapper}classifier"
        if f"{nsp}.weight" in self.tensors:
            self.claim_linear("head.nsp", nsp, self.config.get("num_classes", 2), self.hidden, bias)
        if f"{classifier}.weight" in self.tensors:
            rows = shape_of(self.tensors, f"{classifier}.weight")[0]  # the yaml has num_labels, num_classes or neither
            self.claim_linear("head.classifier", classifier, rows, self.hidden, self.config.get("use_cls_bias", True))

    @property
    def inputs(self) -> dict[str, Input]:
        """See :attr:`Oracle.inputs`."""
        found = {**super().inputs, "attention_mask": Input(2, like="input_ids")}
        if self.facts.segments:
            found["token_type_ids"] = Input(self.facts.segments, like="input_ids")
        return found

    def start(self, inputs: Mapping[str, Tensor]) -> State:
        """See :meth:`Oracle.start`; by default no position is padding, and all tokens are of the first type."""
        import torch

        ids = inputs["input_ids"]
        positions = torch.arange(ids.shape[1]).expand_as(ids)
        if self.pad is not None:
            positions = (positions + 1) * (ids != self.pad) + self.pad
        kinds = inputs.get("token_type_ids", torch.zeros_like(ids))
        seen = inputs.get("attention_mask", torch.ones_like(ids))
        given: dict[str, Any] = {
            "ids": ids,
            "positions": positions,
            "kinds": kinds,
            "seen": seen,
            "bias": padding(seen),
        }
        if self.facts.rotary:
            sin, cos = rotary.tables(self.config, self.facts.rotary_dim, ids.shape[1])
            given["turn"] = partial(rotary.rotate, sin=sin, cos=cos)
        return State({}, given)

    def before(self, given: Mapping[str, Any]) -> Tensor:
        """See :meth:`Stack.before`."""
        x = self.words(given)
        if "positions.weight" in self.weights:
            x = x + self.weights["positions.weight"][given["positions"]]
        if "segments.weight" in self.weights:
            x = x + self.weights["segments.weight"][given["kinds"]]
        x = x * (self.number("embeddings_scale") or 1.0)
        return self.norm(self.weights, "norm_embedding", x) if "norm_embedding.weight" in self.weights else x

    def words(self, given: Mapping[str, Any]) -> Tensor:
        """The word embeddings ``[b, s, hidden]``."""
        return self.weights["embedding.weight"][given["ids"]]

    def layer(self, i: int, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """See :meth:`Stack.layer`."""
        return self.block(
            self.weights.within(f"layers.{i}."), x, given["bias"], given.get("turn"), partial(trace.point, i)
        )

    def after(self, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """See :meth:`Stack.after`."""
        weights = self.weights
        if "norm_final.weight" in weights:
            x = self.norm(weights, "norm_final", x)
            trace.state("final", x)
        mlm, nsp, classifier = (self.has(f"head.{head}.weight") for head in ("mlm", "nsp", "classifier"))
        # question answering has no name of its own and no pooler
        tokens = self.config.get("name") == "bert/token_classifier" or not self.has("pooler.weight")
        pooled = None
        if self.has("pooler.weight") and (nsp or not (mlm or tokens)):
            pooled = self.pooler_act(weights.linear("pooler", x[:, 0]))
            trace.state("pooled", pooled)
        if mlm:
            transformed = self.norm(weights, "norm_transform", self.mlm_act(weights.linear("transform", x)))
            trace.outputs["mlm"] = weights.linear("head.mlm", transformed) * self.scale
        if nsp and pooled is not None:
            trace.outputs["nsp"] = weights.linear("head.nsp", pooled) * self.scale
        if classifier:
            trace.outputs["classifier"] = weights.linear("head.classifier", x if pooled is None else pooled)
        return x

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        name = "encoder_nonlinearity" if "encoder_nonlinearity" in self.config else "nonlinearity"
        wrong: dict[str, dict[str, Any]] = {
            "wrong activation": {name: NEIGHBOUR.get(self.nonlinearity, "relu")},
            "wrong norm epsilon": {"layer_norm_epsilon": max(1e-4, 100 * self.eps)},
        }
        if self.facts.heads % 2 == 0:
            wrong["wrong head count"] = {"num_heads": self.facts.heads // 2}
        wrong |= self.mup_faults()
        return {name: {**self.config, **change} for name, change in wrong.items()}


class CerebrasDpr(CerebrasBert):
    """One encoder of DPR: the first token stands for the text, behind the pooler where there is one."""

    layout = "cerebras/dpr"
    trunks: ClassVar[tuple[str, ...]] = ("question_encoder.", "ctx_encoder.")
    pooler_role = "head.text"

    def after(self, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """See :meth:`Stack.after`."""
        first = x[:, 0]
        pooled = self.has("head.text.weight")
        trace.outputs["text"] = self.pooler_act(self.weights.linear("head.text", first)) if pooled else first
        return x

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        wrong = super().wrong_configs()
        if self.has("head.text.weight") and self.config.get("pooler_nonlinearity") != "tanh":
            wrong["an activation behind the projection"] = {**self.config, "pooler_nonlinearity": "tanh"}
        return wrong


class CerebrasDragon(CerebrasDpr):
    """One encoder of DRAGON, compared by its hidden states: in transformers it is a BERT, which doesn't choose one."""

    layout = "cerebras/dragon"

    def after(self, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """See :meth:`Stack.after`."""
        return x


class CerebrasEsm2(CerebrasBert):
    """A pre-norm encoder with a norm after its layers; positions of a table or rotary.

    With ``token_dropout``, the embeddings of masked tokens are zero, and the others are scaled by the share of tokens
    that was left in training over that of this input.
    """

    layout = "cerebras/esm-2"
    order = "pre"
    defaults: ClassVar[dict[str, Any]] = {**CerebrasBert.defaults, "token_dropout": False}
    not_covered: ClassVar[dict[str, Any]] = {
        "attention_module": "aiayn_attention",
        "norm_first": True,
    }
    covered: ClassVar[dict[str, tuple[Any, ...]]] = {"position_embedding_type": ("learned", "rotary")}

    def words(self, given: Mapping[str, Any]) -> Tensor:
        """See :meth:`CerebrasBert.words`."""
        x, mask = super().words(given), self.number("mask_token_id")
        if not self.value("token_dropout"):
            return x
        if mask is None:
            raise self.unreadable("mask_token_id", mask, "the id of the tokens that are dropped")
        masked = given["ids"] == mask
        left = 1 - masked.sum(-1) / given["seen"].sum(-1)
        return x.masked_fill(masked[..., None], 0.0) * (_LEFT_IN_TRAINING / left)[:, None, None]

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        wrong = super().wrong_configs()
        if rebased := self.rebased(1.1):
            wrong["wrong rotary base"] = rebased
            wrong.pop("wrong head count", None)  # the rotated dimensions would have to change too
        if self.value("token_dropout"):
            wrong["tokens not dropped"] = {**self.config, "token_dropout": False}
        return wrong

    def rebased(self, factor: float) -> dict[str, Any] | None:
        """See :meth:`Oracle.rebased`."""
        theta = factor * (self.number("rope_theta") or 10000)
        return {**self.config, "rope_theta": theta} if self.facts.base_matters else None
