"""Which fields of the model's section a release knows, by ModelZoo's classes, and what a yaml is called since 2.4."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from convkit.config import ABSENT, EVERY_VALUE, REQUIRED, ClassField, ConfigClass
from convkit.config.classes import Release
from convkit.config.sides import Source, Target
from convkit.config.tree import MISSING, dig, plant, same, uproot
from convkit.config.values import shown
from convkit.mappings.cerebras.bert import SEQUENCE, TOKEN
from convkit.mappings.cerebras.classes.bert import BERT_PRETRAINING, BERT_SUMMARIZATION, DPR_ENCODER, ESM2
from convkit.mappings.cerebras.classes.dpr import DPR
from convkit.mappings.cerebras.classes.gpt2 import (
    BLOOM,
    BTLM,
    GEMMA2,
    GPT2,
    JAIS,
    LLAMA,
    MISTRAL,
    MIXTRAL,
    SANTACODER,
    STARCODER,
)
from convkit.mappings.cerebras.classes.gpt_backbone import GPT_BACKBONE
from convkit.mappings.cerebras.classes.gptj import FALCON, GPT_NEOX, GPTJ
from convkit.mappings.cerebras.classes.llava import LLAVA, MULTIMODAL_SIMPLE, VIT_MODEL
from convkit.mappings.cerebras.classes.mllama import MLLAMA, MLLAMA_VISION
from convkit.mappings.cerebras.classes.t5 import T5
from convkit.mappings.cerebras.classes.vit import VISION_TRANSFORMER
from convkit.mappings.cerebras.releases.yamls.document import Document, shown_release


@dataclass(frozen=True)
class Model:
    """A class of a family.

    Attributes:
        name: its ``name`` in a yaml since 2.4.
        config: its fields.
        shown_by: fields of which any shows that a yaml is of this class; none: every other yaml is.
        sections: sections within its own, with the class of each.
        encoder: the ``name`` of each of these sections since 2.4; none: they have names of their own throughout.
    """

    name: str
    config: ConfigClass
    shown_by: tuple[str, ...] = ()
    sections: tuple[tuple[str, ConfigClass], ...] = ()
    encoder: str = ""


_RETRIEVER = Model(
    "dpr", DPR, sections=(("q_encoder", DPR_ENCODER), ("ctx_encoder", DPR_ENCODER)), encoder="bert_model"
)
#: the first release whose classes refuse fields that they don't have
STRICT = (2, 4)
#: fields whose default needn't be written out: how constants are compiled; the half precision, which is the trainer's
_INDIFFERENT = ("fold_rope_consts", "fp16_type")
_PRECISION = ("mixed_precision", "fp16_type")
#: family -> its classes
MODELS: dict[str, tuple[Model, ...]] = {
    "gpt2": (Model("gpt2", GPT2),),
    "llama": (Model("llama", LLAMA),),
    "mistral": (Model("mistral", MISTRAL),),
    "mixtral": (Model("mixtral", MIXTRAL),),
    "gemma2": (Model("gemma2", GEMMA2),),
    "bloom": (Model("bloom", BLOOM),),
    "btlm": (Model("btlm", BTLM),),
    "jais": (Model("jais", JAIS),),
    "starcoder": (Model("starcoder", STARCODER),),
    "santacoder": (Model("santacoder", SANTACODER),),
    "gpt_backbone": (Model("gpt_backbone", GPT_BACKBONE),),
    "gptj": (Model("gptj", GPTJ),),
    "gpt-neox": (Model("gpt-neox", GPT_NEOX),),
    "falcon": (Model("falcon", FALCON),),
    "bert": (
        Model(SEQUENCE.yaml, SEQUENCE.config, SEQUENCE.fields),
        Model(TOKEN.yaml, TOKEN.config, TOKEN.fields),
        Model("bert", BERT_PRETRAINING),
    ),
    "bert-summarization": (Model("bert/extractive_summarization", BERT_SUMMARIZATION),),
    "roberta": (Model("bert", BERT_PRETRAINING),),
    "esm-2": (Model("esm2", ESM2),),
    "dpr": (Model("bert_model", DPR_ENCODER),),
    "dragon": (Model("bert_model", DPR_ENCODER),),
    "dpr-biencoder": (_RETRIEVER,),
    "t5": (Model("t5", T5),),
    "vit": (Model("vision_transformer", VISION_TRANSFORMER),),
    "clip-vit": (Model("vision_transformer", VISION_TRANSFORMER),),
    "llava": (Model("llava", LLAVA, sections=(("image_model", VIT_MODEL), ("text_model", LLAMA))),),
    "multimodal_simple": (
        Model(
            "multimodal_simple",
            MULTIMODAL_SIMPLE,
            sections=(
                ("image_model_list.image_models.0.image_encoder", VIT_MODEL),
                ("image_model_list.image_models.0.image_model.0", VIT_MODEL),
                ("text_model", LLAMA),
            ),
        ),
    ),
    "mllama": (Model("mllama", MLLAMA, sections=(("image_model", MLLAMA_VISION), ("text_model", LLAMA))),),
}


def model_of(document: Document) -> Model | None:
    """The class of a yaml; None if its family has none of which the fields are known."""
    model = document.model
    found = MODELS.get(document.family.removeprefix("dpo-"), ())
    return next((one for one in found if not one.shown_by or any(name in model for name in one.shown_by)), None)


def default_of(document: Document, name: str) -> Any:
    """What a field of the model's section is in a yaml of 2.2 that leaves it out; None if no class says it."""
    model = model_of(document)
    field = model.config.find(name) if model else None
    return field.default_in((2, 2)) if field else None


def half_precision(document: Document) -> str | None:
    """The half precision of a yaml of 2.2 that leaves it out, where it isn't the one of a trainer, float16."""
    default = default_of(document, "fp16_type")
    return default if isinstance(default, str) and default != "float16" else None


def named(document: Document) -> None:
    """A yaml names its class since 2.4."""
    model = model_of(document)
    if model is None:
        return
    document.model.setdefault("name", "dpo" if document.family.startswith("dpo-") else model.name)
    for section in _encoders(document, model):
        section.setdefault("name", model.encoder)


def unnamed(document: Document) -> None:
    """Before 2.4 the class isn't a matter of the yaml."""
    model = model_of(document)
    document.model.pop("name", None)
    for section in _encoders(document, model) if model else ():
        section.pop("name", None)


def _encoders(document: Document, model: Model) -> list[dict[str, Any]]:
    """The sections that are named with the whole."""
    found = [document.model.get(name) for name, _ in model.sections] if model.encoder else []
    return [section for section in found if isinstance(section, dict)]


def warn_of_gained(document: Document, before: Release, after: Release) -> None:
    """Name the fields that say something to the next release's class only, though the yaml has them already."""
    for at, cls in _parts(document):
        section = dig(document.config, at)
        for path, field in cls.fields.items():
            value = dig(section, path)
            gained = field.in_release(after) and not field.in_release(before) and path != "name"
            if (
                gained
                and value is not MISSING
                and not callable(field.default)
                and not field.is_neutral(value, after, {})
            ):
                document.warnings.append(
                    f"{path} = {shown(value)}: release {shown_release(before)} doesn't read it, "
                    f"{shown_release(after)} does"
                )


def fitted(document: Document, before: Release, after: Release) -> None:
    """Leave out the fields that the next release's class doesn't have, where they say nothing, and write those that a
    yaml leaves out and whose default is another there.

    Raises:
        ConfigError: a field says something that the release can't.
    """
    for at, cls in _parts(document):
        source = Source(
            which="left",
            at=at,
            classes=cls,
            release=before,
            names={},
            config=document.config,
            warnings=document.warnings,
        )
        for path, field in cls.fields.items():
            if path == "name":  # a step's matter
                continue
            _fit(source, path, field, after)
        if before < STRICT <= after and not document.family.startswith("dpo-"):
            _warn_of_unknown(source, cls)


def _parts(document: Document) -> Iterator[tuple[str, ConfigClass]]:
    """The sections of the yaml that a class describes."""
    model = model_of(document)
    if model is None:
        return
    inner = "policy_model" if isinstance(document.model.get("policy_model"), dict) else ""
    at = ".".join(filter(None, (document.at, inner)))
    yield at, model.config
    for section, cls in model.sections:
        if isinstance(dig(document.config, f"{at}.{section}"), dict):
            yield f"{at}.{section}", cls


def _fit(source: Source, path: str, field: ClassField, after: Release) -> None:
    section = dig(source.config, source.at)
    had, has = field.in_release(source.release), field.in_release(after)
    stated = [name for name in (path, *field.also) if dig(section, name) is not MISSING]
    refused = source.release < after >= STRICT  # a release that takes no fields of others
    for name in stated if not has and (had or refused) else ():
        if had and source.applies(field):
            # refuses a value that has an effect
            target = Target(which="right", at="", classes=source.classes, release=after, names={})
            value = source.exact(name, dig(section, name))
            target.write(path, value)
            unused = path in _PRECISION and source.at.startswith("trainer.")  # the trainer has its own
            if not (unused or same(value, field.default_in(source.release))):
                source.warnings.append(
                    f"{name} = {shown(value)} is left out: release {shown_release(after)} doesn't have it"
                )
        uproot(section, name)
    if refused and has and len(stated) > 1:
        source.found(path)  # refuses two that differ
        for name in stated[1:]:
            uproot(section, name)
    if had and has and not stated and path not in _INDIFFERENT:
        old, new = field.default_in(source.release), field.default_in(after)
        if not (_is_alike(field, old, new) or old in (REQUIRED, ABSENT) or callable(old) or callable(new)):
            plant(section, path, old)


def _warn_of_unknown(source: Source, cls: ConfigClass) -> None:
    """Name the fields that no release's class has, which the next one rejects."""
    known = {name.partition(".")[0] for name in cls.names}
    if unknown := [str(name) for name in dig(source.config, source.at) if name not in known]:
        source.warnings.append(f"{cls.name} has no field {', '.join(unknown)}: since 2.4 it rejects them")


def _is_alike(field: ClassField, old: Any, new: Any) -> bool:
    """Whether two defaults say the same: of fields that decide what a model computes, null says the neutral value."""
    return same(old, new) or (field.neutral is not EVERY_VALUE and None in (old, new))
