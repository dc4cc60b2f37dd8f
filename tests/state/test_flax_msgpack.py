from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import msgpack
import numpy as np
import pytest
from goldens import golden_dir
from hypothesis import example, given
from hypothesis import strategies as st

from convkit.checkpoint import TensorSpec
from convkit.checkpoint.source_files import Span
from convkit.checkpoint.tensors import ITEMSIZE, value_dtype
from convkit.errors import ConvkitError
from convkit.state import flax_msgpack
from convkit.state.flax_msgpack import ArrayBytes

VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
ARRAYS = st.builds(
    lambda shape, dtype: np.arange(int(np.prod(shape))).reshape(shape).astype(value_dtype(dtype)),
    st.lists(st.integers(0, 5), max_size=3).map(tuple),
    st.sampled_from(sorted(ITEMSIZE)),
)
TREES = st.recursive(
    VALUES | ARRAYS, lambda node: st.lists(node, max_size=20) | st.dictionaries(st.text(), node, max_size=20)
)


def packed(value: Any) -> msgpack.ExtType:
    """An array, a numpy scalar or a complex as flax packs it."""
    if isinstance(value, complex):
        return msgpack.ExtType(2, msgpack.packb((value.real, value.imag)))
    array = np.asarray(value)
    kind = 3 if isinstance(value, np.generic) else 1
    return msgpack.ExtType(kind, msgpack.packb((array.shape, array.dtype.name, array.tobytes()), use_bin_type=True))


def stored(tmp_path: Path, tree: Any) -> Path:
    path = tmp_path / "checkpoint"
    path.write_bytes(tree if isinstance(tree, bytes) else msgpack.packb(tree, default=packed, strict_types=True))
    return path


def plain(node: Any) -> Any:
    """Arrays as what they are."""
    if isinstance(node, ArrayBytes):
        return (node.spec.shape, node.spec.dtype, node.tobytes())
    if isinstance(node, np.ndarray | np.generic):
        return (node.shape, node.dtype.name, node.tobytes())
    if isinstance(node, dict):
        return {key: plain(child) for key, child in node.items()}
    return [plain(child) for child in node] if isinstance(node, list) else node


@given(tree=TREES)
def test_trees_are_read_as_flax_packs_them(tree: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = stored(tmp_path_factory.mktemp("tree"), tree)
    found = flax_msgpack.load(path)
    assert plain(found) == plain(tree)
    assert flax_msgpack.dumps(found) == path.read_bytes()


@given(tree=TREES, where=st.floats(0, 1, exclude_max=True))
def test_a_cut_file_is_refused(tree: Any, where: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = stored(tmp_path_factory.mktemp("tree"), tree)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(where * len(whole))])
    with pytest.raises(ConvkitError, match=r"is truncated|of another length than it says"):
        flax_msgpack.load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(ConvkitError, match="holds 1 bytes after its end"):
        flax_msgpack.load(path)


@given(noise=st.binary(max_size=60))
@example(noise=b"\x81\x80")  # a map whose name is a map
def test_noise_is_refused_in_one_line(noise: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = stored(tmp_path_factory.mktemp("tree"), noise)
    try:
        flax_msgpack.load(path)
    except ConvkitError as refusal:
        assert str(refusal).startswith(str(path))
        assert "\n" not in str(refusal)


def test_scalars_and_complex_numbers_are_arrays_without_axes(tmp_path: Path) -> None:
    found = flax_msgpack.load(stored(tmp_path, {"step": np.int32(7), "z": 1.5 - 2j, "b": ml_dtypes.bfloat16(2)}))
    assert found["step"] == ArrayBytes(TensorSpec((), "int32"), (memoryview(struct.pack("<i", 7)),))
    assert found["z"] == ArrayBytes(TensorSpec((), "complex128"), (struct.pack("<2d", 1.5, -2),))
    assert found["b"].spec == TensorSpec((), "bfloat16")


def test_arrays_that_were_cut_are_joined(tmp_path: Path) -> None:
    """As flax cuts what is larger than 1 GiB."""
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    flat = array.reshape(-1)
    cut = {
        "__msgpack_chunked_array__": True,
        "shape": {"0": 3, "1": 4},
        "chunks": {"0": flat[:5], "1": flat[5:10], "2": flat[10:]},
    }
    found = flax_msgpack.load(stored(tmp_path, {"table": cut}))["table"]
    assert plain(found) == plain(array)
    assert len(found.pieces) == 3
    cut["shape"] = {"0": 3, "1": 5}
    with pytest.raises(ConvkitError, match=r"table: float32\[3, 5\] needs 60 bytes, 48 are there"):
        flax_msgpack.load(stored(tmp_path, {"table": cut}))
    with pytest.raises(ConvkitError, match="table: is cut into chunks without a valid description"):
        flax_msgpack.load(stored(tmp_path, {"table": {"__msgpack_chunked_array__": True, "chunks": {}}}))


def test_large_arrays_are_left_in_the_file(tmp_path: Path) -> None:
    table = flax_msgpack.load(stored(tmp_path, {"table": np.zeros(1000)}))["table"]
    (piece,) = table.pieces
    assert isinstance(piece, Span) and len(piece) == 8000
    assert table.tobytes() == bytes(8000)


@pytest.mark.parametrize(
    ("tree", "problem"),
    [
        (b"", "is truncated: 0 bytes"),
        (b"\xc1", "is not flax's msgpack: byte 0xc1 at 0"),
        (msgpack.packb({"a": b"bytes"}), "a: is not flax's msgpack: byte 0xc4"),
        (msgpack.packb({1: 2}), "holds 1 as a name"),
        (b"\x82\xa1a\x01\xa1a\x01", "holds 'a' as a name twice"),
        (b"\xa1\xff", "holds a string that isn't UTF-8"),
        (b"\x91" * 200, "is nested more than 100 deep"),
        (msgpack.packb(msgpack.ExtType(9, b"x")), "holds a type 9 that isn't flax's"),
        (msgpack.packb({"a": msgpack.ExtType(1, b"\x90")}), "a: holds an array of another form"),
        (msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(([2], "float32", b"1234")))}), "a: float32[2] needs 8"),
        (msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(([-2], "int8", b"")))}), "a: holds an array without a"),
        (msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(([1], "str32", b"1234")))}), "a: dtype 'str32' is not"),
        (
            b"\x81\xa1a\xc7\x20\x01" + msgpack.packb(([1], "int8", b"1")) + b"\xc0" * 30,
            "a: holds an array of another length than it says",
        ),
    ],
)
def test_what_flax_does_not_write_is_refused(tree: bytes, problem: str, tmp_path: Path) -> None:
    path = stored(tmp_path, tree)
    with pytest.raises(ConvkitError) as refusal:
        flax_msgpack.load(path)
    assert str(refusal.value).startswith(f"{path}: {problem}")


@pytest.mark.golden
@pytest.mark.parametrize("release", ["0.2.7", "0.3.5", "0.4.4", "0.5.9"])
def test_what_releases_of_orbax_aggregated_is_read(release: str) -> None:
    """Arrays and values inline, and for the others the name of the place where they are stored."""
    prefix = "PLACEHOLDER://"
    for case in ("direct_aggregate_all", "direct_aggregate_mixed", "direct_pytree"):
        folder = golden_dir("orbax/old_releases.tar.gz") / release / case
        truth = np.load(folder / "truth.npz")
        found = dict(leaves(flax_msgpack.load(folder / "ckpt" / "checkpoint")))
        assert set(truth.files) <= set(found)
        stored = {path for path in truth.files if isinstance(found[path], str) and found[path].startswith(prefix)}
        assert {found[path] for path in stored} == {prefix + path.replace("/", ".") for path in stored}
        assert bool(stored) == (case != "direct_aggregate_all")
        assert (stored < set(truth.files)) == (case != "direct_pytree")
        for path in set(truth.files) - stored:
            leaf = found[path]
            if isinstance(leaf, ArrayBytes):
                assert (leaf.spec.shape, leaf.tobytes()) == (truth[path].shape, truth[path].tobytes()), path
            else:
                assert leaf == truth[path].item(), path


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Each leaf and its path."""
    children = node if isinstance(node, dict) else dict(enumerate(node)) if isinstance(node, list) else {}
    if not children:
        yield "/".join(path), node
    for name, child in children.items():
        yield from leaves(child, (*path, str(name)))
