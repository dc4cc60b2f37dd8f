"""What checkpoints of each framework look like to whoever opens them as a model: the oracles' own table.

The declarations of the mappings say similar things. They aren't used here, so that a mistake there can't hide itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from convkit.oracles import OTHERS, hf, layouts
from convkit.oracles.framework import Config, Framework

if TYPE_CHECKING:
    from convkit.oracles.oracle import Oracle

#: what only a policy has, within its keys
_POLICY = "policy_model.model."
#: what only an encoder of DPR has
_RETRIEVER = tuple(f"{one}.embedding_layer.word_embeddings.weight" for one in ("question_encoder", "ctx_encoder"))
#: sections of a retriever's config
_ENCODERS = ("q_encoder", "ctx_encoder")
#: what only a vision transformer has
_CLASS_TOKEN = "vit_model.embedding_layer.cls_embedding"
#: what only a model of text and images has
_IMAGE = "image_model.class_embedding"
#: what a language model has beside an image's model
_TEXT = "text_model.embedding_layer.word_embeddings.weight"
#: sections of a model's parts
_PARTS = ("image_model", "text_model")


def _cerebras(keys: Collection[str], config: Config) -> str:
    """Yamls name their model since release 2.4; before, its tensors and fields show its class.

    A layer of the GPT-2 class has a second norm, ``norm3``. A layer of the GPT-J class has it only if
    ``use_untied_layer_norm`` says so, a field that the other class doesn't know. RoBERTa's yamls have BERT's name,
    and CLIP's that of ViT; ESM-2 alone may drop tokens. What DPO trains has its family's name deeper inside.
    """
    if any(_POLICY in key for key in keys):
        policy = config.get("policy_model")
        return f"cerebras/dpo-{policy.get('name') if isinstance(policy, Mapping) else config.get('model_name')}"
    if config.get("name") == "esm2" or ("name" not in config and "token_dropout" in config):
        return "cerebras/esm-2"
    if config.get("name") in ("bert", None) and config.get("mask_padding_in_positional_embed"):
        return "cerebras/roberta"
    if any(key.endswith(_CLASS_TOKEN) for key in keys):
        return "cerebras/clip-vit" if config.get("use_post_embed_layer_norm") else "cerebras/vit"
    if any(key.endswith(_IMAGE) for key in keys):
        return "cerebras/mllama"
    if any(key.endswith(_TEXT) for key in keys):
        return f"cerebras/{'multimodal_simple' if 'image_model_list' in config else 'llava'}"
    if encoders := {end for end in _RETRIEVER if any(key.endswith(end) for key in keys)}:
        return "cerebras/dpr" if len(encoders) == 1 else "cerebras/dpr-biencoder"
    name = config.get("name")
    if isinstance(name, Mapping):  # of Jais: ModelZoo's converter writes the whole config of transformers
        name = name.get("model_type")
    named = f"cerebras/{str(name).partition('/')[0]}"
    if named in layouts():
        return named
    if any("encoder_embeddings." in key for key in keys):
        return "cerebras/t5"
    if any("transformer_encoder." in key for key in keys):
        return "cerebras/t5" if any("transformer_decoder." in key for key in keys) else "cerebras/bert"
    if config.get("use_untied_layer_norm") or not any(".norm3." in key for key in keys):
        return "cerebras/gptj"
    turned = config.get("position_embedding_type") == "rotary" and config.get("norm_type") == "rmsnorm"
    return "cerebras/llama" if turned else "cerebras/gpt2"


def _hf(keys: Collection[str], config: Config) -> str:
    """The code of SantaCoder, which lies on the hub, has GPT-2's ``model_type``."""
    named = config.get("model_type", "")
    encoders = [encoder for name in _ENCODERS if isinstance(encoder := config.get(name), Mapping)]
    if len(encoders) == len(_ENCODERS):
        return "hf/dragon-biencoder" if encoders[0].get("model_type") == "bert" else "hf/dpr-biencoder"
    if all(isinstance(config.get(name), Mapping) for name in _PARTS):
        return "hf/llava"
    if named == "gpt2" and config.get("attention_head_type") == "multiquery":
        return "hf/santacoder"
    other = next((layout for layout, family in hf.FAMILIES.items() if named in family.also), "")
    return other or (f"hf/{named}" if named else "")


_HF = Framework(_hf, config=(".json",), named_in="model_type")
#: what stands before the slash in a layout's name -> how such checkpoints are opened
_FRAMEWORKS = {
    "cerebras": Framework(
        _cerebras,
        leaf=("embedding_layer.word_embeddings.weight", "encoder_embeddings.word_embeddings.weight", _CLASS_TOKEN),
        config=(".yaml", ".yml"),
        within="model.",
    ),
    "hf": _HF,
    "pax": Framework(),
    "t5x": Framework(),
    "te": Framework(),
}


def framework_of(layout: str | None, keys: Collection[str]) -> Framework:
    """The framework of a layout that another package runs; else the one that keys show; transformers, whose configs
    name the model, where they show none.

    Raises:
        ConvkitError: the layout's oracle can't be used.
    """
    if layout is not None and layout in OTHERS.names():
        return _of_oracle(layout, OTHERS.get(layout))
    known = [framework for framework in _FRAMEWORKS.values() if framework.leaf]
    found = next((one for one in known if any(key.endswith(one.leaf) for key in keys)), None)
    if found is None and layout is None:
        others = (_of_oracle(*one) for one in OTHERS.each())
        found = next((one for one in others if one.leaf and any(key.endswith(one.leaf) for key in keys)), None)
    return found or _HF


def needs_config(layout: str) -> bool:
    """Whether checkpoints of this layout have a config beside them that describes the model."""
    if layout in OTHERS.names():
        return bool(_of_oracle(layout, OTHERS.get(layout)).config)
    return bool(_FRAMEWORKS.get(layout.partition("/")[0], _HF).config)


def _of_oracle(layout: str, oracle: type[Oracle]) -> Framework:
    """The framework that an oracle of another package names, or the one of ours that its layout does."""
    return oracle.framework or _FRAMEWORKS.get(layout.partition("/")[0], _HF)
