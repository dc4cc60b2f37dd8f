"""Generates models from a seed with the transformers library itself, for demonstrations and tests.

``generated://llama?kv_heads=2&tied=false&seed=7`` names one; :mod:`.families` holds the options. The library writes
them like any model, so they are real checkpoints. Some families don't come from the library: ``cerebras-old``
(:mod:`.old_cerebras`), ``t5x`` and ``pax`` (:mod:`.training`), ``orbax-v0`` (:mod:`.orbax`), and those of other
packages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from convkit.errors import ConvkitError
from convkit.extras import named_extras
from convkit.generate.families import FAMILIES, OTHERS, AnyFamily, get_family, names
from convkit.generate.generator import Generator, Parameter, drawn, write_arrays
from convkit.generate.options import parse

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from convkit.checkpoint.progress import Progress

__all__ = [
    "FAMILIES",
    "OTHERS",
    "AnyFamily",
    "Generator",
    "Parameter",
    "drawn",
    "generate",
    "get_family",
    "names",
    "parse",
    "write_arrays",
]


def generate(family: AnyFamily | Generator | str, folder: Path, progress: Progress | None = None) -> None:
    """Write a model's weights and configuration into ``folder``.

    Args:
        family: the options, or their URI.
        folder: made if it doesn't exist.
        progress: called with the bytes of weights that are drawn, and those of all of them; of the library's families.

    Raises:
        UsageError: the URI has an unknown family or option.
        ConvkitError: transformers isn't installed, or a family of another package can't be used.
    """
    if isinstance(family, str):
        family = parse(family)
    if isinstance(family, Generator):
        family.write(folder)
        if not folder.exists():
            raise ConvkitError(f"{type(family).__name__} wrote nothing", path=folder, remedy="correct its write")
        return
    if parts := family.parts():
        for name, part in parts.items():
            generate(part, folder / name, progress)
        return
    with named_extras():
        model = _model(family, folder, progress)
    with _quiet():
        model.save_pretrained(folder, max_shard_size=family.shard_size)
    if family.format == "torch":
        for written in folder.glob("model*.safetensors*"):
            written.unlink()
        _save_torch(model, folder, family.shard_size)


def _model(family: AnyFamily, folder: Path, progress: Progress | None) -> PreTrainedModel:
    """The model, its parameters in a file below ``folder`` as long as it is used."""
    import torch

    from convkit.generate.mapped import lay_out
    from convkit.generate.weights import fill

    with torch.device("meta"):
        model = family.model().to(getattr(torch, family.dtype))
    lay_out(model, folder)
    _compute_buffers(model)
    fill(model, family.seed, progress)
    return model


def _compute_buffers(model: PreTrainedModel) -> None:
    """Give the buffers that are saved, which aren't drawn, the values that the library computes for them."""
    import torch

    for module in model.modules():
        held = {name: buffer for name, buffer in module._buffers.items() if buffer is not None}
        saved = held.keys() - module._non_persistent_buffers_set
        for name in saved:
            module._buffers[name] = torch.empty_like(held[name], device="cpu")
        if saved:
            model._init_weights(module)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the library's progress bars."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _save_torch(model: PreTrainedModel, folder: Path, shard_size: str) -> None:
    """Write ``pytorch_model.bin``, or shards with an index, as transformers did up to version 4."""
    import torch
    from huggingface_hub import split_torch_state_dict_into_shards

    state = model.state_dict()
    split = split_torch_state_dict_into_shards(
        state, filename_pattern="pytorch_model{suffix}.bin", max_shard_size=shard_size
    )
    for name, keys in split.filename_to_tensors.items():
        torch.save({key: state[key] for key in keys}, folder / name)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
