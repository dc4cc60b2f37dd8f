"""The two models of a check, open and ready to be walked, and all that decides what a walk of them computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

from msgspec import structs

from convkit.verify.equivalence.lanes import Inputs, Models
from convkit.verify.equivalence.models import inputs_of, models_of
from convkit.verify.equivalence.probe import SEED
from convkit.verify.equivalence.sides import Sides, opened
from convkit.verify.equivalence.walk import Choices


class Asked(TypedDict, total=False):
    """How two checkpoints are opened as models, and the input that they run on (:func:`compared`).

    Layouts and formats that aren't given are those of the receipt beside the target, otherwise they are detected. The
    input has ``probe_length`` positions (256 if it is None), at most as many as the models allow, drawn from ``seed``.
    ``device`` is ``cpu`` or ``cuda``.
    """

    from_layout: str | None
    to_layout: str | None
    source_config: Path | None
    target_config: Path | None
    source_format: str | None
    probe_length: int | None
    seed: int
    device: str


@dataclass(frozen=True)
class Both:
    """Two models and the input that they run on, which is drawn from ``seed``."""

    sides: Sides
    inputs: Sequence[Inputs]
    models: Models
    seed: int

    @property
    def probe(self) -> dict[str, Any]:
        """What the input is: its positions, and of a model of images their channels, height and width."""
        image = self.models.source.oracle.facts.image
        found = {"positions": self.models.lengths[0], "seed": self.seed}
        return found | ({"image": list(image)} if image else {})

    def question(self, choices: Choices) -> dict[str, Any]:
        """All that decides what a walk computes, apart from the tensors and where they lie; JSON values."""
        described = {
            name: {"layout": side.layout, "config": side.fields, "dtypes": side.dtypes}
            for name, side in self.sides.named.items()
        }
        given = [{name: value.tolist() for name, value in one.items()} for one in self.inputs]
        deviations = [structs.asdict(one) for one in self.sides.basis.taken]
        devices = {name: side.tensors.device for name, side in self.sides.named.items()}
        return {**described, "deviations": deviations, "inputs": given, "choices": asdict(choices), "devices": devices}


@contextmanager
def compared(
    source: Path,
    target: Path,
    *,
    from_layout: str | None = None,
    to_layout: str | None = None,
    source_config: Path | None = None,
    target_config: Path | None = None,
    source_format: str | None = None,
    probe_length: int | None = None,
    seed: int = SEED,
    device: str = "cpu",
) -> Iterator[Both]:
    """Open both checkpoints as models. What is None comes from the receipt beside ``target``, otherwise it is detected.

    Raises:
        ConvkitError: a side can't be read, has a layout that no oracle runs, or contradicts its config.
        UsageError: a probe of fewer than two positions, or no such device.
    """
    with opened(
        source,
        target,
        from_layout=from_layout,
        to_layout=to_layout,
        source_config=source_config,
        target_config=target_config,
        source_format=source_format,
        device=device,
    ) as sides:
        inputs = inputs_of(sides, probe_length, seed)
        yield Both(sides, inputs, models_of(sides, inputs), seed)
