"""What every Cerebras family shares: the two sides of a mapping, the vocabulary, activations.

Facts: ModelZoo release 2.10.0, ``layers/activations.py``; transformers, ``activations.py``.
"""

from __future__ import annotations

from collections import abc
from typing import Any

from msgspec import Struct, field

from convkit.config import Answer, ConfigClass, Constant, Coupled, Row
from convkit.config.classes import Classes
from convkit.mapping import Layout, LeftBehind, Part, Rule
from convkit.mappings.cerebras.classes import RELEASES
from convkit.mappings.cerebras.hf import COMPANIONS

#: paths of the model's section in a ModelZoo yaml: in a bare or a training config
MODEL_AT = ("model", "trainer.init.model")

#: A training checkpoint's optimizer, schedulers, step, loader state and metadata.
NOT_THE_MODEL = LeftBehind("right", "{rest:*}", "not part of the model", unless="{=cs}")

#: Adam's second moments beside its first, which other optimizers have alone.
OPTIMIZER = Part(
    "right", "Adam's moments", ("optimizer.state.{at:*}.exp_avg_sq",), beside="optimizer.state.{at:*}.exp_avg"
)
NO_BIASES = "a model may have no biases"

#: modules of a layer of ModelZoo's; ``QKV`` is all three of them
Q, K, V, OUT, QKV = (f"self_attn.proj_{name}_dense_layer" for name in ("q", "k", "v", "output", "{qkv:q|k|v}"))
#: modules of its feed-forward part; ``FFN`` is all three of a gated one
UP, GATE, DOWN = "ffn.ffn.0.linear_layer", "ffn.ffn.0.linear_layer_for_glu", "ffn.ffn.1.linear_layer"
FFN = "ffn.ffn.{n:0.linear_layer|0.linear_layer_for_glu|1.linear_layer}"

#: Activations of both: transformers' name, ModelZoo's name.
ACTIVATIONS = (
    ("gelu", "gelu"),
    ("gelu_new", "gelu_new"),
    ("gelu_pytorch_tanh", "gelu_new"),  # one function; ModelZoo has no such name,
    ("gelu_pytorch_tanh", "gelu_pytorch_tanh"),  # though yamls of its converter say it
    ("gelu_fast", "gelu_fast"),
    ("quick_gelu", "quick_gelu"),
    ("relu", "relu"),
    ("relu2", "squared_relu"),
    ("relu6", "relu6"),
    ("leaky_relu", "leaky_relu"),
    ("silu", "silu"),
    ("swish", "swish"),
    ("mish", "mish"),
    ("tanh", "tanh"),
    ("sigmoid", "sigmoid"),
    ("linear", "linear"),
)
_EXACT = "ModelZoo's geglu has the exact GELU, and there is no gate with its tanh approximation"
#: Activations of a gate: transformers names the function, ModelZoo the gate.
GATED = (
    ("silu", "swiglu"),
    ("relu", "reglu"),
    ("gelu", "geglu"),
    ("gelu_new", "geglu", _EXACT),
    ("gelu_fast", "geglu", _EXACT),
    ("gelu_pytorch_tanh", "geglu", _EXACT),
)


class Hf(Struct, frozen=True):
    """transformers' side of a family.

    Attributes:
        family: its name in ``hf/...``, and its ``model_type``, unless ``model_type`` says that.
        classes: the class of the base model, and that of the model with its output head; for people only where a table
            of heads has the classes.
        config: its config class.
        base: the prefix of the base model's keys in a model with a head.
        words: the word embeddings, below ``base``.
        head: the module of the output head.
        conventions: what names can't show, for the layout.
        model_type: its ``model_type``, where it isn't ``family``.
        fields: fields that recognise it, beside its ``model_type``, where another family has that too.
        names: further values of ``model_type`` that configs of this layout have.
        earlier: classes of configs of other times, each by the condition on declared names under which it holds.
    """

    family: str
    classes: tuple[str, ...]
    config: ConfigClass
    base: str
    words: str
    head: str = "lm_head"
    conventions: abc.Mapping[str, str] = field(default_factory=dict)
    model_type: str = ""
    fields: abc.Mapping[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    earlier: tuple[tuple[str, ConfigClass], ...] = ()

    @property
    def typing(self) -> Row:
        """The row of the ``model_type``."""
        return Constant("left", "model_type", self.model_type or self.family, also=self.names)

    @property
    def config_classes(self) -> Classes:
        """All classes of its configs."""
        return (*self.earlier, ("", self.config)) if self.earlier else self.config

    @property
    def layout(self) -> Layout:
        """The layout of its checkpoints."""
        name = self.model_type or self.family
        return Layout(
            name=f"hf/{self.family}",
            summary=f"transformers {', '.join(reversed(self.classes))}",
            format="safetensors",
            config_file="config.json",
            conventions=self.conventions,
            signature=({"model_type": (name, *self.names) if self.names else name} | dict(self.fields),),
            companions=COMPANIONS,
        )


class Cs(Struct, frozen=True):
    """ModelZoo's side of a family.

    Attributes:
        family: its name in ``cerebras/...``, and its ``name`` in a yaml since release 2.4, unless ``yaml`` says that.
        summary: the class, for people.
        config: its config class.
        conventions: what names can't show, for the layout.
        names: further names that yamls of this layout have.
        unnamed: fields that recognise a yaml without a name, and their values; None: such a yaml isn't recognised.
        fields: fields that recognise any yaml, beside its name, where another family has that name too.
        since: the first release that has it.
        yaml: its ``name`` in a yaml, where it isn't ``family``.
        called: names of another family that yamls of this one have, each with the fields that show that it is this one.
    """

    family: str
    summary: str
    config: ConfigClass
    conventions: abc.Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    unnamed: abc.Mapping[str, Any] | None = None
    fields: abc.Mapping[str, Any] = field(default_factory=dict)
    since: tuple[int, ...] = RELEASES[0]
    yaml: str = ""
    called: tuple[abc.Mapping[str, Any], ...] = ()

    @property
    def naming(self) -> Row:
        """The row of the name in a yaml."""
        foreign = tuple(one["model.name"] for one in self.called)
        return Constant("right", "name", self.family, also=self.names + foreign)

    @property
    def layout(self) -> Layout:
        """The layout of its checkpoints."""
        name = self.yaml or self.family
        named = {"model.name": (name, *self.names) if self.names else name} | dict(self.fields)
        nameless = () if self.unnamed is None else ({"model.name": None} | dict(self.unnamed) | dict(self.fields),)
        return Layout(
            name=f"cerebras/{self.family}",
            summary=f"ModelZoo {self.summary}, releases {'.'.join(map(str, self.since))} ... 2.10",
            format="cerebras-h5",
            config_file="params.yaml",
            releases=tuple(release for release in RELEASES if release >= self.since),
            config_at=MODEL_AT,
            conventions=self.conventions,
            signature=(named, *self.called, *nameless),
        )


def vocabulary(hf: str, hf_head: str, cs: str, cs_head: str, when: str = "") -> tuple[Rule, ...]:
    """The rules of the word embeddings and the output head's weight: four keys, tied or not. ``when`` is a further
    condition on all of them.
    """

    def rule(left: str | tuple[str, str], right: str | tuple[str, str], condition: str) -> Rule:
        return Rule(left, right, "v d -> v d", v="vocab", d="hidden", when=f"{when} & {condition}".removeprefix(" & "))

    return (
        rule((hf, hf_head), (cs, cs_head), "tied & !headless"),
        rule(hf, (cs, cs_head), "tied & headless"),
        rule(hf, cs, "!tied"),
        rule(hf_head, cs_head, "!tied & !headless"),
    )


def fixed(**fields: Any) -> tuple[Constant, ...]:
    """Fields of ModelZoo's class that have one value in this family; they are written."""
    return tuple(Constant("right", field, value) for field, value in fields.items())


def _half_type(values: dict[str, Any], names: dict[str, Any]) -> Answer:
    if "use_bfloat16" not in values:
        return Answer()
    return Answer({"fp16_type": "bfloat16" if values["use_bfloat16"] else "float16"})


#: Up to release 2.3 the yaml has the half precision to train in.
HALF_TYPE = Coupled(("use_bfloat16",), ("fp16_type",), _half_type, lambda values, names: Answer())
