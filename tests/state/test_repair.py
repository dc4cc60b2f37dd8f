"""``convkit cerebras fix-checkpoint-spec``: the original's right results, and our improvements."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the filters
import numpy as np
import pytest
from goldens import golden_dir

from convkit.checkpoint import WriteOptions
from convkit.cli import main
from convkit.files.receipt import receipt_path
from convkit.formats.cerebras_h5.format import FORMAT
from convkit.formats.cerebras_h5.reader import CerebrasCheckpoint
from convkit.generate.old_mdl import TensorScalarDict, write_old
from convkit.migrate import restate

FIX = ["cerebras", "fix-checkpoint-spec"]
HEAD = "model.model.lm_head.weight"


def state(**scheduler: Any) -> dict[str, Any]:
    """A training state of release 1.7, with sequential schedulers that stand at 1."""
    weight = np.arange(12, dtype="f4").reshape(4, 3)
    return {
        "model": {"model.embedding_layer.word_embeddings.weight": weight, "model.lm_head.weight": weight},
        "optimizer": {"state": {"p0": TensorScalarDict(step=np.array(4.0, "f4"), beta=0.9)}},
        "lr_scheduler": {"last_epoch": 1, "_milestones": [10, 20], "_schedulers": [{"last_epoch": 1} for _ in range(3)]}
        | scheduler,
        "global_step": 15,
    }


def make(folder: Path, release: str = "1.7", left_out: tuple[str, ...] = (HEAD,), **scheduler: Any) -> Path:
    write_old(folder / "x.mdl", state(**scheduler), release, left_out)
    return folder / "x.mdl"


def contents(path: Path) -> dict[str, Any]:
    """Values, and tensors with dtype, shape and bits."""
    with FORMAT.open(path) as checkpoint:
        return {
            key: (leaf.spec, checkpoint.read(key).tobytes()) if leaf.spec else leaf.value
            for key, leaf in checkpoint.leaves.items()
        }


def spec_of(path: Path) -> str:
    with FORMAT.open(path) as checkpoint:
        return str(checkpoint.metadata["spec"])


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return dict(json.loads(capsys.readouterr().out))


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str, code: int = 3) -> None:
    """One line that holds the problem; what was there is untouched, and nothing else is."""
    folder = Path(arguments[2]).parent
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert main(arguments) == code
    said = capsys.readouterr().err.strip()
    assert problem in said
    assert "\n" not in said
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


# --- the original's results --------------------------------------------------------------------------------------


@pytest.mark.golden
@pytest.mark.parametrize("name", ["r17_tensorscalardict", "r19"])
def test_repairs_what_the_original_repaired(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = golden_dir("cerebras.tar.gz") / "_oldfmt"
    shutil.copy(folder / f"{name}.mdl", tmp_path)
    assert main([*FIX, str(tmp_path / f"{name}.mdl"), "--json"]) == 0
    repairs = document(capsys)["repairs"]
    assert contents(tmp_path / f"{name}_fixed.mdl") == contents(folder / f"{name}_fixed.mdl")
    assert spec_of(tmp_path / f"{name}_fixed.mdl") == spec_of(folder / f"{name}_fixed.mdl")
    epochs = {repair["key"]: repair["after"] for repair in repairs if repair["what"] == "last_epoch"}
    assert epochs == {
        "lr_scheduler.last_epoch": 15,
        "lr_scheduler._schedulers.0.last_epoch": 15,
        "lr_scheduler._schedulers.1.last_epoch": 5,
        "lr_scheduler._schedulers.2.last_epoch": 0,
    }
    assert [repair["key"] for repair in repairs if repair["what"] == "structure"] == ["optimizer.state.p0"]
    ties = ["model.model.lm_head.weight", "model.model.ln_f.weight"] if name == "r17_tensorscalardict" else []
    assert [repair["key"] for repair in repairs if repair["what"] == "tied copy"] == ties
    assert all(repair["why"] for repair in repairs)


@pytest.mark.golden
@pytest.mark.parametrize(("name", "repairs"), [("r17_tensorscalardict_fixed", ["format"]), ("r19_fixed", [])])
def test_what_the_original_repaired(
    name: str, repairs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its files of release 1.7 aren't loaded by 2.10, its others are."""
    shutil.copy(golden_dir("cerebras.tar.gz") / "_oldfmt" / f"{name}.mdl", tmp_path)
    assert main([*FIX, str(tmp_path / f"{name}.mdl"), "--json"]) == 0
    assert [repair["what"] for repair in document(capsys)["repairs"]] == repairs


def test_decodes_compression_and_keeps_attributes(tmp_path: Path) -> None:
    path = make(tmp_path)
    name = "model.model.embedding_layer.word_embeddings.weight"
    with h5py.File(path, "r+") as file:
        data = file[name][()]
        del file[name]
        file.create_dataset(name, data=data, chunks=(2, 3), compression="gzip", shuffle=True).attrs["mine"] = "kept"
        file.attrs["note"] = "kept"
    assert main([*FIX, str(path)]) == 0
    with h5py.File(tmp_path / "x_fixed.mdl") as file:
        dataset = file[name]
        assert (dataset[()] == data).all() and dataset.chunks is None
        assert dataset.attrs["mine"] == file.attrs["note"] == "kept"
        assert HEAD not in file


def test_decodes_what_it_must(tmp_path: Path) -> None:
    """A number that changes, another byte order, chunks that were never written, one value all over."""
    path = make(tmp_path, "1.9", ())
    with h5py.File(path, "r+") as file:
        for name in ("lr_scheduler.last_epoch", "global_step", HEAD):
            del file[name]
        file.create_dataset("lr_scheduler.last_epoch", data=np.array(1)).attrs["__H5_TYPE__"] = "TorchTensorH5Type"
        file.create_dataset("global_step", data=np.array([15.0], ">f8")).attrs["__H5_TYPE__"] = "TorchTensorH5Type"
        file.create_dataset(HEAD, (4, 3), "f4", chunks=(2, 3), fillvalue=2).attrs["__H5_TYPE__"] = "TorchTensorH5Type"
    assert main([*FIX, str(path)]) == 0
    with FORMAT.open(tmp_path / "x_fixed.mdl") as checkpoint:
        assert checkpoint.read("lr_scheduler.last_epoch").view("i8") == 15
        assert checkpoint.read("global_step").view("f8") == 15.0
        assert (checkpoint.read(HEAD).view("f4") == 2).all()


def test_a_none_for_a_copy_is_repaired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What release 2.x makes of a file with a copy left out, when it loads and saves it."""
    with FORMAT.open(make(tmp_path)) as old:
        leaves = [leaf if leaf.key != HEAD else type(leaf)(HEAD) for leaf in old.leaves.values()]
        writer = FORMAT.create(tmp_path / "y.mdl", leaves, WriteOptions(metadata=old.metadata))
        for leaf in leaves:
            if leaf.spec:
                writer.write(leaf.key, 0, old.read(leaf.key))
        writer.commit()
    assert main([*FIX, str(tmp_path / "y.mdl"), "--json"]) == 0
    assert "tied copy" in [repair["what"] for repair in document(capsys)["repairs"]]
    fixed = contents(tmp_path / "y_fixed.mdl")
    assert fixed[HEAD] == fixed["model.model.embedding_layer.word_embeddings.weight"]


def test_schedulers_within_schedulers(tmp_path: Path) -> None:
    inner = {"last_epoch": 0, "_milestones": [2], "_schedulers": [{"last_epoch": 0}, {"last_epoch": 0}]}
    path = make(tmp_path, _milestones=[10], _schedulers=[{"last_epoch": 0}, inner])
    assert main([*FIX, str(path)]) == 0
    fixed = contents(tmp_path / "x_fixed.mdl")
    inside = "lr_scheduler._schedulers.1"
    assert [fixed[f"{inside}{rest}.last_epoch"] for rest in ("", "._schedulers.0", "._schedulers.1")] == [5, 5, 3]


def test_chained_schedulers_are_all_at_the_step(tmp_path: Path) -> None:
    path = make(tmp_path, _milestones=[])
    assert main([*FIX, str(path)]) == 0
    fixed = contents(tmp_path / "x_fixed.mdl")
    assert [fixed[f"lr_scheduler._schedulers.{n}.last_epoch"] for n in range(3)] == [15, 15, 15]


# --- how it does it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inplace", [True, False])
def test_twice_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], inplace: bool) -> None:
    path = make(tmp_path)
    assert main([*FIX, str(path), "--fix_inplace", "--yes"]) == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    capsys.readouterr()
    assert main([*FIX, str(path), *(["--fix_inplace"] if inplace else [])]) == 0
    assert capsys.readouterr().out == f"{path}: healthy, nothing was changed\n"
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_in_place_keeps_a_backup(tmp_path: Path) -> None:
    path = make(tmp_path)
    path.chmod(0o640)
    old = path.read_bytes()
    link = tmp_path / "link.mdl"
    link.symlink_to(path)
    assert main([*FIX, str(link), "--fix_inplace", "--yes"]) == 0
    assert (tmp_path / "x.mdl.bak").read_bytes() == old
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert contents(link)["lr_scheduler.last_epoch"] == 15
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.mdl", "x.mdl", "x.mdl.bak", "x.mdl.convkit.json"]


def test_in_place_without_backup(tmp_path: Path) -> None:
    path = make(tmp_path)
    assert main([*FIX, str(path), "--fix_inplace", "--yes", "--no-backup"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.mdl", "x.mdl.convkit.json"]


@pytest.mark.parametrize(("answer", "changed"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_in_place_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, changed: bool) -> None:
    path = make(tmp_path)
    old = path.read_bytes()
    monkeypatch.setattr("sys.stdin.readline", lambda: answer)
    assert main([*FIX, str(path), "--fix_inplace"]) == 0
    assert (path.read_bytes() != old) == changed


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--fix_inplace"], "got no answer (say --yes)"),
        (["--fix_inplace", "--fixed_checkpoint_path", "y.mdl"], "say one of them"),
        (["--fixed_checkpoint_path", "SELF"], "is the checkpoint itself"),
        (["--fixed_checkpoint_path", "SELF", "--overwrite"], "is the checkpoint itself"),
        (["--fixed_checkpoint_path", "LINK", "--overwrite"], "is the checkpoint itself"),
        (["--fixed_checkpoint_path", "FOLDER"], "is a folder (name a file)"),
        (["--fixed_checkpoint_path", "FOLDER", "--overwrite"], "is a folder (name a file)"),
        (["--fixed_checkpoint_path", "BESIDE"], "exists"),
        (["--fix_inplace", "--yes"], "x.mdl.bak: exists"),
    ],
)
def test_wrong_usage(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    problem: str,
) -> None:
    path = make(tmp_path)
    (tmp_path / "x.mdl.bak").write_text("an earlier one")
    monkeypatch.setattr("sys.stdin.readline", lambda: "")
    monkeypatch.setattr("sys.stderr.write", lambda text: None) if problem.startswith("got no answer") else None
    (tmp_path / "link.mdl").symlink_to(path)
    paths = {"SELF": str(path), "BESIDE": f"{path}.bak", "LINK": str(tmp_path / "link.mdl"), "FOLDER": str(tmp_path)}
    arguments = [*FIX, str(path), *(paths.get(option, option) for option in options)]
    if problem.startswith("got no answer"):
        assert main(arguments) == 2
    else:
        refused(capsys, arguments, problem, 2)


def test_no_for_an_answer_is_a_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path)
    monkeypatch.setattr("sys.stdin.readline", lambda: "n\n")
    assert main([*FIX, str(path), "--fix_inplace", "--json"]) == 0
    told = document(capsys)
    assert [repair["what"] for repair in told["repairs"]].count("last_epoch") == 4
    assert "plan" not in told
    assert list(tmp_path.iterdir()) == [path]


def test_a_conversion_is_not_repaired_in_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What its receipt says would no longer be true; a copy that replaces one takes the receipt away."""
    path, other = make(tmp_path), tmp_path / "other.mdl"
    receipt = {"schema": "convkit.receipt/1"} | {
        name: {} for name in ("plan", "plan_digest", "source", "target", "complement")
    }
    for target in (path, other):
        receipt_path(target).write_text(json.dumps(receipt))
    refused(capsys, [*FIX, str(path), "--fix_inplace", "--yes"], "is a conversion with a receipt", 2)
    other.touch()
    assert main([*FIX, str(path), "--fixed_checkpoint_path", str(other), "--overwrite"]) == 0
    assert json.loads(receipt_path(other).read_text())["kind"] == "repair"
    assert main(["verify", str(other)]) == 0


# --- what is refused ---------------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def malicious(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["__spec__"] = b"cos\nsystem\n(X\x02\0\0\0lstR.".hex()


def unfinished(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["__version__"] = 0.5


def without_alias(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["model.model.embedding_layer.word_embeddings.weight"]


def step(value: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            file["global_step"][()] = value

    return change


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (cut, "truncated"),
        (malicious, "would run os.system"),
        (unfinished, "no __SUCCESS__"),
        (without_alias, "is in the spec and not in the file, and no copy of it is known"),
        (step(-1), "global_step: isn't a number of steps: -1"),
    ],
)
def test_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None], problem: str
) -> None:
    path = make(tmp_path)
    damage(path)
    refused(capsys, [*FIX, str(path)], problem)
    refused(capsys, [*FIX, str(path), "--fix_inplace", "--yes"], problem)


@pytest.mark.parametrize(
    ("milestones", "problem"),
    [
        ([20, 10], "lr_scheduler: has the milestones [20, 10], which don't go up as global_step does"),
        ([10], "has 1 milestones between 3 schedulers"),
        ([10, 20, 30], "has 3 milestones between 3 schedulers"),
        ([10, 20.5], "_milestones.1: isn't a number of steps: 20.5"),
        ([-10, 20], "_milestones.0: isn't a number of steps: -10"),
    ],
)
def test_refuses_milestones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], milestones: list[Any], problem: str
) -> None:
    refused(capsys, [*FIX, str(make(tmp_path, _milestones=milestones))], problem)


def test_without_a_step_schedulers_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = state()
    del made["global_step"]
    write_old(tmp_path / "x.mdl", made, "1.7", [HEAD])
    assert main([*FIX, str(tmp_path / "x.mdl")]) == 0
    assert "global_step is missing" in capsys.readouterr().err
    assert contents(tmp_path / "x_fixed.mdl")["lr_scheduler.last_epoch"] == 1


SMALL_DISK = """
import resource, sys
from convkit.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("decoded", [True, False])
@pytest.mark.parametrize("inplace", [True, False])
def test_a_full_disk(tmp_path: Path, inplace: bool, decoded: bool) -> None:
    """In a process of its own, to its end: a limit on the size of files stands for the disk."""
    made = state()
    made["model"]["model.large"] = np.random.default_rng(0).random(200_000).astype(">f8" if decoded else "<f8")
    write_old(tmp_path / "x.mdl", made, "1.7", [HEAD])
    before = (tmp_path / "x.mdl").read_bytes()
    options = [*FIX, str(tmp_path / "x.mdl"), *(["--fix_inplace", "--yes"] if inplace else [])]
    run = subprocess.run([sys.executable, "-c", SMALL_DISK, *options], capture_output=True, text=True, check=False)
    assert run.returncode == 3
    assert f"{'x' if inplace else 'x_fixed'}.mdl: can't be written: File too large" in run.stderr
    assert "\n" not in run.stderr.strip()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


def test_a_disk_that_is_full_from_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restate.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    refused(capsys, [*FIX, str(make(tmp_path))], "the disk has 0.00 GB free")


def test_a_failing_rename_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    path = make(tmp_path)
    monkeypatch.setattr("convkit.files.publication.sync_tree", fail)
    refused(capsys, [*FIX, str(path)], "Read-only file system")
    refused(capsys, [*FIX, str(path), "--fix_inplace", "--yes"], "Read-only file system")


def test_what_differs_is_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted fault: a disk that returns another byte."""
    path = make(tmp_path)
    read = CerebrasCheckpoint.read

    def faulty(self: CerebrasCheckpoint, *arguments: Any) -> np.ndarray:
        found = read(self, *arguments)
        return found if self.path == path else found ^ 1

    monkeypatch.setattr(CerebrasCheckpoint, "read", faulty)
    refused(capsys, [*FIX, str(path)], "differs from the source")
