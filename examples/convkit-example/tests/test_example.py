"""Acorn obeys the laws that convkit's own formats, mappings, oracles and families obey."""

from __future__ import annotations

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from convkit_example.format import FORMAT
from convkit_example.mapping import MAPPING
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from convkit.generate import generate
from convkit.testing import FAMILY_LAWS, LAWS, holdable, samples, writer_machine
from convkit.testing.generators import GENERATOR_LAWS, check_proved
from convkit.testing.oracles import ORACLE_LAWS

FEW = settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@FEW
@given(sample=samples(), seed=st.integers(0, 2**32))
def test_the_format(law, sample, seed):
    with TemporaryDirectory() as folder:
        law(FORMAT, Path(folder), holdable(FORMAT, sample), Random(seed))


def test_the_formats_writers():
    run_state_machine_as_test(writer_machine(FORMAT), settings=FEW)


@pytest.mark.parametrize("law", FAMILY_LAWS, ids=lambda law: law.__name__)
def test_the_mapping(law, tmp_path):
    law(MAPPING, tmp_path, Random(0))


@pytest.mark.parametrize("law", ORACLE_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("tied", ["false", "true"])
def test_the_oracle(law, tied, tmp_path):
    generate(f"generated://acorn?depth=2&tied={tied}", tmp_path / "model")
    law("acorn/decoder", tmp_path / "model", tmp_path)


@pytest.mark.parametrize("law", GENERATOR_LAWS, ids=lambda law: law.__name__)
def test_the_family(law, tmp_path):
    law("generated://acorn?depth=1", tmp_path)


@pytest.mark.parametrize("uri", ["generated://acorn?depth=2", "generated://acorn?depth=1&tied=true&dtype=bfloat16"])
def test_a_conversion_there_and_back(uri, tmp_path):
    check_proved(uri, "hf/llama", tmp_path)
