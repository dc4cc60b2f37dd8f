"""The outputs of one model, computed a stage at a time: no more of it is in memory than the stage that runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convkit.oracles.oracle import VOCABULARY_HEADS, State, Trace
from convkit.verify.equivalence.pieces import SLICE, costs, pieces, used_rows

if TYPE_CHECKING:
    from torch import Tensor

    from convkit.oracles.oracle import Oracle
    from convkit.oracles.stage_tensors import StageTensors

#: called with the work done, all of it, and what is being done
Steps = Callable[[float, float, str], None]


@dataclass(frozen=True)
class Columns:
    """Some columns of an output.

    Attributes:
        name: of the head (``lm``, ``mlm``, ``nsp``, ``classifier``); of a model without heads, of the last hidden
            states: ``final``, and ``pooled`` if it has a pooler.
        start: the first of the columns.
        width: the number of columns that the output has.
        values: float32 ``[batch, ..., columns]``.
    """

    name: str
    start: int
    width: int
    values: Tensor


def outputs(
    oracle: Oracle, tensors: StageTensors, inputs: Mapping[str, Tensor], steps: Steps | None = None
) -> Iterator[Columns]:
    """Run a model, and give its outputs piece by piece; the pieces of one output come in order.

    Args:
        oracle: the model, which reads ``tensors``.
        tensors: released after each stage.
        inputs: the model's (:attr:`~convkit.oracles.oracle.Oracle.inputs`).
        steps: is told of each stage that begins.
    """
    work, rows, state = costs(oracle), used_rows([inputs]), oracle.begin(inputs)
    for n, stage in enumerate(oracle.stages):
        if steps is not None:
            steps(sum(work[:n]), sum(work), f"stage {stage} ({n + 1} of {len(oracle.stages)})")
        if stage != oracle.stages[-1]:
            ((windows,),) = pieces([oracle], stage, rows, SLICE)
            with tensors.windowed(windows):
                state = oracle.stage(stage, state, Trace())
            tensors.release()
    yield from _last(oracle, tensors, state, rows)


def _last(oracle: Oracle, tensors: StageTensors, state: State, rows: Tensor) -> Iterator[Columns]:
    """What the last stage gives: logits of the vocabulary in pieces, all else whole, with the first of them."""
    last, start = oracle.stages[-1], 0
    for n, (windows,) in enumerate(pieces([oracle], last, rows, SLICE)):
        trace = Trace()
        with tensors.windowed(windows):
            left = oracle.stage(last, state, trace)
        tensors.release()
        shown = trace.outputs or {"final": left.flow["hidden"], **trace.states}
        length = 0
        for name, values in shown.items():
            if f"head.{name}" in VOCABULARY_HEADS:
                length = values.shape[-1]
                yield Columns(name, start, oracle.part_shape(f"head.{name}.weight")[0], values)
            elif n == 0:
                yield Columns(name, 0, values.shape[-1], values)
        start += length
