from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from convkit.checkpoint import Leaf, TensorSpec, WriteOptions
from convkit.errors import ConvkitError, UsageError
from convkit.formats import open_checkpoint
from convkit.formats.safetensors import DTYPES, FORMAT, HEADER_LIMIT
from convkit.testing import Sample, bits, check_equal, in_a_process_that_dies, write, write_leaf

SPECS = {
    "norm": TensorSpec((5,), "bfloat16"),
    "table": TensorSpec((7, 3), "float32"),
    "empty": TensorSpec((0, 4), "int64"),
    "mask": TensorSpec((3, 3), "bool"),
    "step": TensorSpec((), "int64"),
    "quantized": TensorSpec((9,), "float8_e4m3fn"),
    "spectrum": TensorSpec((2, 2), "complex64"),
}


def sample(specs: dict[str, TensorSpec] = SPECS) -> Sample:
    leaves = tuple(Leaf(key, spec) for key, spec in specs.items())
    return Sample(leaves, {key: bits(spec, seed) for seed, (key, spec) in enumerate(specs.items())})


def raw(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    """A file with this header (JSON, or bytes as they are) and data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


class TestWriting:
    def test_the_reference_implementation_reads_every_dtype(self, tmp_path: Path) -> None:
        import torch
        from safetensors import safe_open
        from safetensors.torch import load_file

        specs = {name: TensorSpec((3, 5), name) for name in DTYPES.values()}
        written = sample(specs)
        write(FORMAT, tmp_path / "out", written, Random(0))
        file = tmp_path / "out" / "model.safetensors"
        known = [name for name in specs if name != "float8_e8m0fnu"]  # its torch binding doesn't know this one
        with safe_open(file, "pt") as opened:
            assert set(opened.keys()) == set(specs)
            assert opened.metadata() == {"format": "pt"}
            for name in known:
                tensor = opened.get_tensor(name)
                assert tensor.dtype == getattr(torch, name)
                assert tensor.view(torch.uint8).numpy().tobytes() == written.data[name].tobytes()
        del specs["float8_e8m0fnu"]
        write(FORMAT, tmp_path / "known.safetensors", sample(specs), Random(0))
        assert set(load_file(tmp_path / "known.safetensors")) == set(specs)

    def test_tensors_are_aligned_to_their_elements(self, tmp_path: Path) -> None:
        with FORMAT.open(write(FORMAT, tmp_path / "out", sample(), Random(0))) as checkpoint:
            assert all(checkpoint.places[key].offset % spec.itemsize == 0 for key, spec in SPECS.items())
            assert len(checkpoint.files()) == 1

    def test_shards_have_an_index(self, tmp_path: Path) -> None:
        options = WriteOptions(shard_size=40, metadata={"origin": "a test", "count": 3})
        out = write(FORMAT, tmp_path / "out", sample(), Random(0), options=options)
        index = json.loads((out / "model.safetensors.index.json").read_text())
        assert index["metadata"] == {"total_size": sum(spec.nbytes for spec in SPECS.values())}
        assert set(index["weight_map"]) == set(SPECS)
        assert len(set(index["weight_map"].values())) == 4
        assert {path.name for path in out.iterdir()} == {*index["weight_map"].values(), "model.safetensors.index.json"}
        for opened in (out, out / "model.safetensors.index.json"):
            with open_checkpoint(opened) as checkpoint:
                check_equal(checkpoint, sample())
                assert checkpoint.metadata == {"format": "pt", "origin": "a test", "count": "3"}

    @pytest.mark.parametrize("name", ["out", "out.safetensors"])
    def test_bytes_depend_on_nothing_but_the_leaves(self, tmp_path: Path, name: str) -> None:
        outputs = []
        for seed in range(3):
            path = write(FORMAT, tmp_path / f"{seed}{name}", sample(), Random(seed), threads=seed + 1)
            outputs.append((path / "model.safetensors" if path.is_dir() else path).read_bytes())
        staging = tmp_path / f"killed{name}"

        def first_half() -> None:
            writer = FORMAT.create(staging, sample().leaves, WriteOptions())
            for leaf in sample().leaves[:4]:
                write_leaf(writer, leaf, sample(), Random(0))

        in_a_process_that_dies(first_half)
        writer = FORMAT.create(staging, sample().leaves, WriteOptions(), resume=True)
        for leaf in sample().leaves[4:]:
            write_leaf(writer, leaf, sample(), Random(0))
        writer.commit()
        writer.close()
        outputs.append((staging / "model.safetensors" if staging.is_dir() else staging).read_bytes())
        assert len(set(outputs)) == 1

    def test_a_resumed_output_of_another_layout_is_refused(self, tmp_path: Path) -> None:
        FORMAT.create(tmp_path / "out", sample().leaves, WriteOptions()).close()
        with pytest.raises(ConvkitError, match=r"model.safetensors: differs from the layout of the output to resume"):
            FORMAT.create(tmp_path / "out", sample().leaves[1:], WriteOptions(), resume=True)

    def test_a_layout_that_was_killed_is_made_anew(self, tmp_path: Path) -> None:
        options = WriteOptions(shard_size=40)
        FORMAT.create(tmp_path / "out", sample().leaves, options).close()
        (tmp_path / "out" / "model-00004-of-00004.safetensors").unlink()
        writer = FORMAT.create(tmp_path / "out", sample().leaves, options, resume=True)
        for leaf in sample().leaves:
            write_leaf(writer, leaf, sample(), Random(0))
        writer.commit()
        writer.close()
        with FORMAT.open(tmp_path / "out") as checkpoint:
            check_equal(checkpoint, sample())

    def test_a_value_is_refused_by_its_key(self, tmp_path: Path) -> None:
        with pytest.raises(ConvkitError, match=r"optimizer\.step: is a value, and safetensors") as refused:
            FORMAT.create(tmp_path / "out", [Leaf("optimizer.step", value=3)], WriteOptions())
        assert refused.value.key == "optimizer.step"
        assert not (tmp_path / "out").exists()

    def test_a_dtype_without_a_name_is_refused_by_its_key(self, tmp_path: Path) -> None:
        with pytest.raises(ConvkitError, match=r"spectrum: .*complex128"):
            FORMAT.create(tmp_path / "out", [Leaf("spectrum", TensorSpec((2,), "complex128"))], WriteOptions())

    def test_one_file_is_not_cut_into_shards(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="name a folder"):
            FORMAT.create(tmp_path / "out.safetensors", sample().leaves, WriteOptions(shard_size=1))

    @pytest.mark.parametrize(("start", "dtype", "size"), [(4, "uint16", 2), (-1, "uint16", 2), (0, "uint8", 2)])
    def test_what_does_not_fit_its_place_is_refused(self, tmp_path: Path, start: int, dtype: str, size: int) -> None:
        writer = FORMAT.create(tmp_path / "out", sample().leaves, WriteOptions())
        with pytest.raises(ConvkitError, match=r"norm: elements .* don't fit"):
            writer.write("norm", start, np.zeros(size, dtype))
        writer.close()


class TestReading:
    def test_transformers_reads_what_we_write_of_what_it_wrote(self, tmp_path: Path) -> None:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            hidden_size=60, num_attention_heads=6, num_key_value_heads=2, intermediate_size=14, num_hidden_layers=2
        )
        config.vocab_size = 23
        model = LlamaForCausalLM(config).to(torch.bfloat16)
        model.save_pretrained(tmp_path / "theirs", max_shard_size="10KB")
        with open_checkpoint(tmp_path / "theirs") as checkpoint:
            assert len(checkpoint.files()) > 1
            leaves = tuple(checkpoint.leaves.values())
            copied = Sample(leaves, {leaf.key: checkpoint.read(leaf.key) for leaf in leaves})
            write(FORMAT, tmp_path / "ours", copied, Random(0), options=WriteOptions(shard_size=20_000))
        config.save_pretrained(tmp_path / "ours")
        loaded = LlamaForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.bfloat16).state_dict()
        assert set(loaded) == set(model.state_dict())
        for key, tensor in model.state_dict().items():
            assert torch.equal(loaded[key].view(torch.int16), tensor.view(torch.int16))

    def test_unaligned_tensors(self, tmp_path: Path) -> None:
        values = np.arange(5, dtype="<f4")
        header = {"flag": entry("BOOL", [1], 0, 1), "values": entry("F32", [5], 1, 21)}
        with FORMAT.open(raw(tmp_path / "odd.safetensors", header, b"\1" + values.tobytes())) as checkpoint:
            assert checkpoint.read("values", 1, 4).tobytes() == values[1:4].tobytes()
            assert checkpoint.read("values").view("float32").tolist() == values.tolist()

    def test_opening_reads_no_tensor(self, tmp_path: Path) -> None:
        size = 1 << 30
        path = raw(tmp_path / "big.safetensors", {"hole": entry("U8", [size], 0, size)})
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size + size)
        code = (
            "import re, sys; from pathlib import Path; from convkit.formats import open_checkpoint\n"
            f"checkpoint = open_checkpoint({str(path)!r})\n"
            "few = checkpoint.read('hole', 1 << 29, (1 << 29) + 5)\n"
            f"assert checkpoint.spec('hole').nbytes == {size} and few.tolist() == [0] * 5\n"
            "assert not {'torch', 'safetensors', 'transformers', 'ml_dtypes'} & set(sys.modules)\n"
            "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
        )
        peak = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert int(peak) < 100 << 10, f"{peak} KiB to open a file of 1 GiB"

    @pytest.mark.parametrize(
        ("header", "data", "problem"),
        [
            ({"w": entry("F32", [2], 0, 8)}, b"1234567", "w: is truncated: .* bytes of"),
            ({"w": entry("F32", [2], 0, 8)}, b"123456789", "w: is too long"),
            ({"v": entry("U8", [4], 0, 4), "w": entry("U8", [4], 2, 6)}, b"123456", "w: its data starts at 2, but"),
            ({"v": entry("U8", [2], 0, 2), "w": entry("U8", [2], 3, 5)}, b"12345", "w: its data starts at 3, but"),
            ({"w": entry("U8", [2], 1, 3)}, b"123", "w: its data starts at 1, but"),
            ({"w": entry("F32", [3], 0, 8)}, b"12345678", r"w: F32\[3\] needs 12 bytes, its offsets span 8"),
            ({"w": entry("U8", [2], 2, 0)}, b"12", "w: .*its offsets span -2"),
            ({"w": entry("U8", [-2], 0, 2)}, b"12", "w: no shape and offsets"),
            ({"w": entry("U8", [True], 0, 1)}, b"1", "w: no shape and offsets"),
            ({"w": entry("F4", [2], 0, 1)}, b"1", "w: dtype 'F4' is not supported"),
            ({"w": entry([], [2], 0, 1)}, b"1", "w: dtype .* is not supported"),
            ({"w": {"dtype": "U8", "shape": [1]}}, b"1", "w: its entry lacks"),
            ({"w": 3}, b"1", "w: its entry lacks"),
            ({"__metadata__": {"n": 3}}, b"", "__metadata__: is not a map of strings"),
            ([], b"", "the header is not a JSON object"),
            (b'{"w": ', b"", "holds no valid JSON"),
            (b"\xff\xfe{}", b"", "holds no valid JSON"),
            (b"[" * 100_000, b"", "holds no valid JSON"),
            (b'{"w": {"dtype": "U8", "dtype": "I8"}}', b"", "dtype: is there twice"),
        ],
    )
    def test_a_wrong_header_is_refused(self, tmp_path: Path, header: Any, data: bytes, problem: str) -> None:
        path = raw(tmp_path / "bad.safetensors", header, data)
        with pytest.raises(ConvkitError, match=f"^{path}: {problem}") as refused:
            open_checkpoint(path)
        assert "\n" not in str(refused.value) and refused.value.remedy

    def test_metadata_that_is_null_is_none_as_for_the_reference(self, tmp_path: Path) -> None:
        from safetensors import safe_open

        path = raw(tmp_path / "a.safetensors", {"__metadata__": None, "w": entry("U8", [2], 0, 2)}, b"12")
        with safe_open(path, "np") as opened:
            assert not opened.metadata()
        with open_checkpoint(path) as checkpoint:
            assert not checkpoint.metadata and list(checkpoint.leaves) == ["w"]

    def test_a_header_longer_than_the_file_is_refused(self, tmp_path: Path) -> None:
        path = raw(tmp_path / "bad.safetensors", {}, length=1 << 60)
        with pytest.raises(ConvkitError, match="is truncated: 10 bytes, but the header alone"):
            open_checkpoint(path)

    def test_a_header_longer_than_the_reference_allows_is_refused(self, tmp_path: Path) -> None:
        path = raw(tmp_path / "bad.safetensors", {}, length=HEADER_LIMIT + 1)
        with path.open("r+b") as file:
            file.truncate(HEADER_LIMIT + 100)
        with pytest.raises(ConvkitError, match="header of 100000001 bytes"):
            open_checkpoint(path)

    def test_a_folder_without_weights_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConvkitError, match=r"neither model\.safetensors nor its index"):
            open_checkpoint(tmp_path, "safetensors")


class TestIndex:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return write(FORMAT, tmp_path / "out", sample(), Random(0), options=WriteOptions(shard_size=40))

    def change(self, folder: Path, key: str, name: Any) -> None:
        path = folder / "model.safetensors.index.json"
        index = json.loads(path.read_text())
        if name is None:
            del index["weight_map"][key]
        else:
            index["weight_map"][key] = name
        path.write_text(json.dumps(index))

    @pytest.mark.parametrize(
        ("key", "name", "problem"),
        [
            ("ghost", "model-00001-of-00004.safetensors", "ghost: the index says it is in model-00001"),
            ("step", None, "step: is in the shard, but model.safetensors.index.json doesn't list it"),
            (
                "table",
                "model-00009-of-00004.safetensors",
                "table: the shard model-00009-of-00004.safetensors is missing",
            ),
            ("table", "../model.safetensors", "the index points outside its folder: '../model.safetensors'"),
            ("table", "sub/../../model.safetensors", "the index points outside its folder"),
            ("table", "/etc/passwd", "the index points outside its folder: '/etc/passwd'"),
            ("table", "..\\model.safetensors", "the index points outside its folder"),
            ("table", 3, "table: the index names no file"),
        ],
    )
    def test_a_wrong_index_is_refused(self, folder: Path, key: str, name: Any, problem: str) -> None:
        self.change(folder, key, name)
        with pytest.raises(ConvkitError, match=problem) as refused:
            open_checkpoint(folder)
        assert str(refused.value).startswith(str(folder)) and refused.value.remedy

    @pytest.mark.parametrize("text", ["{}", "[]", '{"weight_map": []}', "nonsense", '{"a": 1, "a": 2}'])
    def test_what_is_no_index_is_refused(self, folder: Path, text: str) -> None:
        (folder / "model.safetensors.index.json").write_text(text)
        with pytest.raises(ConvkitError, match=r"model\.safetensors\.index\.json: "):
            open_checkpoint(folder)

    def test_links_out_of_the_folder_are_followed(self, folder: Path, tmp_path: Path) -> None:
        blob = tmp_path / "blob"
        shard = folder / "model-00001-of-00004.safetensors"
        shard.rename(blob)
        shard.symlink_to(blob)
        with open_checkpoint(folder) as checkpoint:
            check_equal(checkpoint, sample())

    def test_the_single_file_wins_as_in_transformers(self, folder: Path) -> None:
        single = {"only": TensorSpec((2,), "uint8")}
        write(FORMAT, folder / "model.safetensors", sample(single), Random(0))
        with open_checkpoint(folder) as checkpoint:
            assert list(checkpoint.leaves) == ["only"]
