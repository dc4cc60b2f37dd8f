"""Find what Orbax gets wrong or hides about one pytree item: pairs of a fact and a remedy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from convkit.formats.arrays.zarr import ZarrArray
from convkit.orbax.check.devices import foreign
from convkit.orbax.check.outcome import OrbaxError
from convkit.orbax.check.pytree import NARROWED, PyTree
from convkit.state.orbax import arrays, tree
from convkit.state.orbax.layout import AGGREGATE, MANIFEST
from convkit.state.orbax.tree import ARRAY, SCALAR, Node, Tree

_REWRITE = "convkit orbax migrate --to v1"
_NUMPY = "give a tree of numpy arrays, or of shardings"
#: bytes 4 and 5 of a manifest of tensorstore 0.1.35
_OLD_MANIFEST = b"\x00\x01"
#: last axis of the data of a random key, by algorithm: threefry and rbg
_KEY_SIZES = (2, 4)

Pair = tuple[str, str]
Opened = Sequence[tuple[Node, ZarrArray]]


def of_tree(folder: Path, devices: int = 1) -> Iterator[Pair]:
    """Yield all findings about the item in a folder."""
    item = PyTree(folder, devices)
    if _is_older(folder):
        yield (
            "an OCDBT database from before tensorstore 0.1.36, which no later release reads",
            "load it with tensorstore 0.1.35 and an Orbax of that time, and save it without OCDBT",
        )
        return
    yield from _unjoined(folder)
    try:
        described, _, _ = item.tree, item.shardings, item.key_algorithms
    except OrbaxError as error:
        yield f"metadata can't be read: {error}", "fetch the checkpoint again"
        return
    if described is None:
        yield f"no {tree.FILE}: as releases up to 0.4.1 wrote it, and v1 doesn't read it", _REWRITE
        return
    yield from _leaves(described)
    yield from _shardings(item, described, devices)
    opened = list(_opened(item, described))
    yield from _keys(folder, described, opened)
    yield from _narrowed(opened)
    yield from _absent(item, described, opened)


def _is_older(folder: Path) -> bool:
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return False
    with manifest.open("rb") as file:
        return file.read(6)[4:] == _OLD_MANIFEST


def _unjoined(folder: Path) -> Iterator[Pair]:
    processes = sorted(entry.name for entry in folder.glob("ocdbt.process_*"))
    if processes and not (folder / MANIFEST).is_file():
        yield f"{', '.join(processes)}: never merged, so Orbax finds no array in it", _REWRITE


def _leaves(described: Tree) -> Iterator[Pair]:
    names = Counter(node.name for node in described.nodes if node.is_array)
    for name, count in names.items():
        if count > 1:
            what = f"{count} leaves have one storage name, {name}: Orbax kept one, and loads it for all"
            yield what, "save it again, with keys that differ when joined with '.'"
    aside = [node.name for node in described.nodes if node.aggregated]
    if aside:
        what = f"{_list(aside)}: in the file {AGGREGATE}, which only v0's PyTreeCheckpointer reads"
        yield what, _REWRITE


def _shardings(item: PyTree, described: Tree, devices: int) -> Iterator[Pair]:
    jax = [node for node in described.nodes if node.value_type == ARRAY and not node.aggregated]
    if not jax:
        return
    if item.shardings is None:
        yield f"no {arrays.SHARDING_FILE}: jax arrays aren't loaded without a target", _NUMPY
        return
    stored = {node.name: item.shardings.get(arrays.sharding_key(node.name)) for node in jax}
    if unnamed := [name for name, text in stored.items() if text is None]:
        yield f"{_list(unnamed)}: {arrays.SHARDING_FILE} has no entry by which Orbax finds them", _NUMPY
    reasons: dict[str, list[str]] = {}
    for name, text in stored.items():
        if text and (reason := foreign(text, devices)):
            reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        yield f"{_list(names)}: saved on {reason}, which {devices} CPU device{'s' * (devices > 1)} can't hold", _NUMPY


def _opened(item: PyTree, described: Tree) -> Iterator[tuple[Node, ZarrArray]]:
    for node in described.nodes:
        if node.is_array and not node.aggregated:
            try:
                yield node, item.array(node)
            except OrbaxError:
                continue  # the calls report it


def _keys(folder: Path, described: Tree, opened: Opened) -> Iterator[Pair]:
    """Since 0.11.13 ``write_shape`` comes with ``array_metadatas``, which alone identifies typed keys."""
    if (folder / arrays.ARRAYS_FOLDER).is_dir() or not any("write_shape" in node.value for node in described.nodes):
        return
    maybe = [node.name for node, array in opened if node.value_type == ARRAY and _like_keys(array)]
    what = f"no {arrays.ARRAYS_FOLDER}"
    if maybe:
        what += f": if {_list(maybe)} were typed random keys, they come back as plain numbers"
        yield what, "jax.random.wrap_key_data"
    else:
        yield f"{what}: nothing but typed random keys needs it, and no leaf looks like one", "none needed"


def _like_keys(array: ZarrArray) -> bool:
    return array.spec.dtype == "uint32" and array.spec.shape[-1:] in [(size,) for size in _KEY_SIZES]


def _narrowed(opened: Opened) -> Iterator[Pair]:
    wide = [node.name for node, array in opened if node.value_type == ARRAY and array.spec.dtype in NARROWED]
    if wide:
        what = f"{_list(wide)}: 64-bit jax arrays, which both APIs silently cut to 32 bits, even where they overflow"
        yield what, "set jax_enable_x64, or load as numpy"
    flags = [node.name for node, array in opened if node.value_type == SCALAR and array.spec.dtype == "bool"]
    if flags:
        yield f"{_list(flags)}: a Python bool, for which v1.metadata fails or says None", "v0's metadata has it"


def _absent(item: PyTree, described: Tree, opened: Opened) -> Iterator[Pair]:
    lost, unstored = [], []
    for node, array in opened:
        if next(item.store.lost(node.name, array), None):
            lost.append(node.name)
        elif next(item.store.unstored(node.name, array), None):
            unstored.append(node.name)
    if lost:
        yield f"{_list(lost)}: their bytes lie in a file that is missing or cut", "fetch the checkpoint again"
    if not unstored:
        return
    if described.stores_all:
        yield f"{_list(unstored)}: chunks are missing", "fetch the checkpoint again"
    else:
        what = f"{_list(unstored)}: chunks that aren't stored, as zeros weren't until 0.10: v0 makes zeros, v1 fails"
        yield what, _REWRITE


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(name or "the one leaf" for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
