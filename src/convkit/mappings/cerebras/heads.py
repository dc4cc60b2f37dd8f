"""Rows for the heads of attention: their size, how much of each is rotated, and groups that share keys and values.

Facts: ModelZoo release 2.10.0, ``models/nlp/gpt2/gpt2_model.py`` (``attention_inner_dim``: since 2.3.1),
``layers/AttentionLayer.py`` (``multiquery_attention``: one group unless ``num_kv_groups`` says more); transformers,
``models/llama``, ``models/gpt_bigcode``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from convkit.config import Answer, ConfigError, Coupled, Name, Row
from convkit.config.rows import Together

Values = dict[str, Any]


def heads_divide(hidden: int, heads: int, key: str) -> int:
    """The size of an attention head.

    Raises:
        ConfigError: the number of heads doesn't divide the hidden size.
    """
    if heads < 1 or hidden % heads:
        raise ConfigError(f"{heads} heads don't divide the hidden size {hidden}", key=key, remedy="correct the config")
    return hidden // heads


def groups_divide(heads: int, groups: int, key: str) -> None:
    """Check that every group of heads that share keys and values has equally many.

    Raises:
        ConfigError: the number of groups doesn't divide the number of heads.
    """
    if groups < 1 or heads % groups:
        raise ConfigError(f"{groups} groups don't divide {heads} heads", key=key, remedy="correct the config")


def equal_heads(hf: str) -> Coupled:
    """The row of heads that share the hidden size out; transformers calls them ``hf``. It declares ``head_dim``."""

    def size(key: str) -> Together:
        return lambda values, names: Answer(names={"head_dim": heads_divide(names["hidden"], names["heads"], key)})

    return Coupled((), (), size(hf), size("num_heads"))


def left_out(values: Values, **taken: Any) -> Values:
    """The fields that the config leaves out, with what is taken for them."""
    return {field: value for field, value in taken.items() if field not in values}


def _head_dim_to_cerebras(usual: int | None, values: Values, names: Values) -> Answer:
    head_dim = values.get("head_dim", usual) or heads_divide(names["hidden"], names["heads"], "num_attention_heads")
    inner = head_dim * names["heads"]
    if head_dim % 2:
        raise ConfigError(f"heads of size {head_dim} can't be rotated in pairs", key="head_dim", remedy="correct it")
    fields = {"rotary_dim": head_dim}
    if usual or inner != names["hidden"]:
        if names["release"] and names["release"] < (2, 3):
            raise ConfigError(
                f"heads of {head_dim}, but hidden_size/num_attention_heads = {names['hidden'] / names['heads']:g}",
                key="head_dim",
                remedy="Cerebras has a separate head size since release 2.3: --release 2.4",
            )
        fields["attention_inner_dim"] = inner
    return Answer(fields, {"head_dim": head_dim}, defaults=left_out(values, head_dim=head_dim))


def _head_dim_to_hf(usual: int | None, values: Values, names: Values) -> Answer:
    inner = values.get("attention_inner_dim") or names["hidden"]
    head_dim = heads_divide(inner, names["heads"], "num_heads")
    _is_whole(values.get("rotary_dim"), head_dim)
    declared = {"head_dim": head_dim}
    defaults = left_out(values, attention_inner_dim=inner)
    return Answer(declared if usual or inner != names["hidden"] else {}, declared, defaults=defaults)


def _is_whole(rotary_dim: int | None, head_dim: int) -> None:
    """Check that whole heads are rotated.

    Raises:
        ConfigError: the yaml says something else.
    """
    if rotary_dim != head_dim:
        stated = "by default, a quarter of a head" if rotary_dim is None else rotary_dim
        raise ConfigError(
            f"is {stated}, but a head has {head_dim}",
            key="rotary_dim",
            remedy="transformers' model rotates whole heads",
        )


def _equal_to_cerebras(values: Values, names: Values) -> Answer:
    head_dim = heads_divide(names["hidden"], names["heads"], "num_attention_heads")
    return Answer({"rotary_dim": head_dim}, _rotated("num_attention_heads", head_dim, head_dim, stated=True).names)


def _equal_to_hf(values: Values, names: Values) -> Answer:
    head_dim = heads_divide(names["hidden"], names["heads"], "num_heads")
    _is_whole(values.get("rotary_dim"), head_dim)
    return _rotated("num_heads", head_dim, head_dim, stated=True)


def _groups_to_cerebras(usual: int | None) -> Together:
    def to_right(values: Values, names: Values) -> Answer:
        groups = values.get("num_key_value_heads", usual)
        groups = names["heads"] if groups is None else groups
        groups_divide(names["heads"], groups, "num_key_value_heads")
        fields: Values = {"attention_module": "aiayn_attention"}
        if groups != names["heads"]:
            fields = {"attention_module": "multiquery_attention", "extra_attention_params": {"num_kv_groups": groups}}
        return Answer(fields, {"kv_heads": groups}, defaults=left_out(values, num_key_value_heads=groups))

    return to_right


def groups_of(values: Values, names: Values) -> int:
    """The number of groups that share keys and values, of ModelZoo's model.

    Raises:
        ConfigError: an attention that transformers has not, or groups that don't divide the heads.
    """
    module = values.get("attention_module", "aiayn_attention")
    extra = values.get("extra_attention_params") or {}
    if module not in ("aiayn_attention", "multiquery_attention"):
        raise ConfigError(f"{module!r} has no counterpart", key="attention_module", remedy="correct the yaml")
    if module == "aiayn_attention" and extra:
        raise ConfigError(f"{extra} beside {module}", key="extra_attention_params", remedy="correct the yaml")
    groups = names["heads"] if module == "aiayn_attention" else extra.get("num_kv_groups", 1)
    groups_divide(names["heads"], groups, "extra_attention_params")
    return groups


def _groups_to_hf(values: Values, names: Values) -> Answer:
    groups, defaults = groups_of(values, names), left_out(values, attention_module="aiayn_attention")
    return Answer({"num_key_value_heads": groups}, {"kv_heads": groups}, defaults=defaults)


def _one_key_to_cerebras(values: Values, names: Values) -> Answer:
    fields: Values = {"attention_module": "aiayn_attention"}
    multi_query = values.get("multi_query", True)
    if multi_query:
        fields = {"attention_module": "multiquery_attention", "extra_attention_params": {"num_kv_groups": 1}}
    groups = 1 if multi_query else names["heads"]
    return Answer(fields, {"kv_heads": groups}, defaults=left_out(values, multi_query=multi_query))


def _one_key_to_hf(values: Values, names: Values) -> Answer:
    groups = groups_of(values, names)
    if groups not in (1, names["heads"]):
        problem = f"{groups} groups of {names['heads']} heads"
        remedy = "this model of transformers has one key for all heads, or one for each"
        raise ConfigError(problem, key="extra_attention_params", remedy=remedy)
    multi_query = groups == 1 and values.get("attention_module") == "multiquery_attention"
    defaults = left_out(values, attention_module="aiayn_attention")
    return Answer({"multi_query": multi_query}, {"kv_heads": groups}, defaults=defaults)


def _rotated(field: str, rotary_dim: int, head_dim: int, stated: bool) -> Answer:
    if rotary_dim % 2 or not 0 < rotary_dim <= head_dim:
        problem = f"makes {rotary_dim} of the {head_dim} dimensions of a head rotate{'' if stated else ' by default'}"
        raise ConfigError(problem, key=field, remedy="correct the config: they are rotated in pairs")
    return Answer(names={"head_dim": head_dim, "rotary_dim": rotary_dim})


def _share_to_cerebras(values: Values, names: Values) -> Answer:
    head_dim = heads_divide(names["hidden"], names["heads"], "num_attention_heads")
    share = (values.get("rope_parameters") or {}).get("partial_rotary_factor", values.get("rotary_pct"))
    answer = _rotated("rotary_pct", int(head_dim * (0.25 if share is None else share)), head_dim, share is not None)
    left_out = {} if share is not None else {"rotary_pct": 0.25}
    return Answer({"rotary_dim": answer.names["rotary_dim"]}, answer.names, defaults=left_out)


def _share_to_hf(values: Values, names: Values) -> Answer:
    head_dim = heads_divide(names["hidden"], names["heads"], "num_heads")
    stated = values.get("rotary_dim")
    rotary_dim = head_dim // 4 if stated is None else stated
    answer = _rotated("rotary_dim", rotary_dim, head_dim, stated is not None)
    return Answer({"rotary_pct": rotary_dim / head_dim}, answer.names, defaults=left_out(values, rotary_dim=rotary_dim))


#: heads that are rotated whole, and share the hidden size out; declares ``head_dim``, and ``half`` of it
EQUAL_WHOLE_HEADS = (
    Coupled((), ("rotary_dim",), _equal_to_cerebras, _equal_to_hf),
    Name("half", lambda names: names["head_dim"] // 2, of="head_dim"),
)
#: heads of which the first dimensions are rotated, in two halves of the size ``half``, and the ``rest`` isn't; declares
#: ``head_dim`` and ``rotary_dim``
PARTLY_ROTATED = (
    Coupled(("rotary_pct", "rope_parameters"), ("rotary_dim",), _share_to_cerebras, _share_to_hf),
    Name("half", lambda names: names["rotary_dim"] // 2, of="rotary_dim"),
    Name("rest", lambda names: names["head_dim"] - names["rotary_dim"], of="rotary_dim"),
)

#: heads that share one key and one value, or each have their own; it declares ``kv_heads``, the number of keys
ONE_KEY = Coupled(
    ("multi_query",), ("attention_module", "extra_attention_params"), _one_key_to_cerebras, _one_key_to_hf
)


def whole_heads(usual: int | None = None) -> tuple[Row, ...]:
    """The rows of heads that are rotated whole, in two halves of the size ``half``; they declare ``head_dim``.

    ``usual`` is transformers' default for that size; None: the heads share the hidden size out.
    """
    sizes = ("rotary_dim", "attention_inner_dim")
    return (
        Coupled(("head_dim",), sizes, partial(_head_dim_to_cerebras, usual), partial(_head_dim_to_hf, usual)),
        Name("half", lambda names: names["head_dim"] // 2, of="head_dim"),
    )


#: the same where the heads share the hidden size out, and no field says another size
EQUAL_HEADS_ROTATED: tuple[Row, ...] = (
    Coupled((), ("rotary_dim",), partial(_head_dim_to_cerebras, None), partial(_head_dim_to_hf, None)),
    whole_heads()[1],
)


def grouped(usual: int | None = None) -> Coupled:
    """The row of heads of which groups share keys and values; it declares ``kv_heads``, the number of groups.

    ``usual`` is transformers' default for that number; None: each head has its own.
    """
    fields = ("attention_module", "extra_attention_params")
    return Coupled(("num_key_value_heads",), fields, _groups_to_cerebras(usual), _groups_to_hf)
