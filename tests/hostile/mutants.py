"""Damage of files: bytes of any, values of JSON, YAML and msgpack, attributes of HDF5, pickles in zip archives."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

DEEP = "[" * 3000 + "]" * 3000
#: what may stand where another value stood
ODD: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2**31, 2**63, 2**70, -(2**70), 10**40, 1.5, -0.0, float("nan"), float("inf"), 1e308,
    "", "x", "a.b/c", "../x", "\0", "\ud800", "é" * 40, "1e-5", "true", "float32", "layers", [], [[]], [1], [-1],
    [None], ["x"], [1, [2]], {}, {"a": 1}, {"": {}}, {"a": None},
)  # fmt: skip


def mutated(path: Path, random: Random) -> bytes:
    """The bytes of a file, damaged."""
    data = path.read_bytes()
    kinds: list[Callable[[bytes, Random], bytes | None]] = [_bytes]
    if path.suffix in (".mdl",):
        kinds = [_hdf5, _hdf5, _cut]
    elif path.suffix == ".safetensors":
        kinds = [_header, _header, _bytes]
    elif data.startswith(b"PK"):
        kinds = [_pickle, _pickle, _bytes]
    elif path.suffix == ".yaml":
        kinds = [_yaml, _yaml, _bytes]
    elif data.lstrip()[:1] in (b"{", b"["):
        kinds = [_json, _json, _json, _text, _bytes]
    elif path.name in ("checkpoint", "checkpoint_3"):
        kinds = [_msgpack, _msgpack, _bytes]
    for _ in range(20):
        found = random.choice(kinds)(data, random)
        if found is not None and found != data:
            return found
    return b""


def _bytes(data: bytes, random: Random) -> bytes:
    """Flipped, cut, zeroed, repeated or spliced."""
    if not data:
        return b"\0"
    made = bytearray(data)
    near = min(len(made), random.choice((64, 4000, len(made))))
    at, length = random.randrange(near), random.choice((1, 4, 8, 64, 1000))
    match random.randrange(8):
        case 0 | 1 | 2:
            for _ in range(random.choice((1, 3, 20))):
                made[random.randrange(near)] = random.randrange(256)
        case 3:
            return _cut(data, random)
        case 4:
            made[at : at + length] = bytes(len(made[at : at + length]))
        case 5:
            made[at : at + length] = b"\xff" * len(made[at : at + length])
        case 6:
            other = random.randrange(len(made))
            made[at : at + length] = made[other : other + length]
        case 7:
            made[at:at] = random.randbytes(length)
    return bytes(made)


def _cut(data: bytes, random: Random) -> bytes:
    return data[: random.choice((0, 1, 8, len(data) // 2, len(data) - 1, random.randrange(len(data) + 1)))]


def _changed(value: Any, random: Random) -> Any:
    """The value, with another in place of one or two that it holds."""
    made = copy.deepcopy(value)
    for _ in range(random.choice((1, 1, 2))):
        holder = _holder(made, random)
        if holder is None:
            return random.choice(ODD)
        if isinstance(holder, dict):
            name = random.choice(list(holder))
            match random.randrange(8):
                case 0:
                    del holder[name]
                case 1:
                    holder[random.choice(("x", "", "a.b", "../y", name + "/z" if isinstance(name, str) else "q"))] = (
                        holder.pop(name)
                    )
                case 2:
                    holder[name] = holder[random.choice(list(holder))]
                case _:
                    holder[name] = _odd(holder[name], random)
        else:
            at = random.randrange(len(holder))
            match random.randrange(6):
                case 0:
                    del holder[at]
                case 1:
                    holder.append(random.choice(ODD))
                case _:
                    holder[at] = _odd(holder[at], random)
    return made


def _odd(value: Any, random: Random) -> Any:
    if random.random() < 0.15:
        return [value]
    if random.random() < 0.15 and not isinstance(value, bytes):
        return str(value)
    return random.choice(ODD)


def _holder(value: Any, random: Random) -> dict[Any, Any] | list[Any] | None:
    """One of the containers in a value, the deep ones as likely as the others."""
    found: list[dict[Any, Any] | list[Any]] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict | list) and one:
            found.append(one)
            waiting += one.values() if isinstance(one, dict) else one
    return random.choice(found) if found else None


def _json(data: bytes, random: Random) -> bytes | None:
    try:
        return json.dumps(_changed(json.loads(data), random)).encode()
    except ValueError:
        return None


def _text(data: bytes, random: Random) -> bytes:
    """JSON that isn't quite."""
    text = data.decode(errors="replace")
    match random.randrange(6):
        case 0:
            return b"\xef\xbb\xbf" + data
        case 1:
            return text.encode("utf-16")
        case 2:
            return text.replace(":", ":" + DEEP + ',"d":', 1).encode()
        case 3:
            return text.replace("1", "1" * 5000, 1).encode()
        case 4:
            return text.replace('"', '"\\ud800', 1 + random.randrange(3)).encode()
        case _:
            return data + b"," + data


def _yaml(data: bytes, random: Random) -> bytes | None:
    import yaml

    extra = ("\nself: &s\n  a: *s\n", "\n? [a]\n: b\n", "\nd: 2001-01-01\n", "\ns: !!set {a, b}\n", "\nn: 1:2:3\n",
             "\nb: !!binary aGk=\n", "\nt: !!python/tuple [1]\n", "\n\tx: 1\n", "\n1: 2\n", "\n~: 2\n",
             "\nx: " + DEEP)  # fmt: skip
    if random.random() < 0.3:
        return data + random.choice(extra).encode()
    try:
        return yaml.dump(_changed(yaml.safe_load(data), random), allow_unicode=True).encode(errors="surrogatepass")
    except yaml.YAMLError:
        return None


def _msgpack(data: bytes, random: Random) -> bytes | None:
    import msgpack

    try:
        tree = msgpack.unpackb(data, strict_map_key=False)
        changed = _changed(tree, random)
        if random.random() < 0.2 and isinstance(changed, dict):
            odd = (msgpack.ExtType(2, msgpack.packb((1, "x"))), msgpack.ExtType(9, b""), msgpack.ExtType(1, b"\x93"),
                   msgpack.ExtType(3, msgpack.packb(((2**40,), "float32", b""))), b"raw",
                   msgpack.Timestamp(1))  # fmt: skip
            holder = _holder(changed, random)
            if isinstance(holder, dict):
                holder[random.choice([*holder, 7])] = random.choice(odd)
        return msgpack.packb(changed)
    except (ValueError, TypeError, OverflowError, msgpack.exceptions.ExtraData):
        return None


def _header(data: bytes, random: Random) -> bytes | None:
    """safetensors with another header, its length right or wrong."""
    length = int.from_bytes(data[:8], "little")
    header = (_json if random.random() < 0.8 else _text)(data[8 : 8 + length], random)
    if header is None:
        return None
    stated = len(header) if random.random() < 0.9 else random.choice((0, 1, 2**63 - 1, 2**64 - 1, len(data)))
    return stated.to_bytes(8, "little") + header + data[8 + length :]


def _pickle(data: bytes, random: Random) -> bytes | None:
    """A torch archive with a damaged pickle, whose checksum is right; or with other entries."""
    made = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
            for info in old.infolist():
                held = old.read(info)
                if info.filename.endswith("data.pkl"):
                    held = _bytes(held, random)
                elif random.random() < 0.02:
                    continue
                new.writestr(info.filename, held)
    except (zipfile.BadZipFile, ValueError, OSError):
        return None
    return made.getvalue()


def _hdf5(data: bytes, random: Random) -> bytes | None:
    """Attributes and datasets of another value or kind. Flipped bytes of HDF5's own structures crash HDF5."""
    import h5py
    import numpy as np

    made = io.BytesIO(data)
    try:
        with h5py.File(made, "r+") as file:
            names: list[str] = []
            file.visit(names.append)
            holder = random.choice([file, file, *(file[name] for name in names[:40])])
            attributes = list(holder.attrs)
            if attributes:
                name = random.choice(attributes)
                old = holder.attrs[name]
                new: Any = random.choice(
                    (0, -1, 1.5, "x", "", "[1", b"\xff", np.array([1, 2]), np.zeros(0), True, None)
                )
                if isinstance(old, str) and random.random() < 0.7:
                    found = _json(old.encode(), random)
                    new = found.decode() if found is not None else old[: len(old) // 2]
                if new is None:
                    del holder.attrs[name]
                else:
                    holder.attrs[name] = new
            elif names:
                name = random.choice(names)
                del file[name]
                if random.random() < 0.7:
                    file[name] = random.choice((np.zeros(3), np.zeros((2, 2), "i2"), h5py.Empty("f4"), np.float32(1)))
    except (OSError, KeyError, ValueError, TypeError, RuntimeError):
        return None
    return made.getvalue()
