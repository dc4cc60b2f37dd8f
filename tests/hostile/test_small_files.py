"""Small files that stand for more than a memory or a day holds: each is refused in one line that names a limit.

The inputs are models of files that people were sent. The slow test starts a process for each, and looks at its memory
and time; the quick ones call the readers.
"""

from __future__ import annotations

import bz2
import json
import re
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import msgpack
import numpy as np
import pytest

from convkit.cli import run

#: most that a refusal may take
MEMORY, SECONDS = 1 << 30, 20
#: runs a command and says the most memory that it had, in KiB, and its processor time
_MEASURED = """
import re, sys, time
from pathlib import Path
from convkit.cli import main
code = main()
most = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
print("measured", most, time.process_time(), file=sys.stderr)
raise SystemExit(code)
"""
STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ"
HOOKS = b"ccollections\nOrderedDict\n)R"


def archive(path: Path, body: bytes, *, times: int = 1, **more: int | bytes) -> None:
    """A torch archive with this pickle, repeated and packed, and more entries; a number is one of so many zeros."""
    entries: dict[str, int | bytes] = {"data/0": bytes(16)}
    entries |= {name.replace("_", "/"): data for name, data in more.items()}
    with zipfile.ZipFile(path, "w", compresslevel=1) as file:
        for name, data in {"data.pkl": b"\x80\x02" + body, **entries}.items():
            info = zipfile.ZipInfo(f"archive/{name}")
            large = isinstance(data, int) or (times > 1 and name == "data.pkl")
            info.compress_type = zipfile.ZIP_DEFLATED if large else zipfile.ZIP_STORED
            with file.open(info, "w", force_zip64=False) as entry:
                if isinstance(data, int):
                    for _ in range(data >> 20):
                        entry.write(bytes(1 << 20))
                else:
                    for _ in range(times if name == "data.pkl" else 1):
                        entry.write(data)


def zeros(window: int, mebibytes: int) -> bytes:
    """Zeros as deflate packs them; what a checksum says of them is wrong."""
    packer = zlib.compressobj(9, zlib.DEFLATED, window)
    head = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    part = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + part * (mebibytes - 1) + packer.flush()


def long_names(folder: Path) -> Path:
    """A list of lists of lists, shared, below one long name: 7 kB for seven gigabytes of keys."""
    body = b"}X\0\x08\0\0" + b"k" * 2048 + b"K\x01q\x000"
    for level in range(6):
        body += b"](" + (b"h" + bytes([level])) * 11 + b"eq" + bytes([level + 1]) + b"0"
    archive(folder / "pytorch_model.bin", body + b"h\x06s.")
    return folder


def many_leaves(folder: Path) -> Path:
    body = b"}X\x01\0\0\0aK\x01q\x000" + b"".join(b"](h%ch%ceq%c0" % (n, n, n + 1) for n in range(30)) + b"h\x1es."
    archive(folder / "pytorch_model.bin", body)
    return folder


def many_opcodes(folder: Path) -> Path:
    archive(folder / "pytorch_model.bin", b"(" + b"}" * (9 << 20) + b"l.")
    return folder


def big_pickle(folder: Path) -> Path:
    archive(folder / "pytorch_model.bin", b"N0" * (1 << 19), times=1200)
    return folder


def big_byteorder(folder: Path) -> Path:
    archive(folder / "pytorch_model.bin", b"}.", byteorder=1200 << 20)
    return folder


def understated_byteorder(folder: Path) -> Path:
    """An entry whose directory says six bytes, and whose data unpacks to a gigabyte."""
    path = folder / "pytorch_model.bin"
    archive(path, b"}.", byteorder=1200 << 20)
    path.write_bytes(path.read_bytes().replace(struct.pack("<L", 1200 << 20), struct.pack("<L", 6)))
    return folder


def many_entries(folder: Path) -> Path:
    """A directory of a million entries, all of them one."""
    name = b"archive/data/0"
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, 0, 0, len(name), 0, 0, 0, 0, 0, 0) + name
    data = entry * (1 << 20)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(data), 4, 0)
    (folder / "pytorch_model.bin").write_bytes(b"PK\3\4" + data + end)
    return folder


def one_element_repeated(folder: Path) -> Path:
    """A tensor of 2⁴⁰ elements with stride 0."""
    size = b"\x8a\x06" + (1 << 40).to_bytes(6, "little")
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\0" + size + b"\x85K\0\x85\x89" + HOOKS + b"tR"
    archive(folder / "pytorch_model.bin", b"}X\x01\0\0\0w" + call + b"s.")
    return folder


def shared_storages(folder: Path) -> Path:
    """Two entries that are the same bytes of the file."""
    path = folder / "pytorch_model.bin"
    archive(path, b"}.", data_1=bytes(16))
    data = path.read_bytes()
    at = data.index(b"archive/data/1", data.index(b"PK\1\2"))
    first = data.index(b"archive/data/0") - 30
    path.write_bytes(data[: at - 4] + struct.pack("<L", first) + data[at:])
    return folder


def header_of_lists(folder: Path) -> Path:
    header = b'{"a":[' + b"[]," * 16_000_000 + b"0]}"
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
    return folder


def header_of_gigabytes(folder: Path) -> Path:
    with (folder / "model.safetensors").open("wb") as file:
        file.write((3 << 30).to_bytes(8, "little") + b"{")
        file.truncate((3 << 30) + 8)
    return folder


def many_axes(folder: Path) -> Path:
    header = json.dumps({"a": {"dtype": "U8", "shape": [1] * 100_000, "data_offsets": [0, 1]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    return folder


def index_of_lists(folder: Path) -> Path:
    (folder / "model.safetensors.index.json").write_bytes(b"[" + b"{}," * 16_000_000 + b"{}]")
    return folder


def deep_index(folder: Path) -> Path:
    (folder / "model.safetensors.index.json").write_bytes(b'{"weight_map":' + b"[" * 1_000_000)
    return folder


def half_a_pair(folder: Path) -> Path:
    header = rb'{"\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    return folder


def tensors(folder: Path) -> None:
    header = json.dumps({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0")


def big_config(folder: Path) -> Path:
    tensors(folder)
    (folder / "config.json").write_bytes(b'{"a":[' + b"[]," * 30_000_000 + b"0]}")
    return folder


def aliases(folder: Path) -> Path:
    tensors(folder)
    text = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    (folder / "params.yaml").write_text(text)
    return folder


def merged(folder: Path) -> Path:
    tensors(folder)
    text = "a0: &a0 {k: 1}\n"
    text += "".join(f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    (folder / "params.yaml").write_text(text)
    return folder


def circle(folder: Path) -> Path:
    tensors(folder)
    (folder / "params.yaml").write_text("a: &a\n  b: *a\n")
    return folder


def big_yaml(folder: Path) -> Path:
    tensors(folder)
    (folder / "params.yaml").write_text("- [a, b, c]\n" * 1_000_000)
    return folder


def base_60(folder: Path) -> Path:
    tensors(folder)
    (folder / "params.yaml").write_text("a: 1" + ":1" * 400_000 + "\n")
    return folder


def zarr(folder: Path, chunk: bytes = b"", **fields: object) -> Path:
    place = folder / "target.w"
    place.mkdir()
    usual = {"zarr_format": 2, "shape": [4], "chunks": [4], "dtype": "<f4", "compressor": None, "fill_value": None,
             "order": "C", "filters": None, "dimension_separator": "."}  # fmt: skip
    (place / ".zarray").write_text(json.dumps(usual | fields))
    (folder / "checkpoint").write_bytes(msgpack.packb({"version": 3, "optimizer": {"target": {}}}))
    if chunk:
        (place / "0").write_bytes(chunk)
    return folder


def many_chunks(folder: Path) -> Path:
    return zarr(folder, shape=[200_000_000], chunks=[1], fill_value=0)


def absent_chunks(folder: Path) -> Path:
    return zarr(folder, shape=[1 << 42], chunks=[1 << 40], fill_value=0)


def large_chunk(folder: Path) -> Path:
    return zarr(folder, b"x" * 40, shape=[1 << 40], chunks=[1 << 40], compressor={"id": "gzip", "level": 1})


def gzip_bomb(folder: Path) -> Path:
    """A chunk that unpacks to 1.5 GB, and whose last bytes say what the array says."""
    chunk = zeros(31, 1500)[:-4] + (4 << 20).to_bytes(4, "little")
    return zarr(folder, chunk, shape=[1 << 20], chunks=[1 << 20], compressor={"id": "gzip", "level": 1})


def zlib_bomb(folder: Path) -> Path:
    return zarr(folder, zeros(15, 1500), compressor={"id": "zlib", "level": 1})


def bz2_bomb(folder: Path) -> Path:
    return zarr(folder, bz2.compress(bytes(1 << 26), 9), compressor={"id": "bz2", "level": 1})


def zstd_bomb(folder: Path) -> Path:
    """Blocks that are one byte, repeated 128 thousand times."""
    block = (1 << 17 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    last = (1 << 17 << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"\0"
    frame = b"\x28\xb5\x2f\xfd\x00\x58" + block * 20_000 + last
    return zarr(folder, frame, compressor={"id": "zstd", "level": 1})


def blosc_bomb(folder: Path) -> Path:
    head = struct.pack("<4B3L", 2, 1, 0, 4, (1 << 31) - 17, 1 << 20, 32)
    return zarr(folder, head + bytes(16), compressor={"id": "blosc", "cname": "lz4", "clevel": 1, "shuffle": 0})


def flax(folder: Path, data: bytes) -> Path:
    (folder / "checkpoint").write_bytes(data)
    return folder


def announced(folder: Path) -> Path:
    return flax(folder, b"\x81\xa6params\xdd\xff\xff\xff\xff\xc0\xc0")


def many_objects(folder: Path) -> Path:
    return flax(folder, b"\x81\xa6params\xdd" + (50_000_000).to_bytes(4, "big") + b"\xc0" * 50_000_000)


def deep_msgpack(folder: Path) -> Path:
    return flax(folder, b"\x81\xa6params" + b"\x91" * 1_000_000 + b"\xc0")


def filled(folder: Path) -> Path:
    """A `.mdl` whose one tensor is one value, a thousand billion times."""
    from convkit.checkpoint import Leaf, WriteOptions
    from convkit.formats.cerebras_h5.format import FORMAT

    path = folder / "a.mdl"
    FORMAT.create(path, [Leaf("w", value=1)], WriteOptions()).commit()
    notes = {"__TYPE__": "DeferredFullTensor", "shape": [1 << 40], "dtype": "torch.float32", "fill_value": 1}
    with h5py.File(path, "r+") as file:
        record = json.loads(file.attrs["w.__metadata__"])
        record["w.__metadata__"] = notes
        file.attrs["w.__metadata__"] = json.dumps(record)
    return path


def unallocated(folder: Path) -> Path:
    """A `.mdl` whose one tensor is a dataset of which nothing is stored."""
    from convkit.checkpoint import Leaf, TensorSpec, WriteOptions
    from convkit.formats.cerebras_h5.format import FORMAT

    path = folder / "a.mdl"
    writer = FORMAT.create(path, [Leaf("w", TensorSpec((2,), "float32"))], WriteOptions())
    writer.write("w", 0, np.zeros(2, "uint32"))
    writer.finish("w")
    writer.commit()
    with h5py.File(path, "r+") as file:
        record = json.loads(file.attrs["w.__metadata__"])
        record["w.__metadata__"]["shapes"] = [[1 << 40]]
        file.attrs["w.__metadata__"] = json.dumps(record)
        held = dict(file["w"].attrs)
        del file["w"]
        file.create_dataset("w", (1 << 40,), "f4", chunks=(1 << 20,)).attrs.update(held)
    return path


#: the file, and what its refusal says
HOSTILE: dict[Callable[[Path], Path], str] = {
    long_names: "characters, the most of one file",
    many_leaves: "levels|over 524288 leaves, the most",
    many_opcodes: "over 8388608 opcodes, the most",
    big_pickle: "over 67108864, the most",
    big_byteorder: "over 16, the most",
    understated_byteorder: "isn't a complete file of torch.save",
    many_entries: "over 33554432, the most",
    one_element_repeated: "w: has 4398046511104 bytes, of which 16 are stored: over 34359738368, the most",
    shared_storages: "share bytes",
    header_of_lists: "values, over 2097152, the most",
    header_of_gigabytes: "over 100000000",
    many_axes: "a: has 100000 axes, over 64, the most",
    index_of_lists: "values, over 2097152, the most",
    deep_index: "nested too deeply",
    half_a_pair: "surrogates not allowed",
    big_config: "config.json: has over 4194304 bytes, the most",
    aliases: "stands for over 1048576 values, the most",
    merged: "stands for over 1048576 values, the most",
    circle: "a value holds itself",
    big_yaml: "params.yaml: has over 1048576 bytes, the most",
    base_60: "over 400 characters, the most",
    many_chunks: "has 200000000 chunks, over 1048576, the most",
    absent_chunks: "over 34359738368, the most",
    large_chunk: "over 8589934592, the most",
    gzip_bomb: "unpacks to over 4194304 bytes",
    zlib_bomb: "unpacks to over 16 bytes",
    bz2_bomb: "unpacks to over 16 bytes",
    zstd_bomb: "bytes aren't a whole chunk",
    blosc_bomb: "bytes aren't a whole chunk",
    announced: "is truncated",
    many_objects: "over 524288 leaves, the most",
    deep_msgpack: "nested more than 100 deep",
    filled: "w: has 4398046511104 bytes, of which 0 are stored",
    unallocated: "w: has 4398046511104 bytes, of which 0 are stored",
}
#: those that take no time to make and to refuse
QUICK = (
    long_names, one_element_repeated, shared_storages, header_of_gigabytes, many_axes, half_a_pair, aliases, merged,
    circle, many_chunks, absent_chunks, large_chunk, zstd_bomb, blosc_bomb, announced, filled, unallocated,
)  # fmt: skip


@pytest.mark.parametrize("hostile", QUICK, ids=lambda hostile: hostile.__name__)
def test_a_small_file_is_refused(
    hostile: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", str(hostile(tmp_path)), "--digest"]) == 3
    check(capsys.readouterr().err, HOSTILE[hostile], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.__name__)
def test_a_refusal_takes_little_memory_and_time(hostile: Callable[[Path], Path], tmp_path: Path) -> None:
    path = hostile(tmp_path)
    start = time.monotonic()
    command = [sys.executable, "-c", _MEASURED, "inspect", str(path), "--digest"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    taken = time.monotonic() - start
    said, _, measured = done.stderr.rpartition("measured ")
    assert done.returncode == 3, said
    kib, used = measured.split()
    check(said, HOSTILE[hostile], tmp_path)
    assert int(kib) << 10 < MEMORY
    assert min(float(used), taken) < SECONDS  # others may keep the machine busy


def check(said: str, limit: str, folder: Path) -> None:
    """One line that says the limit, the file and a remedy; progress may stand before it."""

    line = said.strip().splitlines()[-1]
    assert line.startswith("convkit: ")
    assert re.search(limit, line), line
    assert str(folder) in line
    assert line.endswith(")")
