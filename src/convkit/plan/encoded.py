"""Recognise weights that don't stand for themselves: quantised ones, and adapters, which change other weights.

Such leaves mean something only together: a weight with its scales, a layer with its adapter. A mapping that doesn't
know them would carry over numbers that aren't the weights, so they are refused, whatever is dropped or cast. A mapping
whose rules name such leaves, or whose config table reads ``quantization_config``, is left to itself, as is a change of
format alone.

Names are those of transformers, bitsandbytes, GPTQ, AWQ, HQQ, compressed-tensors, ModelOpt, quanto, ExLlamaV2, MLX,
gpt-oss, AQT and Praxis; of peft, AdapterHub, kohya's scripts and MLX for adapters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from convkit.checkpoint import Leaf
from convkit.errors import PlanError
from convkit.mapping import AnyRule, Refused
from convkit.mapping import Mapping as LayoutMapping
from convkit.mapping.keys import KeyTemplate, Placeholder
from convkit.plan.source import Source

#: the last part of a key -> how the weights beside it are quantised
_QUANTISED = {
    "SCB|CB|weight_format": "int8, bitsandbytes",
    r"absmax|quant_map|nested_absmax|nested_quant_map|quant_state[./].+": "4 bits, bitsandbytes",
    "qweight|qzeros|scales|g_idx|weight_g_idx": "GPTQ or AWQ",
    "weight_scale_inv": "fp8",
    "weight_scale|weight_scales|weight_zero_point|weight_global_scale|weight_scale_2|weight_packed": "scaled weights",
    r"_data|_scale|_amax|_packed_params|zero_point|qvalue|qscale|\w*_quantized_(?:scale|zp)": "scaled weights",
    "k_scale|v_scale|kv_scale|input_scale|output_scale|act_scale": "scaled activations or KV cache",
    "W_q": "HQQ",
    "q_weight|q_scale|q_scale_max|q_groups|q_perm|q_invperm": "EXL2",
    "Qidxs|codebooks|centroids|res_centroids": "codebooks",
    r"\w*(?:proj|experts)_(?:blocks|scales)": "blocks of 4 bits",
}
#: how peft wraps a layer, whatever adapts it
_WRAPPED = "peft"
#: a part of a key -> what adapts the layer
_ADAPTERS = {
    r"lora_\w+|\w+_lora|loraA|loraB": "LoRA",
    r"hada_w[12](?:_[ab])?|hada_t[12]": "LoHa",
    r"lokr_\w+": "LoKr",
    "ia3_l": "IA3",
    "oft_[rR]|boft_[RrSs]": "OFT",
    r"vera_lambda_[bd]|randlora_\w+": "VeRA",
    "adapter_(?:down|up)": "bottleneck",
    "base_layer|modules_to_save|original_module": _WRAPPED,
}
_SCALE = re.compile(rf"(?:^|[./])({'|'.join(_QUANTISED)})$")
_ADAPTER = re.compile(rf"(?:^|[./])({'|'.join(_ADAPTERS)})(?=[./]|$)")
#: where a framework keeps the state of training, beside plain weights: of fp8, and the scale of a loss
_TRAINING = re.compile(r"(?:^|[./])(?:fp8|_overwrite_with_gradient|(?:grad|loss)_scaler)")
#: fields of a config that say how weights are quantised
_FIELDS = ("quantization_config", "compression_config", "quantization")
#: dtypes that hold a weight only together with a scale, and keys of weights
_NARROW, _WEIGHT = re.compile(r"u?int[248]|float[48]_\w+"), re.compile(r"(?:^|[./])(?:weight|kernel|w)$")
#: the config of an adapter, beside its weights
_ADAPTER_CONFIG = "adapter_config.json"

_DEQUANTISE = "dequantise it first (in transformers: model.dequantize(), then save_pretrained), or convert the original"
_MERGE = "merge the adapter first (in peft: merge_and_unload(), then save_pretrained)"


class Encoding(Struct, frozen=True):
    """What weights are instead of themselves: ``quantised (fp8, block 128x128)``, ``an adapter (LoRA r=8)``.

    Attributes:
        what: this, in words.
        remedy: the way on.
        key: the leaf, or the field of the config, that shows it; empty where a file beside the weights does.
        in_config: whether it is a field.
    """

    what: str
    remedy: str
    key: str = ""
    in_config: bool = False


def encoding_of(source: Source) -> Encoding | None:
    """What a checkpoint's leaves, its config, or an adapter's config beside it show; None for plain weights."""
    leaves = source.checkpoint.leaves
    adapter = _adapter_beside(source.path) or _adapter(leaves)
    return adapter or _quantised(leaves, source.config or {}) or _scaleless(leaves)


def check_adapter_beside(source: Source) -> None:
    """Refuse an adapter's own checkpoint, and a folder that holds an adapter too.

    Raises:
        PlanError: it is one.
    """
    if (found := _adapter_beside(source.path)) is not None:
        raise PlanError(f"is {found.what}", path=source.path, remedy=found.remedy)


def check_encoded(source: Source, mapping: LayoutMapping, *, dtype: str | None, dropped: Iterable[str]) -> None:
    """Refuse a source whose weights don't stand for themselves, unless the mapping knows what they are.

    Args:
        source: the checkpoint.
        mapping: the first one on its way, from left to right.
        dtype: to which its weights are cast, or None.
        dropped: keys of leaves that are left out.

    Raises:
        PlanError: the weights are quantised or adapted.
    """
    leaves, config = source.checkpoint.leaves, source.config or {}
    encoded = [key for key in leaves if _is_encoded(key)]
    known = _known_to(mapping, encoded)
    unknown = {key: leaves[key] for key in encoded if key not in known}
    if mapping.left.name == mapping.right.name and not dtype and unknown.keys().isdisjoint(dropped):
        return
    reads = _reads(mapping, _FIELDS)
    quantised = _scale(unknown) if reads else _quantised(unknown, config)
    found = _adapter(unknown) or quantised or (None if reads or known else _scaleless(leaves))
    if found is not None:
        path = source.config_path if found.in_config and source.config_path else source.path
        raise PlanError(f"is {found.what}", path=path, key=found.key, remedy=found.remedy)


def _is_encoded(key: str) -> bool:
    return bool(_ADAPTER.search(key) or (_SCALE.search(key) and not _TRAINING.search(key)))


def _adapter(leaves: Mapping[str, Leaf]) -> Encoding | None:
    """What the names of leaves show; that a layer is wrapped says less than what wraps it."""
    wrapped = None
    for key, leaf in leaves.items():
        if (name := _ADAPTER.search(key)) is not None:
            kind = _kind(_ADAPTERS, name[1])
            rank = min(leaf.spec.shape) if kind == "LoRA" and leaf.spec and len(leaf.spec.shape) == 2 else 0
            found = Encoding(f"an adapter ({kind}{f' r={rank}' if rank else ''})", _MERGE, key)
            if kind != _WRAPPED:
                return found
            wrapped = wrapped or found
    return wrapped


def _adapter_beside(path: Path) -> Encoding | None:
    """What the config of an adapter says in a checkpoint's folder, or beside the file of an adapter."""
    file = (path if path.is_dir() else path.parent) / _ADAPTER_CONFIG
    if not file.is_file() or not (path.is_dir() or path.name.startswith("adapter")):
        return None
    try:
        config = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        config = None
    config = config if isinstance(config, dict) else {}
    kind, rank = config.get("peft_type"), config.get("r")
    named = {"LORA": "LoRA"}.get(kind, kind) if isinstance(kind, str) else _WRAPPED
    return Encoding(f"an adapter ({named}{f' r={rank}' if type(rank) is int else ''})", _MERGE)


def _quantised(leaves: Mapping[str, Leaf], config: Mapping[str, Any]) -> Encoding | None:
    """What the config says, or the names of leaves."""
    by_name = _scale(leaves)
    for field, value in _sections(config):
        off = value.get("load_in_8bit") is False and value.get("load_in_4bit") is False
        if not off or by_name:
            return Encoding(f"quantised ({_in_words(value)})", _DEQUANTISE, field, in_config=True)
    return by_name


def _scale(leaves: Iterable[str]) -> Encoding | None:
    """What the names of leaves show."""
    for key in leaves:
        if (name := _SCALE.search(key)) is not None and not _TRAINING.search(key):
            return Encoding(f"quantised ({_kind(_QUANTISED, name[1])})", _DEQUANTISE, key)
    return None


def _scaleless(leaves: Mapping[str, Leaf]) -> Encoding | None:
    """Weights of a dtype that needs scales, where none are there."""
    for key, leaf in leaves.items():
        spec = leaf.spec
        if spec and len(spec.shape) > 1 and _NARROW.fullmatch(spec.dtype) and _WEIGHT.search(key):
            return Encoding(f"quantised ({spec.dtype}, without its scales)", _DEQUANTISE, key)
    return None


def _kind(table: Mapping[str, str], name: str) -> str:
    return next(kind for names, kind in table.items() if re.fullmatch(names, name))


def _sections(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each section that says how weights are quantised, and its path: of the model, or of one of its parts."""
    parts = [(f"{name}.", part) for name, part in config.items() if isinstance(part, dict)]
    for prefix, part in [("", config), *parts]:
        for field in _FIELDS:
            if isinstance(value := part.get(field), dict) and value:
                yield prefix + field, value


def _in_words(value: Mapping[str, Any]) -> str:
    """``fp8, block 128x128``: what a config says about quantised weights."""
    names = (value.get(key) for key in ("quant_method", "quant_algo", "mode"))
    loaded = next((bits for bits in (4, 8) if value.get(f"load_in_{bits}bit") is True), value.get("bits"))
    block, group = value.get("weight_block_size"), value.get("group_size")
    sized = isinstance(block, list) and all(type(length) is int for length in block)
    words = [
        next((name for name in names if isinstance(name, str)), ""),
        f"{loaded} bits" if type(loaded) is int else "",
        f"block {'x'.join(map(str, block))}" if isinstance(block, list) and sized else "",
        f"groups of {group}" if type(group) is int and group > 0 else "",
    ]
    return ", ".join(filter(None, words)) or "as its config says"


def _reads(mapping: LayoutMapping, fields: Iterable[str]) -> bool:
    """Whether the mapping's config table has a row for one of these fields of the source."""
    here = "right" if mapping.config.reverse else "left"
    read = (path for row in mapping.config.rows for side, path in row.places() if side == here)
    return not {path.rpartition(".")[2].strip("/") for path in read}.isdisjoint(fields)


def _known_to(mapping: LayoutMapping, keys: list[str]) -> set[str]:
    """The leaves that a rule of the mapping names: not only as any text among others."""
    if not keys:
        return set()
    patterns = [_pattern(KeyTemplate.parse(text)) for rule in mapping.rules for text in _templates(rule)]
    found = ((key, pattern.fullmatch(key)) for key in keys for pattern in patterns)
    return {key for key, match in found if match and not any(map(_is_encoded, match.groups()))}


def _templates(rule: AnyRule) -> Iterator[str]:
    """The templates by which a rule takes leaves of the source."""
    if isinstance(rule, Refused) or getattr(rule, "side", "left") != "left":
        return
    for name in ("left", "left_copies", "key", "by", "of"):
        texts = getattr(rule, name, ())
        yield from filter(None, [texts] if isinstance(texts, str) else texts)


def _pattern(template: KeyTemplate) -> re.Pattern[str]:
    """A template as a regular expression, whatever declared names stand for; its groups are texts of any kind."""
    return re.compile("".join(map(_part, template.parts)), re.DOTALL)


def _part(part: str | Placeholder) -> str:
    if isinstance(part, str):
        return re.escape(part)
    if part.wild:
        return "(.+)"
    if part.config:
        return ".*"
    return f"(?:{'|'.join(map(re.escape, part.choices))})" if part.choices else r"\d+"
