"""Walks oracles over a checkpoint, and checks what is read of it."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from convkit.checkpoint.digests import digest_leaf
from convkit.formats import open_checkpoint
from convkit.oracles.oracle import Oracle, State, Trace
from convkit.oracles.stage_tensors import StageTensors
from convkit.oracles.tensors import ReadTensors
from convkit.oracles.windows import Rows, Slice, Window
from convkit.testing.stages import Inputs, walked

#: heads whose logits are scores of the vocabulary
VOCABULARY = {"lm", "mlm"}
#: slices of the vocabulary
SLICES = 3
#: what is made of the inputs, where it is ids
IDS = {"input_ids", "decoder_input_ids", "ids", "encoder", "decoder"}


def check_that_reading_is_enough(oracle: Oracle, inputs: Inputs, folder: Path) -> None:
    """Over a checkpoint: nothing is read before a stage, and in it no more than its roles; of the embedding, the rows
    that are used; of the head, one range of the vocabulary after another. The results are the same.
    """
    path = folder / "model.safetensors"
    save_file(
        {key: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in oracle.tensors.items()}, path
    )
    with open_checkpoint(path) as checkpoint:
        read = ReadTensors(checkpoint)
        tensors = StageTensors(read)
        gc.collect()
        gc.freeze()  # what was there before needn't be looked through each time
        reading = oracle.rebuilt(tensors=tensors)
        state = reading.begin(inputs)
        assert read.alive.peak == 0
        for name, entered, trace in walked(oracle, inputs):
            after = oracle.stage(name, entered, Trace())
            state = _check_a_stage(reading, name, reading.begin(inputs).fed(entered), trace, tensors)
            assert state.flow.keys() == after.flow.keys(), name
            assert all(torch.equal(value, after.flow[flow]) for flow, value in state.flow.items()), name
            tensors.release()
            gc.collect()
            assert read.alive.bytes == 0, name
        assert read.alive.peak <= max(_sizes(oracle).values())
        named = {part.key for part in oracle.roles.values()}
        assert named <= read.digests.keys()
        assert all(digest == digest_leaf(checkpoint, key, "xxh3-128") for key, digest in read.digests.items())


def _check_a_stage(reading: Oracle, name: str, state: State, expected: Trace, tensors: StageTensors) -> State:
    """Run a stage in pieces; it gives what the whole one gave, a sliced head's logits except for their rounding."""
    found, logits = Trace(), dict[str, list[Tensor]]()
    for windows in _pieces(reading, name, state):
        with tensors.windowed(windows):
            left = reading.stage(name, state, found)
        for head, value in found.outputs.items():
            logits.setdefault(head, []).append(value)
        if name == reading.stages[-1]:
            tensors.release()
    assert found.states.keys() == expected.states.keys() and logits.keys() == expected.outputs.keys(), name
    assert all(torch.equal(value, expected.states[key]) for key, value in found.states.items()), name
    for head, parts in logits.items():
        whole = torch.cat(parts, -1) if head in VOCABULARY else parts[-1]
        torch.testing.assert_close(whole, expected.outputs[head], rtol=1e-5, atol=1e-5)
    return left


def _pieces(reading: Oracle, name: str, state: State) -> Iterator[Mapping[str, Window]]:
    """Slices of the vocabulary for a head; the rows of the ids for a table."""
    if name != reading.stages[-1]:
        ids = [torch.as_tensor(value.tolist()) for key, value in inputs_of(state).items() if key in IDS]
        rows = torch.cat([value.flatten() for value in ids]) if ids else torch.empty(0, dtype=torch.long)
        yield {key: Rows(axis, rows) for key, axis in reading.tables.items()}
        return
    tokens = reading.facts.vocab_size if reading.vocabulary else 1
    each = -(-tokens // SLICES)
    for start in range(0, tokens, each):
        yield {key: Slice(axis, start, min(start + each, tokens)) for key, axis in reading.vocabulary.items()}


def inputs_of(state: State) -> Mapping[str, Tensor]:
    """The ids in what an oracle made of its inputs."""
    return {**state.given, **state.given.get("inputs", {})}


def _sizes(oracle: Oracle) -> dict[str, int]:
    """Bytes of the tensors of each stage, in float32."""
    sizes = dict.fromkeys(oracle.stages, 0)
    for role in oracle.roles:
        sizes[oracle.stage_of(role)] += 4 * math.prod(oracle.part_shape(role))
    return sizes
