"""Positions that are counted from the padding's id on, as RoBERTa's, or rotary ones instead.

Both frameworks have a table with ``pad + 1`` rows that are no positions. transformers counts these too, ModelZoo says
so by ``mask_padding_in_positional_embed``.

Facts: ModelZoo release 2.10.0, ``layers/EmbeddingLayer.py``, ``tools/checkpoint_converters/{roberta,esm2}.py``;
transformers, ``models/roberta``, ``models/esm``.
"""

from __future__ import annotations

from typing import Any

from convkit.config import Answer, ConfigError, Coupled

Values = dict[str, Any]
KIND, LENGTH, PAD = "position_embedding_type", "max_position_embeddings", "pad_token_id"
COUNTED, ROTARY_DIM = "mask_padding_in_positional_embed", "rotary_dim"


def counted_from_padding(*, rows: int, pad: int | None, rotary: bool = False) -> Coupled:
    """The row of these positions; it declares ``positions`` (the length in transformers' config) and ``rotary``.

    Rotary heads are rotated whole; they need ``head_dim``.

    Args:
        rows: transformers' default for the length.
        pad: transformers' default for the padding's id; None: there is none, and a table needs it.
        rotary: whether the family may have rotary positions.
    """
    kinds = {"absolute": "learned"} | ({"rotary": "rotary"} if rotary else {})
    usual: Values = {KIND: "absolute", LENGTH: rows} | ({} if pad is None else {PAD: pad})

    def to_cerebras(values: Values, names: Values) -> Answer:
        given = usual | values
        kind, length, padding = given[KIND], given[LENGTH], given.get(PAD)
        turned, before = kind == "rotary", (padding or 0) + 1
        if kind not in kinds:
            raise ConfigError(f"{kind!r} has no counterpart", key=KIND, remedy=f"known: {', '.join(kinds)}")
        if padding is None and not turned:
            raise ConfigError("is missing", key=PAD, remedy="add it: positions are counted from it on")
        if not turned and length <= before:
            problem = f"is {length}, of which the first {before} are no positions"
            raise ConfigError(problem, key=LENGTH, remedy=f"it must be above {PAD} + 1")
        if turned:
            _whole(names["head_dim"], names["head_dim"], "num_attention_heads")
        own = {ROTARY_DIM: names["head_dim"]} if turned else {COUNTED: True}
        fields = {KIND: kinds[kind], LENGTH: length if turned else length - before, **own}
        return Answer(
            fields if padding is None else fields | {PAD: padding},
            {"positions": length, "rotary": turned},
            defaults={field: value for field, value in usual.items() if field not in values},
        )

    def to_hf(values: Values, names: Values) -> Answer:
        kind, length, padding = values.get(KIND, "learned"), values.get(LENGTH), values.get(PAD, 0)
        known = {cs: hf for hf, cs in kinds.items()}
        if kind not in known:
            raise ConfigError(f"{kind!r} has no counterpart", key=KIND, remedy=f"known: {', '.join(known)}")
        if length is None:
            raise ConfigError("is missing", key=LENGTH, remedy="add it: there is no default")
        turned = kind == "rotary"
        if turned:
            _whole(values.get(ROTARY_DIM) or names["head_dim"] // 4, names["head_dim"], ROTARY_DIM)
        elif not values.get(COUNTED, False):
            problem = "is False: transformers' model counts positions from the padding's id on, not from 0"
            raise ConfigError(problem, key=COUNTED, remedy="name the layout that it really has, or correct the yaml")
        length = length if turned else length + padding + 1
        return Answer(
            {KIND: known[kind], LENGTH: length, PAD: padding},
            {"positions": length, "rotary": turned},
            defaults={} if PAD in values else {PAD: padding},
        )

    own = (COUNTED, ROTARY_DIM) if rotary else (COUNTED,)
    return Coupled((KIND, LENGTH, PAD), (KIND, LENGTH, PAD, *own), to_cerebras, to_hf)


def _whole(turned: int, head_dim: int, key: str) -> None:
    """Check that heads are rotated whole, in pairs.

    Raises:
        ConfigError: only a part of them is, or they have an odd number of dimensions.
    """
    if turned != head_dim:
        problem = f"makes {turned} of the {head_dim} dimensions of a head rotate"
        raise ConfigError(problem, key=key, remedy="transformers' model rotates whole heads")
    if head_dim % 2:
        raise ConfigError(
            f"makes heads of {head_dim} dimensions", key=key, remedy="they are rotated in pairs: correct it"
        )
