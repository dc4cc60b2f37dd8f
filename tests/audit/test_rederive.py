"""What was made is made again from its source and is the same; a bit changed in source or target is found."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from once import once

from audit.made import keys, sign
from convkit.audit.rederived import differing_files
from convkit.cli import main
from convkit.fetch import fetch
from convkit.files.receipt import read_receipt

BYTES, LEAVES = "made again and compared byte by byte", "made again without disk and compared by the digests of leaves"

#: name: where the source comes from, the words of the command that makes the target, and how it is compared
MADE: dict[str, tuple[str, list[str], str]] = {
    "safetensors": (
        "generated://llama?layers=1",
        ["convert", "--to", "cerebras/llama", "--format", "safetensors"],
        BYTES,
    ),
    "torch": ("generated://gpt2?layers=1", ["convert", "--to", "cerebras/gpt2", "--format", "torch"], BYTES),
    "made.mdl": ("generated://llama?layers=2", ["convert", "--to", "cerebras/llama", "--dtype", "bf16"], BYTES),
    "te": ("generated://t5x?layers=1", ["te", "--fw", "t5x", "--direction", "fw2te"], BYTES),
    "t5x": ("generated://t5x?layers=1", ["convert", "--to", "te/t5"], BYTES),
    "pax": ("generated://pax?norm=rms&biases=false", ["convert", "--to", "te/pax"], BYTES),
    "conv": ("generated://llama?layers=1", ["convert", "--to", "hf/llama", "--format", "orbax-v1"], BYTES),
    "orbax": ("generated://orbax-v0?steps=1", ["orbax migrate", "--to", "v1", "--no-restore"], BYTES),
    "old.mdl": ("generated://cerebras-old?layers=1", ["cerebras fix-checkpoint-spec"], BYTES),
}


def make(name: str, folder: Path) -> None:
    uri, (command, *options), _ = MADE[name]
    source, target = source_of(folder, name), folder / name
    fetch(uri, source)
    places = {
        "cerebras fix-checkpoint-spec": [str(source), "--fixed_checkpoint_path", str(target)],
        "te": ["--input-path", str(source), "--output-path", str(target)],
    }
    assert main([*command.split(), *places.get(command, [str(source), str(target)]), *options, "-q"]) == 0
    assert sign(target) == 0


def made(name: str) -> Path:
    """A folder with a target, its source, and what lies beside both."""
    return once(f"audit-rederived-{name}", partial(make, name))


#: formats that need frameworks of their own take longer
EVERY = [
    pytest.param(name, marks=[pytest.mark.slow] if name in ("te", "t5x", "pax", "orbax", "conv") else [])
    for name in MADE
]


def source_of(folder: Path, name: str) -> Path:
    return folder / ("old.mdl.source.mdl" if name == "old.mdl" else f"{name}.source")


def copied(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(made(name), folder / "made", symlinks=True))


def rederived(folder: Path, name: str, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    public = str(keys() / "p256.pub.pem")
    command = ["audit", "rederive", str(source_of(folder, name)), str(folder / name), "--public-key", public]
    code = main([*command, "--json", "-q", *more])
    said = capsys.readouterr()
    assert code < 2, said
    return code, json.loads(said.out)


@pytest.mark.parametrize("name", EVERY)
def test_it_is_the_same(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = rederived(made(name), name, capsys)
    assert (code, document["problems"]) == (0, [])
    assert document["how"] == MADE[name][2]
    assert document["compared"]


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("name", EVERY)
def test_one_bit_is_found(tmp_path: Path, name: str, side: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copied(name, tmp_path)
    root = source_of(folder, name) if side == "source" else folder / name
    largest = max((path for path in (root, *root.rglob("*")) if path.is_file()), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    code, document = rederived(folder, name, capsys)
    assert code == 1
    kind = {"source": "another source", "target": "changed file"}[side]
    assert {one["kind"] for one in document["problems"]} == {kind}


@pytest.mark.slow
def test_each_byte_of_an_orbax_checkpoint_counts(tmp_path: Path) -> None:
    """What is made again differs in the file that has another byte, and only there, whatever is signed."""
    target, again = (copied("conv", tmp_path / name) / "conv" for name in ("one", "other"))
    receipt = read_receipt(target)
    assert receipt
    files = [path for path in target.rglob("*") if path.is_file() and path.stat().st_size]
    assert {"manifest.ocdbt", "_METADATA", "_CHECKPOINT_METADATA"} < {path.name for path in files}
    assert sum(path.parent.name == "d" for path in files) == 2
    assert not [*differing_files(target, receipt, again, receipt)]
    for path in files:
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        (problem,) = differing_files(target, receipt, again, receipt)
        assert (problem.kind, problem.file) == ("another result", path.relative_to(target.parent).as_posix())
        path.write_bytes(whole)


def test_leaves_without_disk(capsys: pytest.CaptureFixture[str]) -> None:
    code, document = rederived(made("safetensors"), "safetensors", capsys, "--leaves")
    assert (code, document["how"]) == (0, LEAVES)


def test_another_source_whose_digests_arent_signed_makes_other_leaves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the statement doesn't say of the source is found in what is made of it."""
    folder = copied("made.mdl", tmp_path)
    other = folder / "made.mdl"
    source = source_of(folder, "made.mdl")
    hidden = folder / "hidden"
    source.rename(hidden)
    fetch("generated://llama?layers=2&seed=99", source)
    for path in (*folder.glob("made.mdl.source.fetch.json"), *folder.glob("made.mdl.intoto.jsonl")):
        path.unlink()
    assert sign(other) == 0
    code, document = rederived(folder, "made.mdl", capsys)
    assert code == 1
    assert {one["kind"] for one in document["problems"]} == {"another result"}


def test_nothing_signed_is_nothing_to_rederive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copied("torch", tmp_path)
    (folder / "torch.intoto.jsonl").unlink()
    assert main(["audit", "rederive", str(folder / "torch.source"), str(folder / "torch")]) == 3
    assert "nothing is signed" in capsys.readouterr().err
    command = ["audit", "rederive", str(folder / "torch.source"), str(folder / "torch")]
    shutil.copy(made("torch") / "torch.intoto.jsonl", folder)
    assert main([*command, "--public-key", str(keys() / "other.pub.pem")]) == 1
    assert "wrong key" in capsys.readouterr().out


def test_what_other_commands_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """An upgrade stays within its layout; Cerebras's own command calls the config otherwise."""
    monkeypatch.chdir(tmp_path)
    fetch("generated://llama?layers=1", Path("src"))
    assert main(["convert", "src", "a.mdl", "--to", "cerebras/llama", "--release", "2.2", "-q"]) == 0
    assert main(["upgrade", "a.mdl", "b.mdl", "-q"]) == 0
    words = (
        "cerebras convert src/model.safetensors --model llama --src-fmt hf --tgt-fmt cs-2.9 --config src/config.json"
    )
    assert main([*words.split(), "--output-dir", "out", "-q"]) == 0
    for source, target in (("a.mdl", "b.mdl"), ("src/model.safetensors", "out/model_to_cs-2.9.mdl")):
        assert sign(Path(target)) == 0
        assert main(["audit", "rederive", source, target]) == 0, capsys.readouterr()
        assert "byte by byte: the same" in capsys.readouterr().out
