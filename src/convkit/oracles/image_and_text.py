"""Models of text in which what is seen in an image stands among the tokens: LLaVA's kind.

Each part is run by the oracle that runs it alone: the image's model, whose hidden states after one of its layers are
the features, and the text's. Between them stand a projector, and the embedding of the text with the features in it. The
image's layers after the one whose features are taken are run too, and its last norm, so that they are compared.

Roles outside the layers are those of the parts; the norm after the image's layers is ``norm_encoder``. Layers are
numbered through both. Without an image the text is all that is read.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convkit.errors import ConvkitError
from convkit.oracles.inputs import Input
from convkit.oracles.opening import value_at, with_value
from convkit.oracles.oracle import Facts, Oracle, State, Trace
from convkit.oracles.parts import Part
from convkit.oracles.stacks import TwoStacks
from convkit.oracles.tensors import Within, shape_of

if TYPE_CHECKING:
    from torch import Tensor

#: the place of an image's features among the tokens: behind the first
START = 1
_OF_IMAGE = " of the image's layers"
_OTHER_LAYER, _CLASS_TOKEN = "features of another layer", "the class token among the features, or not"
_PROJECTION, _NORM, _TEXT = "encoder.projection", "encoder.norm", "decoder.embedding"
_STAGES = {"norm_encoder": _NORM, "projector": _PROJECTION, "embedding": _TEXT}


def with_places(ids: Tensor, count: int, token: int | None = None) -> Tensor:
    """Ids ``[b, s]`` with places for this many features, in which a token stands, or else any that the text has."""
    import torch

    places = ids[:, :1].expand(-1, count) if token is None else ids.new_full((len(ids), count), token)
    return torch.cat((ids[:, :START], places, ids[:, START:]), 1)


@dataclass(frozen=True)
class Place:
    """Where a part is.

    Attributes:
        section: the path of its section in the config.
        prefix: what its keys begin with.
        without: how keys go on that aren't its own.
    """

    section: str
    prefix: str
    without: tuple[str, ...] = ()


class ImageAndText(TwoStacks):
    """An image's model, a projector and a text's model; subclasses say which oracles run them, and join them."""

    #: what is run, for the verdict
    runs: str
    #: which of the image's layers gives the features
    feature: int
    #: whether the class token is one of them
    whole: bool
    #: the keys of the projector's layers, without what they end in
    projector: list[str]

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path | None = None) -> None:
        self.config, self.tensors, self.path = dict(config), tensors, path
        self.places = self.parts_at()
        self.image, self.text = (
            self.oracle(name, self._section(at.section), Within(tensors, at.prefix, at.without))
            for name, at in self.places.items()
        )
        self.depth = {"encoder": self.image.facts.layers, "decoder": self.text.facts.layers}
        self.join()
        both = {"image": self.image, "text": self.text}
        self.problems = [f"{name}: {problem}" for name, one in both.items() for problem in one.problems]
        self.notes = [self.runs, *(f"{name}: {note}" for name, one in both.items() for note in one.notes)]
        if self.feature < self.depth["encoder"] - 1:
            self.notes.append("what comes behind the image's features isn't read: it is compared on its own")
        at = self.places["text"].prefix
        self.twins = {at + copy: at + of for copy, of in self.text.twins.items()}
        self.roles = {
            self._role(name, role): replace(part, key=self.places[name].prefix + part.key)
            for name, one in both.items()
            for role, part in one.roles.items()
        }
        self._claim_projector()
        self.facts = self._facts()
        if self.facts.positions <= START:
            problem = f"an image takes {self.features} positions, and the text's model has {self.text.facts.positions}"
            raise ConvkitError(problem, path=path, remedy="config and tensors are of different models")

    @abstractmethod
    def parts_at(self) -> dict[str, Place]:
        """The places of ``image`` and ``text``, in this order."""

    @abstractmethod
    def oracle(self, name: str, fields: dict[str, Any], tensors: Within) -> Oracle:
        """The oracle of a part."""

    @abstractmethod
    def join(self) -> None:
        """Read what the config says of what is between the parts: :attr:`feature`, :attr:`whole`, :attr:`projector`.

        Raises:
            ConvkitError: it says what no model has.
        """

    def _section(self, path: str) -> dict[str, Any]:
        found = value_at(self.config, path)
        if not isinstance(found, Mapping):
            raise ConvkitError("no such section", path=self.path, key=path, remedy="the model has two parts")
        return dict(found)

    def strange(self, key: str, value: Any, expected: str) -> ConvkitError:
        """The error for a field that says something else than is expected."""
        return ConvkitError(f"is {value!r}, not {expected}", path=self.path, key=key, remedy="correct the config")

    def number_of_layer(self, key: str, value: Any) -> int:
        """The number of one of the image's layers, which may be counted from the last one.

        Raises:
            ConvkitError: there is no such layer.
        """
        layers = self.depth["encoder"]
        if type(value) is not int or not -layers <= value < layers:
            raise self.strange(key, value, f"the number of one of {layers} layers")
        return value % layers

    def _claim_projector(self) -> None:
        for n, module in enumerate(self.projector):
            for end in ("weight", "bias"):
                if (key := f"{module}.{end}") not in self.tensors:
                    remedy = "the config says that the projector has it"
                    raise ConvkitError("missing key", path=self.path, key=key, remedy=remedy)
                self.roles[f"projector.{n}.{end}"] = Part(key)
            shape = shape_of(self.tensors, f"{module}.weight")
            if shape != (expected := (self.width["text"], self.width["text" if n else "image"])):
                remedy = "config and tensors are of different models"
                key = f"{module}.weight"
                raise ConvkitError(f"shape {shape}, the config says {expected}", path=self.path, key=key, remedy=remedy)

    @cached_property
    def width(self) -> dict[str, int]:
        """The size of the hidden states of each part."""
        roles = {"image": (self.image, "class_token.weight"), "text": (self.text, "embedding.weight")}
        return {name: one.part_shape(role)[1] for name, (one, role) in roles.items()}

    @property
    def features(self) -> int:
        """The number of features that an image has."""
        return self.image.facts.positions - (not self.whole)

    def _facts(self) -> Facts:
        image, text = self.image.facts, self.text.facts
        positions = text.positions - self.features
        return replace(text, layers=sum(self.depth.values()), positions=positions, image=image.image, patch=image.patch)

    # --- names ---

    def _role(self, name: str, role: str) -> str:
        """A role or a state of a part, in the whole model."""
        if role.startswith("layers.") and name == "text":
            layers, i, *rest = role.split(".")
            return ".".join((layers, str(int(i) + self.depth["encoder"]), *rest))
        return role.replace("norm_final.", "norm_encoder.") if name == "image" else role

    @property
    def stages(self) -> tuple[str, ...]:
        """See :attr:`Oracle.stages`."""
        layers, first = self.layer_stages, self.depth["encoder"]
        return ("embedding", *layers[:first], _NORM, _PROJECTION, _TEXT, *layers[first:], "head")

    def stage_of(self, role: str) -> str:
        """See :meth:`Oracle.stage_of`."""
        return _STAGES.get(role.partition(".")[0]) or super().stage_of(role)

    def rotates(self, layer: int) -> bool:
        """See :meth:`Oracle.rotates`."""
        return layer >= self.depth["encoder"] and self.text.rotates(layer - self.depth["encoder"])

    def _stages_of(self, name: str, own: Iterable[str]) -> frozenset[str]:
        """Stages of a part, as the whole calls them."""
        stack = "encoder" if name == "image" else "decoder"
        outside = {"embedding": "embedding", "head": _NORM} if name == "image" else {"embedding": _TEXT, "head": "head"}
        return frozenset(outside.get(stage) or f"{stack}.{stage}" for stage in own)

    # --- the run ---

    @property
    def inputs(self) -> dict[str, Input]:
        """See :attr:`Oracle.inputs`: the ids are those of the text alone; without an image it may be longer."""
        return {**super().inputs, "pixel_values": Input(image=self.facts.image)}

    def start(self, inputs: Mapping[str, Tensor]) -> State:
        """See :meth:`Oracle.start`; what the text's layers are given depends on how many features there are."""
        ids, pixels = inputs["input_ids"], inputs.get("pixel_values")
        given: dict[str, Any] = {"ids": ids, "pixels": pixels, "text": cache(partial(self._text_of, ids))}
        if pixels is not None:
            given["image"] = self.image.start({"pixel_values": pixels}).given
        return State({}, given)

    def _text_of(self, ids: Tensor, length: int) -> Any:
        """What the text's model makes of an input of this length."""
        return self.text.start({"input_ids": with_places(ids, length - ids.shape[1])}).given

    def step(self, name: str, state: State, trace: Trace) -> State:
        """See :meth:`Oracle.step`."""
        flow, given = state.flow, state.given
        if given["pixels"] is None and (name == "embedding" or name.startswith("encoder.")):
            return state
        if name == "embedding":
            left = self._of("image", "embedding", {}, given, trace)
            left["kept"] = left["hidden"] * 0
        elif name == _NORM:
            self._of("image", "head", flow, given, trace)
            left = {"hidden": flow["hidden"], "kept": flow["kept"]}
        elif name == _PROJECTION:
            left = {"encoded": self.projected(flow["kept"], given)}
            trace.state("encoded", left["encoded"])
        elif name == _TEXT:
            left = {"hidden": self.embedded(flow.get("encoded"), given)}
            trace.state(name, left["hidden"])
        elif name == "head":
            left = self._of("text", name, flow, given, trace)
        else:
            i = self.layer_stages.index(name)
            part = "image" if i < self.depth["encoder"] else "text"
            left = self._of(part, name.partition(".")[2], flow, given, trace)
            if part == "image":
                left["kept"] = left["hidden"] if i == self.feature else flow["kept"]
                trace.state(f"layers.{i}.kept", left["kept"])
        return State(left, given)

    def _of(
        self, name: str, stage: str, flow: Mapping[str, Tensor], given: Mapping[str, Any], trace: Trace
    ) -> dict[str, Tensor]:
        """Run a stage of a part; what it leaves."""
        first = 0 if name == "image" else self.depth["encoder"]
        inside = Trace(trace.detail - first if trace.detail is not None and trace.detail >= first else None)
        own = {"hidden": flow["hidden"]} if "hidden" in flow else {}
        if name == "image":
            left = self.image.step(stage, State(own, given[name]), inside)
        else:
            left = self.text.step(stage, State(own, given[name](flow["hidden"].shape[1])), inside)
        trace.states |= {self._role(name, state): value for state, value in inside.states.items()}
        trace.outputs |= inside.outputs
        return dict(left.flow)

    @abstractmethod
    def projected(self, kept: Tensor, given: Mapping[str, Any]) -> Tensor:
        """The features ``[b, features, width of the text]``, of what the image's layer left."""

    @abstractmethod
    def embedded(self, encoded: Tensor | None, given: Mapping[str, Any]) -> Tensor:
        """What enters the text's layers ``[b, s, width]``: the text, and the features in it, if there are any."""

    # --- faults ---

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        found: dict[str, dict[str, Any]] = {}
        for name, one in (("image", self.image), ("text", self.text)):
            end = _OF_IMAGE if name == "image" else ""
            found |= {fault + end: self._with_part(name, fields) for fault, fields in one.wrong_configs().items()}
        if self.depth["encoder"] > 1:
            found[_OTHER_LAYER] = self.with_feature((self.feature + 1) % self.depth["encoder"])
        return found | {_CLASS_TOKEN: self.with_class_token(not self.whole)}

    def _with_part(self, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The config with other fields of a part; what only the whole reads stays in its section."""
        at = self.places[name].section
        return self.with_field(at, {**self._section(at), **fields})

    def with_field(self, path: str, value: Any) -> dict[str, Any]:
        """The config with another value at a path."""
        found: dict[str, Any] = with_value(self.config, path.split("."), value)
        return found

    @abstractmethod
    def with_feature(self, layer: int) -> dict[str, Any]:
        """The config by which another layer gives the features."""

    @abstractmethod
    def with_class_token(self, whole: bool) -> dict[str, Any]:
        """The config by which the class token is a feature, or isn't."""

    def shown_in(self, fault: str) -> frozenset[str]:
        """See :meth:`Oracle.shown_in`."""
        if fault == _OTHER_LAYER:
            return frozenset(self.layer_stages[: self.depth["encoder"]])
        if fault == _CLASS_TOKEN:
            return frozenset({_PROJECTION})
        if fault.endswith(_OF_IMAGE):
            return self._stages_of("image", self.image.shown_in(fault.removesuffix(_OF_IMAGE)))
        return self._stages_of("text", self.text.shown_in(fault))

    def rebased(self, factor: float) -> dict[str, Any] | None:
        """See :meth:`Oracle.rebased`."""
        fields = self.text.rebased(factor)
        return self._with_part("text", fields) if fields else None
