"""What lies in a file or folder counts, not its name; what isn't a checkpoint is called what it is, with the way on."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import msgpack
import numpy as np
import pytest
from engine.disk import write
from safetensors.numpy import save_file

from convkit.cli import main
from convkit.errors import ConvkitError, UsageError
from convkit.formats import check_name, detect_format, open_checkpoint

ARRAYS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 548105171\n"


def tarred(name: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo(name))
    return file.getvalue()


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return file.getvalue()


#: what a file holds, what is said of it, and a part of the remedy
NOT_WEIGHTS = {
    "lfs": (LFS, "is a Git LFS pointer", "git lfs pull"),
    "html": (b"\n<!DOCTYPE html><html>", "is an HTML page", "fetch it again"),
    "xml": (b'<?xml version="1.0"?><Error>', "is an XML document", "fetch it again"),
    "json": (b'{"error": "Repository not found"}', "is a JSON text", "the file of the weights"),
    "empty": (b"", "is empty: 0 bytes", "fetch the file again"),
    "gguf": (b"GGUF\3\0\0\0" + b"\0" * 40, "is a GGUF file of llama.cpp", "convert the original"),
    "ggml": (b"tjgg\3\0\0\0" + b"\0" * 40, "is a GGML file of llama.cpp", "convert the original"),
    "gzip": (gzip.compress(b"weights" * 99), "is compressed by gzip", "gunzip"),
    "zstd": (b"\x28\xb5\x2f\xfd" + b"\0" * 40, "is compressed by zstd", "unzstd"),
    "tar": (tarred("model/config.json"), "is a tar archive", "tar xf"),
    "old torch": (tarred("sys_info"), "is a file of torch.save before release 0.1.10", "torch.save"),
    "zip": (zipped("model/pytorch_model.bin", "model/config.json"), "but holds model/pytorch_model.bin", "unzip"),
    "npz": (zipped("a.npy", "b.npy"), "is an archive of NumPy arrays", "safetensors"),
    "keras 3": (zipped("config.json", "metadata.json", "model.weights.h5"), "is a model of Keras 3", "from_tf"),
    "npy": (b"\x93NUMPY\1\0" + b"\0" * 40, "is an array of NumPy", "name a checkpoint"),
    "pickle": (b"\x80\4}\x94.", "is a plain pickle", "torch.save"),
    "parquet": (b"PAR1" + b"\0" * 40, "is a Parquet file", "name the checkpoint"),
}


@pytest.mark.parametrize("what", NOT_WEIGHTS)
def test_a_file_that_is_no_checkpoint(what: str, tmp_path: Path) -> None:
    data, said, remedy = NOT_WEIGHTS[what]
    for name in ("model.safetensors", "pytorch_model.bin", "model.pt", "model.mdl", "unnamed"):
        (tmp_path / name).write_bytes(data)
        for format in (None, "safetensors", "torch", "cerebras-h5"):
            with pytest.raises(ConvkitError) as refused:
                open_checkpoint(tmp_path / name, format)
            assert said in refused.value.problem, (name, format)
            assert remedy in str(refused.value.remedy)
            assert refused.value.path == str(tmp_path / name)
    folder = tmp_path / "folder"
    for name in ("model.safetensors", "pytorch_model.bin"):
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
        with pytest.raises(ConvkitError, match=f"{name}: "):
            open_checkpoint(folder)
        (folder / name).unlink()


def test_a_keras_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        file.attrs["layer_names"] = ["dense"]
    for path in (tmp_path / "tf_model.h5", tmp_path):
        with pytest.raises(ConvkitError, match=r"HDF5 file of Keras or TensorFlow \(in transformers: .*from_tf=True"):
            open_checkpoint(path)


@pytest.mark.parametrize("format", ["safetensors", "torch", "cerebras-h5"])
def test_a_name_that_belies_its_contents(format: str, tmp_path: Path) -> None:
    suffix = {"safetensors": ".safetensors", "torch": ".pt", "cerebras-h5": ".mdl"}[format]
    made = write(tmp_path / f"made{suffix}", ARRAYS, format=format)
    for other in {".safetensors", ".bin", ".mdl", ".ckpt"} - {suffix}:
        file = made.rename(tmp_path / f"made{other}")
        assert detect_format(file)[0].name == format
        with open_checkpoint(file) as checkpoint:
            assert checkpoint.leaves.keys() == ARRAYS.keys()
        file.rename(made)
    wrong = {"safetensors": "torch", "torch": "safetensors", "cerebras-h5": "safetensors"}[format]
    with pytest.raises(ConvkitError, match=f"not {wrong} .leave out --source-format"):
        open_checkpoint(made, wrong)


def test_a_file_is_not_named_as_another_format(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"m.safetensors: is named as safetensors, but cerebras-h5 .*name it .*m.mdl"):
        check_name(tmp_path / "m.safetensors", "cerebras-h5")
    for name, format in (("m.mdl", "cerebras-h5"), ("m", "cerebras-h5"), ("m.pt", "torch"), ("m.bin", "torch")):
        check_name(tmp_path / name, format)


def test_an_index_that_points_to_another_kind_of_file(tmp_path: Path) -> None:
    write(tmp_path / "model.pt", ARRAYS, format="torch")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a.weight": "model.pt"}}))
    with pytest.raises(ConvkitError, match=r"model.pt: is a file of torch.save, not safetensors .*name the file"):
        open_checkpoint(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a.weight": "sub\\model.safetensors"}}))
    with pytest.raises(ConvkitError, match=r"with a backslash as on Windows \(write the index anew, with slashes"):
        open_checkpoint(tmp_path)


def shards(folder: Path, *numbers: int) -> None:
    for number in numbers:
        save_file({f"{number}.weight": ARRAYS["a.weight"]}, folder / f"model-{number:05d}-of-00002.safetensors")


def touched(*names: str, data: bytes = b"\1") -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)

    return make


def run_of(*names: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for name in names:
            (folder / name).mkdir(parents=True)
            save_file(ARRAYS, folder / name / "model.safetensors")

    return make


def cache(folder: Path) -> None:
    for revision in ("1111", "2222"):
        (folder / "models--org--name" / "snapshots" / revision).mkdir(parents=True)
    (folder / "models--org--name" / "refs").mkdir()
    (folder / "models--org--name" / "refs" / "main").write_text("2222")


def dangling(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").symlink_to("../../blobs/0123")


def pax(folder: Path) -> None:
    leaf = folder / "checkpoints" / "checkpoint_00000100" / "state" / "mdl_vars.params.w"
    leaf.mkdir(parents=True)
    (leaf / ".zarray").write_text("{}")


#: what lies in a folder, what is said of it, and the remedy
FOLDERS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "shards without an index": (
        lambda folder: shards(folder, 1, 2),
        "2 shards (model-00001-of-00002.safetensors ...), but not model.safetensors.index.json",
        "fetch model.safetensors.index.json",
    ),
    "one shard": (lambda folder: shards(folder, 2), "1 of 2 shards: model-00001-of-00002.safetensors is", "every file"),
    "another name": (
        lambda folder: save_file(ARRAYS, folder / "llama-7b.safetensors"),
        "weights lie in llama-7b.safetensors",
        "name the file itself: {}/llama-7b.safetensors",
    ),
    "Meta's": (touched("consolidated.00.pth", "params.json"), "Meta's own layout", "convert it first"),
    "Mistral's": (touched("consolidated.safetensors", "params.json"), "Mistral's own layout", "convert it first"),
    "distributed": (touched("__0_0.distcp", ".metadata"), "torch.distributed.checkpoint", "dcp_to_torch {} model.pt"),
    "DeepSpeed": (
        touched("latest", "zero_to_fp32.py", "global_step10/mp_rank_00_model_states.pt"),
        "a checkpoint of DeepSpeed, in parts: global_step10",
        "python {}/zero_to_fp32.py {} model.pt",
    ),
    "an adapter's config": (touched("adapter_config.json"), "the folder of an adapter, without", "merge the adapter"),
    "a Trainer's run": (
        run_of("checkpoint-500", "checkpoint-1000"),
        "holds 2 checkpoints in its folders: checkpoint-500, checkpoint-1000",
        "name one: {}/checkpoint-1000 (safetensors)",
    ),
    "a Pax run": (pax, "holds a checkpoint in its folders", "name one: {}/checkpoints/checkpoint_00000100 (pax)"),
    "the Hub's cache": (cache, "the Hub's cache: models--org--name", "{}/models--org--name/snapshots/"),
    "a link that leads nowhere": (dangling, "links that lead nowhere: model.safetensors", "cp -RL"),
    "a GGUF file": (touched("model.gguf", data=b"GGUF\3\0\0\0"), "model.gguf, which is a GGUF", "the original"),
    "flax": (
        touched("flax_model.msgpack", data=msgpack.packb({"a": 1})),
        "flax_model.msgpack, which is flax's msgpack",
        "from_flax=True",
    ),
    "no weights": (touched("config.json", "vocab.txt"), "a config and no weights: config.json", "weights too"),
    "anything else": (touched("notes.md"), "holds no checkpoint of a known format: notes.md", "--source-format"),
}


@pytest.mark.parametrize("what", FOLDERS)
def test_a_folder_that_is_no_checkpoint(what: str, tmp_path: Path) -> None:
    make, said, remedy = FOLDERS[what]
    make(tmp_path)
    with pytest.raises(ConvkitError) as refused:
        open_checkpoint(tmp_path)
    assert said in refused.value.problem
    assert remedy.replace("{}", str(tmp_path)) in str(refused.value.remedy)


def test_a_repository_in_the_cache(tmp_path: Path) -> None:
    cache(tmp_path)
    with pytest.raises(ConvkitError, match=r"name a snapshot in it: .*/snapshots/2222"):
        open_checkpoint(tmp_path / "models--org--name")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("gpt2", "convkit fetch hf://gpt2 FOLDER"),
        ("meta-llama/Llama-3.2-1B", "convkit fetch hf://meta-llama/Llama-3.2-1B FOLDER"),
        ("model.safetensors", "(check the path)"),
    ],
)
def test_a_name_of_the_hub(
    name: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plan", name, "--to", "cerebras"]) == 3
    assert remedy in capsys.readouterr().err
