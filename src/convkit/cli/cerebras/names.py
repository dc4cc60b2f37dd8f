"""The original's names of models, and the layouts that they stand for.

Which of them are built, the mappings say. Source of the names: ModelZoo release 2.10.0,
``tools/checkpoint_converters/registry.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache

from convkit.errors import UsageError, meant

#: name -> layouts of transformers' side and of ModelZoo's; several are those of a part and of the whole
LAYOUTS = {
    "bert": ("hf/bert", "cerebras/bert"),
    "bloom": ("hf/bloom", "cerebras/bloom"),
    "btlm": ("hf/btlm", "cerebras/btlm"),
    "clip-vit": ("hf/clip_vision_model", "cerebras/clip-vit"),
    "codegen": ("hf/codegen", "cerebras/gptj"),
    "dpr": ("hf/dpr, hf/dpr-biencoder", "cerebras/dpr, cerebras/dpr-biencoder"),
    "dragon": ("hf/dragon, hf/dragon-biencoder", "cerebras/dragon, cerebras/dpr-biencoder"),
    "esm-2": ("hf/esm", "cerebras/esm-2"),
    "falcon": ("hf/falcon", "cerebras/falcon"),
    "gemma2": ("hf/gemma2", "cerebras/gemma2"),
    "gpt2": ("hf/gpt2", "cerebras/gpt2"),
    "gpt-neox": ("hf/gpt_neox", "cerebras/gpt-neox"),
    "gptj": ("hf/gptj", "cerebras/gptj"),
    "jais": ("hf/jais", "cerebras/jais"),
    "llama": ("hf/llama", "cerebras/llama"),
    "llava": ("hf/llava", "cerebras/llava"),
    "mistral": ("hf/mistral", "cerebras/mistral"),
    "mixtral": ("hf/mixtral", "cerebras/mixtral"),
    "mllama": ("hf/mllama", "cerebras/mllama"),
    "mmsimple-llava": ("hf/llava", "cerebras/multimodal_simple"),
    "roberta": ("hf/roberta", "cerebras/roberta"),
    "santacoder": ("hf/santacoder", "cerebras/santacoder"),
    "starcoder": ("hf/gpt_bigcode", "cerebras/starcoder"),
    "t5": ("hf/t5", "cerebras/t5"),
    "vit": ("hf/vit", "cerebras/vit"),
}
#: name -> the name whose layouts it has
ALIASES = {
    **dict.fromkeys(("bert-qa", "bert-sequence-classifier", "bert-token-classifier"), "bert"),
    **dict.fromkeys(("code-llama", "llamaV2", "wizardlm"), "llama"),
    **dict.fromkeys(("octocoder", "sqlcoder", "wizardcoder"), "starcoder"),
    **dict.fromkeys(("flan-ul2", "transformer", "ul2"), "t5"),
}
#: those that are also called ``NAME-headless``
HEADLESS = (
    *("bloom", "btlm", "code-llama", "codegen", "falcon", "gpt2", "gpt-neox", "gptj", "jais", "llama", "llamaV2"),
    *("mistral", "mixtral", "octocoder", "santacoder", "sqlcoder", "starcoder", "vit", "wizardcoder", "wizardlm"),
)
#: names of which no format is transformers', or the layouts are those of another model's: kind of format -> layout
OTHERS = {
    "bert-summarization": {"cs": "cerebras/bert-summarization"},
    "dpo": {"hf": "hf/*", "no-dpo": "cerebras/*", "dpo": "cerebras/dpo-*"},
    "gpt_backbone": {"cs": "cerebras/gpt2", "backbone": "cerebras/gpt_backbone"},
}
#: facts of mappings that no base model shows
HEADS = ("head", "lm_head", "pooler")
#: name -> what its tensors show, for a config that is converted without them
SHOWN = {
    "bert": "mlm nsp pooler",
    "bert-sequence-classifier": "head pooler",
    "bert-token-classifier": "head",
    "bert-qa": "head qa",
    "roberta": "mlm",
    "esm-2": "mlm",
}
#: packed models, each with the folders of its components on transformers' side
PACKED = {
    **dict.fromkeys(("dpr", "dragon"), ("q_encoder", "ctx_encoder")),
    **dict.fromkeys(("llava", "mmsimple-llava"), ("image_model", "text_model")),
}
#: those that the original's command doesn't know, though its sources have a converter
UNREACHABLE = ("dpr", "gpt_backbone", "jais-headless", "mllama", "vit", "vit-headless")
#: those that the original knows, and refuses: their names aren't in ModelZoo's registry
REFUSED = (
    *("bert-qa", "btlm-headless", "dragon", "flan-ul2", "llamaV2", "llamaV2-headless", "mixtral-headless"),
    *("santacoder-headless", "sqlcoder", "sqlcoder-headless", "starcoder-headless", "ul2"),
)
#: name -> what the original writes as the yaml's ``name``, where we write that of ModelZoo's class
OTHERWISE_NAMED = {"transformer": "transformer", "wizardcoder": "gpt2", "wizardcoder-headless": "gpt2"}


@dataclass(frozen=True)
class Model:
    """What a name stands for.

    Attributes:
        name: the name.
        layouts: kind of format -> layout, or patterns of layouts, with commas between them. Mappings lie between the
            last kind and the others.
        headless: whether it is the base model, without an output head.
    """

    name: str
    layouts: Mapping[str, str] = field(hash=False)
    headless: bool = False


@cache
def models() -> dict[str, Model]:
    """Every name, in the order of the alphabet."""
    found = {name: Model(name, {"hf": hf, "cs": cs}) for name, (hf, cs) in LAYOUTS.items()}
    found |= {name: replace(found[of], name=name) for name, of in ALIASES.items()}
    found |= {f"{name}-headless": replace(found[name], name=f"{name}-headless", headless=True) for name in HEADLESS}
    found |= {name: Model(name, layouts) for name, layouts in OTHERS.items()}
    return {name: found[name] for name in sorted(found, key=str.lower)}


def model_called(name: str) -> Model:
    """The model of this name, however it is capitalised.

    Raises:
        UsageError: none has this name.
    """
    for one in models().values():
        if one.name.lower() == name.lower():
            return one
    raise UsageError(f"no model is called {name!r}", remedy=f"{meant(name, models())}see convkit cerebras list")


def ways(model: Model, source: str, target: str) -> list[tuple[str, str]]:
    """The layouts of each mapping that leads from one kind of format of a model to another; there may be none.
    From release to release, each layout of one kind leads to itself.

    Raises:
        UsageError: the model has no format of such a kind.
    """
    for kind in (source, target):
        if kind not in model.layouts:
            known = ", ".join(shown(model.layouts))
            what = "model of transformers" if kind == "hf" else f"format {shown([kind])[0]}"
            raise UsageError(f"{model.name} has no {what}", remedy=f"its formats: {known}")
    if source == target:
        from convkit.mappings import layouts

        here = [name for name in layouts() if fnmatchcase(name, model.layouts[source])]
        return [] if source == "hf" else [(name, name) for name in here]
    if list(model.layouts)[-1] not in (source, target):
        return []
    wanted = [model.layouts[kind].split(", ") for kind in (source, target)]
    return [way for way in _ends() if all(map(_is_one_of, way, wanted))]


def shown(kinds: Iterable[str]) -> list[str]:
    """Kinds of formats as a user types them.

    >>> shown(["hf", "cs", "no-dpo"])
    ['hf', 'cs-X.Y', 'cs-X.Y-no-dpo']
    """
    from convkit.cli.cerebras.forms import KINDS

    return [kind if kind == "hf" else f"cs-X.Y{KINDS[kind]}" for kind in kinds]


def _is_one_of(layout: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(layout, pattern) for pattern in patterns)


def _ends() -> list[tuple[str, str]]:
    """The layouts of every mapping, both ways."""
    from convkit.mappings import ends

    pairs = ends()
    return [*pairs, *((right, left) for left, right in pairs)]
