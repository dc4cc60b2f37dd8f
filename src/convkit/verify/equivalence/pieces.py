"""The pieces of a stage, read and run one after another where the whole is large.

Of the embedding, only the rows that the input uses are read; of a head, a slice of the vocabulary at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from convkit.oracles.tensors import shape_of
from convkit.oracles.windows import Rows, Slice

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.oracle import Oracle
    from convkit.oracles.windows import Window

#: elements of a slice of a head's weight, at most
SLICE = 8 << 20
#: inputs that are token ids
_IDS = ("input_ids", "decoder_input_ids", "ctx_input_ids")
#: how the names of stages end that read a table of ids
_EMBEDDING = "embedding"


def used_rows(inputs: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """The ids in all inputs, int64, sorted, each once."""
    import torch

    ids = [given[name].flatten() for given in inputs for name in _IDS if name in given]
    return torch.cat(ids).unique() if ids else torch.empty(0, dtype=torch.long)


def pieces(oracles: Sequence[Oracle], stage: str, rows: Tensor, slice_elements: int) -> list[list[dict[str, Window]]]:
    """What each piece of a stage reads of the larger tensors: for each piece, the windows of each oracle, by key.

    Args:
        oracles: the same stage of each.
        stage: its name.
        rows: the ids that the input uses.
        slice_elements: of the slices of a head's weight, at most.
    """
    if stage.endswith(_EMBEDDING):
        return [[_rows(oracle, rows) for oracle in oracles]]
    if stage != oracles[0].stages[-1]:
        return [[{} for _ in oracles]]
    heads = [_heads(oracle) for oracle in oracles]
    lengths = [
        shape_of(oracle.tensors, key)[axis]
        for oracle, own in zip(oracles, heads, strict=True)
        for key, axis in own.items()
    ]
    width = max(
        (math.prod(shape_of(one.tensors, key)) for one, own in zip(oracles, heads, strict=True) for key in own),
        default=0,
    )
    length = max(lengths, default=0)
    each = max(1, slice_elements * length // width) if width else length
    if each >= length:
        return [[{} for _ in oracles]]
    starts = range(0, length, each)
    return [
        [_slice(oracle, own, start, start + each) for oracle, own in zip(oracles, heads, strict=True)]
        for start in starts
    ]


def _rows(oracle: Oracle, rows: Tensor) -> dict[str, Window]:
    """The rows of the ids, and those before them, which a shifted vocabulary would take."""
    import torch

    found: dict[str, Window] = {}
    for key, axis in oracle.tables.items():
        length = shape_of(oracle.tensors, key)[axis]
        found[key] = Rows(axis, torch.cat((rows, (rows - 1) % length)).unique())
    return found


def _heads(oracle: Oracle) -> dict[str, int]:
    """The tensors whose rows are the vocabulary; the embedding may stand for a head where a fault is planted."""
    return {**oracle.tables, **oracle.vocabulary} if oracle.vocabulary else {}


def _slice(oracle: Oracle, heads: Mapping[str, int], start: int, stop: int) -> dict[str, Window]:
    sizes = {key: shape_of(oracle.tensors, key)[axis] for key, axis in heads.items()}
    return {key: Slice(axis, min(start, sizes[key]), min(stop, sizes[key])) for key, axis in heads.items()}


def costs(oracle: Oracle) -> list[float]:
    """The work of each stage, as the number of elements that it reads; a stage without tensors has some too."""
    found = dict.fromkeys(oracle.stages, 1.0)
    seen: set[tuple[str, str]] = set()
    for role, part in oracle.roles.items():
        stage = oracle.stage_of(role)
        if (stage, part.key) not in seen:
            seen.add((stage, part.key))
            found[stage] += math.prod(shape_of(oracle.tensors, part.key))
    return [*found.values()]
