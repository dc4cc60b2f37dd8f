"""What a user sees of bad input: one line that names file, key and remedy, exit 3, nothing left behind."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from convkit.cli import main


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad") / "model"
    assert main(["fetch", "generated://llama?layers=1&shard_size=100KB", str(folder)]) == 0
    return folder


@pytest.fixture
def source(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "source"))


def first_shard(source: Path) -> Path:
    return sorted(source.glob("model-*.safetensors"))[0]


def header(path: Path) -> tuple[dict, bytes]:
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def rewrite(path: Path, fields: dict, data: bytes, length: int | None = None) -> None:
    text = json.dumps(fields).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def truncated(source: Path) -> list[str]:
    path = first_shard(source)
    path.write_bytes(path.read_bytes()[:-7])
    return [path.name]


def header_longer_than_the_file(source: Path) -> list[str]:
    path = first_shard(source)
    rewrite(path, *header(path), length=1 << 20)
    return [path.name]


def overlapping_offsets(source: Path) -> list[str]:
    path = first_shard(source)
    fields, data = header(path)
    one, other = sorted(key for key in fields if key != "__metadata__")[:2]
    fields[one]["data_offsets"] = fields[other]["data_offsets"]
    fields[one] |= {"shape": fields[other]["shape"]}
    rewrite(path, fields, data)
    return [path.name]


def index_outside_its_folder(source: Path) -> list[str]:
    path = source / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["lm_head.weight"] = "../../elsewhere.safetensors"
    path.write_text(json.dumps(index))
    return ["lm_head.weight", "elsewhere"]


def missing_shard(source: Path) -> list[str]:
    path = first_shard(source)
    path.unlink()
    return [path.name]


def missing_key(source: Path) -> list[str]:
    path = source / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    key = "model.layers.0.self_attn.q_proj.weight"
    shard = source / index["weight_map"].pop(key)
    fields, data = header(shard)
    fields[key + ".renamed"] = fields.pop(key)
    index["weight_map"][key + ".renamed"] = shard.name
    rewrite(shard, fields, data)
    path.write_text(json.dumps(index))
    return [key]


def unknown_family(source: Path) -> list[str]:
    path = source / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "mamba3", "architectures": ["Mamba3"]}))
    return ["config.json", "mamba3"]


def wrong_head_count(source: Path) -> list[str]:
    path = source / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_key_value_heads": 3}))
    return ["k_proj"]


def config_of_another_size(source: Path) -> list[str]:
    path = source / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vocab_size": 12}))
    return ["embed_tokens", "12"]


def config_without_json(source: Path) -> list[str]:
    (source / "config.json").write_text("{")
    return ["config.json"]


class Planted:
    def __reduce__(self) -> tuple:
        return (__import__("os").system, ("touch planted",))


def pickle_that_runs_code(source: Path) -> list[str]:
    for path in source.glob("model*.safetensors*"):
        path.unlink()
    with zipfile.ZipFile(source / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"model.norm.weight": Planted()}, protocol=2))
        archive.writestr("archive/version", "3")
    return [source.name, "model.norm.weight: ", "system", "--drop"]


def no_weights(source: Path) -> list[str]:
    for path in source.glob("model*.safetensors*"):
        path.unlink()
    return [source.name]


@pytest.mark.parametrize(
    "spoil",
    [
        truncated,
        header_longer_than_the_file,
        overlapping_offsets,
        index_outside_its_folder,
        missing_shard,
        missing_key,
        unknown_family,
        wrong_head_count,
        config_of_another_size,
        config_without_json,
        pickle_that_runs_code,
        no_weights,
    ],
)
def test_bad_source(
    spoil: Callable[[Path], list[str]],
    source: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    named = spoil(source)
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert main(["convert", str(source), str(tmp_path / "out.mdl"), "--to", "cerebras/llama"]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.strip().splitlines()
    assert len(lines) == 1, lines
    assert all(word in lines[0] for word in named), lines[0]
    assert lines[0].endswith(")"), "no remedy"
    assert sorted(tmp_path.rglob("*")) == before


def test_wrong_from(source: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = tmp_path / "out.mdl"
    assert main(["convert", str(source), str(target), "--to", "cerebras/bert", "--from", "hf/bert"]) == 3
    assert "hf/llama" in capsys.readouterr().err
    assert not target.exists()


def test_unfinished_mdl(source: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import h5py

    target = tmp_path / "out.mdl"
    assert main(["convert", str(source), str(target), "--to", "cerebras/llama"]) == 0
    with h5py.File(target, "r+") as file:
        del file.attrs["__SUCCESS__"]
    capsys.readouterr()
    assert main(["convert", str(target), str(tmp_path / "back"), "--to", "hf/llama"]) == 3
    assert "out.mdl" in capsys.readouterr().err
    assert not (tmp_path / "back").exists()


def test_error_as_json(source: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing_shard(source)
    capsys.readouterr()
    assert main(["inspect", str(source), "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "convkit.error/1"
    assert document["exit_code"] == 3
    assert document["remedy"]


def test_a_conversion_says_which_stage_stopped_it(
    source: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A command of one stage doesn't."""

    def stopped(*words: str) -> tuple[str, str | None]:
        capsys.readouterr()
        assert main([*words, "--to", "cerebras/llama", "--json"]) == 3
        said = capsys.readouterr()
        return said.err.strip().rpartition("; ")[2], json.loads(said.out)["stage"]

    convert = ("convert", str(source), str(tmp_path / "out.mdl"))
    config = json.loads((source / "config.json").read_text())
    infinite = first_shard(source)
    fields, data = header(infinite)
    rewrite(infinite, fields, b"\xff\xff\x7f\x7f" * (len(data) // 4))
    assert stopped(*convert, "--dtype", "float16") == ("stopped while converting)", "converting")
    (source / "config.json").write_text(json.dumps(config | {"vocab_size": 1}))
    assert stopped(*convert) == ("stopped while planning)", "planning")
    assert stopped("plan", str(source))[1] is None
    missing_shard(source)
    assert stopped(*convert) == ("stopped while reading)", "reading")
    assert list(tmp_path.glob("out*")) == []


@pytest.mark.parametrize(
    "words",
    [
        ["convert", "SRC", "DST", "--to", "hf/nothing"],
        ["convert", "SRC", "DST", "--to", "cerebras/llama", "--format", "parquet"],
        ["convert", "SRC", "DST", "--to", "cerebras/llama", "--release", "9.9"],
        ["convert", "SRC", "DST", "--to", "cerebras/llama", "--shard-size", "many"],
        ["convert", "SRC", "DST", "--to", "cerebras/llama", "--dtype", "int8"],
        ["convert", "SRC", "DST", "--to", "cerebras/llama", "--drop", "nothing.*"],
        ["convert", "SRC", "SRC", "--to", "cerebras/llama"],
    ],
)
def test_wrong_usage(words: list[str], source: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    places = {"SRC": str(source), "DST": str(tmp_path / "out.mdl")}
    assert main([places.get(word, word) for word in words]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "out.mdl").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["inspect", "LONG"],
        ["verify", "LONG"],
        ["convert", "LONG", "new.mdl", "--to", "cerebras/llama"],
        ["cerebras", "fix-checkpoint-spec", "LONG"],
        ["cerebras", "data-iter-state", "-c", "x.mdl", "-w", "LONG", "-o", "new.mdl"],
        ["cerebras", "data-iter-state", "-c", "x.mdl", "-w", "LONG", "--reverse"],
    ],
)
def test_a_path_that_the_system_refuses(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([word.replace("LONG", "x" * 300) for word in command]) == 3
    said = capsys.readouterr().err.strip()
    assert "File name too long" in said
    assert "\n" not in said
    assert not list(tmp_path.iterdir())
