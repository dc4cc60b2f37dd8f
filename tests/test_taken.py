"""What lies under a name that would be written is checked beforehand: refused, and named, or replaced on request."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from once import once

from convkit.cli import main
from convkit.errors import UsageError
from convkit.execute.places import Places, Work
from convkit.files import taken
from convkit.files.receipt import CONVERSION, read_receipt
from convkit.files.staging import Staging
from convkit.files.taken import refuse_taken


def made(folder: Path) -> None:
    assert main(["fetch", "generated://llama?layers=1", str(folder / "model")]) == 0
    assert main(["fetch", "generated://cerebras-old?release=1.7", str(folder / "old")]) == 0


@pytest.fixture
def sources() -> Path:
    return once("taken-sources", made)


def everything(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def convert(sources: Path, target: Path, *options: str) -> int:
    return main(["convert", str(sources / "model"), str(target), "--to", "cerebras/llama", *options])


BESIDE = ["t.yaml", "t.mdl.companions", "t.mdl.complement.safetensors", "t.mdl.convkit.json", "t.mdl.fetch.json"]


@pytest.mark.parametrize("name", BESIDE)
def test_a_file_beside_the_target_is_refused(
    name: str, sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text("mine")
    assert convert(sources, tmp_path / "t.mdl") == 2
    assert f"{tmp_path / name}: exists (name another target, or say --overwrite)" in capsys.readouterr().err
    assert everything(tmp_path) == {name: b"mine"}


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("options", [(), ("--overwrite",)], ids=["", "overwrite"])
def test_a_folder_beside_the_target_is_never_replaced(
    options: tuple[str, ...], name: str, sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine").write_text("precious")
    assert convert(sources, tmp_path / "t.mdl", *options) == 2
    assert str(tmp_path / name) in capsys.readouterr().err
    assert everything(tmp_path) == {name: None, f"{name}/mine": b"precious"}


def test_what_is_there_is_replaced_on_request(sources: Path, tmp_path: Path) -> None:
    for name in ("t.yaml", "t.mdl.complement.safetensors", "t.mdl"):
        (tmp_path / name).write_text("of before")
    assert convert(sources, tmp_path / "t.mdl", "--overwrite") == 0
    assert (tmp_path / "t.yaml").read_text() != "of before"
    assert not (tmp_path / "t.mdl.complement.safetensors").exists()
    assert main(["verify", str(tmp_path / "t.mdl")]) == 0


@pytest.mark.parametrize("to", ["file", "folder", "nothing"])
def test_a_link_is_never_replaced(to: str, sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real = tmp_path / "real"
    real.mkdir() if to == "folder" else real.write_text("precious") if to == "file" else None
    for name in ("t.mdl", "t.yaml"):
        link = tmp_path / name
        link.symlink_to(real)
        for options in ((), ("--overwrite",)):
            assert convert(sources, tmp_path / "t.mdl", *options) == 2
            assert f"{link}: is a link to {real} (name the file or folder itself" in capsys.readouterr().err
        assert link.is_symlink()
        link.unlink()
    assert to != "file" or real.read_text() == "precious"


def test_a_mount_point_is_refused_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel lists them: a space is written as an octal number."""
    target = tmp_path / "a target"
    target.mkdir()
    refuse_taken(target, overwrite=True, folder=True)
    (tmp_path / "mounts").write_text(f"36 35 98:0 / {tmp_path}/a\\040target rw - ext4 /dev/x rw\n")
    monkeypatch.setattr(taken, "_MOUNTS", tmp_path / "mounts")
    with pytest.raises(UsageError, match="is a mount point, which can't be replaced"):
        refuse_taken(target, overwrite=True, folder=True)
    monkeypatch.setattr(taken, "_MOUNTS", tmp_path / "nothing")
    refuse_taken(target, overwrite=True, folder=True)
    assert taken.is_mount_point(Path("/proc")) == os.path.ismount("/proc")


def test_the_config_of_the_source_is_never_replaced(tmp_path: Path) -> None:
    """Of t.pt and t.safetensors in one folder both configs are called t.json."""
    config = tmp_path / "t.json"
    config.write_text("{}")
    work = Work(CONVERSION, tmp_path / "t.pt", tmp_path / "t.safetensors", overwrite=True, reads=[config])
    with pytest.raises(UsageError, match=r"t\.json: belongs to the source"):
        Places(work).claim("t.json", None, None)


def test_companions_of_others_stay(sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(sources, tmp_path / "t.mdl") == 0
    mine = tmp_path / "t.mdl.companions" / "mine.txt"
    mine.write_text("precious")
    assert convert(sources, tmp_path / "t.mdl", "--overwrite") == 2
    assert "t.mdl.companions: holds mine.txt, which convkit didn't write" in capsys.readouterr().err
    assert mine.read_text() == "precious"
    mine.unlink()
    assert convert(sources, tmp_path / "t.mdl", "--overwrite") == 0


def test_the_config_of_a_repair_goes_with_it(sources: Path, tmp_path: Path) -> None:
    target = tmp_path / "t.mdl"
    fix = ["cerebras", "fix-checkpoint-spec", str(sources / "old" / "model.mdl"), "--fixed_checkpoint_path"]
    assert main([*fix, str(target)]) == 0
    assert (tmp_path / "t.yaml").is_file()
    assert main(["fetch", str(sources / "model"), str(target), "--overwrite"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.mdl", "t.mdl.fetch.json"]


def test_a_repair_asks_before_it_replaces_a_config(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.yaml").write_text("mine: 1\n")
    fix = ["cerebras", "fix-checkpoint-spec", str(sources / "old" / "model.mdl")]
    fix += ["--fixed_checkpoint_path", str(tmp_path / "t.mdl")]
    assert main(fix) == 2
    assert f"{tmp_path / 't.yaml'}: exists" in capsys.readouterr().err
    assert everything(tmp_path) == {"t.yaml": b"mine: 1\n"}
    assert main([*fix, "--overwrite"]) == 0
    assert (tmp_path / "t.yaml").read_bytes() == (sources / "old" / "params.yaml").read_bytes()


def test_what_comes_up_meanwhile_keeps_its_place(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All is made by then, so the next run only has to publish it."""
    real = Staging.publish

    def meanwhile(self: Staging, names: Sequence[str], stale: Iterable[Path]) -> None:
        (tmp_path / "t.yaml").write_text("mine")
        real(self, names, stale)

    with monkeypatch.context() as patch:
        patch.setattr(Staging, "publish", meanwhile)
        assert convert(sources, tmp_path / "t.mdl") == 2
    assert f"{tmp_path / 't.yaml'}: exists" in capsys.readouterr().err
    assert (tmp_path / "t.yaml").read_text() == "mine"
    assert not (tmp_path / "t.mdl").exists()
    (tmp_path / "t.yaml").unlink()
    assert convert(sources, tmp_path / "t.mdl") == 0
    assert (read_receipt(tmp_path / "t.mdl") or {})["resumed"]


def test_a_fetch_asks_before_it_replaces_what_is_not_its_record(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch = ["fetch", str(sources / "old"), str(tmp_path / "m")]
    (tmp_path / "m.fetch.json").write_text("mine")
    assert main(fetch) == 2
    assert f"{tmp_path / 'm.fetch.json'}: exists" in capsys.readouterr().err
    assert everything(tmp_path) == {"m.fetch.json": b"mine"}
    assert main([*fetch, "--overwrite"]) == 0
    (tmp_path / "m").rename(tmp_path / "real")
    assert main(fetch) == 0, "the record of a fetch whose destination is gone"
    (tmp_path / "m.fetch.json").unlink()
    (tmp_path / "n").symlink_to(tmp_path / "real")
    assert main(["fetch", str(sources / "old"), str(tmp_path / "n"), "--overwrite"]) == 2
    assert "is a link to" in capsys.readouterr().err


def test_a_file_that_was_renamed_with_its_receipt_gets_its_complement_back(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the complement the way back is refused, and doesn't lose its tensors without a word."""
    old = sources / "old" / "model.mdl"
    assert main(["convert", str(old), str(tmp_path / "a.safetensors"), "--to", "hf/llama"]) == 0
    for name in ("a.safetensors", "a.safetensors.convkit.json", "a.json"):
        (tmp_path / name).rename(tmp_path / name.replace("a.", "b.", 1))
    capsys.readouterr()
    back = ["convert", str(tmp_path / "b.safetensors"), str(tmp_path / "back.mdl"), "--to", "cerebras/llama"]
    assert main(back) == 3
    assert "b.safetensors.complement.safetensors" in capsys.readouterr().err
    (tmp_path / "a.safetensors.complement.safetensors").rename(tmp_path / "b.safetensors.complement.safetensors")
    assert main(back) == 0
    assert main(["roundtrip", str(old), str(tmp_path / "b.safetensors")]) == 0
    assert main(["diff", str(old), str(tmp_path / "back.mdl")]) == 0
