"""Tied tensors that old Cerebras releases had under two names, and stored under one.

Source: ModelZoo release 2.0.2, ``compat/fix_checkpoint_spec.py``, ``fix_duplicate_weights``.
"""

from __future__ import annotations

from collections.abc import Container

_PAIRS = (
    ("embedding_layer.word_embeddings.weight", "lm_head.weight"),
    ("ln_f.weight", "transformer_decoder.norm.weight"),
    ("ln_f.bias", "transformer_decoder.norm.bias"),
)
_OTHER = dict(_PAIRS) | {second: first for first, second in _PAIRS}


def other_name(key: str) -> str | None:
    """The other name of a tied tensor, under the same prefix; None if it isn't tied.

    >>> other_name("model.model.lm_head.weight")
    'model.model.embedding_layer.word_embeddings.weight'
    """
    for name, other in _OTHER.items():
        if key == name or key.endswith(f".{name}"):
            return key.removesuffix(name) + other
    return None


def stored_copy(key: str, stored: Container[str]) -> str | None:
    """The name under which a tensor without data of its own is stored; None if it isn't stored."""
    other = other_name(key)
    return other if other is not None and other in stored else None
