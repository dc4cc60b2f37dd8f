"""What a file is by its first bytes, whatever its name: weights of a known format, or what people take for them.

Magic numbers are those of the formats' specifications; GGUF's and GGML's are llama.cpp's (``ggml/include/gguf.h``).
"""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

#: bytes that are looked at; a tar's magic number begins at byte 257
_START = 512
#: the header of a safetensors file is shorter (the limit of the reference implementation)
_HEADER = 100_000_000


class Contents(Struct, frozen=True):
    """What a file is.

    Attributes:
        what: this, in words, as the rest of a sentence: ``is an HTML page``.
        remedy: the way on.
        format: the format of convkit's that reads it; empty if none does.
    """

    what: str
    remedy: str
    format: str = ""


_AGAIN = "fetch the file again"
_ORIGINAL = "convert the original: a repository with .safetensors or .bin"
_FROM_TF = "in transformers: from_pretrained(..., from_tf=True), then save_pretrained"
_FROM_FLAX = "in transformers: from_pretrained(..., from_flax=True), then save_pretrained"
_STATE_DICT = "load it where it was made, and save the state dict with torch.save"

_SAFETENSORS = Contents("is a safetensors file", "name it .safetensors", "safetensors")
_TORCH = Contents("is a file of torch.save", "name it .pt", "torch")
_HDF5 = Contents("is an HDF5 file", "a Cerebras checkpoint is named .mdl", "cerebras-h5")
FLAX = Contents("is flax's msgpack", _FROM_FLAX, "orbax-v0")

#: how a file begins -> what it is
_MAGIC: dict[bytes, Contents] = {
    b"version https://git-lfs.github.com/spec/": Contents(
        "is a Git LFS pointer, not the file itself", "git lfs pull in its repository, or download the file"
    ),
    b"GGUF": Contents("is a GGUF file of llama.cpp", _ORIGINAL),
    **dict.fromkeys((b"lmgg", b"ggml", b"fmgg", b"tjgg", b"algg"), Contents("is a GGML file of llama.cpp", _ORIGINAL)),
    b"\x1f\x8b": Contents("is compressed by gzip", "unpack it: gunzip, or tar xzf if it is an archive"),
    b"BZh": Contents("is compressed by bzip2", "unpack it: bunzip2"),
    b"\xfd7zXZ\0": Contents("is compressed by xz", "unpack it: unxz"),
    b"\x28\xb5\x2f\xfd": Contents("is compressed by zstd", "unpack it: unzstd"),
    b"7z\xbc\xaf\x27\x1c": Contents("is a 7z archive", "unpack it, and name the checkpoint in it"),
    b"Rar!\x1a\x07": Contents("is a RAR archive", "unpack it, and name the checkpoint in it"),
    b"\x93NUMPY": Contents("is an array of NumPy (.npy)", "name a checkpoint: keys and tensors"),
    b"PAR1": Contents("is a Parquet file: data, not weights", "name the checkpoint"),
    b"SQLite format 3\0": Contents("is an SQLite database", "name the checkpoint"),
    b"%PDF": Contents("is a PDF document", _AGAIN),
    b"PK\5\6": Contents("is an empty zip archive", _AGAIN),
    b"\x89HDF\r\n\x1a\n": _HDF5,
}
#: names of the first entry of a tar that torch.save wrote before release 0.1.10
_OLD_TORCH = re.compile(rb"(?:\./)?(?:sys_info|storages|tensors|pickle)\0")
#: the magic number of torch.save before 1.6, pickled, near the start
_LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
#: a pickle's protocol, and how it goes on
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
#: a map of msgpack's whose first key is a text
_MSGPACK = re.compile(rb"(?:[\x81-\x8f]|\xde..|\xdf....)[\xa0-\xbf\xd9-\xdb]", re.DOTALL)


def contents_of(file: Path) -> Contents | None:
    """What a file is; None if its first bytes show nothing.

    Raises:
        OSError: it can't be read.
    """
    with file.open("rb") as opened:
        start = opened.read(_START)
    size = file.stat().st_size
    if not start:
        return Contents("is empty: 0 bytes", _AGAIN)
    for magic, found in _MAGIC.items():
        if start.startswith(magic):
            return found if found is not _HDF5 else _hdf5(file)
    if start.startswith(b"PK\3\4"):
        return _archive(file)
    if start[257:262] == b"ustar" or (_OLD_TORCH.match(start) and len(start) == _START):
        return _tar(start)
    if _LEGACY in start[:32]:
        return _TORCH
    if start[4:8] == b"TFL3":
        return Contents("is a model of TensorFlow Lite", _ORIGINAL)
    length = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and length <= min(_HEADER, size - 8):
        return _SAFETENSORS
    return _text(start) or _objects(start)


def _text(start: bytes) -> Contents | None:
    """What a text is."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()[:64].lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return Contents("is an HTML page, not the file itself", "fetch it again: the server may ask for a login")
    if text.startswith((b"<?xml", b"<error")):
        return Contents("is an XML document, such as a server's error", "fetch it again, and read what it says")
    if text[:1] in (b"{", b"[") and text[1:].lstrip()[:1] in (b'"', b"{", b"[", b"}"):
        return Contents("is a JSON text, such as a config or a server's error", "name the file of the weights")
    return None


def _objects(start: bytes) -> Contents | None:
    """What serialized objects are."""
    if _PICKLE.match(start):
        return Contents("is a plain pickle, not a file of torch.save", _STATE_DICT)
    return FLAX if _MSGPACK.match(start) else None


def _tar(start: bytes) -> Contents:
    if _OLD_TORCH.match(start):
        return Contents("is a file of torch.save before release 0.1.10: a tar archive", _STATE_DICT)
    return Contents("is a tar archive", "unpack it: tar xf, and name the checkpoint in it")


def _archive(file: Path) -> Contents:
    """What a zip archive holds, by the names of its entries."""
    import zipfile

    from convkit.formats.torch.files import ArchiveFile

    try:
        with ArchiveFile(file) as opened, zipfile.ZipFile(opened) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return _TORCH  # which says what is wrong with the archive
    if any(name.count("/") <= 1 and name.endswith("data.pkl") for name in names):
        return _TORCH
    if names and all(name.endswith(".npy") for name in names):
        return Contents("is an archive of NumPy arrays (.npz)", "save them as safetensors: safetensors.numpy.save_file")
    if "model.weights.h5" in names:
        return Contents("is a model of Keras 3 (.keras)", _FROM_TF)
    inner = next((name for name in names if name.endswith((".safetensors", ".bin", ".pt", ".pth", ".mdl"))), None)
    named = f", but holds {inner}" if inner else ""
    problem = f"is a zip archive that torch.save didn't write: it has no data.pkl{named}"
    return Contents(problem, "unpack it: unzip, and name the checkpoint in it")


def _hdf5(file: Path) -> Contents:
    """A Cerebras checkpoint, or Keras's."""
    from convkit.formats.cerebras_h5.entries import ERRORS
    from convkit.formats.cerebras_h5.hdf5 import UNCOLLECTED, opened

    try:
        with UNCOLLECTED, opened(file) as found:
            keras = {"layer_names", "keras_version"} & set(found.attrs) or {"model_weights"} & set(found)
    except ERRORS:  # the format says what is wrong
        return _HDF5
    return Contents("is an HDF5 file of Keras or TensorFlow", _FROM_TF) if keras else _HDF5
