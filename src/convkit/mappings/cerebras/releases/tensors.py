"""What leaves are called from release to release, of every family: one table, read up and down.

A name changes for whatever belongs to a parameter: itself, below whatever prefix, and the optimizer's state of it. All
other leaves keep their names.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/{bert,bert_finetune,t5,gpt2_hf_cs}.py`` (the rules from
release to release, which rename only the model). Release 1.6 had transformers' BERT and T5, and a table of relative
positions in every block of T5, of which it used the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from convkit.config.classes import Release
from convkit.mapping import AnyRule, Derived, Fact, LeftBehind, Measure, Restated, Rule, Variant

#: what stands before a parameter's name: ``model.``, ``optimizer.state.``, each with or without another ``model.``
AT = "{at:*}"
#: how parameters end that are named whole, and not by their modules
_WHOLE = (".weight", ".slopes")
Pair = tuple[str, str]

# fmt: off
#: since release 2.1
_EMBEDDINGS: tuple[Pair, ...] = (
    *((f"{module}.position_embeddings.weight", f"{module}.position_embeddings.embed.weight")
      for module in ("embedding_layer", "encoder_embeddings", "decoder_embeddings")),
    ("relative_pe_helper.relative_attention_bias.weight",
     "embedding_layer.position_embed_helper.relative_attention_bias.weight"),
    *((f"relative_position_{stack}.relative_attention_bias.weight",
       f"{stack}_embeddings.position_embed_helper.relative_attention_bias.weight") for stack in ("encoder", "decoder")),
    # trained where the config says so
    ("relative_pe_helper.slopes", "embedding_layer.position_embed_helper.slopes"),
)
#: the same, of leaves that aren't trained
_BUFFERS: tuple[Pair, ...] = tuple(
    (f"{module}.position_embeddings", f"{module}.position_embeddings.fpe")
    for module in ("embedding_layer", "encoder_embeddings", "decoder_embeddings")
)
#: since release 1.7; what follows these names is kept
_ATTENTION = (("query", "q"), ("key", "k"), ("value", "v"))
_BERT_LAYER: tuple[Pair, ...] = (
    *((f"attention.self.{old}", f"self_attn.proj_{new}_dense_layer") for old, new in _ATTENTION),
    ("attention.output.dense", "self_attn.proj_output_dense_layer"),
    ("attention.output.LayerNorm", "norm1"),
    ("intermediate.dense", "ffn.ffn.0.linear_layer"),
    ("output.dense", "ffn.ffn.1.linear_layer"),
    ("output.LayerNorm", "norm2"),
)
_BERT: tuple[Pair, ...] = (
    ("bert.embeddings.word_embeddings", "{=trunk}embedding_layer.word_embeddings"),
    ("bert.embeddings.position_embeddings.weight", "{=trunk}embedding_layer.position_embeddings.weight"),
    ("bert.embeddings.token_type_embeddings", "{=trunk}embedding_layer.segment_embeddings"),
    ("bert.embeddings.LayerNorm", "{=trunk}embed_ln_f"),
    *((f"bert.encoder.layer.{{i:#}}.{old}", f"{{=trunk}}transformer_encoder.layers.{{i:#}}.{new}")
      for old, new in _BERT_LAYER),
    ("bert.pooler.dense", "{=trunk}pooler.pooler.ffn.0.linear_layer"),
    ("cls.predictions.transform.dense", "bert_mlm_head.mlm_transform.ffn.ffn.0.linear_layer"),
    ("cls.predictions.transform.LayerNorm", "bert_mlm_head.mlm_transform.ln"),
    ("cls.predictions.decoder.weight", "bert_mlm_head.classifier.ffn.0.linear_layer.weight"),
    ("cls.seq_relationship", "bert_cls_head.classifier.ffn.0.linear_layer"),
)


def _t5_stack(stack: str, cross: tuple[str, ...]) -> Iterator[Pair]:
    block, layer = f"{stack}.block.{{i:#}}.layer", f"{stack}.layers.{{i:#}}"
    modules = ("SelfAttention", *cross)
    for n, module in enumerate(modules):
        ours = "multihead_attn" if n else "self_attn"
        for one in "qkv":
            yield f"{block}.{n}.{module}.{one}", f"{layer}.{ours}.proj_{one}_dense_layer"
        yield f"{block}.{n}.{module}.o", f"{layer}.{ours}.proj_output_dense_layer"
    last = len(modules)
    for old, new in (("wi_0", "0.linear_layer_for_glu"), ("wi", "0.linear_layer"), ("wo", "1.linear_layer")):
        yield f"{block}.{last}.DenseReluDense.{old}", f"{layer}.ffn.ffn.{new}"
    yield from ((f"{block}.{n}.layer_norm", f"{layer}.norm{n + 1}") for n in range(last + 1))
    yield f"{stack}.final_layer_norm", f"{stack}.norm"
    yield f"{stack}_token_embedding", f"{stack}_embeddings.word_embeddings"
    yield (f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
           f"relative_position_{stack}.relative_attention_bias.weight")


_T5 = (*_t5_stack("encoder", ()), *_t5_stack("decoder", ("EncDecAttention",)))
#: family -> the names that it had in release 1.6, and has since 1.7
_SINCE_1_7 = dict.fromkeys(("bert", "bert-summarization"), _BERT) | {"t5": _T5}
# fmt: on

#: the biases of BERT's language modelling head are one parameter, of two names up to release 1.6
_MLM_BIAS = ("cls.predictions.bias", "cls.predictions.decoder.bias")
_NEW_MLM_BIAS = "bert_mlm_head.classifier.ffn.0.linear_layer.bias"
_TABLE = "{=trunk}embedding_layer.position_embeddings.weight"
_UNUSED = "the table of relative positions of a later block, which isn't used"

#: the prefix of BERT's trunk, by its task
TRUNK = Variant(
    "trunk",
    "right",
    ("bert_encoder.", "bert."),
    probe=f"{AT}{{=trunk}}embedding_layer.{{rest:*}}",
    usual=lambda names: "bert_encoder." if names["pretraining"] else "bert.",
)


def renamed(family: str, low: Release, high: Release) -> tuple[AnyRule, ...]:
    """The rules between two releases of a family, from the earlier to the later one; other leaves have none."""
    later = _EMBEDDINGS if low < (2, 1) <= high else ()
    earlier = _SINCE_1_7.get(family, ()) if low < (1, 7) <= high else ()
    others = [pair for pair in later if not any(new.endswith(pair[0]) for _, new in earlier)]
    pairs = [(old, _at_last(new, later)) for old, new in earlier] + others
    rules: list[AnyRule] = [rule for old, new in pairs for rule in _of_parameter(old, new)]
    if later:
        rules += [Rule(AT + old, AT + new, optional=True) for old, new in _BUFFERS]
    if earlier:
        rules += _T5_ALONE if family == "t5" else _bert_alone(_at_last(_TABLE, later))
    return tuple(rules)


def variants(family: str, low: Release) -> tuple[Variant, ...]:
    """What checkpoints of a family differ in, beginning with the earlier of two releases."""
    return (TRUNK,) if low < (1, 7) and family.startswith("bert") else ()


def facts(family: str, low: Release) -> tuple[Fact, ...]:
    """What only the tensors show, beginning with the earlier of two releases."""
    if not variants(family, low):
        return ()
    return (
        Fact("pretraining", f"{AT}cls.{{rest:*}}", f"{AT}bert_encoder.{{rest:*}}", "a BERT may have another task"),
        Fact("table", f"{AT}{_BERT[1][0]}", f"{AT}{{m:*}}.position_embeddings.{{rest:*}}", "positions may be fixed"),
    )


def measures(family: str, low: Release, high: Release) -> tuple[Measure, ...]:
    """The sizes that leaves need which are computed."""
    if not variants(family, low):
        return ()
    table = _at_last(_TABLE, _EMBEDDINGS if high >= (2, 1) else ())
    return (Measure("positions", (f"{AT}{_BERT[1][0]}", 0), (AT + table, 0)),)


def _at_last(name: str, later: Iterable[Pair]) -> str:
    """What a name became in the end."""
    return next((name.removesuffix(old) + new for old, new in later if name.endswith(old)), name)


def _of_parameter(old: str, new: str) -> Iterator[Rule]:
    """The rules of a parameter and the optimizer's state of it; or of all that a module has."""
    ends = ("", ".{slot:*}") if old.endswith(_WHOLE) else (".{slot:*}",)
    return (Rule(AT + old + end, AT + new + end, optional=True) for end in ends)


def _bert_alone(table: str) -> list[AnyRule]:
    old, ids = AT + _BERT[1][0], f"{AT}bert.embeddings.position_ids"
    return [
        Rule(tuple(AT + name for name in _MLM_BIAS), AT + _NEW_MLM_BIAS, optional=True),
        Rule(f"{AT}{_MLM_BIAS[0]}.{{slot:*}}", f"{AT}{_NEW_MLM_BIAS}.{{slot:*}}", optional=True),
        Derived("left", ids, "positions", {"n": "positions"}, (old,), (1, "positions"), "int64", when="table"),
    ]


_STACKS = ("encoder", "decoder")
_TABLE_OF_BLOCK = "{stack}.block.{i}.layer.0.SelfAttention.relative_attention_bias"
_COPIED = {
    "copied": [
        (f"{AT}{stack}.layers.{{i}}.norm1.weight", _TABLE_OF_BLOCK.replace("{stack}", stack) + ".weight")
        for stack in _STACKS
    ]
}
_T5_ALONE: list[AnyRule] = [
    Restated("copies", to_left=_COPIED),
    *(
        LeftBehind("left", AT + _TABLE_OF_BLOCK.format(stack=stack, i="{i:#}") + ".{rest:*}", _UNUSED)
        for stack in _STACKS
    ),
]
