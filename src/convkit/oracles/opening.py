"""Opens a checkpoint as a model that runs: its layout, its config, its tensors in float32."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convkit.checkpoint import Checkpoint
from convkit.checkpoint.tensors import value_dtype
from convkit.errors import ConvkitError
from convkit.files.config_file import find_config, read_config
from convkit.files.receipt import CONVERSION, read_receipt
from convkit.formats import open_checkpoint
from convkit.oracles import get_oracle, layouts
from convkit.oracles.frameworks import MODEL_AT, Framework, needs_config, recognise

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.oracle import Oracle


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
        framework = recognise(checkpoint.leaves)
        if layout is not None and not needs_config(layout):
            settings = recorded_settings(path) | (read_model(config) if config else {})
        elif config is None and checkpoint.config is not None:
            settings = checkpoint.config
            layout = layout or detect_layout(checkpoint.leaves, settings, path)
        else:
            config_path = config or beside(path, framework)
            settings = read_model(config_path)
            layout = layout or detect_layout(checkpoint.leaves, settings, config_path)
        below = framework.within
        within = below if any(key.startswith(below) for key in checkpoint.leaves) else ""
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


def beside(path: Path, framework: Framework) -> Path:
    """The config beside a checkpoint.

    Raises:
        ConvkitError: there is none, or several could be meant.
    """
    found = find_config(path, (framework.config,))
    if found is None:
        raise ConvkitError(framework.missing, path=path, remedy="name the config")
    return found


def read_model(path: Path) -> dict[str, Any]:
    """The fields of the model: all of a JSON config, a section of a yaml.

    Raises:
        ConvkitError: not JSON or YAML, or no model in it.
    """
    config = read_config(path)
    if path.suffix == ".json":
        return config
    found = next((model for place in MODEL_AT if isinstance(model := _at(config, place), dict)), None)
    if found is None:
        raise ConvkitError("holds no model", path=path, remedy=f"expected it at {' or '.join(MODEL_AT)}")
    return found


def _at(config: Any, place: str) -> Any:
    for name in place.split("."):
        config = config.get(name) if isinstance(config, dict) else None
    return config


def detect_layout(keys: Collection[str], config: Mapping[str, Any], path: Path) -> str:
    """The layout's name, from the keys and the config.

    Raises:
        ConvkitError: the config names no model.
    """
    framework = recognise(keys)
    if found := framework.layout(keys, config):
        return found
    remedy = "say the layout: --from or --to"
    raise ConvkitError("names no model", path=path, key=framework.named_in, remedy=remedy)
