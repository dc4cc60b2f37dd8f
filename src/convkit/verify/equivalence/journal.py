"""Keep what a walk has found, so that a run that was killed goes on from its last whole stage.

The journal lies beside the target as long as the check runs. It counts only for the same question (the same
checkpoints, models, input and choices, the same release of convkit) and the same bytes: what was read for the finished
stages is digested again, and must have the digests that were taken as it was read. Where the folder can't be written
to, there is no journal.

A part of a check may begin where the journal of a part before it ends. Then nothing is read again: whoever joins the
parts relies on each for the stages that it compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import DecodeError, Struct, ValidationError, msgpack

import convkit
from convkit.checkpoint.digests import digest_value
from convkit.oracles.oracle import State
from convkit.verify.equivalence.record import Record

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.opening import Opened
    from convkit.verify.equivalence.lanes import Lane


class _Array(Struct, array_like=True):
    """A float32 tensor."""

    shape: list[int]
    data: bytes


class _Entry(Struct):
    """What the file holds: the question, the findings, what enters the next stage, and what was read."""

    question: str
    record: Record
    #: by lane: what flows to its next stage, for each input
    flows: dict[str, list[dict[str, _Array]]]
    #: by side: the digest of each tensor that was read
    digests: dict[str, dict[str, str]]


class Journal:
    """The journal of one check.

    Args:
        path: where it lies.
        question: all that decides what the check computes, as JSON values.
        sides: the checkpoints, by side.
    """

    def __init__(self, path: Path, question: Mapping[str, Any], sides: Mapping[str, Opened]) -> None:
        self.path = path
        self._question = digest_value("sha256", {"versions": versions(), **question})
        self._sides = sides

    def resume(self, lanes: Mapping[str, Lane]) -> Record:
        """The record to go on from, the lanes set accordingly; an empty one where there is nothing to go on from."""
        entry = self._read(self.path, lanes)
        if entry is None:
            return Record()
        for name, digests in entry.digests.items():
            if not self._sides[name].read.recall(digests):
                return Record()
        _enter(lanes, entry)
        return entry.record

    def behind(self, others: Iterable[Path], lanes: Mapping[str, Lane], stage: int) -> Record:
        """A record of nothing, the lanes set to enter this stage, or the nearest before it that a journal of
        ``others`` has come to.
        """
        found = (entry for path in others if (entry := self._read(path, lanes)))
        entry = max((one for one in found if one.record.done <= stage), key=lambda one: one.record.done, default=None)
        if entry is None:
            return Record()
        _enter(lanes, entry)
        return entry.record.onward()

    def _read(self, path: Path, lanes: Mapping[str, Lane]) -> _Entry | None:
        """What a journal of the same question holds."""
        try:
            entry = msgpack.decode(path.read_bytes(), type=_Entry)
        except (OSError, DecodeError, ValidationError):
            return None
        return entry if entry.question == self._question and entry.flows.keys() == lanes.keys() else None

    def keep(self, record: Record, lanes: Mapping[str, Lane]) -> None:
        """Write what is known after a whole stage, in place of what was known before."""
        flows = {name: [_flow(state) for state in lane.states] for name, lane in lanes.items()}
        digests = {name: dict(side.read.digests) for name, side in self._sides.items()}
        entry = _Entry(self._question, record, flows, digests)
        part = self.path.with_name(self.path.name + ".part")
        with suppress(OSError):
            part.write_bytes(msgpack.encode(entry))
            part.replace(self.path)

    def remove(self) -> None:
        """The check is finished."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def _enter(lanes: Mapping[str, Lane], entry: _Entry) -> None:
    """Set what enters the next stage."""
    for name, flows in entry.flows.items():
        own = lanes[name].states
        lanes[name].states = [
            State({flow: _tensor(array) for flow, array in one.items()}, state.given)
            for one, state in zip(flows, own, strict=True)
        ]


def versions() -> dict[str, str]:
    """Of all that computes."""
    found = {"convkit": convkit.__version__}
    for name in ("torch", "transformers", "jax"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _flow(state: State) -> dict[str, _Array]:
    return {name: _Array([*tensor.shape], tensor.cpu().numpy().tobytes()) for name, tensor in state.flow.items()}


def _tensor(array: _Array) -> Tensor:
    import numpy as np
    import torch

    return torch.from_numpy(np.frombuffer(array.data, np.float32).reshape(array.shape).copy())
