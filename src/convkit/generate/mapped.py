"""Parameters that lie in a file, so that a model may be larger than memory.

The system writes pages of a mapped file to disk where memory runs short, and a library that saves such a model reads
them one after another.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from convkit.formats.plain.preallocated import preallocate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: bytes in whose multiples parameters start
_ALIGNMENT = 64


def lay_out(model: PreTrainedModel, folder: Path) -> None:
    """Give the parameters of a model on the meta device zeros in a nameless file, which goes with the model.

    Shared parameters stay shared.

    Args:
        model: its parameters have shapes and dtypes, but no values.
        folder: where the file lies; made if it doesn't exist.

    Raises:
        OSError: the disk has no room for it.
    """
    import torch

    parameters = [*model.parameters()]
    sizes = [-(-parameter.nbytes // _ALIGNMENT) * _ALIGNMENT for parameter in parameters]
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder) as file:
        preallocate(file.fileno(), sum(sizes))
        memory = mmap.mmap(file.fileno(), sum(sizes))
    made = {}
    start = 0
    for parameter, size in zip(parameters, sizes, strict=True):
        place = torch.frombuffer(memory, dtype=parameter.dtype, count=parameter.numel(), offset=start)
        made[parameter] = torch.nn.Parameter(place.view(parameter.shape), requires_grad=False)
        start += size
    for module in model.modules():
        for name, parameter in [*module.named_parameters(recurse=False, remove_duplicate=False)]:
            setattr(module, name, made[parameter])
