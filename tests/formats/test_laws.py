"""Every format, ours and those of installed packages, against the laws of convkit.testing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test
from msgspec.structs import replace

from convkit.checkpoint import Format, Leaf, TensorSpec, WriteOptions, Writer
from convkit.errors import ConvkitError
from convkit.formats import get_format, names
from convkit.formats.plain.placed import PlacedCheckpoint
from convkit.formats.safetensors import Safetensors
from convkit.testing import LAWS, Law, Sample, bits, holdable, samples, writer_machine
from convkit.testing.formats import (
    in_a_process_that_may_crash,
    makes_the_same_bytes,
    refuses_or_reads_what_is_damaged,
)


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


def test_only_the_library_of_an_index_may_crash() -> None:
    assert [name for name in names() if get_format(name).index_library] == ["cerebras-h5"]
    in_a_process_that_may_crash(os.abort)
    in_a_process_that_may_crash(list)
    with pytest.raises(AssertionError, match="the work failed"):
        in_a_process_that_may_crash(partial(int, "no number"))


def test_a_path_may_lead_up(format: Format) -> None:
    """Written and read as ``inner/../``, which not every library takes."""

    @settings(max_examples=3, deadline=None)
    @given(sample=samples(), seed=st.integers())
    def holds(sample: Sample, seed: int) -> None:
        with TemporaryDirectory() as folder:
            (Path(folder) / "inner").mkdir()
            LAWS[0](format, Path(folder, "inner", ".."), holdable(format, sample), Random(seed))

    holds()


def test_writers_in_any_order(format: Format) -> None:
    """Laid out, written, interrupted, resumed, committed and abandoned."""
    steps = settings(max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(writer_machine(format), settings=steps)


class Forgetful(Safetensors):
    """A format whose writers begin anew where they should resume."""

    def create(self, path: Path, leaves: Sequence[Leaf], options: WriteOptions, *, resume: bool = False) -> Writer:
        if resume:
            shutil.rmtree(path)
        return super().create(path, leaves, options)


class Untidy(Safetensors):
    """A format whose writers leave a file beside the staging path."""

    def create(self, path: Path, leaves: Sequence[Leaf], options: WriteOptions, *, resume: bool = False) -> Writer:
        (path.parent / "lock").touch()
        return super().create(path, leaves, options, resume=resume)


class Numbered(Safetensors):
    """A format that says that its bytes are the same, and numbers the files that it makes."""

    def __init__(self) -> None:
        self.made = 0

    def create(self, path: Path, leaves: Sequence[Leaf], options: WriteOptions, *, resume: bool = False) -> Writer:
        self.made += 1
        return super().create(path, leaves, replace(options, metadata={"made": self.made}), resume=resume)


def test_other_bytes_are_caught(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        makes_the_same_bytes(Numbered(), tmp_path, Sample((), {}), Random(0))


class Trusting(Safetensors):
    """A format that shows the trace of whatever a damaged header makes of it."""

    def open(self, path: Path) -> PlacedCheckpoint:
        try:
            return super().open(path)
        except ConvkitError as error:
            raise ValueError("no header") from error


def test_a_format_that_trusts_its_files_is_caught(tmp_path: Path) -> None:
    leaf = Leaf("a", TensorSpec((2,), "float32"))
    sample = Sample((leaf,), {"a": bits(TensorSpec((2,), "float32"), 0)})
    with pytest.raises(ValueError, match="no header"):
        refuses_or_reads_what_is_damaged(Trusting(), tmp_path, sample, Random(0))


@pytest.mark.parametrize("broken", [Forgetful(), Untidy()], ids=lambda format: type(format).__name__)
def test_a_writer_that_breaks_its_contract_is_caught(broken: Format) -> None:
    # it ends with the first example that breaks, which by chance may come late
    steps = settings(max_examples=600, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))
    quick = settings(steps, phases=[Phase.generate], database=None, print_blob=False)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(writer_machine(broken), settings=quick)
