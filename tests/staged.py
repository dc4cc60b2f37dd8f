"""Walks oracles stage by stage, and checks what every oracle's stages must hold."""

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
from convkit.oracles.oracle import Cut, Oracle, State, Trace
from convkit.oracles.stage_tensors import StageTensors
from convkit.oracles.tensors import OnDemand, Overlay, ReadTensors, shape_of
from convkit.oracles.windows import Rows, Slice, Window
from convkit.verify.equivalence.agreement import Gap, measure
from convkit.verify.equivalence.lanes import Lane, Models
from convkit.verify.equivalence.noise import BASE
from convkit.verify.equivalence.record import Record
from convkit.verify.equivalence.walk import Choices, Walk

Inputs = Mapping[str, Tensor]


def apart(one: Trace, other: Trace) -> float:
    """How far two runs are apart: infinitely, if they don't show the same."""
    shown = [{**trace.states, **trace.outputs} for trace in (one, other)]
    gaps: dict[str, Gap] = {}
    measure(gaps, *shown)
    assert gaps
    return max(gap.relative for gap in gaps.values()) if shown[0].keys() == shown[1].keys() else float("inf")


def compared(source: Oracle, target: Oracle, inputs: Inputs, choices: Choices | None = None) -> Record:
    """What a walk of two models in memory finds."""
    ours, theirs = StageTensors(Overlay(source.tensors, {})), StageTensors(Overlay(target.tensors, {}))
    lanes = {
        "source": Lane(source.rebuilt(tensors=ours), ours, [inputs]),
        "target": Lane(target.rebuilt(tensors=theirs), theirs, [inputs]),
    }
    rebased = source.rebased(1 + BASE)
    noisy = Lane(source.rebuilt(rebased, ours), ours, [inputs]) if rebased else lanes["source"]
    record = Record()
    walk = Walk(Models(lanes, noisy, [inputs["input_ids"].shape[1]]), [inputs], choices or Choices(), record)
    assert [*walk.run()] == [*source.stages]
    return record


class Logged(OnDemand):
    """Tensors that note which of them are read."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors, self.read = tensors, set[tuple[str, int | None]]()

    def __getitem__(self, key: str) -> Tensor:
        self.read.add((key, None))
        return self.tensors[key]

    def part(self, key: str, window: Window) -> Tensor:
        assert isinstance(window, Slice) and window.axis == 0 and window.length == 1
        self.read.add((key, window.start))
        return self.tensors[key][window.start : window.stop]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __contains__(self, key: object) -> bool:
        return key in self.tensors

    def shape(self, key: str) -> tuple[int, ...]:
        return shape_of(self.tensors, key)


def walked(oracle: Oracle, inputs: Inputs) -> Iterator[tuple[str, State, Trace]]:
    """Each stage: its name, what enters it, and what it leaves in a trace of its own."""
    state = oracle.begin(inputs)
    for name in oracle.stages:
        trace = Trace()
        after = oracle.stage(name, state, trace)
        yield name, state, trace
        state = after


def check_that_stages_are_the_run(oracle: Oracle, inputs: Inputs) -> None:
    whole, together = oracle.run(inputs), Trace()
    for _, _, trace in walked(oracle, inputs):
        together.states |= trace.states
        together.outputs |= trace.outputs
    assert list(whole.states) == list(together.states) and list(whole.outputs) == list(together.outputs)
    assert apart(whole, together) == 0


def check_that_roles_are_read_where_said(oracle: Oracle, inputs: Inputs) -> None:
    """``stage_of`` names the first stage that reads a role; a tied head's is the last one all the same."""
    logged = Logged(oracle.tensors)
    reading = oracle.rebuilt(tensors=logged)
    first: dict[tuple[str, int | None], str] = {}
    state = reading.begin(inputs)
    for name in reading.stages:
        logged.read.clear()
        state = reading.stage(name, state, Trace())
        first = dict.fromkeys(logged.read, name) | first
    for role, part in reading.roles.items():
        read = part.key, part.at[0] if isinstance(part, Cut) and part.at else None
        assert reading.stage_of(role) == ("head" if role.startswith("head.") else first[read]), role


def check_that_a_fault_shows_in_its_stage(oracle: Oracle, inputs: Inputs, role: str) -> None:
    """Fed with what enters the sound stage, only the stage with the fault gives something else."""
    faulty = oracle.rebuilt(tensors=oracle.edited({role: oracle.part(role) * 1.01}))
    own, wrong = faulty.begin(inputs), set()
    for name, entered, trace in walked(oracle, inputs):
        fed = Trace()
        faulty.stage(name, own.fed(entered), fed)
        if trace.states and apart(trace, fed) > 0:
            wrong.add(name)
    assert wrong == {oracle.stage_of(role)}


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
    found = Trace()
    if name == reading.stages[-1] and reading.vocabulary:
        tokens, logits = reading.facts.vocab_size, dict[str, list[Tensor]]()
        for start in range(0, tokens, 5):
            windows = {key: Slice(at, start, min(start + 5, tokens)) for key, at in reading.vocabulary.items()}
            with tensors.windowed(windows):
                left = reading.stage(name, state, found)
            for head, value in found.outputs.items():
                logits.setdefault(head, []).append(value)
            tensors.release()
        for head, parts in logits.items():
            whole = head not in ("lm", "mlm")
            found.outputs[head] = parts[0] if whole else torch.cat(parts, -1)
    else:
        ids = [value for name, value in inputs_of(state).items() if name in ("input_ids", "ids", "encoder", "decoder")]
        rows = torch.cat([torch.as_tensor(value.tolist()).flatten() for value in ids])
        with tensors.windowed({key: Rows(at, rows) for key, at in reading.tables.items()}):
            left = reading.stage(name, state, found)
    if expected.states:
        assert apart(expected, found) <= (1e-6 if name == reading.stages[-1] else 0), name
    return left


def inputs_of(state: State) -> Mapping[str, Tensor]:
    """The ids in what an oracle made of its inputs."""
    return {**state.given, **state.given.get("inputs", {})}


def _sizes(oracle: Oracle) -> dict[str, int]:
    """Bytes of the tensors of each stage, in float32."""
    sizes = dict.fromkeys(oracle.stages, 0)
    for role in oracle.roles:
        sizes[oracle.stage_of(role)] += 4 * math.prod(oracle.part_shape(role))
    return sizes
