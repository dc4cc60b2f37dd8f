"""Fields of the model's section that only an old or a new release knows, and values that they said otherwise.

Facts: ModelZoo 2.10.0, ``tools/checkpoint_converters`` (``bert.py``, ``t5.py``, ``gpt2_hf_cs.py``, ``gptj_hf_cs.py``);
the models' sources in the tags R_1.7.1 ... Release_2.1.1 for the defaults.
"""

from __future__ import annotations

from typing import Any

from convkit.config.classes import Release
from convkit.config.tree import MISSING
from convkit.config.values import shown
from convkit.errors import ConfigError
from convkit.mappings.cerebras.releases.yamls.document import Change, Document, Step, shown_release
from convkit.mappings.cerebras.rope import SCALINGS, YARN_OPTIONS

GPT2_CLASS = frozenset(
    ("gpt2", "llama", "bloom", "mistral", "mixtral", "gemma2", "starcoder", "santacoder", "btlm", "jais")
)
GPTJ_CLASS = frozenset(("gptj", "gpt-neox", "falcon"))
BERT_CLASS = frozenset(("bert", "bert-summarization", "roberta"))
T5_CLASS = frozenset(("t5",))
#: ways to compute experts -> the release that brought them
IMPLEMENTATIONS: dict[str, Release] = {
    "experimental": (2, 5),
    "forge_experimental": (2, 7),
    "expert_parallel": (2, 8),
}


def nonlinearities_said(document: Document) -> None:
    """BERT until 1.7 has the encoder's activation in its pooler, and GELU in the head of masked words."""
    model = document.model
    model.setdefault("pooler_nonlinearity", model.get("encoder_nonlinearity", "gelu"))
    model.setdefault("mlm_nonlinearity", "gelu")


def nonlinearities_left_out(document: Document) -> None:
    """The way back.

    Raises:
        ConfigError: the activations are others.
    """
    model = document.model
    encoder = model.get("encoder_nonlinearity", "gelu")
    for name, only in (("pooler_nonlinearity", encoder), ("mlm_nonlinearity", "gelu")):
        value = model.get(name)
        if (encoder if value is None else value) != only:
            raise ConfigError(
                f"is {shown(value)}, and before release 1.8 it is always {only}",
                key=name,
                remedy="only a model with that activation can be brought to 1.6 or 1.7",
            )
        model.pop(name, None)


def before_or_after(document: Document) -> None:
    """T5's ``use_pre_encoder_decoder_layer_norm`` says the opposite since 1.8; its default changed with it."""
    model, name = document.model, "use_pre_encoder_decoder_layer_norm"
    if isinstance(model.get(name), bool):
        model[name] = not model[name]


def norm_type(flag: str, named: str, families: frozenset[str], *, written: bool = False) -> Step:
    """A flag of the norm that is a name since 2.0: true is ``named``, false is ``layernorm``. ``written``: also where
    a yaml leaves it out, whatever name it says, which 1.9 doesn't read.
    """

    def up(document: Document) -> None:
        model = document.model
        value = model.pop(flag, MISSING)
        if value is not MISSING or written:
            model["norm_type"] = named if value is not MISSING and value else "layernorm"

    def down(document: Document) -> None:
        model = document.model
        value = model.get("norm_type")
        if value not in (None, named, "layernorm"):
            raise ConfigError(
                f"is {shown(value)}, and before release 2.0 this model has {named} or layernorm",
                key="norm_type",
                remedy="only a model with one of these norms can be brought to 1.9 and earlier",
            )
        if model.pop("norm_type", MISSING) is not MISSING or written:
            model[flag] = value == named

    return Step((2, 0), up, down, families)


def came_with(release: Release) -> Change:
    """Refuse, on the way down, values that came with a release: scalings of rotary positions, their options, how
    experts are computed.
    """

    def down(document: Document) -> None:
        named = [("moe.moe_implementation", moe.get("moe_implementation")) for moe in _experts(document)]
        named += [("pos_scaling_type", section.get("pos_scaling_type")) for section in document.decoders]
        for key, name in named:
            if isinstance(name, str) and (IMPLEMENTATIONS | SCALINGS).get(name) == release:
                raise ConfigError(
                    f"is {name}, which came with release {shown_release(release)}",
                    key=key,
                    remedy="only a model without it can be brought to the release before",
                )
        for section in document.decoders:
            extra = section.get("pos_scaling_extra_args")
            for name, (usual, since) in YARN_OPTIONS.items():
                if since == release and isinstance(extra, dict) and extra.pop(name, usual) != usual:
                    raise ConfigError(
                        f"is {shown(not usual)}, and before release {shown_release(release)} it is always {usual}",
                        key=f"pos_scaling_extra_args.{name}",
                        remedy="only a model with that value can be brought to the release before",
                    )

    return down


#: how experts are computed, which decides the axes of their tensors: the default until 2.5, and since
_EXPERTS_UNTIL, _EXPERTS_SINCE = "optimized", "experimental"


def experts_said(implementation: str) -> Change:
    """Write how the experts are computed, where a yaml leaves out what is the default on one side only."""

    def change(document: Document) -> None:
        for moe in _experts(document):
            moe.setdefault("moe_implementation", implementation)

    return change


experts_up, experts_down = experts_said(_EXPERTS_UNTIL), experts_said(_EXPERTS_SINCE)


def _experts(document: Document) -> list[dict[str, Any]]:
    found = (section.get(name) for section in document.decoders for name in ("moe", "moe_params"))
    return [moe for moe in found if isinstance(moe, dict) and moe.get("num_experts")]
