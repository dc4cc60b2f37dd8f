"""Conversions on disk by the registry, and the tensors that they make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from convkit.checkpoint.tensors import value_dtype
from convkit.execute import convert
from convkit.formats import open_checkpoint
from convkit.plan import Options, Plan, make_plan, open_source


def carried(source: Path, to: str, target: Path, from_: str | None = None, **options: Any) -> Plan:
    """Convert as a plan's options ask; gives the plan."""
    with open_source(source) as opened:
        plan = make_plan(opened, to, from_, options=Options(**options))
        convert(opened, plan, target, threads=1)
    return plan


def tensors_in(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint in their shapes, with the dtype of their values."""
    with open_checkpoint(path) as checkpoint:
        tensors = {key: leaf.spec for key, leaf in checkpoint.leaves.items() if leaf.spec}
        return {
            key: checkpoint.read(key).view(value_dtype(spec.dtype)).reshape(spec.shape) for key, spec in tensors.items()
        }
