"""The Cerebras vision transformer, with the classifier that the file holds.

Source: Cerebras ModelZoo 2.10.0, ``models/vision/vision_transformer/{ViTModel,ViTClassificationModel}.py``,
``layers/{ViTEmbeddingLayer,TransformerEncoderLayer}.py``; and runs of its models on a CPU. The class token comes first
in the sequence, its position last in the table. Options that no recorded model has are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from convkit.oracles.blocks.block import Block
from convkit.oracles.blocks.feed_forward import FeedForward
from convkit.oracles.blocks.norms import Norm
from convkit.oracles.cerebras.model import NEIGHBOUR, CerebrasOracle, activation, encoder_layer, find_prefix
from convkit.oracles.inputs import Input
from convkit.oracles.oracle import Facts, State, Trace
from convkit.oracles.parts import Cut, Lines
from convkit.oracles.stacks import Stack
from convkit.oracles.tensors import shape_of

if TYPE_CHECKING:
    from torch import Tensor

_ENCODER = "encoder."
_LAYER = f"{_ENCODER}transformer_encoder.layers.{{i}}."
#: the model within a classifier
_TRUNK = "vit_model."
#: of the norm after the embedding, whatever the yaml says of the others
_EPSILON = 1e-5


class CerebrasVision(CerebrasOracle, Stack):
    """A pre-norm encoder of patches, whose class token a pooler and a classifier may read."""

    layout = "cerebras/vit"
    defaults: ClassVar[dict[str, Any]] = {
        "attention_type": "scaled_dot_product",
        "filter_size": 3072,
        "hidden_size": 768,
        "layer_norm_epsilon": 1e-5,
        "num_channels": 3,
        "num_heads": 12,
        "num_hidden_layers": 12,
        "use_bias_in_output": True,
        "use_conv_patchified_embedding": False,
        "use_embed_proj_bias": True,
        "use_encoder_pooler_layer": False,
        "use_ffn_bias": True,
        "use_ffn_bias_in_attention": True,
        "use_post_embed_layer_norm": False,
        "use_projection_bias_in_attention": True,
    }
    not_covered: ClassVar[dict[str, Any]] = {
        "attention_module": "aiayn_attention",
        "interpolate_position_embedding": None,
        "layerscale_value": None,
        "norm_first": True,
        "position_embedding_type": "learned",
        "prepend_cls_token": True,
        "use_dinov2_classifier": False,
        "use_final_layer_norm": True,
        "use_masked_patches": False,
    }
    covered: ClassVar[dict[str, tuple[Any, ...]]] = {"use_conv_patchified_embedding": (True,)}
    layer_modules: ClassVar[dict[str, str]] = encoder_layer(_TRUNK + _LAYER)
    trunk: ClassVar[str] = _TRUNK

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path | None = None) -> None:
        super().__init__(config, tensors, path)
        value = self.value
        self.hidden, heads = value("hidden_size"), value("num_heads")
        self.nonlinearity = str(self.config.get("nonlinearity", "gelu")).lower()
        if self.nonlinearity.endswith("glu"):
            raise self.uncovered("nonlinearity", self.nonlinearity)
        self.pooler_act = activation(self.config.get("pooler_nonlinearity") or self.nonlinearity)
        self.wrapper, _ = find_prefix(tensors, [self.trunk], "embedding_layer.cls_embedding")
        image, patch = (self._sides(*size) for size in (("image_size", 224), ("patch_size", 16)))
        self.grid = (image[0] // patch[0], image[1] // patch[1])
        self.facts = Facts(
            layers=value("num_hidden_layers"),
            heads=heads,
            kv_heads=heads,
            vocab_size=0,
            positions=self.grid[0] * self.grid[1] + 1,
            causal=False,
            image=(value("num_channels"), *image),
            patch=patch,
        )
        self.norm = Norm(self.eps)
        feed = FeedForward(activation(self.nonlinearity))
        self.block = Block("pre", self.norm, self.attention(self.hidden // heads), feed)
        self._claim()

    def _sides(self, name: str, default: int) -> tuple[int, int]:
        """Height and width of an image or a patch."""
        found = self.config.get(name, [default, default])
        if not isinstance(found, list) or len(found) != 2 or not all(type(side) is int and side > 0 for side in found):
            raise self.unreadable(name, found, "[height, width]")
        return found[0], found[1]

    def _claim(self) -> None:
        facts, hidden, at = self.facts, self.hidden, self.wrapper
        embedding, encoder = f"{at}{self.trunk}embedding_layer.", f"{at}{self.trunk}{_ENCODER}"
        self.expect(f"{embedding}linear_proj.weight", (hidden, facts.image[0], *facts.patch))
        self.roles["patches.weight"] = Cut(f"{embedding}linear_proj.weight", ins=(1, 2, 3))
        if self.value("use_embed_proj_bias"):
            self.claim("patches.bias", f"{embedding}linear_proj.bias", (hidden,))
        self.expect(f"{embedding}cls_embedding", (hidden,))
        self.roles["class_token.weight"] = Lines(f"{embedding}cls_embedding")
        table, last = f"{embedding}position_embeddings.weight", facts.positions - 1
        self.expect(table, (facts.positions, hidden))
        self.roles["class_position.weight"] = Lines(table, start=last, stop=facts.positions)
        self.roles["patch_positions.weight"] = Lines(table, stop=last)
        if self.value("use_post_embed_layer_norm"):
            self.claim_norm("norm_embedding", f"{embedding}post_embed_ln", hidden)
        self.claim_encoder_layers(at, hidden, self.value("filter_size"))
        self.claim_norm("norm_final", f"{encoder}transformer_encoder.norm", hidden)
        if self.value("use_encoder_pooler_layer"):
            self.claim_linear("pooler", f"{encoder}pooler.pooler.ffn.0.linear_layer", hidden, hidden, self.biases()[2])
        head = f"{at}classifier.classifier.ffn.0.linear_layer"
        if f"{head}.weight" in self.tensors:
            rows = self.number("num_classes", shape_of(self.tensors, f"{head}.weight")[0])
            self.claim_linear("head.classifier", head, rows, hidden, self.value("use_bias_in_output"))
        self.refuse_strangers()

    @property
    def inputs(self) -> dict[str, Input]:
        """See :attr:`Oracle.inputs`."""
        return {"pixel_values": Input(needed=True, image=self.facts.image)}

    def start(self, inputs: Mapping[str, Tensor]) -> State:
        """See :meth:`Oracle.start`: the pixels of each patch, ``[b, patches, channels * height * width]``."""
        import torch

        pixels = inputs["pixel_values"]
        cut = pixels.unflatten(3, (self.grid[1], -1)).unflatten(2, (self.grid[0], -1))
        patches = cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        return State({}, {"patches": patches, "bias": torch.zeros(1)})

    def before(self, given: Mapping[str, Any]) -> Tensor:
        """See :meth:`Stack.before`."""
        import torch

        weights = self.weights
        patches = weights.linear("patches", given["patches"]) + weights["patch_positions.weight"]
        token = weights["class_token.weight"] + weights["class_position.weight"]
        x = torch.cat((token.expand(len(patches), -1, -1), patches), 1)
        return Norm(_EPSILON)(weights, "norm_embedding", x) if self.has("norm_embedding.weight") else x

    def layer(self, i: int, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """See :meth:`Stack.layer`."""
        return self.block(self.weights.within(f"layers.{i}."), x, given["bias"], None, partial(trace.point, i))

    def after(self, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """See :meth:`Stack.after`."""
        x = self.norm(self.weights, "norm_final", x)
        token = x[:, 0]
        self.show(x, token, trace)
        if self.has("pooler.weight"):
            token = self.pooler_act(self.weights.linear("pooler", token))
            trace.state("pooled", token)
        if self.has("head.classifier.weight"):
            trace.outputs["classifier"] = self.weights.linear("head.classifier", token)
        return x

    def show(self, x: Tensor, token: Tensor, trace: Trace) -> None:
        """Leave the hidden states behind the last norm, which ``token`` is the first of."""
        trace.state("final", x)

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        wrong: dict[str, dict[str, Any]] = {
            "wrong activation": {"nonlinearity": NEIGHBOUR.get(self.nonlinearity, "relu")},
            "wrong norm epsilon": {"layer_norm_epsilon": max(1e-4, 100 * self.eps)},
        }
        if self.facts.heads % 2 == 0:
            wrong["wrong head count"] = {"num_heads": self.facts.heads // 2}
        return {name: {**self.config, **change} for name, change in wrong.items()}

    @classmethod
    def reconcile(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], list[str]]:
        """See :meth:`CerebrasOracle.reconcile`; the number of classes is that of the classifier's rows."""
        corrected, notes = super().reconcile(config, tensors)
        head = next((key for key in tensors if key.endswith("classifier.classifier.ffn.0.linear_layer.weight")), None)
        if head is not None and (rows := shape_of(tensors, head)[0]) != (said := corrected.get("num_classes", 2)):
            corrected["num_classes"] = rows
            notes.append(f"num_classes: the yaml says {said}, the tensors say {rows}")
        return corrected, notes


class CerebrasClip(CerebrasVision):
    """The same with a norm after the embedding; the projection to CLIP's space is its classifier."""

    layout = "cerebras/clip-vit"

    def show(self, x: Tensor, token: Tensor, trace: Trace) -> None:
        """See :meth:`CerebrasVision.show`: CLIP norms the class token alone."""
        trace.state("pooled", token)


class CerebrasTower(CerebrasClip):
    """The same as a part of a larger model, without a prefix of its own."""

    trunk = ""
    layer_modules: ClassVar[dict[str, str]] = encoder_layer(_LAYER)
