"""Opens a checkpoint as a model that runs: its layout, its config, its tensors in float32."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convkit.checkpoint import Checkpoint
from convkit.checkpoint.tensors import value_dtype
from convkit.errors import ConvkitError
from convkit.files.config_file import find_config, read_config
from convkit.files.receipt import CONVERSION, read_receipt
from convkit.formats import open_checkpoint
from convkit.oracles import get_oracle, layouts, needs_config

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.oracle import Oracle

#: The key by which any Cerebras model of language gives itself away.
_CEREBRAS = "embedding_layer.word_embeddings.weight"


@dataclass(frozen=True)
class Opened:
    """A checkpoint whose model is ready to run."""

    path: Path
    layout: str
    format: str
    oracle: Oracle
    #: the dtype in which each tensor is stored
    dtypes: dict[str, str]
    #: corrections of the config by the tensors
    corrections: list[str]

    @property
    def parameters(self) -> int:
        """Elements of the tensors that the model reads; a tensor with two names counts once."""
        parts = {part.key for part in self.oracle.roles.values()}
        return sum(self.oracle.tensors[key].numel() for key in parts)

    @property
    def stored(self) -> dict[str, int]:
        """The number of tensors stored in each dtype."""
        return dict(Counter(self.dtypes.values()))


def open_model(
    path: Path,
    *,
    layout: str | None = None,
    config: Path | None = None,
    format: str | None = None,
    lenient: bool = False,
    without: Container[str] = (),
) -> Opened:
    """Read a whole checkpoint and build its model. With ``lenient`` the tensors overrule the fields that they overrule
    in a conversion (bias flags); otherwise the config is used as it is, like in the framework. Keys in ``without`` are
    ignored.

    Raises:
        ConvkitError: no config, an unknown layout, a config that contradicts the tensors.
    """
    with open_checkpoint(path, format) as checkpoint:
        cerebras = any(key.endswith(_CEREBRAS) for key in checkpoint.leaves)
        if layout is not None and not needs_config(layout):
            settings = recorded_settings(path) | (read_model(config) if config else {})
        elif config is None and checkpoint.config is not None:
            settings = checkpoint.config
            layout = layout or detect_layout(checkpoint.leaves, settings, path)
        else:
            config_path = config or beside(path, cerebras)
            settings = read_model(config_path)
            layout = layout or detect_layout(checkpoint.leaves, settings, config_path)
        within = "model." if cerebras and any(key.startswith("model.") for key in checkpoint.leaves) else ""
        tensors, dtypes = read_tensors(checkpoint, within)
        name = checkpoint.format
    if layout not in layouts():
        raise ConvkitError(f"no oracle runs {layout}", path=path, remedy=f"these can be run: {', '.join(layouts())}")
    family = get_oracle(layout)
    tensors = {key: tensor for key, tensor in tensors.items() if key not in without}
    settings, corrections = family.reconcile(settings, tensors) if lenient else (settings, [])
    return Opened(path, layout, name, family(settings, tensors, path), dtypes, corrections)


def recorded_settings(path: Path) -> dict[str, Any]:
    """The model's facts from the receipt beside a checkpoint, for layouts whose checkpoints have no config."""
    plan = (read_receipt(path, CONVERSION) or {}).get("plan", {})
    return {**plan.get("names", {}), **plan.get("variant", {})}


def read_tensors(checkpoint: Checkpoint, within: str = "") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Every float tensor whose key starts with ``within``, in float32, and the dtype in which it is stored."""
    import numpy as np
    import torch

    tensors: dict[str, Tensor] = {}
    dtypes: dict[str, str] = {}
    for key, leaf in checkpoint.leaves.items():
        if leaf.spec is None or "float" not in leaf.spec.dtype or not key.startswith(within):
            continue
        dtypes[key] = leaf.spec.dtype
        if leaf.same_as in tensors:
            tensors[key] = tensors[leaf.same_as]
            continue
        values = checkpoint.read(key).view(value_dtype(leaf.spec.dtype)).astype(np.float32)
        tensors[key] = torch.from_numpy(values).reshape(leaf.spec.shape)
    return tensors, dtypes


def beside(path: Path, cerebras: bool) -> Path:
    """The config beside a checkpoint: a yaml of a Cerebras model, ``config.json`` of others.

    Raises:
        ConvkitError: there is none, or several could be meant.
    """
    found = find_config(path, (".yaml",) if cerebras else (".json",))
    if found is None:
        wanted = "config is beside it, or several yamls are" if cerebras else "config.json is beside it"
        raise ConvkitError(f"no {wanted}", path=path, remedy="name the config")
    return found


def read_model(path: Path) -> dict[str, Any]:
    """The fields of the model: a ``config.json``, or a yaml's ``model`` or ``trainer.init.model``.

    Raises:
        ConvkitError: not JSON or YAML, or no model in it.
    """
    document: Any = read_config(path)
    if path.suffix != ".json":
        for step in ("trainer", "init"):
            document = document.get(step, document) if isinstance(document, dict) else document
        document = document.get("model") if isinstance(document, dict) else None
    if not isinstance(document, dict):
        raise ConvkitError("holds no model", path=path, remedy="expected config.json, or a yaml with `model`")
    return document


def detect_layout(keys: Iterable[str], config: Mapping[str, Any], path: Path) -> str:
    """The layout's name, from the keys and the config; yamls of releases before 2.4 don't name their model.

    Raises:
        ConvkitError: the config names no model.
    """
    keys = list(keys)
    if any(key.endswith(_CEREBRAS) for key in keys):
        if any("transformer_encoder." in key for key in keys):
            return "cerebras/bert"
        turned = config.get("position_embedding_type") == "rotary" and config.get("norm_type") == "rmsnorm"
        return "cerebras/llama" if turned else "cerebras/gpt2"
    if "model_type" not in config:
        raise ConvkitError("names no model", path=path, key="model_type", remedy="say the layout: --from or --to")
    return f"hf/{config['model_type']}"
