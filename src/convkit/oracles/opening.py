"""Opens a checkpoint as a model that runs: its layout, its config, its tensors in float32."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convkit.checkpoint import Checkpoint
from convkit.errors import ConvkitError
from convkit.files.config_file import find_config, read_config
from convkit.files.receipt import CONVERSION, read_receipt
from convkit.formats import open_checkpoint
from convkit.oracles import get_oracle, layouts
from convkit.oracles.frameworks import MODEL_AT, Framework, needs_config, recognise
from convkit.oracles.tensors import ReadTensors

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
    #: the config as it was read; empty for layouts that have none
    config: Mapping[str, Any]
    #: the path of the model's section in it
    section: str
    #: the fields of the model, as the oracle was given them
    fields: Mapping[str, Any]

    @property
    def parameters(self) -> int:
        """Elements of the tensors that the model reads; a tensor with two names counts once."""
        parts = {part.key for part in self.oracle.roles.values()}
        return sum(self.oracle.tensors[key].numel() for key in parts)

    @property
    def stored(self) -> dict[str, int]:
        """The number of tensors stored in each dtype."""
        return dict(Counter(self.dtypes.values()))

    def taking(self, values: Mapping[str, Any]) -> Oracle:
        """The model with other values of its config's fields, by their paths in the whole config.

        Raises:
            ConvkitError: a path isn't one of the model's section, or the model can't be run with these values.
        """
        below = f"{self.section}." if self.section else ""
        fields = self.fields
        for path, value in values.items():
            if not self.config or not path.startswith(below):
                remedy = "only fields of the model's config can have other values"
                raise ConvkitError("it isn't a field of the model that is run", path=self.path, key=path, remedy=remedy)
            fields = with_value(fields, path.removeprefix(below).split("."), value)
        return self.oracle.rebuilt(config=fields) if values else self.oracle


def open_model(
    path: Path,
    *,
    layout: str | None = None,
    config: Path | None = None,
    format: str | None = None,
    lenient: bool = False,
    without: Container[str] = (),
) -> Opened:
    """Read a whole checkpoint and build its model. Its layout is the given one, otherwise that of the receipt of a
    conversion beside it, otherwise it is detected. With ``lenient`` the tensors overrule the fields that they overrule
    in a conversion (bias flags); otherwise the config is used as it is, like in the framework. Keys in ``without`` are
    ignored.

    Raises:
        ConvkitError: no config, an unknown layout, a config that contradicts the tensors.
    """
    layout = layout or _recorded_layout(path)
    with open_checkpoint(path, format) as checkpoint:
        framework = recognise(checkpoint.leaves)
        if layout is not None and not needs_config(layout):
            whole, section = {}, ""
            settings = recorded_settings(path) | (read_model(config)[2] if config else {})
        elif config is None and checkpoint.config is not None:
            whole = checkpoint.config
            section, settings = model_in(whole) or ("", whole)
            layout = layout or detect_layout(checkpoint.leaves, settings, path)
        else:
            config_path = config or beside(path, framework)
            whole, section, settings = read_model(config_path)
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
    oracle = family(settings, tensors, path)
    return Opened(path, layout, name, oracle, dtypes, corrections, whole, section, settings)


def recorded_settings(path: Path) -> dict[str, Any]:
    """The model's facts from the receipt beside a checkpoint, for layouts whose checkpoints have no config."""
    plan = _recorded(path)
    return {**plan.get("names", {}), **plan.get("variant", {})}


def _recorded_layout(path: Path) -> str | None:
    target = _recorded(path).get("target")
    layout = target.get("layout") if isinstance(target, dict) else None
    return layout if isinstance(layout, str) else None


def _recorded(path: Path) -> dict[str, Any]:
    """The plan by which a checkpoint was made, from the receipt beside it; empty where there is none."""
    plan = (read_receipt(path, CONVERSION) or {}).get("plan")
    return plan if isinstance(plan, dict) else {}


def read_tensors(checkpoint: Checkpoint, within: str = "") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Every float tensor whose key starts with ``within``, in float32, and the dtype in which it is stored."""
    read, tensors = ReadTensors(checkpoint, within), dict[str, "Tensor"]()
    for key in read:
        original = checkpoint.leaves[key].same_as
        tensors[key] = tensors[original] if original in tensors else read[key]
    return tensors, read.dtypes


def beside(path: Path, framework: Framework) -> Path:
    """The config beside a checkpoint.

    Raises:
        ConvkitError: there is none, or several could be meant.
    """
    found = find_config(path, (framework.config,))
    if found is None:
        raise ConvkitError(framework.missing, path=path, remedy="name the config")
    return found


def read_model(path: Path) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """The whole config, the path of the model's section in it, and that section: all of a JSON config.

    Raises:
        ConvkitError: not JSON or YAML, or no model in it.
    """
    config = read_config(path)
    if path.suffix == ".json":
        return config, "", config
    if found := model_in(config):
        return config, *found
    raise ConvkitError("holds no model", path=path, remedy=f"expected it at {' or '.join(MODEL_AT)}")


def model_in(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The path of the model's section in a config that has more, and that section; None if there is none."""
    found = ((place, value_at(config, place)) for place in MODEL_AT)
    return next(((place, model) for place, model in found if isinstance(model, dict)), None)


def value_at(config: Any, path: str) -> Any:
    """The value at a dotted path, in which a number is a place in a list; None if nothing is there."""
    for name in path.split("."):
        if isinstance(config, list):
            config = config[int(name)] if name.isdecimal() and int(name) < len(config) else None
        else:
            config = config.get(name) if isinstance(config, Mapping) else None
    return config


def with_value(config: Any, path: Sequence[str], value: Any) -> Any:
    """A copy of a config in which the value at a path is another."""
    if not path:
        return value
    name, *rest = path
    if isinstance(config, list):
        return [with_value(one, rest, value) if str(place) == name else one for place, one in enumerate(config)]
    known = config if isinstance(config, Mapping) else {}
    return {**known, name: with_value(known.get(name), rest, value)}


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
