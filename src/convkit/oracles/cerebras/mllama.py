"""Llama 3.2 Vision as ModelZoo stores it: a LLaMA of which some layers attend to an image.

Source of the text model: Cerebras ModelZoo 2.10.0, ``models/nlp/gpt2/gpt2_model.py`` and
``layers/TransformerDecoderLayer.py``; and a run of it on text on a CPU. No release has a class of the image's model or
of the whole: these are as published, in ``models/mllama`` of transformers 5.23, with the names that ModelZoo's
converter gives to their tensors and the order of the patches' pixels that it writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from convkit.errors import ConvkitError
from convkit.oracles.blocks.norms import Norm
from convkit.oracles.cerebras.decoder import CerebrasDecoder
from convkit.oracles.cerebras.mllama_image import MllamaImage
from convkit.oracles.inputs import Input
from convkit.oracles.oracle import Facts, State, Trace
from convkit.oracles.parts import Part
from convkit.oracles.stacks import ImageReader

if TYPE_CHECKING:
    from torch import Tensor

_TEXT = "text_model.model."
_PUBLISHED = "ModelZoo has no class of the image's model: it is run as published, with the tensors that ModelZoo names"
_KEPT = "hidden states of other layers kept"
_OTHER_LAYERS = "other layers attend to the image"


class CerebrasMllamaText(CerebrasDecoder):
    """The text model. Without an image the layers that attend to it are left out, feed-forward part and all."""

    layout = "cerebras/mllama"
    wrappers: ClassVar[tuple[str, ...]] = (f"model.{_TEXT}", f"model.model.{_TEXT}", _TEXT)
    not_covered: ClassVar[dict[str, Any]] = {
        name: value
        for name, value in CerebrasDecoder.not_covered.items()
        if name not in ("cross_attention_layers", "num_extra_input_vocab_tokens")
    } | {"moe": None, "norm_first_sandwich": False, "share_embedding_weights": False}

    @property
    def crossing(self) -> list[int]:
        """The layers that attend to the image.

        Raises:
            ConvkitError: the yaml names one that the model hasn't.
        """
        found = self.config.get("cross_attention_layers") or []
        layers = range(self.value("num_hidden_layers"))
        if not isinstance(found, list) or not all(type(i) is int and i in layers for i in found):
            raise self.unreadable("cross_attention_layers", found, f"numbers of layers, 0 to {layers.stop - 1}")
        return found

    def claim_embeddings(self, module: str, width: int, positions: int) -> None:
        """See :meth:`CerebrasOracle.claim_embeddings`; some more ids can be read than written."""
        rows = self.facts.vocab_size + self.number("num_extra_input_vocab_tokens", 0)
        self.claim("embedding.weight", f"{module}.word_embeddings.weight", (rows, width))

    def _claim_layer(self, i: int, shift: bool) -> None:
        if i not in self.crossing:
            super()._claim_layer(i, shift)
            return
        layer, at, hidden = f"layers.{i}", f"{self.wrapper}transformer_decoder.layers.{i}.", self.hidden
        queries, keys, filters = hidden, self.facts.kv_heads * self.head_dim, self.value("filter_size")
        qkv, out, ffn = self.biases()
        for role, rows in (("q", queries), ("k", keys), ("v", keys)):
            self.claim_linear(f"{layer}.cross_{role}", f"{at}multihead_attn.proj_{role}_dense_layer", rows, hidden, qkv)
        self.claim_linear(f"{layer}.cross_o", f"{at}multihead_attn.proj_output_dense_layer", hidden, queries, out)
        for role in "qk":
            self.claim_norm(f"{layer}.norm_cross_{role}", f"{at}multihead_attn.{role}_norm", self.head_dim, bias=False)
        self.claim_norm(f"{layer}.norm_cross", f"{at}norm1", hidden, shift)
        self.claim_norm(f"{layer}.norm_ffn", f"{at}norm3", hidden, shift)
        self.claim_linear(f"{layer}.gate", f"{at}ffn.ffn.0.linear_layer_for_glu", filters, hidden, ffn)
        self.claim_linear(f"{layer}.up", f"{at}ffn.ffn.0.linear_layer", filters, hidden, ffn)
        self.claim_linear(f"{layer}.down", f"{at}ffn.ffn.1.linear_layer", hidden, filters, ffn)
        self.claim(f"{layer}.gate_attention", f"{at}cross_attn_attn_gate", (1,))
        self.claim(f"{layer}.gate_ffn", f"{at}cross_attn_mlp_gate", (1,))

    def reading(self, i: int, x: Tensor, encoded: Tensor, bias: Tensor, trace: Trace) -> Tensor:
        """The hidden states that leave a layer that attends to the image."""
        weights, leave = self.weights.within(f"layers.{i}."), partial(trace.point, i)
        norm = Norm(float(self.number("attention_qk_norm_eps", 1e-5)), rms=True)
        across = partial(self.block.attention.across, weights, encoded, bias, leave, norm=norm)
        return self.block.reading(weights, x, leave, across)


class CerebrasMllama(ImageReader):
    """The text model, and the image's model before it.

    Each token sees all tiles of its row's image, and no others.
    """

    layout = "cerebras/mllama"

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path | None = None) -> None:
        self.config, self.tensors, self.path = dict(config), tensors, path
        self.image = MllamaImage(self._section("image_model"), tensors, path)
        self.text = CerebrasMllamaText(self._section("text_model"), tensors, path)
        image, text = self.image, self.text.facts
        self.first_layers, self.kept = image.first, image.kept
        self.depth = {"encoder": image.first + image.later, "decoder": text.layers}
        self.facts = Facts(
            layers=sum(self.depth.values()),
            heads=text.heads,
            kv_heads=text.kv_heads,
            vocab_size=text.vocab_size,
            positions=text.positions,
            rotary=text.rotary,
            rotary_dim=text.rotary_dim,
            switches_at=text.switches_at,
            image=(1, image.tiles, image.channels, *image.size),
            patch=image.patch,
            shapes=len(image.ratios),
        )
        image.claim_all(self.text.hidden)
        self.roles = {**image.roles, **dict(self._roles_of_text())}
        self.twins, self.notes = dict(self.text.twins), [*self.text.notes, _PUBLISHED]
        self.problems = list(self.text.problems)
        known = {part.key for part in self.roles.values()}
        others = (key for key in tensors if key.startswith(image.wrapper) and not key.startswith(self.text.wrapper))
        self.refuse(key for key in others if key not in known)

    def _section(self, name: str) -> dict[str, Any]:
        found = self.config.get(name)
        if not isinstance(found, Mapping):
            problem = f"is {found!r}, not the fields of a model"
            raise ConvkitError(problem, path=self.path, key=name, remedy="correct the yaml")
        return dict(found)

    def _roles_of_text(self) -> Iterator[tuple[str, Part]]:
        for role, part in self.text.roles.items():
            name, _, rest = role.partition(".")
            number, _, inside = rest.partition(".")
            yield (f"layers.{int(number) + self.depth['encoder']}.{inside}" if name == "layers" else role), part

    def rotates(self, layer: int) -> bool:
        """See :meth:`Oracle.rotates`."""
        number = layer - self.depth["encoder"]
        return number >= 0 and number not in self.text.crossing and super().rotates(layer)

    @property
    def inputs(self) -> dict[str, Input]:
        """See :attr:`Oracle.inputs`."""
        return {
            **super().inputs,
            "pixel_values": Input(image=self.facts.image),
            "aspect_ratio_ids": Input(self.facts.shapes + 1, positions=1),
        }

    def start(self, inputs: Mapping[str, Tensor]) -> State:
        """See :meth:`Oracle.start`: without ``pixel_values`` the text is all that is read."""
        given: dict[str, Any] = {"text": self.text.start({"input_ids": inputs["input_ids"]}).given, "image": {}}
        if "pixel_values" in inputs:
            given["image"] = self.image.start(inputs["pixel_values"][:, 0], self.shape_of_image(inputs)[:, 0])
        return State({}, given)

    def embedded(self, stack: str, given: Mapping[str, Any]) -> Tensor:
        """See :meth:`ImageReader.embedded`."""
        return self.image.embedded(given["image"]) if stack == "encoder" else self.text.before(given["text"])

    def between(self, x: Tensor, given: Mapping[str, Any]) -> Tensor:
        """See :meth:`ImageReader.between`."""
        return self.image.between(x, given["image"])

    def projected(self, x: Tensor, kept: Tensor, given: Mapping[str, Any]) -> Tensor:
        """See :meth:`ImageReader.projected`."""
        return self.image.projected(x, kept)

    def layer(self, i: int, stack: str, flow: Mapping[str, Tensor], given: Mapping[str, Any], trace: Trace) -> Tensor:
        """See :meth:`ImageReader.layer`."""
        x = flow["hidden"]
        if stack == "encoder":
            return self.image.layer(i, x, given["image"], trace)
        number, inside = i - self.depth["encoder"], Trace()
        inside.detail = number if trace.detail == i else None
        if number not in self.text.crossing:
            x = self.text.layer(number, x, given["text"], inside)
        elif "encoded" in flow:
            x = self.text.reading(number, x, flow["encoded"], given["image"]["tiles"], inside)
        for name, value in inside.states.items():
            trace.point(i, name.rpartition(".")[2], value)
        return x

    def after(self, x: Tensor, given: Mapping[str, Any], trace: Trace) -> Tensor:
        """See :meth:`ImageReader.after`."""
        return self.text.after(x, given["text"], trace)

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        text, image = self.text.config, self.image.config
        wrong = {name: {"text_model": fields} for name, fields in self.text.wrong_configs().items()}
        layers = range(self.depth["decoder"])
        others = [(i + 1) % layers.stop for i in self.text.crossing]
        if sorted(others) != sorted(self.text.crossing):
            wrong[_OTHER_LAYERS] = {"text_model": {**text, "cross_attention_layers": others}}
        for name, change in self.image.wrong().items():
            wrong[f"{name} of the image's layers"] = {"image_model": {**image, **change}}
        if self.first_layers > 1:
            kept = [(i + 1) % self.first_layers for i in self.kept]
            wrong[_KEPT] = {"image_model": {**image, "intermediate_layers_indices": kept}}
        return {name: {**self.config, **change} for name, change in wrong.items()}

    def shown_in(self, fault: str) -> frozenset[str]:
        """See :meth:`Oracle.shown_in`."""
        encoder, first = self.layer_stages[: self.depth["encoder"]], self.first_layers
        if fault == _KEPT:
            return frozenset(encoder[:first])
        if fault.endswith(" of the image's layers"):
            return frozenset(encoder)
        return super().shown_in(fault) & {*self.layer_stages[len(encoder) :], "head"}

    def rebased(self, factor: float) -> dict[str, Any] | None:
        """See :meth:`Oracle.rebased`."""
        found = self.text.rebased(factor)
        return {**self.config, "text_model": found} if found else None
