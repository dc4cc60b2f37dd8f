"""Oracles run stage by stage: fed, again, and each stage with the tensors that it alone reads."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest
import torch
from paired_models import bert, gpt2, llama
from safetensors.torch import save_file
from torch import Tensor

from convkit.formats import open_checkpoint
from convkit.oracles import get_oracle
from convkit.oracles.oracle import Oracle, State, Trace
from convkit.oracles.tensors import OnDemand, ReadTensors, shape_of
from convkit.verify.equivalence.agreement import compare
from convkit.verify.equivalence.probe import make_probe

torch.set_num_threads(1)


class Logged(OnDemand):
    """Tensors that note which of them are read."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors, self.read = tensors, set[str]()

    def __getitem__(self, key: str) -> Tensor:
        self.read.add(key)
        return self.tensors[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __contains__(self, key: object) -> bool:
        return key in self.tensors

    def shape(self, key: str) -> tuple[int, ...]:
        return shape_of(self.tensors, key)

    def linked(self, one: str, other: str) -> bool:
        return one == other


MODELS = {
    "gpt2": (gpt2, "cerebras/gpt2"),
    "llama": (partial(llama, tied=True), "cerebras/llama"),
    "bert": (bert, "cerebras/bert"),
}


@pytest.fixture(params=MODELS)
def oracle(request: pytest.FixtureRequest) -> Oracle:
    make, layout = MODELS[request.param]
    pair = make()
    return get_oracle(layout)(pair.cs_config, pair.cs)


def walked(oracle: Oracle, probe: Mapping[str, Tensor]) -> Iterator[tuple[str, State, Trace]]:
    """Each stage: its name, what enters it, and what it leaves in a trace of its own."""
    state = oracle.begin(probe)
    for name in oracle.stages:
        trace = Trace()
        after = oracle.stage(name, state, trace)
        yield name, state, trace
        state = after


def test_the_stages_are_the_run(oracle: Oracle) -> None:
    probe = make_probe(oracle.facts, oracle.facts, length=32)
    whole, together = oracle.run(probe), Trace()
    for _, _, trace in walked(oracle, probe):
        together.states |= trace.states
        together.outputs |= trace.outputs
    assert list(whole.states) == list(together.states) and list(whole.outputs) == list(together.outputs)
    assert compare(whole, together).max_rel == 0


def test_a_stage_says_which_roles_it_reads(oracle: Oracle) -> None:
    logged = Logged(oracle.tensors)
    reading = oracle.rebuilt(tensors=logged)
    probe = make_probe(oracle.facts, oracle.facts, length=8)
    first: dict[str, str] = {}
    state = reading.begin(probe)
    for name in reading.stages:
        logged.read.clear()
        state = reading.stage(name, state, Trace())
        first = dict.fromkeys(logged.read, name) | first
    assert {role: first[part.key] for role, part in reading.roles.items() if not role.startswith("head.")} == {
        role: reading.stage_of(role) for role in reading.roles if not role.startswith("head.")
    }
    assert {reading.stage_of(role) for role in reading.roles if role.startswith("head.")} == {"head"}


def test_a_fed_stage_shows_its_own_fault_only(oracle: Oracle) -> None:
    role = "layers.1.v.weight"
    faulty = oracle.rebuilt(tensors=oracle.edited({role: oracle.part(role) * 1.01}))
    probe = make_probe(oracle.facts, oracle.facts, length=32)
    own, wrong = faulty.begin(probe), set()
    for name, entered, trace in walked(oracle, probe):
        fed = Trace()
        faulty.stage(name, own.fed(entered), fed)
        if compare(trace, fed).max_rel > 0:
            wrong.add(name)
    assert wrong == {oracle.stage_of(role)} == {"layers.1"}


def test_a_stage_lets_go_of_what_it_read(oracle: Oracle, tmp_path: Path) -> None:
    save_file({key: tensor.clone() for key, tensor in oracle.tensors.items()}, tmp_path / "model.safetensors")
    with open_checkpoint(tmp_path / "model.safetensors") as checkpoint:
        tensors = ReadTensors(checkpoint)
        reading = oracle.rebuilt(tensors=tensors)
        gc.collect()
        assert tensors.alive.bytes == 0
        probe = make_probe(oracle.facts, oracle.facts, length=8)
        for _ in walked(reading, probe):
            gc.collect()
            assert tensors.alive.bytes == 0
        assert 0 < tensors.alive.peak < sum(4 * tensor.numel() for tensor in oracle.tensors.values()) / 2
        assert compare(oracle.run(probe), reading.run(probe)).max_rel == 0
