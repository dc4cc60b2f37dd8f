"""Hold a side's oracle against logits that the framework itself recorded for that checkpoint.

A reference can be wrong too, even a framework's own model in another release. Where the two disagree, neither can
judge the other side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from convkit.errors import ConvkitError
from convkit.files.npz import read_arrays
from convkit.oracles.inputs import model_inputs
from convkit.verify.equivalence.agreement import Gap
from convkit.verify.equivalence.outputs import Steps, outputs

if TYPE_CHECKING:
    import numpy as np

    from convkit.oracles.opening import Opened

#: The largest difference over the largest logit. Oracles are within 5e-6 of float32 runs of the real models; kernels
#: of other devices add up in another order. A slight fault, such as a wrong epsilon of a norm, may stay below it.
BOUND = 1e-4


@dataclass
class Held:
    """What came of it.

    Attributes:
        measured: the largest error of each side that was held, as ``source_recorded_max_rel``.
        in_doubt: a line for each output that disagrees.
    """

    measured: dict[str, float] = field(default_factory=dict)
    in_doubt: list[str] = field(default_factory=list)

    @property
    def bound(self) -> dict[str, float]:
        """The bounds of what was measured."""
        return dict.fromkeys(self.measured, BOUND)


def hold(sides: Mapping[str, Opened], recorded: Mapping[str, Path], steps: Steps | None = None) -> Held:
    """Run each side that has a recording on the recorded input, and compare.

    Args:
        sides: the models by name, ``source`` and ``target``.
        recorded: for some of them, a ``.npz`` of inputs and outputs under the names that ``convkit logits`` gives them.
        steps: is told of each stage that begins.

    Raises:
        ConvkitError: a file can't be read, isn't of such a model, or holds no output.
    """
    held = Held()
    for name, path in recorded.items():
        gaps = _gaps(sides[name], path, steps)
        held.measured[f"{name}_recorded_max_rel"] = max(gap.relative for gap in gaps.values())
        for output, gap in gaps.items():
            if gap.relative > BOUND:
                found = gap.broken or f"max_rel {gap.relative:.3g} > {BOUND:.0e}"
                held.in_doubt.append(f"the reference of the {name} disagrees with the recorded {output}: {found}")
    return held


def _gaps(side: Opened, path: Path, steps: Steps | None) -> dict[str, Gap]:
    """How far the model is from each recorded output."""
    arrays = read_arrays(path)
    inputs = model_inputs(
        {name: arrays.pop(name) for name in side.oracle.inputs if name in arrays}, side.oracle.inputs, path
    )
    remedy = "it holds the model's inputs, and outputs as convkit logits writes them"
    if not arrays:
        raise ConvkitError("no output is recorded", path=path, remedy=remedy)
    gaps: dict[str, Gap] = {}
    for some in outputs(side.oracle, side.tensors, inputs, steps):
        if some.name in arrays:
            expected = arrays[some.name]
            shape = (*some.values.shape[:-1], some.width)
            gap = gaps.setdefault(some.name, Gap())
            _add(gap, expected, some.values.numpy(), shape, some.start)
    for name in arrays:
        if name not in gaps:
            raise ConvkitError("the model neither takes nor gives it", path=path, key=name, remedy=remedy)
    return gaps


def _add(gap: Gap, expected: np.ndarray, values: np.ndarray, shape: tuple[int, ...], start: int) -> None:
    """Compare some columns of an output of this shape with the recorded whole."""
    import torch

    if expected.shape != shape:
        gap.shapes = f"{list(expected.shape)} recorded, {list(shape)} computed"
        return
    stop = start + values.shape[-1]
    gap.add(torch.from_numpy(expected[..., start:stop].astype("float32")), torch.from_numpy(values))
