"""Where a model runs: on the processor, with how many threads, or on a CUDA device."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from convkit.errors import UsageError
from convkit.oracles.tensors import CPU, OnDemand

if TYPE_CHECKING:
    from torch import Tensor


def device_of(tensors: Mapping[str, Tensor]) -> str:
    """Where the tensors are given."""
    return tensors.device if isinstance(tensors, OnDemand) else CPU


def on(device: str) -> AbstractContextManager[Any]:
    """New tensors are made on a device for a while."""
    import torch

    return nullcontext() if device == CPU else torch.device(device)


def moved(tensors: Mapping[str, Tensor], device: str) -> dict[str, Tensor]:
    """The tensors on a device: themselves if they are there."""
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def check_device(device: str) -> None:
    """Make sure of a device.

    Raises:
        UsageError: there is none.
    """
    if device == CPU:
        return
    import torch

    if not torch.cuda.is_available():
        remedy = "use --device cpu, or a torch with CUDA and a driver for it"
        raise UsageError(f"--device {device}: torch finds no CUDA device", remedy=remedy)


def use_threads(threads: int | None) -> None:
    """Let torch run that many threads from now on, at most one a processor; as many as it chooses if it is None."""
    if threads is None:
        return
    import torch

    torch.set_num_threads(min(threads, os.cpu_count() or 1))
