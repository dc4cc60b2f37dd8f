from __future__ import annotations

import io
import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from convkit.checkpoint import Leaf, Opaque, TensorSpec, UnknownObject, WriteOptions
from convkit.errors import ConvkitError
from convkit.formats import detect_format, open_checkpoint
from convkit.formats.torch import files as torch_files
from convkit.formats.torch import zip_places
from convkit.formats.torch.format import FORMAT
from convkit.testing import Sample, bits, check_equal, in_a_process_that_dies, write, write_leaf

torch = pytest.importorskip("torch")

DTYPES = [
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"),
]
VALUES = {
    "none": None,
    "yes": True,
    "step": 7,
    "big": -(2**63),
    "rate": 1e-4,
    "name": "naïve\0",
    "list": [],
    "dict": {},
}


def tensor(dtype: str, *shape: int) -> Any:
    spec = TensorSpec(shape, dtype)
    raw = bits(spec, 1).view("uint8").copy()
    return torch.from_numpy(raw).view(getattr(torch, dtype)).reshape(shape)


def raw_bytes(value: Any) -> bytes:
    return value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def sample() -> Sample:
    """A tensor of each dtype, awkward shapes, values, a tied pair."""
    specs = {f"of.{dtype}": TensorSpec((3, 5), dtype) for dtype in DTYPES}
    specs |= {"scalar": TensorSpec((), "float32"), "empty": TensorSpec((0, 3), "bfloat16")}
    data = {key: bits(spec, seed) for seed, (key, spec) in enumerate(specs.items())}
    leaves = [Leaf(key, spec) for key, spec in specs.items()]
    leaves += [Leaf(key, value=value) for key, value in VALUES.items()]
    leaves.append(Leaf("tied", specs["of.float16"], same_as="of.float16"))
    data["tied"] = data["of.float16"]
    return Sample(tuple(leaves), data)


def archive(path: Path, data_pkl: bytes, **storages: bytes) -> Path:
    """A zip archive as torch lays it out."""
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("archive/data.pkl", data_pkl)
        opened.writestr("archive/version", "3\n")
        for name, data in storages.items():
            opened.writestr(f"archive/data/{name.removeprefix('_')}", data)
    return path


class TestReading:
    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    @pytest.mark.parametrize("protocol", [2, 4])
    def test_every_dtype(self, tmp_path: Path, zipped: bool, protocol: int) -> None:
        state = {dtype: tensor(dtype, 2, 3, 5) for dtype in DTYPES} | VALUES
        state |= {"scalar": tensor("float32"), "empty": torch.empty(0, 3)}
        path = tmp_path / "state.pt"
        torch.save(state, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
        assert detect_format(path)[0] is FORMAT
        with open_checkpoint(path) as checkpoint:
            assert list(checkpoint.leaves) == list(state)
            for key, value in state.items():
                leaf = checkpoint.leaves[key]
                if key in VALUES:
                    assert leaf == Leaf(key, value=value)
                    continue
                assert leaf.spec == TensorSpec(tuple(value.shape), str(value.dtype).removeprefix("torch."))
                assert checkpoint.read(key).tobytes() == raw_bytes(value)

    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_views_of_one_storage(self, tmp_path: Path, zipped: bool) -> None:
        base = torch.arange(60, dtype=torch.int32).reshape(3, 4, 5)
        state = {
            "base": base,
            "again": base,
            "rows": base[1:],
            "column": base[:, 2, 1],
            "turned": base.permute(2, 0, 1),
            "steps": base[:, ::2, ::3],
            "expanded": base[0, 0, :1].expand(4, 3),
            "flat": base.reshape(-1),
            "unit": base[:, :1].transpose(0, 1),
        }
        torch.save(state, tmp_path / "views.bin", _use_new_zipfile_serialization=zipped)
        with open_checkpoint(tmp_path / "views.bin") as checkpoint:
            for key, value in state.items():
                whole = raw_bytes(value)
                assert checkpoint.read(key).tobytes() == whole
                assert checkpoint.read(key, 1, 4).tobytes() == whole[4:16]
                assert checkpoint.leaves[key].same_as == ("base" if key == "again" else None)

    def test_nested_state_flattens(self, tmp_path: Path) -> None:
        model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        model(torch.ones(4, 3)).sum().backward()
        optimizer.step()
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "parameters": list(model.parameters()),
            "shape": torch.Size([3, 2]),
            "nothing": (),
            "dtype": torch.bfloat16,
            "epoch": 3,
        }
        torch.save(state, tmp_path / "training.pt")
        with open_checkpoint(tmp_path / "training.pt") as checkpoint:
            leaves = checkpoint.leaves
            assert checkpoint.read("model.0.weight").tobytes() == raw_bytes(model[0].weight)
            assert checkpoint.read("optimizer.state.0.exp_avg").tobytes() == raw_bytes(
                optimizer.state_dict()["state"][0]["exp_avg"]
            )
            assert leaves["optimizer.param_groups.0.lr"].value == 0.1
            assert leaves["optimizer.param_groups.0.betas.1"].value == 0.999
            assert leaves["parameters.0"].same_as == "model.0.weight"
            assert [leaves[key].value for key in ("shape.0", "shape.1", "nothing", "epoch")] == [3, 2, [], 3]
            assert leaves["dtype"].value == "torch.bfloat16"

    def test_shards_as_transformers_wrote_them(self, tmp_path: Path) -> None:
        parts = {
            "pytorch_model-00001-of-00002.bin": {"a": tensor("float16", 7)},
            "two.bin": {"b": tensor("int8", 2, 3)},
        }
        for name, part in parts.items():
            torch.save(part, tmp_path / name)
        index = {"metadata": {}, "weight_map": {key: name for name, part in parts.items() for key in part}}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
        with open_checkpoint(tmp_path) as checkpoint:
            assert checkpoint.format == "torch"
            assert checkpoint.read("a").tobytes() == raw_bytes(parts["pytorch_model-00001-of-00002.bin"]["a"])
            assert checkpoint.read("b").tobytes() == raw_bytes(parts["two.bin"]["b"])
        (tmp_path / "two.bin").unlink()
        with pytest.raises(ConvkitError, match=r"index\.json: b: the shard two\.bin is missing"):
            open_checkpoint(tmp_path)

    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_opening_reads_no_tensor(self, tmp_path: Path, zipped: bool) -> None:
        path = tmp_path / "big.pt"
        torch.save({"w": torch.zeros(1 << 27, dtype=torch.int16)}, path, _use_new_zipfile_serialization=zipped)
        code = (
            "import re, sys; from pathlib import Path; from convkit.formats import open_checkpoint\n"
            f"checkpoint = open_checkpoint({str(path)!r})\n"
            "assert checkpoint.spec('w').nbytes == 1 << 28\n"
            "assert checkpoint.read('w', 1 << 26, 5 + (1 << 26)).tolist() == [0] * 5\n"
            "assert not {'torch', 'transformers', 'ml_dtypes'} & set(sys.modules)\n"
            "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
        )
        peak = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        path.unlink()
        assert int(peak) < 100 << 10, f"{peak} KiB to open a file of 256 MiB"


class TestWriting:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return write(FORMAT, tmp_path / "state.pt", sample(), Random(0), threads=2)

    @pytest.mark.parametrize("options", [{"mmap": True, "weights_only": True}, {"weights_only": False}, {}])
    def test_torch_loads_it(self, file: Path, options: dict[str, bool]) -> None:
        state = torch.load(file, **options)
        assert list(state) == [leaf.key for leaf in sample().leaves]
        for leaf in sample().leaves:
            value = state[leaf.key]
            if leaf.spec is None:
                assert value == leaf.value and type(value) is type(leaf.value)
                continue
            assert (tuple(value.shape), str(value.dtype)) == (leaf.spec.shape, f"torch.{leaf.spec.dtype}")
            assert raw_bytes(value) == sample().data[leaf.key].tobytes()
        assert state["tied"].data_ptr() == state["of.float16"].data_ptr()

    def test_torch_saves_what_it_loaded(self, file: Path, tmp_path: Path) -> None:
        torch.save(torch.load(file), tmp_path / "again.pt")
        with open_checkpoint(tmp_path / "again.pt") as checkpoint:
            check_equal(checkpoint, sample())

    def test_the_archive_is_sound(self, file: Path) -> None:
        with zipfile.ZipFile(file) as opened:
            assert opened.testzip() is None
            names = [info.filename for info in opened.infolist()]
            assert names[:3] == ["archive/data.pkl", "archive/byteorder", "archive/version"]
            assert names[3:] == [f"archive/data/{number}" for number in range(len(DTYPES) + 2)]
        with open_checkpoint(file) as checkpoint:
            assert all(checkpoint.places[key].offset % 64 == 0 for key in sample().data)

    def test_large_archives(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(zip_places, "LIMIT32", 100)
        monkeypatch.setattr(zip_places, "LIMIT16", 5)
        file = write(FORMAT, tmp_path / "state.pt", sample(), Random(0))
        with zipfile.ZipFile(file) as opened:
            assert opened.testzip() is None
            assert any(info.extract_version == 45 for info in opened.infolist())
        assert raw_bytes(torch.load(file, mmap=True)["of.complex128"]) == sample().data["of.complex128"].tobytes()
        with open_checkpoint(file) as checkpoint:
            check_equal(checkpoint, sample())

    def test_bytes_depend_on_nothing_but_the_leaves(self, file: Path, tmp_path: Path) -> None:
        other = write(FORMAT, tmp_path / "other.pt", sample(), Random(1))
        assert other.read_bytes() == file.read_bytes()

        def first_half() -> None:
            writer = FORMAT.create(tmp_path / "killed.pt", sample().leaves, WriteOptions())
            for leaf in sample().leaves[:9]:
                write_leaf(writer, leaf, sample(), Random(0))

        in_a_process_that_dies(first_half)
        writer = FORMAT.create(tmp_path / "killed.pt", sample().leaves, WriteOptions(), resume=True)
        for leaf in sample().leaves[9:]:
            write_leaf(writer, leaf, sample(), Random(0))
        writer.commit()
        writer.close()
        assert (tmp_path / "killed.pt").read_bytes() == file.read_bytes()

    def test_what_is_not_committed_is_not_read(self, tmp_path: Path) -> None:
        FORMAT.create(tmp_path / "half.pt", sample().leaves, WriteOptions()).close()
        with pytest.raises(ConvkitError, match=r"half\.pt: isn't a complete file of torch\.save"):
            open_checkpoint(tmp_path / "half.pt")

    def test_shards(self, tmp_path: Path) -> None:
        out = write(FORMAT, tmp_path / "out", sample(), Random(0), options=WriteOptions(shard_size=100))
        index = json.loads((out / "pytorch_model.bin.index.json").read_text())
        state = {}
        for name in sorted(set(index["weight_map"].values())):
            state |= torch.load(out / name, mmap=True)
        assert set(state) == set(index["weight_map"]) == {leaf.key for leaf in sample().leaves}
        assert index["weight_map"]["tied"] == index["weight_map"]["of.float16"]
        assert index["metadata"]["total_size"] == sum(
            leaf.spec.nbytes for leaf in sample().leaves if leaf.spec and not leaf.same_as
        )

    @pytest.mark.parametrize("shard_size", [None, 30_000])
    def test_transformers_loads_it(self, tmp_path: Path, shard_size: int | None) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel

        model = GPT2LMHeadModel(GPT2Config(n_embd=60, n_head=6, n_layer=2, n_positions=19, vocab_size=23))
        torch.save(model.state_dict(), tmp_path / "theirs.bin")
        with open_checkpoint(tmp_path / "theirs.bin") as checkpoint:
            leaves = tuple(checkpoint.leaves.values())
            assert checkpoint.leaves["lm_head.weight"].same_as == "transformer.wte.weight"
            copied = Sample(leaves, {leaf.key: checkpoint.read(leaf.key) for leaf in leaves})
        write(FORMAT, tmp_path / "ours", copied, Random(0), options=WriteOptions(shard_size=shard_size))
        model.config.save_pretrained(tmp_path / "ours")
        loaded = GPT2LMHeadModel.from_pretrained(tmp_path / "ours", use_safetensors=False).state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in model.state_dict().items())

    @pytest.mark.parametrize(
        "leaf",
        [
            Leaf("bad", value=Opaque(b"\0", "pickle")),
            Leaf("bad", value=1 << 3000),
            Leaf("bad", TensorSpec((2,), "float8_e4m3b11fnuz")),
            Leaf("bad", TensorSpec((2,), "int8"), same_as="nowhere"),
            Leaf("bad", TensorSpec((2,), "int8"), same_as="good"),
        ],
    )
    def test_what_torch_cannot_hold_is_refused_by_its_key(self, tmp_path: Path, leaf: Leaf) -> None:
        with pytest.raises(ConvkitError, match="bad: ") as refused:
            FORMAT.create(tmp_path / "out", [Leaf("good", TensorSpec((3,), "int8")), leaf], WriteOptions())
        assert refused.value.remedy and not (tmp_path / "out").exists()


class Call:
    """Pickles as a call of anything."""

    def __init__(self, called: Callable[..., Any], *args: Any) -> None:
        self.call = called, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


LEGACY_HEAD = b"\x80\x02" + torch_files.LEGACY_MAGIC
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x02tQ"
HOOKS = b"ccollections\nOrderedDict\n)R"


def rebuilt(args: bytes) -> bytes:
    """A pickle of {"w": torch._utils._rebuild_tensor_v2(*args)}."""
    return b"\x80\x02}X\x01\0\0\0w" + REBUILD + b"(" + args + b"tRs."


class TestBadInput:
    def refuse(self, path: Path, problem: str) -> None:
        with pytest.raises(ConvkitError, match=problem) as refused:
            open_checkpoint(path, "torch")
        text = str(refused.value)
        assert text.startswith(f"{path}: ") and refused.value.remedy and "\n" not in text and len(text) < 1000

    @pytest.mark.parametrize("protocol", [0, 1, 2, 4])
    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    @pytest.mark.parametrize("nest", [lambda call: call, lambda call: {"w": [(call,)]}], ids=["bare", "nested"])
    def test_code_is_never_run(self, tmp_path: Path, protocol: int, zipped: bool, nest: Callable[..., Any]) -> None:
        witness = tmp_path / "witness"
        evil = nest(Call(os.system, f"touch {witness}"))
        if zipped:
            path = archive(tmp_path / "evil.bin", pickle.dumps(evil, protocol))
        else:
            path = tmp_path / "evil.bin"
            head = (pickle.dumps(item, 2) for item in (1001, {"little_endian": True}))
            path.write_bytes(LEGACY_HEAD + b"".join(head) + pickle.dumps(evil, protocol) + pickle.dumps([], 2))
        if isinstance(evil, Call):  # bare
            self.refuse(path, r"holds an object of kind (posix|nt)\.system, not a dict of tensors")
        else:
            with open_checkpoint(path, "torch") as checkpoint:
                assert checkpoint.leaves == {"w.0.0": Leaf("w.0.0", value=UnknownObject(f"{os.name}.system"))}
        assert not witness.exists()
        pickle.loads(pickle.dumps(evil, protocol))
        assert witness.exists(), "the planted code doesn't work: the test shows nothing"

    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            (b"cbuiltins\neval\nX\x01\0\0\x001\x85R.", "holds an object of kind builtins.eval, not a dict"),
            (b"X\x05\0\0\0posixX\x06\0\0\0system\x93.", "holds an object of kind posix.system, not a dict"),
            (b"K\x01K\x02\x93.", "would run an unnamed object"),
            (b"(cos\nsystem\nX\x02\0\0\0lso.", "uses OBJ, which torch never writes"),
            (b"(X\x02\0\0\0lsios\nsystem\n.", "uses INST, which torch never writes"),
            (b"ctorch\nSize\n)\x81.", "holds an object of kind torch.Size, not a dict"),
            (b"K\x01)\x81.", "makes something that is not of a class"),
            (b"\x82\x01.", "uses EXT1"),
            (b"Pevil\n.", "uses PERSID"),
            (b"K\x01)R.", "calls something that is not a function"),
            (b"ctorch\nSize\n]R.", "makes a call without arguments"),
            (b"ctorch\nfloat32\n)R.", "holds an object of kind torch.float32, not a dict"),
            (b"ctorch\nSize\nX\x01\0\0\0a\x85\x85R.", "calls torch.Size in an unknown way"),
            (b"ccollections\nOrderedDict\n]\x85R.", "pickle is corrupt"),
            (b"]}b.", "sets the state of an object"),
            (b"ctorch\nSize\n}b.", "sets the state of an object"),
            (b"(X\x06\0\0\0moduleK\x01tQ.", "refers to something that isn't a whole storage"),
            (b"}(X\x03\0\0\0a.bK\x01X\x01\0\0\0a}X\x01\0\0\0bK\x02su.", "a.b: two entries have this dotted key"),
            (b"K\x05.", "holds an object of kind int, not a dict of tensors"),
            (b"", "pickle is corrupt"),
            (b".", "pickle is corrupt"),
            (b"h\x07.", "pickle is corrupt"),
            (b"u.", "pickle is corrupt"),
            (b"K\x01K\x02a.", "pickle is corrupt"),
            (b"\xff", "pickle is corrupt"),
            (b"\x8b\xff\xff\xff\x7f\0", "pickle is corrupt"),
            (b"X\xff\xff\xff\xffabc", "pickle is corrupt"),
        ],
    )
    def test_a_pickle_that_says_more_than_tensors(self, tmp_path: Path, body: bytes, problem: str) -> None:
        self.refuse(archive(tmp_path / "evil.bin", b"\x80\x02" + body), problem)

    @pytest.mark.parametrize(
        ("args", "problem"),
        [
            (STORAGE + b"K\0K\x03\x85K\x01\x85\x89" + HOOKS, "w: needs 12 of the 8 bytes of its storage"),
            (STORAGE + b"K\x01K\x02\x85K\x01\x85\x89" + HOOKS, "w: needs 12 of the 8 bytes"),
            (STORAGE + b"K\0K\x02\x85K\x02\x85\x89" + HOOKS, "w: needs 12 of the 8 bytes"),
            (
                STORAGE + b"K\0K\x02\x85J\xff\xff\xff\xff\x85\x89" + HOOKS,
                "calls torch._utils._rebuild_tensor_v2 in an unknown way",
            ),
            (STORAGE + b"K\0K\x02\x85)\x89" + HOOKS, "_rebuild_tensor_v2 in an unknown way"),
            (STORAGE + b"K\0]K\x01\x85\x89" + HOOKS, "_rebuild_tensor_v2 in an unknown way"),
            (
                STORAGE.replace(b"X\x01\0\0\x000", b"X\x01\0\0\x009") + b"K\0K\x01\x85K\x01\x85\x89" + HOOKS,
                "storage 9 is mi",
            ),
            (STORAGE.replace(b"K\x02", b"K\x03") + b"K\0K\x01\x85K\x01\x85\x89" + HOOKS, "which has 8"),
            (b"K\x01" + b"K\0K\x02\x85K\x01\x85\x89" + HOOKS, "_rebuild_tensor_v2 in an unknown way"),
            (b"K\x01", "_rebuild_tensor_v2 in an unknown way"),
        ],
    )
    def test_a_tensor_that_claims_what_is_not_there(self, tmp_path: Path, args: bytes, problem: str) -> None:
        self.refuse(archive(tmp_path / "bad.bin", rebuilt(args), _0=bytes(8)), problem)

    def test_the_planted_tensors_would_be_read_without_their_fault(self, tmp_path: Path) -> None:
        good = rebuilt(STORAGE + b"K\0K\x02\x85K\x01\x85\x89" + HOOKS)
        with open_checkpoint(archive(tmp_path / "good.bin", good, _0=bytes(8))) as checkpoint:
            assert checkpoint.read("w").tolist() == [0, 0]

    @pytest.mark.parametrize(
        "bomb",
        [
            b"]" * 100_000 + b"a" * 99_999 + b".",
            b")" + b"\x85" * 200_000 + b".",
            b"]q\0h\0a.",
            b"}q\0X\x01\0\0\0ah\0s.",
            b"K\x01q\0" + b"".join(b"h%ch%c\x86q%c" % (n, n, n + 1) for n in range(60)) + b".",
            b"}" + b"X\0\0\x10\0" + b"k" * (1 << 20) + b"]K\x01as.",
        ],
        ids=["lists", "tuples", "cycle", "dict cycle", "laughs", "key"],
    )
    def test_bombs(self, tmp_path: Path, bomb: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("convkit.state.budget.NODE_LIMIT", 1000)
        refused = "nested deeper than 64 levels|over 1000 leaves|key of over 4096 characters"
        self.refuse(archive(tmp_path / "bomb.bin", b"\x80\x02" + bomb), refused)

    def test_a_deep_key_is_not_hashed(self, tmp_path: Path) -> None:
        path = archive(tmp_path / "bomb.bin", b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.")
        with open_checkpoint(path, "torch") as checkpoint:
            (leaf,) = checkpoint.leaves.values()
            assert leaf == Leaf("(other keys)", value=UnknownObject("entries with keys of type tuple"))

    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_truncated_anywhere(self, tmp_path: Path, zipped: bool) -> None:
        stream = io.BytesIO()
        torch.save({"a": tensor("float32", 3), "b": tensor("int8", 5)}, stream, _use_new_zipfile_serialization=zipped)
        whole = stream.getvalue()
        path = tmp_path / "cut.pt"
        for length in range(0, len(whole), 7):
            path.write_bytes(whole[:length])
            self.refuse(path, r"cut\.pt: ")

    def test_flipped_anywhere(self, tmp_path: Path) -> None:
        """A damaged file is read or refused, and never crashes."""
        stream = io.BytesIO()
        torch.save({"a": tensor("float32", 3), "n": 5}, stream, _use_new_zipfile_serialization=False)
        random = Random(0)
        path = tmp_path / "flipped.pt"
        for _ in range(200):
            damaged = bytearray(stream.getvalue())
            damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
            path.write_bytes(damaged)
            try:
                open_checkpoint(path).close()
            except ConvkitError as refusal:
                assert re.match(f"{path}: ", str(refusal))

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            (lambda entries: entries | {"archive/byteorder": b"big"}, "is big-endian"),
            (lambda entries: entries | {"archive/constants.pkl": b""}, "is a TorchScript program"),
            (lambda entries: {"archive/version": b"3"}, "it has no data.pkl"),
            (lambda entries: entries | {"other/data.pkl": b""}, "it has no data.pkl"),
        ],
    )
    def test_archives_that_are_no_checkpoint(self, tmp_path: Path, change: Callable[..., Any], problem: str) -> None:
        good = {"archive/data.pkl": rebuilt(STORAGE + b"K\0K\x02\x85K\x01\x85\x89" + HOOKS), "archive/data/0": bytes(8)}
        with zipfile.ZipFile(tmp_path / "bad.pt", "w") as opened:
            for name, data in change(good).items():
                opened.writestr(name, data)
        self.refuse(tmp_path / "bad.pt", problem)

    def test_compressed_storages_are_refused(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "bad.pt", "w", zipfile.ZIP_DEFLATED) as opened:
            opened.writestr("archive/data.pkl", rebuilt(STORAGE + b"K\0K\x02\x85K\x01\x85\x89" + HOOKS))
            opened.writestr("archive/data/0", bytes(8))
        self.refuse(
            tmp_path / "bad.pt", r"its record archive/data/0 is compressed \(zip it uncompressed, or load it with torch"
        )

    @pytest.mark.parametrize("computed", [True, False], ids=["with sums", "without"])
    def test_a_flipped_bit_of_a_record_is_found_where_its_writer_computed_a_sum(
        self, tmp_path: Path, computed: bool
    ) -> None:
        path = tmp_path / "state.pt"
        before = torch.serialization.get_crc32_options()
        torch.serialization.set_crc32_options(computed)
        try:
            torch.save({"a": tensor("float32", 40), "b": tensor("float32", 50)}, path)
        finally:
            torch.serialization.set_crc32_options(before)
        with open_checkpoint(path) as checkpoint:
            checkpoint.check_sums()
            place = checkpoint.places["b"].offset + 7
        whole = bytearray(path.read_bytes())
        whole[place] ^= 4
        path.write_bytes(whole)
        with open_checkpoint(path) as checkpoint:
            if not computed:
                checkpoint.check_sums()
                return
            with pytest.raises(ConvkitError, match=r"state\.pt: is damaged: .* record state/data/1 .* CRC-32"):
                checkpoint.check_sums()

    def test_a_compressed_pickle_of_zeros(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch_files, "BYTES_LIMIT", 1000)
        self.refuse(archive(tmp_path / "bomb.pt", bytes(1001)), "data.pkl has 1001 bytes, over 1000")

    def test_a_big_endian_legacy_file(self, tmp_path: Path) -> None:
        head = b"".join(pickle.dumps(item, 2) for item in (1001, {"little_endian": False}))
        (tmp_path / "old.pt").write_bytes(LEGACY_HEAD + head)
        self.refuse(tmp_path / "old.pt", "is big-endian")

    def test_what_torch_never_wrote(self, tmp_path: Path) -> None:
        (tmp_path / "old.pt").write_bytes(b"ustar")
        self.refuse(tmp_path / "old.pt", "isn't a file of torch.save")
