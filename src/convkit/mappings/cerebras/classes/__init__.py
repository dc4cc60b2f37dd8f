"""ModelZoo's config classes as tables, one module per family, and its releases.

Facts: the classes in the tags Release_2.2.1 ... Release_2.10.0 of Cerebras/modelzoo, read by a parser: fields, types,
defaults. Release 2.1.1 has no classes: what its ``model.py`` files take from the yaml. On 2026-11-28 every table was
compared with the instances of 2.10.0's real classes.

``--release 2.3`` means 2.3.1: 2.3.0 lacks fields that 2.3.1 has, and no layout differs between the two. A field that
an early release requires and a later one gives a default counts as having that default throughout.
``fp16_type`` ends with 2.4, whose classes only tolerate it.
``until=BEFORE_2_1`` marks a field of older releases, which yamls of 2.1 and later still carry, and the converter of
ModelZoo still writes.
"""

from __future__ import annotations

from convkit.config.classes import ClassField, free
from convkit.config.values import AMOUNT, COUNT, FLAG, LIST, NUMBER, POSITIVE, SECTION, TEXT

#: Releases whose layouts are known, the current one last. 2.10 has 2.9's layouts; 2.3 is 2.3.1.
RELEASES = tuple((2, minor) for minor in range(1, 11))
BEFORE_2_1 = (2, 1)

#: why a field of muP has no counterpart, where it isn't one of a whole set
MUP = "it scales the model, as muP does, but the fields of muP aren't there that its weights could be scaled by"

#: the parameters of a rotary scaling, in ModelZoo's and in transformers' spelling: what each may be
SCALING = SECTION.of(
    rope_type=TEXT.or_null,
    type=TEXT.or_null,
    factor=POSITIVE.or_null,
    rope_theta=POSITIVE.or_null,
    partial_rotary_factor=POSITIVE.or_null,
    original_max_position_embeddings=COUNT.or_null,
    # linear and yarn
    attention_factor=POSITIVE.or_null,
    beta_fast=POSITIVE.or_null,
    beta_slow=POSITIVE.or_null,
    truncate=FLAG.or_null,
    mscale=AMOUNT.or_null,
    mscale_all_dim=AMOUNT.or_null,
    mscale_a=NUMBER,
    mscale_b=NUMBER,
    extrapolation_factor=NUMBER,
    # llama3
    low_freq_factor=POSITIVE,
    high_freq_factor=POSITIVE,
    # longrope
    short_factor=LIST.of(POSITIVE).or_null,
    long_factor=LIST.of(POSITIVE).or_null,
    short_mscale=POSITIVE.or_null,
    long_mscale=POSITIVE.or_null,
)
#: attention whose heads share keys and values in groups
GROUPED = SECTION.of(num_kv_groups=COUNT)

ROTARY = ("position_embedding_type", "rotary")
_ROTARY_OR_ALIBI = (*ROTARY, "alibi")
#: positions of which a model has a table, or is trained for so many: not those of ALiBi
LIMITED = ("learned", "fixed", "relative", "rotary")
#: fields of positions that every class has
POSITIONS = {
    "rope_theta": ClassField(POSITIVE, 10000, beside=ROTARY),
    "pad_rope": free(FLAG, False, since=(2, 2), until=(2, 4)),
    "fold_rope_consts": free(FLAG, False, since=(2, 4), moved=(((2, 5), True),)),
    "pos_scaling_factor": ClassField(POSITIVE, 1.0, beside=_ROTARY_OR_ALIBI),
    "pos_scaling_type": ClassField(TEXT, "linear", beside=_ROTARY_OR_ALIBI, since=(2, 3)),
    "pos_scaling_extra_args": ClassField(SCALING.or_null, None, beside=_ROTARY_OR_ALIBI, since=(2, 3)),
    "alibi_trainable_slopes": ClassField(FLAG, False, beside=("position_embedding_type", "alibi")),
}
#: fields of muP that every class has; those beside them have other defaults or releases in each
MUP_FIELDS = {
    "mup_base_hidden_size": ClassField(NUMBER.or_null, None, since=(2, 3), why=MUP),
    "mup_base_filter_size": ClassField(NUMBER.or_null, None, since=(2, 3), why=MUP),
    "attention_logits_alpha": ClassField(NUMBER.or_null, 1.0, since=(2, 3), why=MUP),
    "scale_output_logits_by_d": ClassField(FLAG.or_null, True, beside=("mup_base_hidden_size",), since=(2, 3), why=MUP),
}
