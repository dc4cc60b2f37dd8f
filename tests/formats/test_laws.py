"""Every format, ours and those of installed packages, against the laws of convkit.testing."""

from __future__ import annotations

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.checkpoint import Format
from convkit.formats import get_format, names
from convkit.testing import LAWS, Law, Sample, holdable, samples


@pytest.fixture(params=names(), scope="module")
def format(request: pytest.FixtureRequest) -> Format:
    try:
        return get_format(request.param)
    except ModuleNotFoundError as missing:
        pytest.skip(f"{request.param}: {missing}")


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@settings(max_examples=30, deadline=None)
@given(sample=samples(), seed=st.integers())
def test_law(format: Format, law: Law, sample: Sample, seed: int) -> None:
    with TemporaryDirectory() as folder:
        law(format, Path(folder), holdable(format, sample), Random(seed))


def test_a_path_may_lead_up(format: Format) -> None:
    """Written and read as ``inner/../``, which not every library takes."""

    @settings(max_examples=3, deadline=None)
    @given(sample=samples(), seed=st.integers())
    def holds(sample: Sample, seed: int) -> None:
        with TemporaryDirectory() as folder:
            (Path(folder) / "inner").mkdir()
            LAWS[0](format, Path(folder, "inner", ".."), holdable(format, sample), Random(seed))

    holds()
