"""Sharded checkpoints: several files, and a JSON index from keys to files.

The index is that of transformers (``model.safetensors.index.json``, ``pytorch_model.bin.index.json``):
``{"metadata": {"total_size": bytes}, "weight_map": {key: file name}}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from msgspec import Struct

from convkit.checkpoint import Leaf, json_text
from convkit.errors import ConvkitError, UsageError

#: suffix of an index, after the name that a single file would have
INDEX = ".index.json"


def parse_json(text: bytes | str, path: Path) -> Any:
    """Parse JSON, refusing duplicate keys (parsers differ on which one wins).

    Raises:
        ConvkitError: not JSON, or a key twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ConvkitError("is there twice in the JSON", path=path, key=twice, remedy="write it anew")
        return found

    try:
        return json_text.loads(text, object_pairs_hook=unique)
    except ValueError as error:
        raise ConvkitError(f"holds no valid JSON: {error}", path=path, remedy="fetch the file again") from error


def read_index(index: Path) -> dict[Path, set[str]]:
    """The shards that an index lists, by name, and the keys that each must hold. Names outside the index's folder are
    refused. Links in the folder are followed: huggingface_hub's cache consists of them.

    Raises:
        ConvkitError: not an index, a shard outside the folder, or a missing shard.
    """
    parsed = parse_json(index.read_bytes(), index)
    weight_map = parsed.get("weight_map") if isinstance(parsed, dict) else None
    if not isinstance(weight_map, dict):
        raise ConvkitError("the index has no weight_map", path=index, remedy="fetch the file again")
    keys: dict[str, set[str]] = {}
    for key, name in weight_map.items():
        if not isinstance(name, str) or not name:
            raise ConvkitError("the index names no file", path=index, key=key, remedy="fetch the file again")
        keys.setdefault(name, set()).add(key)
    for name, listed in keys.items():
        parts = PureWindowsPath(name).parts  # which are parted by slashes too
        if PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor or ".." in parts or "\0" in name:
            raise ConvkitError(
                f"the index points outside its folder: {name!r}",
                path=index,
                key=min(listed),
                remedy="don't trust this checkpoint",
            )
        if "\\" in name:
            raise ConvkitError(
                f"the index names {name!r}, with a backslash as on Windows",
                path=index,
                key=min(listed),
                remedy="write the index anew, with slashes",
            )
        if not (index.parent / name).is_file():
            raise ConvkitError(
                f"the shard {name} is missing", path=index, key=min(listed), remedy="fetch every file of the index"
            )
    return {index.parent / name: keys[name] for name in sorted(keys)}


def check_shard(index: Path, shard: Path, listed: set[str], found: Iterable[str]) -> None:
    """Check that the index and the shard hold the same keys.

    Raises:
        ConvkitError: a key is only in the index, or only in the shard.
    """
    found = set(found)
    if ghosts := listed - found:
        raise ConvkitError(
            f"the index says it is in {shard.name}, which doesn't hold it",
            path=index,
            key=min(ghosts),
            remedy="fetch both files again",
        )
    if unlisted := found - listed:
        raise ConvkitError(
            f"is in the shard, but {index.name} doesn't list it there",
            path=shard,
            key=min(unlisted),
            remedy="fetch both files again",
        )


def split(leaves: Sequence[Leaf], shard_size: int | None) -> list[list[Leaf]]:
    """Cut leaves, in order, into shards of at most ``shard_size`` bytes; a larger tensor gets a shard of its own."""
    shards: list[list[Leaf]] = [[]]
    filled = 0
    for leaf in leaves:
        nbytes = leaf.spec.nbytes if leaf.spec else 0
        if shard_size is not None and filled and filled + nbytes > shard_size:
            shards.append([])
            filled = 0
        shards[-1].append(leaf)
        filled += nbytes
    return shards


class Output(Struct, frozen=True):
    """A checkpoint's output: the files of its shards, the folder to fill (None: one file), and the index."""

    files: list[Path]
    folder: Path | None
    index: dict[str, bytes]


def locate(path: Path, *singles: str) -> tuple[Path | None, dict[Path, set[str]]]:
    """The index, if there is one, and the files to read, each with the keys that the index lists for it.

    Args:
        path: a file, an index, or a folder with one of the files ``singles`` (which wins) or its index.
        singles: ``model.safetensors`` or ``pytorch_model.bin`` first; the first of them that is there counts.

    Raises:
        ConvkitError: the folder holds neither, or the index is wrong.
    """
    single = next((name for name in singles if any((path / (name + end)).is_file() for end in ("", INDEX))), singles[0])
    index = path / (single + INDEX) if path.is_dir() else path
    if path.is_dir() and (path / single).is_file():
        return None, {path / single: set()}
    if not index.name.endswith(INDEX):
        return None, {path: set()}
    if not index.is_file():
        raise ConvkitError(f"the folder holds neither {single} nor its index", path=path, remedy="name the file itself")
    return index, read_index(index)


def arrange(path: Path, single: str, shards: Sequence[Sequence[Leaf]], *, file: bool, indexed: bool = False) -> Output:
    """Names for shards, ``model-00001-of-00002.safetensors`` and so on; a single shard keeps the plain name, unless it
    is to be ``indexed``.

    Args:
        path: the file or folder to write.
        single: ``model.safetensors`` or ``pytorch_model.bin``.
        shards: the leaves of each.
        file: ``path`` is a file.
        indexed: whether a folder has an index for a single shard, too.

    Raises:
        UsageError: several shards in one file.
    """
    if file:
        if len(shards) > 1:
            raise UsageError("one file can't be cut into shards", path=path, remedy="name a folder")
        return Output([path], None, {})
    if len(shards) == 1 and not indexed:
        return Output([path / single], path, {})
    stem, _, suffix = single.rpartition(".")
    names = [f"{stem}-{number:05d}-of-{len(shards):05d}.{suffix}" for number in range(1, len(shards) + 1)]
    weight_map = {leaf.key: name for name, shard in zip(names, shards, strict=True) for leaf in shard}
    total_size = sum(leaf.spec.nbytes for shard in shards for leaf in shard if leaf.spec and not leaf.same_as)
    index = {"metadata": {"total_size": total_size}, "weight_map": dict(sorted(weight_map.items()))}
    text = json.dumps(index, indent=2, ensure_ascii=False) + "\n"
    return Output([path / name for name in names], path, {single + INDEX: text.encode()})
