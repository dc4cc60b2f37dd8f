"""Checkpoints of ModelZoo's earlier releases, opened as those of today: what each release called otherwise.

The mappings have tables that say similar things. They aren't used here, so that a mistake there can't hide itself.

Facts: ModelZoo 1.6 ... 2.10 as its converter describes them (``tools/checkpoint_converters`` of release 2.10.0).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from convkit.checkpoint import Checkpoint, Tensors
from convkit.checkpoint.views import Renamed

Release = tuple[int, ...]
Change = tuple[str, str]

#: between a layout's name and the release of a checkpoint of it
_MARK = "@"

_SINCE_2_1: tuple[Change, ...] = (
    (r"(embedding_layer|encoder_embeddings|decoder_embeddings)\.position_embeddings\.weight$",
     r"\1.position_embeddings.embed.weight"),
    (r"(embedding_layer|encoder_embeddings|decoder_embeddings)\.position_embeddings$", r"\1.position_embeddings.fpe"),
    (r"relative_pe_helper\.", "embedding_layer.position_embed_helper."),
    (r"relative_position_(encoder|decoder)\.", r"\1_embeddings.position_embed_helper."),
)  # fmt: skip
_SINCE_1_7: tuple[Change, ...] = (
    # BERT, as transformers has it
    (r"\bbert\.embeddings\.LayerNorm\.", "bert.embed_ln_f."),
    (r"\bbert\.embeddings\.token_type_embeddings\.", "bert.embedding_layer.segment_embeddings."),
    (r"\bbert\.embeddings\.", "bert.embedding_layer."),
    (r"\bbert\.encoder\.layer\.(\d+)\.", r"bert.transformer_encoder.layers.\1."),
    (r"(\.layers\.\d+)\.attention\.self\.([qkv])[a-z]+\.", r"\1.self_attn.proj_\2_dense_layer."),
    (r"(\.layers\.\d+)\.attention\.output\.dense\.", r"\1.self_attn.proj_output_dense_layer."),
    (r"(\.layers\.\d+)\.attention\.output\.LayerNorm\.", r"\1.norm1."),
    (r"(\.layers\.\d+)\.intermediate\.dense\.", r"\1.ffn.ffn.0.linear_layer."),
    (r"(\.layers\.\d+)\.output\.dense\.", r"\1.ffn.ffn.1.linear_layer."),
    (r"(\.layers\.\d+)\.output\.LayerNorm\.", r"\1.norm2."),
    (r"\bpooler\.dense\.", "pooler.pooler.ffn.0.linear_layer."),
    (r"\bcls\.predictions\.transform\.dense\.", "bert_mlm_head.mlm_transform.ffn.ffn.0.linear_layer."),
    (r"\bcls\.predictions\.transform\.LayerNorm\.", "bert_mlm_head.mlm_transform.ln."),
    (r"\bcls\.predictions\.decoder\.weight$", "bert_mlm_head.classifier.ffn.0.linear_layer.weight"),
    (r"\bcls\.predictions\.bias$", "bert_mlm_head.classifier.ffn.0.linear_layer.bias"),
    (r"\bcls\.seq_relationship\.", "bert_cls_head.classifier.ffn.0.linear_layer."),
    # T5, nearly so
    (r"\b(encoder|decoder)_token_embedding\.", r"\1_embeddings.word_embeddings."),
    (r"\b(encoder|decoder)\.block\.0\.layer\.0\.SelfAttention\.relative_attention_bias\.",
     r"relative_position_\1.relative_attention_bias."),
    (r"\b(encoder|decoder)\.block\.", r"\1.layers."),
    (r"\.layer\.0\.SelfAttention\.([qkv])\.", r".self_attn.proj_\1_dense_layer."),
    (r"\.layer\.0\.SelfAttention\.o\.", ".self_attn.proj_output_dense_layer."),
    (r"\.layer\.1\.EncDecAttention\.([qkv])\.", r".multihead_attn.proj_\1_dense_layer."),
    (r"\.layer\.1\.EncDecAttention\.o\.", ".multihead_attn.proj_output_dense_layer."),
    (r"\.layer\.0\.layer_norm\.", ".norm1."),
    (r"\.layer\.1\.layer_norm\.", ".norm2."),
    (r"\.layer\.2\.layer_norm\.", ".norm3."),
    (r"\.layer\.\d\.DenseReluDense\.wi_0\.", ".ffn.ffn.0.linear_layer_for_glu."),
    (r"\.layer\.\d\.DenseReluDense\.wi\.", ".ffn.ffn.0.linear_layer."),
    (r"\.layer\.\d\.DenseReluDense\.wo\.", ".ffn.ffn.1.linear_layer."),
    (r"\b(encoder|decoder)\.final_layer_norm\.", r"\1.norm."),
)  # fmt: skip
#: what release 1.6 had, and its models didn't read: a second name, and tables that only the first block uses
_UNREAD = (
    r"\bcls\.predictions\.decoder\.bias$",
    r"\.block\.[1-9]\d*\.layer\.0\.SelfAttention\.relative_attention_bias\.",
)
#: in the order in which they happened
_CHANGES: tuple[tuple[Release, tuple[Change, ...]], ...] = (((1, 7), _SINCE_1_7), ((2, 1), _SINCE_2_1))
#: flags of releases before 2.0 -> the norm that they chose
_NORMS = {"use_rms_norm": "rmsnorm", "use_t5_layer_norm": "rmsnorm", "use_biasless_norm": "biasless-layernorm"}
#: BERT's heads of pre-training: with them, its trunk has another name since release 1.7
_PRETRAINING = "bert_mlm_head."


def split_layout(layout: str | None) -> tuple[str | None, Release]:
    """A layout's own name, and the release that stands behind it; empty if none does.

    >>> split_layout("cerebras/gpt2@1.8"), split_layout("hf/gpt2")
    (('cerebras/gpt2', (1, 8)), ('hf/gpt2', ()))
    """
    name, _, release = (layout or "").partition(_MARK)
    return name or None, tuple(int(part) for part in release.split(".")) if release else ()


def as_today(checkpoint: Checkpoint, release: Release) -> Checkpoint:
    """A checkpoint of a release under the names of today; the same one, if none has changed since."""
    if not release:
        return checkpoint
    names = dict(_names(checkpoint.leaves, release))
    return Today(checkpoint, names) if any(new != old for new, old in names.items()) else checkpoint


def fields_today(fields: Mapping[str, Any], release: Release) -> dict[str, Any]:
    """The model's section of a yaml of a release, in the words of today."""
    if not release or release >= (2, 0):
        return dict(fields)
    norm = next((norm for flag, norm in _NORMS.items() if fields.get(flag)), "layernorm")
    flags = [flag for flag in _NORMS if flag in fields]
    # where no flag stands, a class has its own norm
    return {**fields, "norm_type": norm} if flags else dict(fields)


def _names(keys: Iterable[str], release: Release) -> Iterator[tuple[str, str]]:
    changes = [change for since, some in _CHANGES if release < since for change in some]
    read = (key for key in keys if release >= (1, 7) or not any(re.search(one, key) for one in _UNREAD))
    found = {key: _changed(key, changes) for key in read}
    trunk = release < (1, 7) and any(_PRETRAINING in new for new in found.values())
    for key, new in found.items():
        yield (re.sub(r"\bbert\.", "bert_encoder.", new, count=1) if trunk else new), key


def _changed(key: str, changes: Iterable[Change]) -> str:
    for old, new in changes:
        key = re.sub(old, new, key)
    return key


class Today(Renamed, Checkpoint):
    """A checkpoint under other names."""

    def __init__(self, checkpoint: Checkpoint, names: Mapping[str, str]) -> None:
        super().__init__(checkpoint, names)
        self.path, self.format = checkpoint.path, checkpoint.format
        self.metadata, self.config = checkpoint.metadata, checkpoint.config
        self._checkpoint = checkpoint

    def origins(self, key: str) -> Iterator[tuple[Tensors, str]]:
        """The leaf itself."""
        yield self, key

    def files(self) -> list[Path]:
        """See :meth:`Checkpoint.files`."""
        return self._checkpoint.files()

    def close(self) -> None:
        """Close the checkpoint below."""
        self._checkpoint.close()
