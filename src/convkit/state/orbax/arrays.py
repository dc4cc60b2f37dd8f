"""The metadata of each array of a pytree item: its sharding, its chunks, its random key's algorithm.

Sources: orbax-checkpoint 0.12.8 ``_src/metadata/sharding.py`` (``_sharding``) and
``_src/metadata/array_metadata_store.py`` (``array_metadatas/process_<i>``). The keys of ``_sharding`` are storage
names in base64, with "-" and "_". 0.4.1 used the plain name as a JSON pointer (there ``type_handlers.py``), so "/"
makes nested objects, and wrote nothing for an array on one device.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from convkit.errors import ConvkitError
from convkit.state.json_object import read_object

SHARDING_FILE = "_sharding"
ARRAYS_FOLDER = "array_metadatas"
_ENTRY, _NAME, _EXTENSION, _KEY_ALGORITHM = "array_metadata", "param_name", "ext_metadata", "random_key_impl"


class _ArrayMetadata(msgspec.Struct):
    """The form of an entry."""

    param_name: str
    write_shape: list[int] | None = None
    chunk_shape: list[int] | None = None
    ext_metadata: dict[str, Any] | None = None


def read_shardings(folder: Path) -> dict[str, str]:
    """The sharding of each ``jax.Array`` of an item, by storage name, as Orbax's text.

    Raises:
        ConvkitError: the file isn't what Orbax writes.
    """
    path = folder / SHARDING_FILE
    if not path.is_file():
        return {}
    found = dict(_texts(read_object(path), path))
    encoded = {name: _decoded(name) for name in found}
    if None in encoded.values() or "" in found.values():
        return found
    return {encoded[name] or "": text for name, text in found.items()}


def dump_shardings(shardings: Mapping[str, str]) -> bytes:
    """The text of the file."""
    return json.dumps({sharding_key(name): text for name, text in shardings.items()}).encode()


def sharding_key(name: str) -> str:
    """An array's key in the file: its storage name in base64."""
    return base64.urlsafe_b64encode(name.encode()).decode()


def single_device(device: str = "cpu:0") -> str:
    """The sharding of an array on a single device."""
    return json.dumps({"sharding_type": "SingleDeviceSharding", "device_str": device})


def read_array_metadatas(folder: Path) -> dict[str, dict[str, Any]]:
    """The entries of all processes by storage name: ``write_shape``, ``chunk_shape``, ``ext_metadata``.

    Raises:
        ConvkitError: a file isn't what Orbax writes.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((folder / ARRAYS_FOLDER).glob("process_*")):
        entries = read_object(path).get("array_metadatas")
        try:
            for entry in entries or []:
                msgspec.convert(entry[_ENTRY], _ArrayMetadata)
                found.setdefault(entry[_ENTRY][_NAME], entry[_ENTRY])
        except (KeyError, TypeError, ValueError):
            raise ConvkitError("holds no array metadata", path=path, remedy="fetch the file again") from None
    return found


def dump_array_metadatas(entries: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The text of one process's file."""
    return json.dumps({"array_metadatas": [{_ENTRY: dict(entry)} for entry in entries.values()]}).encode()


def array_metadata(
    name: str, write_shape: tuple[int, ...], chunk_shape: tuple[int, ...], key_algorithm: str | None = None
) -> dict[str, Any]:
    """An entry; ``key_algorithm`` is for the data of typed random keys, ``threefry2x32`` for example."""
    return {
        _NAME: name,
        "write_shape": list(write_shape),
        "chunk_shape": list(chunk_shape),
        _EXTENSION: {_KEY_ALGORITHM: key_algorithm} if key_algorithm else None,
    }


def key_algorithm(entry: Mapping[str, Any]) -> str | None:
    """The algorithm of the typed random keys whose data the array is; None for other arrays."""
    return (entry.get(_EXTENSION) or {}).get(_KEY_ALGORITHM)


def _texts(found: Mapping[str, Any], path: Path, above: str = "") -> Iterator[tuple[str, str]]:
    """The texts of nested objects, by their keys joined with "/"."""
    for name, text in found.items():
        if isinstance(text, dict):
            yield from _texts(text, path, f"{above}{name}/")
        elif isinstance(text, str):
            yield above + name, text
        else:
            raise ConvkitError("holds something other than text", path=path, remedy="fetch the file again")


def _decoded(name: str) -> str | None:
    """Decode base64 to text; None if it isn't base64 of text."""
    try:
        return base64.b64decode(name, altchars=b"-_", validate=True).decode()
    except ValueError:  # not ASCII, not base64, or not text
        return None
