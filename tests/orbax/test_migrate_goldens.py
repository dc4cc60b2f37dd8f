"""Checkpoints from the compatibility tests and old releases of Orbax migrate, and the real v1 API loads them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from goldens import golden_dir

from convkit.errors import ConvkitError
from convkit.migrate.orbax.migrate import migrate
from convkit.migrate.orbax.request import Request
from convkit.state.orbax.layout import recognise

pytestmark = pytest.mark.golden

#: one of each way in which an old release stored what it did
SAMPLE = (
    "0.2.7/direct_aggregate_mixed",  # leaves within the file checkpoint, placeholders for the others
    "0.2.7/direct_ocdbt_True",  # a database, and no _METADATA
    "0.2.7/flax_msgpack_trainstate",
    "0.3.5/direct_tree_metadata",  # jax.Array, and no shardings
    "0.3.5/direct_string_leaf",  # texts in folders of leaves
    "0.4.4/direct_ocdbt_False_after_True",  # databases that were never joined
    "0.5.9/direct_aggregate_all",
    "0.5.9/composite",  # an array and a random key in databases
    "0.9.1/direct_zarr3_ocdbt_True",  # chunks of zeros that weren't stored
    "0.11.5/manager_args",
    "0.12.0/v1_checkpointer",
)
RELEASES = ("0.2.7", "0.3.5", "0.4.4", "0.4.8", "0.5.9", "0.6.4", "0.9.1", "0.11.5", "0.11.20", "0.12.0")
#: what of the compatibility checkpoints no call of Orbax's loads
DAMAGED = ("missing_metadata", "missing_pytree_data_dir_d", "missing_pytree_data_file_manifest")


def check_truth(cases: Iterable[Path], folder: Path) -> None:
    """Each case migrated to the other API, and loaded by the v1 API in a process that has enough devices."""
    jobs = []
    for case in cases:
        source = case / "ckpt"
        target = folder / f"{case.parent.name}-{case.name}"
        migrate(source, target, Request("v1" if recognise(source).api == "v0" else "v0"), restored=False)
        jobs.append((str(target), str(case)))
    (folder / "jobs.json").write_text(json.dumps(jobs))
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "1",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    }
    command = [sys.executable, str(Path(__file__).parent / "truth.py"), str(folder / "jobs.json")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert json.loads(ended.stdout.strip().splitlines()[-1]) == []


def test_a_sample_of_old_releases(tmp_path: Path) -> None:
    corpus = golden_dir("orbax/old_releases.tar.gz")
    check_truth([corpus / case for case in SAMPLE], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("release", RELEASES)
def test_every_checkpoint_of_a_release(release: str, tmp_path: Path) -> None:
    corpus = golden_dir("orbax/old_releases.tar.gz") / release
    cases = sorted(path.parent for path in corpus.glob("*/ckpt") if not path.parent.name.startswith("tmp_crash"))
    assert len(cases) > 20
    check_truth(cases, tmp_path)


def compatibility() -> list[Path]:
    corpus = golden_dir("orbax/compat_checkpoints.tar.gz")
    found = sorted(path for path in corpus.glob("v?_checkpoints/*/*/*") if path.is_dir())
    assert len(found) == 44
    return found


def test_damaged_compatibility_checkpoints_are_told(tmp_path: Path) -> None:
    for path in compatibility():
        if any(path.name.endswith(name) or name in path.name for name in DAMAGED):
            with pytest.raises(ConvkitError, match=r"is missing"):
                migrate(path, tmp_path / "target", Request("v1" if "v0_" in str(path) else "v0"), restored=False)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "part",
    [
        "v0_checkpoints/composite_checkpoint/checkpoint_metadata_missing",
        "v0_checkpoints/direct_checkpoint/non_critical_metadata_alterations/missing_pytree_data_file__sharding",
        "v1_checkpoints/composite_checkpoint/critical_general_alterations",
        pytest.param("", marks=pytest.mark.slow),
    ],
)
def test_compatibility_checkpoints(part: str, tmp_path: Path) -> None:
    """All that any call loads are migrated there and back to the same files; the real Orbax restores them."""
    chosen = [path for path in compatibility() if part in path.as_posix()]
    for number, path in enumerate(chosen):
        if any(name in path.name for name in DAMAGED):
            continue
        api = recognise(path).api
        there, back = tmp_path / f"{number}-there", tmp_path / f"{number}-back"
        receipt = migrate(path, there, Request("v1" if api == "v0" else "v0"))
        assert receipt["restored"]["measured"]["different"] == 0
        migrate(there, back, Request(api), restored=False)
        assert {f.relative_to(back): f.read_bytes() for f in back.rglob("*") if f.is_file()} == {
            f.relative_to(path): f.read_bytes() for f in path.rglob("*") if f.is_file()
        }
