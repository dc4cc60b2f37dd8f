"""The Cerebras BERT encoder class, with the heads that the file holds.

Source: Cerebras ModelZoo 2.10.0, ``models/nlp/bert/{bert_model,bert_pretrain_models}.py``,
``models/nlp/bert/{classifier,token_classifier}/``, ``layers/TransformerEncoderLayer.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from convkit.errors import ConvkitError
from convkit.oracles.cerebras.model import NEIGHBOUR, CerebrasOracle, activation, attend, find_prefix
from convkit.oracles.oracle import Facts, Trace

if TYPE_CHECKING:
    from torch import Tensor


class CerebrasBert(CerebrasOracle):
    """A post-norm encoder. Heads: MLM, NSP, and a sequence (pooled) or token (not pooled) classifier."""

    layout = "cerebras/bert"
    not_covered: ClassVar[dict[str, Any]] = {
        "attention_logits_alpha": 1.0,
        "attention_module": "aiayn_attention",
        "embedding_layer_norm": True,
        "embeddings_scale": 1.0,
        "mask_padding_in_positional_embed": False,
        "mup_base_filter_size": None,
        "mup_base_hidden_size": None,
        "norm_first": False,
        "output_logits_alpha": 1.0,
        "position_embedding_type": "learned",
        "scale_qk_dot_by_d": None,
        "use_final_layer_norm": False,
    }
    layer_modules: ClassVar[dict[str, str]] = {
        "q": "transformer_encoder.layers.{i}.self_attn.proj_q_dense_layer",
        "k": "transformer_encoder.layers.{i}.self_attn.proj_k_dense_layer",
        "v": "transformer_encoder.layers.{i}.self_attn.proj_v_dense_layer",
        "o": "transformer_encoder.layers.{i}.self_attn.proj_output_dense_layer",
        "norm_attention": "transformer_encoder.layers.{i}.norm1",
        "up": "transformer_encoder.layers.{i}.ffn.ffn.0.linear_layer",
        "down": "transformer_encoder.layers.{i}.ffn.ffn.1.linear_layer",
        "norm_ffn": "transformer_encoder.layers.{i}.norm2",
    }

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path | None = None) -> None:
        super().__init__(config, tensors, path)
        get = self.config.get
        self.hidden = get("hidden_size", 768)
        self.eps = float(get("layer_norm_epsilon", 1e-5))
        self.nonlinearity = str(get("encoder_nonlinearity", get("nonlinearity", "gelu"))).lower()
        if self.nonlinearity.endswith("glu"):
            remedy = "a gated encoder can't be run yet"
            raise ConvkitError(
                f"doesn't cover {self.nonlinearity!r}", path=path, key="encoder_nonlinearity", remedy=remedy
            )
        self.act = activation(self.nonlinearity)
        self.mlm_act = activation(get("mlm_nonlinearity") or self.nonlinearity)
        self.pooler_act = activation(get("pooler_nonlinearity") or self.nonlinearity)
        self.wrapper, trunk = find_prefix(tensors, ["bert_encoder.", "bert.", ""])
        self.trunk = self.wrapper + trunk
        segments = tensors.get(f"{self.trunk}embedding_layer.segment_embeddings.weight")
        heads = get("num_heads", 12)
        self.facts = Facts(
            layers=get("num_hidden_layers", 12),
            heads=heads,
            kv_heads=heads,
            vocab_size=get("vocab_size", 50257),
            positions=get("max_position_embeddings", 1024),
            segments=0 if segments is None else segments.shape[0],
            causal=False,
            tied=bool(get("share_embedding_weights", True)),
        )
        self.head_dim = self.hidden // heads
        self.scale = self.head_dim**-0.5 if get("attention_type", "scaled_dot_product") == "scaled_dot_product" else 1.0
        self._claim()

    def _claim(self) -> None:
        facts, hidden, filter_size = self.facts, self.hidden, self.config.get("filter_size", 3072)
        qkv, out, ffn = self.biases()

        self.claim_embeddings(f"{self.trunk}embedding_layer", hidden, True)
        if facts.segments:
            rows = self.config.get("num_segments") or facts.segments
            self.claim("segments.weight", f"{self.trunk}embedding_layer.segment_embeddings.weight", (rows, hidden))
        self.claim_norm("norm_embedding", f"{self.trunk}embed_ln_f", hidden)
        for i in range(facts.layers):
            module = {role: self.trunk + name.format(i=i) for role, name in self.layer_modules.items()}
            layer = f"layers.{i}"
            for role in "qkv":
                self.claim_linear(f"{layer}.{role}", module[role], hidden, hidden, qkv)
            self.claim_linear(f"{layer}.o", module["o"], hidden, hidden, out)
            self.claim_norm(f"{layer}.norm_attention", module["norm_attention"], hidden)
            self.claim_linear(f"{layer}.up", module["up"], filter_size, hidden, ffn)
            self.claim_linear(f"{layer}.down", module["down"], hidden, filter_size, ffn)
            self.claim_norm(f"{layer}.norm_ffn", module["norm_ffn"], hidden)
        pooler = f"{self.trunk}pooler.pooler.ffn.0.linear_layer"
        if f"{pooler}.weight" in self.tensors:
            self.claim_linear("pooler", pooler, hidden, hidden, ffn)
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
            rows = self.tensors[f"{classifier}.weight"].shape[0]  # the yaml has num_labels, num_classes or neither
            self.claim_linear("head.classifier", classifier, rows, self.hidden, True)

    def run(self, inputs: Mapping[str, Tensor], detail: int | None = None) -> Trace:
        """See :meth:`Oracle.run`; takes ``attention_mask`` and, with a segment table, ``token_type_ids``."""
        import torch

        ids = inputs["input_ids"]
        seen = inputs.get("attention_mask", torch.ones_like(ids)).bool()
        mask = torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)[:, None, None, :]
        trace = Trace(detail)
        with torch.no_grad():
            x = self.part("embedding.weight")[ids] + self.part("positions.weight")[: ids.shape[1]]
            if self.has("segments.weight"):
                x = x + self.part("segments.weight")[inputs.get("token_type_ids", torch.zeros_like(ids))]
            x = self.layer_norm("norm_embedding", x, self.eps)
            trace.state("embedding", x)
            for i in range(self.facts.layers):
                x = self._layer(i, x, mask, trace)
                trace.state(f"layers.{i}", x)
            self._heads(x, trace)
        return trace

    def _layer(self, i: int, x: Tensor, mask: Tensor, trace: Trace) -> Tensor:
        layer = f"layers.{i}"
        q, k, v = (self.linear(f"{layer}.{role}", x).unflatten(-1, (-1, self.head_dim)) for role in "qkv")
        trace.point(i, "v", v.flatten(2))
        mixed, probabilities = attend(q, k, v, self.scale, mask)
        trace.point(i, "probabilities", probabilities)
        out = self.linear(f"{layer}.o", mixed)
        trace.point(i, "attention", out)
        x = self.layer_norm(f"{layer}.norm_attention", x + out, self.eps)
        trace.point(i, "norm_attention", x)
        up = self.linear(f"{layer}.up", x)
        trace.point(i, "up", up)
        out = self.linear(f"{layer}.down", self.act(up))
        trace.point(i, "ffn", out)
        return self.layer_norm(f"{layer}.norm_ffn", x + out, self.eps)

    def _heads(self, x: Tensor, trace: Trace) -> None:
        mlm, nsp, classifier = (self.has(f"head.{head}.weight") for head in ("mlm", "nsp", "classifier"))
        # question answering has no name of its own and no pooler
        tokens = self.config.get("name") == "bert/token_classifier" or not self.has("pooler.weight")
        pooled = None
        if self.has("pooler.weight") and (nsp or not (mlm or tokens)):
            pooled = self.pooler_act(self.linear("pooler", x[:, 0]))
            trace.state("pooled", pooled)
        if mlm:
            transformed = self.layer_norm("norm_transform", self.mlm_act(self.linear("transform", x)), self.eps)
            trace.outputs["mlm"] = self.linear("head.mlm", transformed)
        if nsp and pooled is not None:
            trace.outputs["nsp"] = self.linear("head.nsp", pooled)
        if classifier:
            trace.outputs["classifier"] = self.linear("head.classifier", x if pooled is None else pooled)

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        name = "encoder_nonlinearity" if "encoder_nonlinearity" in self.config else "nonlinearity"
        wrong: dict[str, dict[str, Any]] = {
            "wrong activation": {name: NEIGHBOUR.get(self.nonlinearity, "relu")},
            "wrong norm epsilon": {"layer_norm_epsilon": max(1e-4, 100 * self.eps)},
        }
        if self.facts.heads % 2 == 0:
            wrong["wrong head count"] = {"num_heads": self.facts.heads // 2}
        return {name: {**self.config, **change} for name, change in wrong.items()}

    def untied(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """See :meth:`Oracle.untied`."""
        head = {f"{self.wrapper}bert_mlm_head.classifier.ffn.0.linear_layer.weight": self.part("embedding.weight")}
        return {**self.config, "share_embedding_weights": False}, {**self.tensors, **head}
