"""T5X checkpoints: genuine ones, those of the original converter, our own, and damaged ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import msgpack
import numpy as np
import pytest
from goldens import golden_dir
from stored_arrays import assert_holds, read_zarr, read_zarrs, restore_msgpack, restore_t5x

from convkit.checkpoint import Checkpoint, Leaf, Opaque, TensorSpec, WriteOptions
from convkit.errors import ConvkitError, UsageError
from convkit.formats import detect_format, open_checkpoint
from convkit.formats.t5x.format import FORMAT
from convkit.testing import Sample, bits, check_equal, write, write_leaf

SPECS = {
    "target.decoder.logits.kernel": TensorSpec((11, 3), "float32"),
    "target.encoder.layers_0.mlp.wi_0.kernel": TensorSpec((7, 4), "bfloat16"),
    "target.encoder.norm.scale": TensorSpec((5,), "float16"),
    "state.step": TensorSpec((), "int32"),
    "state.param_states.1.0.count": TensorSpec((), "int64"),
    "state.param_states.1.0.mu.norm.v_row": TensorSpec((1,), "float32"),
    "state.param_states.1.0.mu.norm.v": TensorSpec((5,), "float64"),
    "state.param_states.1.0.mu.empty": TensorSpec((0, 4), "float32"),
    "flax_mutables.mask": TensorSpec((3, 3), "bool"),
}
VALUES = {"state.param_states.0": {}, "flax_mutables.none": None, "flax_mutables.text": "a"}


def sample(specs: dict[str, TensorSpec] = SPECS) -> Sample:
    leaves = [Leaf(key, spec) for key, spec in specs.items()] + [
        Leaf(key, value=value) for key, value in VALUES.items()
    ]
    return Sample(tuple(leaves), {key: bits(spec, seed) for seed, (key, spec) in enumerate(specs.items())})


def written(folder: Path, specs: dict[str, TensorSpec] = SPECS, **options: Any) -> Path:
    return write(FORMAT, folder / "checkpoint_7", sample(specs), Random(0), options=WriteOptions(**options))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def native(folder: Path, tree: Any, version: int = 3, **arrays: np.ndarray) -> Path:
    """A native checkpoint with this tree, and zarr folders written by tensorstore."""
    import tensorstore

    folder.mkdir(exist_ok=True)
    (folder / "checkpoint").write_bytes(msgpack.packb({"version": version, "optimizer": tree}))
    for name, array in arrays.items():
        metadata = {"shape": array.shape, "chunks": array.shape, "dtype": array.dtype.str, "compressor": None}
        store = {"driver": "file", "path": str(folder / name)}
        spec = {"driver": "zarr", "kvstore": store, "metadata": metadata}
        tensorstore.open(spec, create=True).result().write(array).result()
    return folder


def described(name: str, shape: list[int], dtype: str = "float32") -> dict[str, Any]:
    """What T5X writes into the tree."""
    metadata = {"chunks": shape, "compressor": {"id": "gzip", "level": 1}, "shape": shape}
    return {"driver": "zarr", "dtype": dtype, "kvstore": {"driver": "file", "path": f"{name}/"}, "metadata": metadata}


@pytest.mark.golden
class TestGenuine:
    """Checkpoints that T5X itself wrote."""

    @pytest.mark.parametrize("name", ["t5x_adamw", "t5x_adamw_bf16", "t5x_adafactor", "t5x_weights"])
    def test_native_folders(self, name: str) -> None:
        path = golden_dir("te/sources.tar.gz") / name / "checkpoint_7"
        format, reason = detect_format(path)
        assert (format.name, reason) == ("t5x", "the folder holds T5X's msgpack, checkpoint")
        with open_checkpoint(path) as checkpoint:
            assert_holds(checkpoint, restore_t5x(path))
            assert checkpoint.metadata == {"container": "native", "version": 3, "notes": [], "companions": []}
            assert set(checkpoint.files()) == {file for file in path.rglob("*") if file.is_file()}

    def test_orbax_folders(self) -> None:
        path = golden_dir("te/sources.tar.gz") / "t5x_orbax" / "checkpoint_7"
        inline = restore_msgpack(path / "state" / "checkpoint")["state"]
        expected = read_zarrs(path / "state") | {
            "state.step": inline["step"],
            "state.param_states.1.0.count": inline["param_states"]["1"]["0"]["count"],
        }
        for named in (path, path / "state"):
            with open_checkpoint(named) as checkpoint:
                assert_holds(checkpoint, expected)
                assert checkpoint.metadata["container"] == "orbax"
                assert checkpoint.metadata["companions"] == (["dataset"] if named == path else [])

    def test_one_file(self) -> None:
        path = golden_dir("te/t5x_testdata.tar.gz") / "test_t5_tiny.checkpoint_0"
        tree = restore_msgpack(path)["optimizer"]
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.metadata["container"] == "file"
            assert len(checkpoint.leaves) == 261
            for key, leaf in checkpoint.leaves.items():
                node = tree
                for name in key.split("."):
                    node = node[name]
                assert leaf.spec
                assert leaf.spec.shape == node.shape
                assert checkpoint.read(key).tobytes() == node.tobytes()
            assert checkpoint.spec("target.token_embedder.embedding").shape == (32128, 8)

    def test_folders_without_zarray(self) -> None:
        """As T5X's repository holds them: the msgpack says what they are."""
        path = golden_dir("te/t5x_testdata.tar.gz") / "tiny_t5" / "checkpoint_1"
        with open_checkpoint(path) as checkpoint:
            assert {key: leaf.spec for key, leaf in checkpoint.leaves.items()} == {
                "state.param_states.bias": TensorSpec((5,), "float32"),
                "state.param_states.kernel": TensorSpec((10, 5), "float64"),
                "state.param_states.step": TensorSpec((), "int32"),
                "state.step": TensorSpec((), "int32"),
                "target": None,
            }
            assert checkpoint.leaves["target"].value == {}
            assert checkpoint.read("state.param_states.bias").view("float32").tolist() == [1.0] * 5
            assert checkpoint.leaf_files("state.param_states.bias") is None

    def test_folders_that_nothing_describes(self) -> None:
        path = golden_dir("te/t5x_testdata.tar.gz") / "tiny_orbax" / "1"
        with pytest.raises(ConvkitError, match=r"bias: has no \.zarray, and nothing else says its shape and dtype"):
            open_checkpoint(path)

    @pytest.mark.parametrize("name", ["t5x_adamw", "t5x_adamw_bf16", "t5x_adafactor", "t5x_weights"])
    def test_what_we_write_of_it_is_what_t5x_writes(self, name: str, tmp_path: Path) -> None:
        """The same msgpack byte by byte, so that the real T5X loads it as it loads its own."""
        path = golden_dir("te/sources.tar.gz") / name / "checkpoint_7"
        out = tmp_path / "checkpoint_7"
        with open_checkpoint(path) as checkpoint:
            rewrite(checkpoint, out)
            assert (out / "checkpoint").read_bytes() == (path / "checkpoint").read_bytes()
            assert restore_t5x(out).keys() == checkpoint.leaves.keys()
        with open_checkpoint(out) as again:
            assert_holds(again, restore_t5x(path))
        for zarray in path.glob("*/.zarray"):
            assert (out / zarray.parent.name / ".zarray").read_bytes() == zarray.read_bytes()


@pytest.mark.golden
class TestOfTheOriginal:
    """What the original converter made of them: a stale msgpack, mixed dtypes, torn shapes."""

    def test_a_stale_msgpack_is_noted_and_the_folders_count(self) -> None:
        path = golden_dir("te/golden.tar.gz") / "t5x" / "fused__fw2te" / "dst"
        with open_checkpoint(path) as checkpoint:
            inline = {"state.step", "state.param_states.1.0.count"}
            arrays = read_zarrs(path)
            assert set(checkpoint.leaves) == arrays.keys() | inline
            assert checkpoint.leaves["target.encoder.layers_0.attention.qkv.kernel"].spec == TensorSpec(
                (12, 3, 8), "float32"
            )
            for key, array in arrays.items():
                assert checkpoint.read(key).tobytes() == array.tobytes()
            (note,) = checkpoint.metadata["notes"]
            assert note.startswith("checkpoint is stale: it describes 114 arrays that aren't there")

    def test_another_dtype_is_noted(self) -> None:
        path = golden_dir("te/golden.tar.gz") / "t5x" / "fused_bf16__te2fw" / "dst"
        with open_checkpoint(path) as checkpoint:
            (note,) = checkpoint.metadata["notes"]
            assert note.startswith("checkpoint describes 24 arrays with another dtype")
            assert "is float32, not bfloat16" in note

    def test_another_shape_is_refused(self) -> None:
        name = "fused_wrongmlp16__te2fw"
        path = golden_dir("te/golden.tar.gz") / "t5x" / name / "dst"
        with pytest.raises(ConvkitError, match=r"its folder holds shape \[12, 16\], checkpoint says \[12, 10\]"):
            open_checkpoint(path)

    @pytest.mark.slow
    def test_all_are_readable(self) -> None:
        torn = {"fused_wrongmlp16__te2fw", "fused_wrongmlp6__te2fw"}
        folders = sorted((golden_dir("te/golden.tar.gz") / "t5x").glob("*/*/"))
        assert len(folders) == 39
        for path in folders:
            if path.parent.name in torn and path.name == "dst":
                continue
            with open_checkpoint(path) as checkpoint:
                assert checkpoint.format == "t5x"
                for key, array in read_zarrs(path).items():
                    assert checkpoint.read(key).tobytes() == array.tobytes(), (path, key)


def rewrite(checkpoint: Checkpoint, out: Path, **options: Any) -> None:
    """Write all leaves of a checkpoint again."""
    writer = FORMAT.create(out, list(checkpoint.leaves.values()), WriteOptions(**options))
    for key, leaf in checkpoint.leaves.items():
        if leaf.spec:
            writer.write(key, 0, checkpoint.read(key))
        writer.finish(key)
    writer.commit()
    writer.close()


class TestWriting:
    def test_t5x_loads_it(self, tmp_path: Path) -> None:
        path = written(tmp_path)
        restored = restore_t5x(path)
        expected = sample()
        assert set(restored) == {leaf.key for leaf in expected.leaves}
        for key, data in expected.data.items():
            assert restored[key].shape == SPECS[key].shape
            assert restored[key].dtype.name == SPECS[key].dtype
            assert restored[key].tobytes() == data.tobytes()
        for key, value in VALUES.items():
            assert restored[key] == value

    def test_arrays_of_one_element_are_inline(self, tmp_path: Path) -> None:
        path = written(tmp_path)
        inline = {key for key, spec in SPECS.items() if spec.size <= 1}
        assert {entry.name for entry in path.iterdir()} == (SPECS.keys() - inline) | {"checkpoint"}

    def test_gzip_is_the_default_and_another_compressor_is_taken(self, tmp_path: Path) -> None:
        key = "target.decoder.logits.kernel"
        for compressor, expected in {None: "gzip", "zstd:3": "zstd", "none": None}.items():
            path = written(tmp_path / str(compressor), compressor=compressor)
            spec = restore_msgpack(path / "checkpoint")["optimizer"]["target"]["decoder"]["logits"]["kernel"]
            found = spec["metadata"]["compressor"]
            assert (found and found["id"]) == expected
            assert read_zarr(path / key).shape == SPECS[key].shape
            with open_checkpoint(path) as checkpoint:
                check_equal(checkpoint, sample())

    def test_chunks_are_taken_and_need_not_divide(self, tmp_path: Path) -> None:
        key = "target.decoder.logits.kernel"
        path = written(tmp_path, chunks={key: (4, 2)})
        assert {file.name for file in (path / key).iterdir()} == {
            ".zarray",
            *(f"{i}.{j}" for i in range(3) for j in range(2)),
        }
        with open_checkpoint(path) as checkpoint:
            check_equal(checkpoint, sample())
            assert checkpoint.granularity(key) == 4 * 3
        assert read_zarr(path / key).tobytes() == sample().data[key].tobytes()

    def test_large_arrays_are_cut(self, tmp_path: Path) -> None:
        leaf = Leaf("target.table", TensorSpec((9000, 1024), "float32"))
        writer = FORMAT.create(tmp_path / "out", [leaf], WriteOptions())
        assert writer.granularity("target.table") == 3000 * 1024
        writer.close()

    @pytest.mark.parametrize("compressor", ["gzip:1", "gzip:6", "zstd", "none"])
    def test_the_same_leaves_give_the_same_bytes(self, compressor: str, tmp_path: Path) -> None:
        """Whatever the order and the threads; tensorstore's own gzip fails this."""
        chunks = {"target.decoder.logits.kernel": (2, 3), "target.encoder.norm.scale": (2,)}
        options = WriteOptions(compressor=compressor, chunks=chunks)
        first = contents(write(FORMAT, tmp_path / "first", sample(), Random(0), options=options))
        for seed in range(1, 12):
            again = write(FORMAT, tmp_path / str(seed), sample(), Random(seed), threads=4, options=options)
            assert contents(again) == first

    def test_what_is_written_may_be_unaligned_and_changed_afterwards(self, tmp_path: Path) -> None:
        for compressor in ("gzip", "zstd", "none"):
            leaf = Leaf("target.x", TensorSpec((1000, 100), "float32"))
            data = bits(leaf.spec, 0)  # type: ignore[arg-type]
            odd = np.frombuffer(b"\0" + data.tobytes(), np.uint8)[1:].view(np.uint32)
            assert not odd.flags.aligned
            mine = odd.copy()
            writer = FORMAT.create(tmp_path / compressor, [leaf], WriteOptions(compressor=compressor))
            writer.write("target.x", 0, odd)
            writer.finish("target.x")
            writer.write("target.x", 0, mine)
            mine[:] = 0
            writer.finish("target.x")
            writer.commit()
            writer.close()
            assert read_zarr(tmp_path / compressor / "target.x").tobytes() == data.tobytes()

    def test_a_commit_that_was_interrupted_is_repeated(self, tmp_path: Path) -> None:
        path = written(tmp_path)
        before = contents(path)
        again = FORMAT.create(path, sample().leaves, WriteOptions(), resume=True)
        again.commit()
        again.close()
        assert contents(path) == before

    def test_what_a_killed_process_left_is_cleared(self, tmp_path: Path) -> None:
        expected = contents(written(tmp_path / "clean"))
        path = tmp_path / "checkpoint_7"
        writer = FORMAT.create(path, sample().leaves, WriteOptions())
        for leaf in sample().leaves:
            write_leaf(writer, leaf, sample(), Random(0))
        key = "target.encoder.norm.scale"
        (path / key / "0.__lock").touch()
        (path / f"{key}.convkit-part").mkdir()
        (path / f"{key}.convkit-part" / "0").touch()
        writer.commit()
        writer.close()
        assert contents(path) == expected

    def test_an_unwritten_leaf_is_named_at_commit(self, tmp_path: Path) -> None:
        for missing in ("target.encoder.norm.scale", "state.step"):
            writer = FORMAT.create(tmp_path / missing, sample().leaves, WriteOptions())
            for leaf in sample().leaves:
                if leaf.key != missing:
                    write_leaf(writer, leaf, sample(), Random(0))
            with pytest.raises(ConvkitError, match="was not written in full") as refusal:
                writer.commit()
            writer.close()
            assert refusal.value.key == missing
            assert not (tmp_path / missing / "checkpoint").exists()

    @pytest.mark.parametrize(
        ("leaf", "problem"),
        [
            (Leaf("a.b", TensorSpec((2,), "uint16")), "is uint16, which T5X reads as version 2's bfloat16"),
            (Leaf("a.b", value=Opaque(b"", "x")), "is a serialized object"),
            (Leaf("a.b", value="PLACEHOLDER://a"), "is a text that T5X reads as an array's placeholder"),
            (Leaf("a.b", value=2**64), "needs more than 64 bits"),
            (Leaf("a/b", TensorSpec((2,), "int8")), "can't be the name of a folder"),
            (Leaf("..", TensorSpec((2,), "int8")), "can't be the name of a folder"),
            (Leaf("a" * 300, TensorSpec((2,), "int8")), "can't be the name of a folder"),
        ],
    )
    def test_what_t5x_has_no_place_for_is_refused(self, leaf: Leaf, problem: str, tmp_path: Path) -> None:
        with pytest.raises(ConvkitError, match=problem) as refusal:
            FORMAT.create(tmp_path / "out", [leaf], WriteOptions())
        assert refusal.value.key == leaf.key

    def test_a_leaf_below_a_leaf_is_refused(self, tmp_path: Path) -> None:
        leaves = [Leaf("a.b.c", TensorSpec((2,), "int8")), Leaf("a.b", TensorSpec((2,), "int8"))]
        with pytest.raises(ConvkitError, match=r"a\.b\.c: lies below a\.b, which is a leaf too"):
            FORMAT.create(tmp_path / "out", leaves, WriteOptions())

    def test_options_that_do_not_fit_are_refused(self, tmp_path: Path) -> None:
        leaf = Leaf("a.b", TensorSpec((2, 3), "int8"))
        for chunks in ((2,), (0, 3)):
            with pytest.raises(UsageError, match=r"no chunks of a\.b\[2, 3\]"):
                FORMAT.create(tmp_path / "out", [leaf], WriteOptions(chunks={"a.b": chunks}))
        with pytest.raises(UsageError, match="no compressor is called 'lz4'"):
            FORMAT.create(tmp_path / "out", [leaf], WriteOptions(compressor="lz4"))

    def test_what_was_not_laid_out_is_refused(self, tmp_path: Path) -> None:
        writer = FORMAT.create(tmp_path / "out", [Leaf("a.b", TensorSpec((4, 3), "int8"))], WriteOptions())
        for key, start, data in [
            ("a.c", 0, np.zeros(12, np.uint8)),
            ("a.b", 0, np.zeros(13, np.uint8)),
            ("a.b", 0, np.zeros(12, np.int32)),
            ("a.b", 3, np.zeros(3, np.uint8)),
        ]:
            with pytest.raises(ConvkitError, match="report this"):
                writer.write(key, start, data)
        writer.close()


class TestCopying:
    def test_folders_are_copied_as_they_are(self, tmp_path: Path) -> None:
        chunks = {"target.decoder.logits.kernel": (4, 2)}
        source = written(tmp_path / "source", compressor="zstd:3", chunks=chunks)
        out = tmp_path / "out"
        with open_checkpoint(source) as checkpoint:
            writer = FORMAT.create(out, sample().leaves, WriteOptions())
            copied = []
            for leaf in sample().leaves:
                files = checkpoint.leaf_files(leaf.key) if leaf.spec else None
                if files is not None and writer.copy_leaf(leaf.key, files):
                    copied.append(leaf.key)
                else:
                    write_leaf(writer, leaf, sample(), Random(0))
            writer.commit()
            writer.close()
        assert copied == [key for key, spec in SPECS.items() if spec.size > 1]
        assert contents(out) == contents(source)
        assert restore_t5x(out).keys() == restore_t5x(source).keys()

    def test_what_is_not_the_leaf_is_not_copied(self, tmp_path: Path) -> None:
        specs = {"target.x": TensorSpec((4,), "float32"), "target.one": TensorSpec((1,), "float32")}
        other = {"target.x": TensorSpec((2, 2), "float32"), "target.one": TensorSpec((1,), "float32")}
        source = written(tmp_path / "source", other)
        with open_checkpoint(source) as checkpoint:
            writer = FORMAT.create(tmp_path / "out", sample(specs).leaves, WriteOptions())
            files = checkpoint.leaf_files("target.x")
            assert files is not None
            assert set(files) == {".zarray", "0.0"}
            assert not writer.copy_leaf("target.x", files)
            assert not writer.copy_leaf("target.one", files)
            assert not writer.copy_leaf("target.x", {"0.0": files["0.0"]})
            assert checkpoint.leaf_files("target.one") is None
            writer.close()

    @pytest.mark.parametrize(
        ("options", "copied"),
        [
            (WriteOptions(compressor="gzip:1", chunks={"target.x": (4, 2)}), True),
            (WriteOptions(compressor="zstd"), False),
            (WriteOptions(chunks={"target.x": (2, 2)}), False),
            (WriteOptions(chunks={"target.y": (2, 2)}), True),
        ],
        ids=str,
    )
    def test_who_asks_for_another_storage_gets_it(self, options: WriteOptions, copied: bool, tmp_path: Path) -> None:
        specs = {"target.x": TensorSpec((4, 2), "float32"), "target.y": TensorSpec((4, 2), "float32")}
        source = written(tmp_path / "source", specs)
        writer = FORMAT.create(tmp_path / "out", sample(specs).leaves, options)
        with open_checkpoint(source) as checkpoint:
            assert writer.copy_leaf("target.x", checkpoint.leaf_files("target.x") or {}) == copied
        writer.close()

    def test_a_copy_replaces_what_was_half_written(self, tmp_path: Path) -> None:
        specs = {"target.x": TensorSpec((4, 2), "float32")}
        source = written(tmp_path / "source", specs)
        writer = FORMAT.create(tmp_path / "out", sample(specs).leaves, WriteOptions(chunks={"target.x": (2, 2)}))
        writer.write("target.x", 0, sample(specs).data["target.x"][:4])
        writer.finish("target.x")
        writer.close()
        writer = FORMAT.create(tmp_path / "out", sample(specs).leaves, WriteOptions(), resume=True)
        with open_checkpoint(source) as checkpoint:
            assert writer.copy_leaf("target.x", checkpoint.leaf_files("target.x") or {})
        writer.commit()
        writer.close()
        assert contents(tmp_path / "out" / "target.x") == contents(source / "target.x")


class TestOlderForms:
    def test_version_2_has_bfloat16_as_uint16(self, tmp_path: Path) -> None:
        values = np.array([0x3F80, 0xC000], np.uint16)
        tree = {"target": {"x": described("target.x", [2], "uint16")}}
        with open_checkpoint(native(tmp_path / "a", tree, version=2, **{"target.x": values})) as checkpoint:
            assert checkpoint.leaves["target.x"].spec == TensorSpec((2,), "bfloat16")
            assert checkpoint.read("target.x").tolist() == values.tolist()
            assert checkpoint.leaf_files("target.x") is None
            assert checkpoint.metadata["version"] == 2

    def test_places_on_other_file_systems_are_folders_here(self, tmp_path: Path) -> None:
        spec = described("", [2])
        path = native(
            tmp_path / "a",
            {
                "target": {
                    "x": {**spec, "path": "target.x", "kvstore": {"driver": "gfile"}},
                    "y": {**spec, "kvstore": {"driver": "gcs", "bucket": "t5x-dummy-bucket", "path": "target.y/"}},
                }
            },
            **{"target.x": np.ones(2, np.float32), "target.y": np.zeros(2, np.float32)},
        )
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.metadata["notes"] == []
            assert checkpoint.read("target.x").view(np.float32).tolist() == [1, 1]

    def test_saved_by_orbax_as_a_database(self, tmp_path: Path) -> None:
        ocp = pytest.importorskip("orbax.checkpoint")
        tree = {
            "target": {"x": np.arange(6.0).reshape(2, 3)},
            "state": {"step": np.array(7), "param_states": {"0": {}}},
        }
        ocp.PyTreeCheckpointer().save(tmp_path / "checkpoint_7" / "state", tree)
        for path in (tmp_path / "checkpoint_7", tmp_path / "checkpoint_7" / "state"):
            with open_checkpoint(path) as checkpoint:
                assert checkpoint.format == "t5x"
                assert checkpoint.metadata["container"] == "orbax"
                assert_holds(checkpoint, {"target.x": tree["target"]["x"], "state.step": tree["state"]["step"]})
                assert checkpoint.leaf_files("target.x") is None

    def test_dataset_files_are_companions(self, tmp_path: Path) -> None:
        path = written(tmp_path)
        (path / "train_ds-000-of-001.index").touch()
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.metadata["companions"] == ["train_ds-000-of-001.index"]


class TestBadInput:
    KEY = "target.decoder.logits.kernel"

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            (lambda path: os.truncate(path / "checkpoint", 40), "checkpoint: .* is truncated"),
            (lambda path: (path / "checkpoint").write_bytes(b"\xc1"), "checkpoint: is not flax's msgpack"),
            (
                lambda path: (path / "checkpoint").write_bytes(b"\x01"),
                "checkpoint: is not T5X's: its top level",
            ),
            (lambda path: native(path, {}, version=1), "checkpoint: is of version 1"),
            (lambda path: native(path, {}, version=4), "checkpoint: is of version 4"),
            (
                lambda path: (path / "checkpoint").write_bytes(b'model_checkpoint_path: "model.ckpt-0"\n'),
                "checkpoint: is a TensorFlow checkpoint",
            ),
            (lambda path: shutil.rmtree(path / TestBadInput.KEY), "logits.kernel: its folder is missing"),
            (lambda path: (path / TestBadInput.KEY / "0.0").unlink(), r"logits.kernel: chunk 0\.0 is missing"),
            (
                lambda path: os.truncate(path / TestBadInput.KEY / "0.0", 9),
                r"kernel/0\.0: .* is truncated or corrupt",
            ),
            (lambda path: os.truncate(path / TestBadInput.KEY / ".zarray", 9), r"\.zarray: is not valid JSON"),
            (
                lambda path: native(path, {"target": {"x": described("target.x", [3])}}, **{"target.x": np.zeros(2)}),
                r"target.x: its folder holds shape \[2\], checkpoint says \[3\]",
            ),
            (
                lambda path: native(path, {"target": {"x": {"driver": "zarr", "kvstore": {}, "metadata": {}}}}),
                "checkpoint: target.x: isn't described by a T5X tensorstore spec",
            ),
            (
                lambda path: native(path, {"target": {"x": described("target.x", [3], "uint4")}}),
                "checkpoint: target.x: dtype 'uint4' is not supported",
            ),
            (
                lambda path: ((path / "checkpoint").unlink(), (path / TestBadInput.KEY / ".zarray").unlink()),
                r"logits.kernel: has no \.zarray, and nothing else says",
            ),
        ],
    )
    def test_one_line_says_what_is_wrong(self, change: Callable[[Path], object], problem: str, tmp_path: Path) -> None:
        path = written(tmp_path)
        change(path)
        with pytest.raises(ConvkitError, match=problem) as refusal:
            open_checkpoint(path, "t5x")
        assert "\n" not in str(refusal.value)
        assert str(refusal.value).startswith(str(path))

    @pytest.mark.parametrize("compressor", ["gzip", "zstd"])
    def test_damage_within_a_chunk_shows_when_it_is_read(self, compressor: str, tmp_path: Path) -> None:
        specs = {"target.x": TensorSpec((500, 4), "float32")}
        path = written(tmp_path, specs, compressor=compressor, chunks={"target.x": (100, 4)})
        chunk = path / "target.x" / "2.0"
        whole = chunk.read_bytes()
        if compressor == "gzip":
            chunk.write_bytes(whole[:20] + bytes(len(whole) - 28) + whole[-8:])
        else:  # one block, said to be compressed
            chunk.write_bytes(whole[:4] + b"\x20\x08" + (5 << 3 | 2 << 1 | 1).to_bytes(3, "little") + b"\xff" * 5)
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.read("target.x", 0, 800).tobytes() == sample(specs).data["target.x"][:800].tobytes()
            with pytest.raises(ConvkitError, match=r"target\.x/2\.0: target\.x: can't be read: ") as refusal:
                checkpoint.read("target.x")
            assert "\n" not in str(refusal.value)

    def test_an_unfinished_save_is_refused(self, tmp_path: Path) -> None:
        path = written(tmp_path).rename(tmp_path / "checkpoint_7.tmp-1234")
        with pytest.raises(ConvkitError, match="is an unfinished save"):
            open_checkpoint(path)

    def test_a_folder_of_steps_is_refused(self, tmp_path: Path) -> None:
        written(tmp_path)
        with pytest.raises(ConvkitError, match="name the folder of one step"):
            open_checkpoint(tmp_path, "t5x")

    def test_a_file_without_its_folders_is_refused(self, tmp_path: Path) -> None:
        path = shutil.copyfile(written(tmp_path) / "checkpoint", tmp_path / "alone")
        with pytest.raises(ConvkitError, match=r"mask: its folder is missing, as are 4 others"):
            open_checkpoint(path, "t5x")

    def test_the_file_in_its_folder_stands_for_it(self, tmp_path: Path) -> None:
        with open_checkpoint(written(tmp_path) / "checkpoint") as checkpoint:
            check_equal(checkpoint, sample())

    def test_other_folders_are_not_taken(self, tmp_path: Path) -> None:
        hf = tmp_path / "hf"
        (hf / "state").mkdir(parents=True)
        (hf / "config.json").write_text("{}")
        (hf / "flax_model.msgpack").write_bytes(b"\x82\xa7version\x03\xa9optimizer\x80")
        (hf / "checkpoint").mkdir()
        (hf / "target").mkdir()
        assert FORMAT.detect(hf) is None
        assert FORMAT.detect(hf / "config.json") is None


SLICES = """
import sys
from pathlib import Path
import numpy as np
from convkit.checkpoint import Leaf, WriteOptions
from convkit.checkpoint import TensorSpec
from convkit.formats.t5x.format import FORMAT

spec = TensorSpec((100, 1 << 20), "float32")
path = Path(sys.argv[1])
if not path.exists():
    writer = FORMAT.create(path, [Leaf("target.x", spec)], WriteOptions(compressor="zstd"))
    rows = writer.granularity("target.x")
    data = np.zeros(rows, np.uint32)
    for start in range(0, spec.size, rows):
        writer.write("target.x", start, data[: spec.size - start])
    writer.finish("target.x")
    writer.commit()
    writer.close()
with FORMAT.open(path) as checkpoint:
    for start in range(0, spec.size, spec.size // 5):
        assert checkpoint.read("target.x", start, start + 1000).size == 1000
# a child's ru_maxrss begins with its parent's; VmHWM begins with the program
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) >> 10)
"""


def test_slices_of_a_large_leaf_do_not_hold_it(tmp_path: Path) -> None:
    """400 MB in 16 MiB chunks, written and then read in slices, in a process of its own."""
    peaks = []
    for _ in range(2):  # the first one writes, too
        run = subprocess.run(
            [sys.executable, "-c", SLICES, str(tmp_path / "large")], capture_output=True, text=True, check=True
        )
        peaks.append(int(run.stdout))
    assert max(peaks) < 330, f"{peaks} MiB"
