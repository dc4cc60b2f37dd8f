"""Oracles run stage by stage: fed, again, and each stage with the tensors that it alone reads."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from paired_models import bert, gpt2, llama

from convkit.oracles import get_oracle
from convkit.oracles.oracle import Oracle
from convkit.testing.reading import check_that_reading_is_enough
from convkit.testing.stages import (
    Inputs,
    check_that_a_fault_shows_in_its_stage,
    check_that_roles_are_read_where_said,
    check_that_stages_are_the_run,
)
from convkit.verify.equivalence.probe import make_probe

torch.set_num_threads(1)

MODELS = {
    "gpt2": (gpt2, "cerebras/gpt2"),
    "llama": (partial(llama, tied=True), "cerebras/llama"),
    "bert": (bert, "cerebras/bert"),
    "hf gpt2": (gpt2, "hf/gpt2"),
    "hf llama": (partial(llama, tied=True), "hf/llama"),
    "hf bert": (bert, "hf/bert"),
}


@pytest.fixture(params=MODELS)
def oracle(request: pytest.FixtureRequest) -> Oracle:
    make, layout = MODELS[request.param]
    pair = make()
    if layout.startswith("hf/"):
        return get_oracle(layout)(pair.hf_config, pair.hf)
    return get_oracle(layout)(pair.cs_config, pair.cs)


@pytest.fixture
def probe(oracle: Oracle) -> Inputs:
    return make_probe(oracle.facts, oracle.facts, length=16)


def test_the_stages_are_the_run(oracle: Oracle, probe: Inputs) -> None:
    check_that_stages_are_the_run(oracle, probe)


def test_a_stage_says_which_roles_it_reads(oracle: Oracle, probe: Inputs) -> None:
    check_that_roles_are_read_where_said(oracle, probe)


def test_a_fed_stage_shows_its_own_fault_only(oracle: Oracle, probe: Inputs) -> None:
    for role in {"layers.1.v.weight", "positions.weight", "norm_final.weight"} & oracle.roles.keys():
        check_that_a_fault_shows_in_its_stage(oracle, probe, role)


def test_a_stage_reads_what_it_needs_and_lets_go_of_it(oracle: Oracle, probe: Inputs, tmp_path: Path) -> None:
    check_that_reading_is_enough(oracle, probe, tmp_path)
