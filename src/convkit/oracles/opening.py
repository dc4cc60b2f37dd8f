"""Opens a checkpoint as a model that runs: its layout, its config, its tensors in float32."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Container, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from convkit.checkpoint import Checkpoint
from convkit.checkpoint.wrapping import PLAIN, Wrapping
from convkit.errors import ConvkitError
from convkit.files.config_file import find_config, no_config, read_config
from convkit.files.receipt import CONVERSION, read_receipt
from convkit.formats import open_checkpoint
from convkit.oracles import get_oracle, layouts
from convkit.oracles.cerebras.releases import as_today, fields_today, split_layout
from convkit.oracles.devices import check_device
from convkit.oracles.framework import MODEL_AT, Framework
from convkit.oracles.frameworks import framework_of, needs_config
from convkit.oracles.stage_tensors import StageTensors
from convkit.oracles.tensors import CPU, ReadTensors, shape_of

if TYPE_CHECKING:
    from convkit.oracles.oracle import Oracle


@dataclass(frozen=True)
class Opened:
    """A checkpoint whose model is ready to run, open as long as that may be. Usable as a context manager."""

    path: Path
    layout: str
    format: str
    oracle: Oracle
    checkpoint: Checkpoint
    #: reads the tensors, and knows the digests of those that it has read
    read: ReadTensors
    #: the oracle's tensors, which are held until they are released
    tensors: StageTensors
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
        return sum(math.prod(shape_of(self.oracle.tensors, key)) for key in parts)

    @property
    def dtypes(self) -> dict[str, str]:
        """The dtype in which each tensor is stored."""
        return self.read.dtypes

    @property
    def stored(self) -> dict[str, int]:
        """The number of tensors stored in each dtype."""
        return dict(Counter(self.dtypes.values()))

    def close(self) -> None:
        """Let go of the tensors, and close the checkpoint."""
        self.tensors.release()
        self.checkpoint.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

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
    wrapping: Wrapping = PLAIN,
    algorithm: str = "xxh3-128",
    device: str = CPU,
) -> Opened:
    """Open a checkpoint and build its model, whose tensors are read when it runs. Its layout is the given one,
    otherwise that of the receipt of a conversion beside it, otherwise it is detected. With ``lenient`` the tensors
    overrule the fields that they overrule in a conversion (bias flags); otherwise the config is used as it is, like in
    the framework. Keys are read without their ``wrapping``; those in ``without`` are ignored. What is read is digested
    by ``algorithm``. A model that torch runs runs on ``device`` (``cpu``, ``cuda``).

    Raises:
        ConvkitError: no config, an unknown layout, a config that contradicts the tensors.
        UsageError: there is no such device.
    """
    check_device(device)
    with ExitStack() as failed:
        name, release = split_layout(layout or _recorded_layout(path))
        checkpoint = as_today(wrapping.off(failed.enter_context(open_checkpoint(path, format))), release)
        model = _described(checkpoint, path, name, config)
        if model.layout not in layouts():
            remedy = f"these can be run: {', '.join(layouts())}"
            raise ConvkitError(f"no oracle runs {model.layout}", path=path, remedy=remedy)
        family, fields = get_oracle(model.layout), fields_today(model.fields, release)
        below = framework_of(name, checkpoint.leaves).within
        within = below if any(key.startswith(below) for key in checkpoint.leaves) else ""
        read = ReadTensors(checkpoint, within, without=without, algorithm=algorithm)
        tensors = StageTensors(read, device if family.in_torch else CPU)
        fields, corrections = family.reconcile(fields, tensors) if lenient else (fields, [])
        oracle = family(fields, tensors, path)
        failed.pop_all()
    sides = oracle, checkpoint, read, tensors
    return Opened(path, model.layout, checkpoint.format, *sides, corrections, model.whole, model.section, fields)


@dataclass(frozen=True)
class _Described:
    """A model: its layout, the whole config, the path of the model's section in it, and the fields in that."""

    layout: str
    whole: dict[str, Any]
    section: str
    fields: dict[str, Any]


def _described(checkpoint: Checkpoint, path: Path, layout: str | None, config: Path | None) -> _Described:
    leaves = checkpoint.leaves
    if layout is not None and not needs_config(layout):
        settings = recorded_settings(path) | (read_model(config)[2] if config else {})
        return _Described(layout, {}, "", settings)
    framework = framework_of(layout, leaves)
    if config is None and checkpoint.config is not None:
        whole, found = checkpoint.config, path
        section, fields = model_in(whole, framework.model_at) or ("", whole)
    else:
        found = config or beside(path, framework)
        whole, section, fields = read_model(found, framework.model_at)
    return _Described(layout or detect_layout(leaves, fields, found), whole, section, fields)


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


def beside(path: Path, framework: Framework) -> Path:
    """The config beside a checkpoint.

    Raises:
        ConvkitError: there is none, or several could be meant.
    """
    found = find_config(path, framework.config)
    if found is None:
        problem, remedy = no_config(path, option="")
        raise ConvkitError(problem, path=path, remedy=remedy)
    return found


def read_model(path: Path, places: Sequence[str] = MODEL_AT) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """The whole config, the path of the model's section in it, and that section: all of a JSON config.

    Raises:
        ConvkitError: not JSON or YAML, or no model in it.
    """
    config = read_config(path)
    if path.suffix == ".json":
        return config, "", config
    if found := model_in(config, places):
        return config, *found
    raise ConvkitError("holds no model", path=path, remedy=f"expected it at {' or '.join(places)}")


def model_in(config: Mapping[str, Any], places: Sequence[str]) -> tuple[str, dict[str, Any]] | None:
    """The path of the model's section in a config, one of ``places``, and that section; None if there is none."""
    found = ((place, value_at(config, place) if place else config) for place in places)
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
    framework = framework_of(None, keys)
    if found := framework.layout(keys, config):
        return found
    remedy = "say the layout: --from or --to"
    raise ConvkitError("names no model", path=path, key=framework.named_in, remedy=remedy)
