"""Conversions on disk give the same bits for all formats, shards, numbers of threads, orders and cuts."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import resource
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.checkpoint import TensorSpec, WriteOptions
from convkit.checkpoint.digests import BLOCK, digest_array, digest_value
from convkit.checkpoint.tensors import ITEMSIZE, value_dtype
from convkit.errors import ConvkitError, UsageError
from convkit.execute import convert
from convkit.execute.carry import Carrier
from convkit.execute.chain import Converted, links_of
from convkit.files.receipt import receipt_path
from convkit.formats.plain import preallocated
from convkit.mapping import Rule, Verbatim, inverse
from convkit.mapping.ops import Shift
from convkit.testing import bits, in_a_process_that_dies
from engine.disk import converted, everything_below, read, write
from engine.memory import Arrays, Memory, assert_same, carried, mapping_of, plan_of, source_of
from engine.strategies import Case, cases

MAPPING = mapping_of(
    Rule(("embed", "head"), ("E", "H"), "v d -> v d"),
    Rule("l.{i}.q.{p:weight|bias?}", "h.{i}.q.{p}", "(h two r) ... -> (h r two) ...", h="heads", two=2),
    Rule("l.{i}.up", "h.{i}.up", "x y -> y x"),
    Rule("l.{i}.x.{e}", "h.{i}.x", "e o i2 -> o e i2"),
    Rule("l.{i}.qkv", "h.{i}.{n:q2|k2|v2}", "(q2 + k2 + v2) d -> {n} d", q2=5, k2=3, v2=3),
    Rule("norm", "norm", ops=(Shift(1.0),)),
    Rule("w", "policy", "x y z -> z x y", right_copies="reference"),
    Verbatim("{n:scalar|empty|flags|step|bytes}"),
    axes={"i": "layers"},
    names=["heads", "layers"],
)
CONFIG = {"heads": 3, "layers": 2}
FORMATS = ["safetensors", "torch", "cerebras-h5"]
NARROW = ["int8", "float8_e4m3fn", "float8_e5m2"]
HELD_BY_ALL = ["bool", "uint8", "int16", "float16", "bfloat16", "int32", "float32", "int64", "float64"]


def random_bits(seed: int, dtype: str, *shape: int) -> np.ndarray:
    spec = TensorSpec(shape, dtype)
    return bits(spec, seed).view(value_dtype(dtype)).reshape(shape)


def arrays(values: bool = False) -> Arrays:
    left: Arrays = {"embed": random_bits(1, "bfloat16", 53, 36)}
    left["head"] = left["embed"].copy()
    for i in range(2):
        left[f"l.{i}.q.weight"] = random_bits(10 + i, "float32", 30, 14)
        left[f"l.{i}.q.bias"] = random_bits(20 + i, "float32", 30)
        left[f"l.{i}.up"] = random_bits(30 + i, "float16", 37, 41)
        left |= {f"l.{i}.x.{e}": random_bits(40 + e, "uint8", 7, 9) for e in range(3)}
        left[f"l.{i}.qkv"] = random_bits(50 + i, "bfloat16", 11, 13)
    left["norm"] = np.linspace(-1, 1, 36, dtype="float32")
    left["w"] = random_bits(60, "int32", 3, 4, 5)
    left["scalar"] = random_bits(70, "int64")
    left["empty"] = random_bits(71, "float32", 0, 4)
    left["flags"] = random_bits(72, "bool", 5)
    return left | ({"step": 3, "bytes": "adam"} if values else {})


@pytest.mark.parametrize("there", FORMATS)
@pytest.mark.parametrize("here", FORMATS)
def test_every_format_to_every_format(tmp_path: Path, here: str, there: str) -> None:
    values = "safetensors" not in (here, there)
    left = arrays(values)
    source = write(tmp_path / "left", left, CONFIG, format=here)
    expected = carried(MAPPING, left, CONFIG, format="torch")
    converted(source, tmp_path / "right", MAPPING, asked={"format": there})
    assert_same(read(tmp_path / "right"), expected)
    converted(tmp_path / "right", tmp_path / "back", inverse(MAPPING), asked={"format": here})
    back = read(tmp_path / "back")
    assert np.allclose(back.pop("norm"), left.pop("norm"), atol=1e-6)
    assert_same(back, left)


@given(
    st.lists(cases(), min_size=1, max_size=3),
    st.sampled_from(FORMATS),
    st.sampled_from(FORMATS),
    st.integers(0, 2**32),
    st.data(),
)
@settings(max_examples=15)
def test_a_generated_mapping_makes_the_round_trip(
    chosen: list[Case], here: str, there: str, seed: int, data: st.DataObject
) -> None:
    rules, left = [], {}
    for number, case in enumerate(chosen):
        rules.append(Rule(f"l{number}{case.left.fields}", f"r{number}{case.right.fields}", case.pattern, **case.sizes))
        dtype = data.draw(st.sampled_from(HELD_BY_ALL if "cerebras-h5" in (here, there) else HELD_BY_ALL + NARROW))
        left |= {f"l{number}{key}": random_bits(seed, dtype, *shape) for key, (_, shape) in case.left.leaves.items()}
    mapping = mapping_of(*rules)
    with TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "left", left, {}, format=here)
        receipt = converted(folder / "left", folder / "right", mapping, {"format": there}, threads=2)
        assert_same(read(folder / "right"), carried(mapping, left))
        back = converted(folder / "right", folder / "back", inverse(mapping), {"format": here})
        assert_same(read(folder / "back"), left)
        assert back["target"]["leaves"] == receipt["source"]["leaves"]
        assert back["source"]["leaves"] == receipt["target"]["leaves"]


def small(stack: ExitStack, **sizes: int) -> None:
    """Let every cut happen that only large tensors would see."""
    rooms = [module for name, module in sys.modules.items() if name.startswith("convkit.execute.")]
    for name, size in sizes.items():
        holding = [module for module in rooms if hasattr(module, name)]
        assert holding, name
        for module in holding:
            stack.enter_context(patch.object(module, name, size))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_neither_threads_nor_cuts_change_a_byte(tmp_path: Path, format: str, threads: int) -> None:
    source = write(tmp_path / "left", arrays(), CONFIG)
    plain = tmp_path / "plain" / "out"
    converted(source, plain, MAPPING, asked={"format": format}, threads=1)
    cut = tmp_path / "cut" / "out"
    with ExitStack() as stack:
        small(stack, SLAB=64, MAX_SLAB=300, RUN=200, TILE=4, BLOCK=96)
        converted(source, cut, MAPPING, asked={"format": format}, threads=threads)
    if format == "cerebras-h5" and threads > 1:
        assert_same(read(cut), read(plain))  # chunks lie in the order in which they came
    else:
        assert everything_below(plain.parent) == everything_below(cut.parent)


def test_the_digest_of_a_leaf_does_not_see_the_cuts(tmp_path: Path) -> None:
    """Leaves of more than a block and a run, through every path: moved, transposed, stacked, split."""
    mapping = mapping_of(
        Rule("moved", "moved", "x y -> x y"),
        Rule("turned", "turned", "x y -> y x"),
        Rule("part.{e}", "stacked", "e x y -> x e y"),
        Rule("whole", "cut.{n:a|b}", "x (a + b) -> x {n}", a=100),
        Rule("same.{n:a|b}", "tied.{n}"),
    )
    left = {key: random_bits(number, "uint16", 700, 1100) for number, key in enumerate(("moved", "turned", "whole"))}
    left |= {f"part.{e}": random_bits(e, "uint16", 300, 1100) for e in range(3)}
    left |= dict.fromkeys(("same.a", "same.b"), random_bits(9, "uint8", 3_000_001))
    source = write(tmp_path / "left", left, {})
    right = carried(mapping, left)
    for number, run in enumerate([1 << 20, 3 << 20, 64 << 20]):
        with ExitStack() as stack:
            small(stack, RUN=run, SLAB=[1 << 16, 1 << 20, 2 << 20][number])
            receipt = converted(source, tmp_path / f"out{number}", mapping, threads=3)
        for side, expected in (("source", left), ("target", right)):
            found = {key: leaf["digest"] for key, leaf in receipt[side]["leaves"].items()}
            assert found == {key: digest_array("xxh3-128", array) for key, array in expected.items()}


@pytest.mark.parametrize("algorithm", ["xxh3-128", "blake3", "sha256"])
@pytest.mark.parametrize("format", FORMATS)
def test_receipts_have_the_digest_of_every_leaf(tmp_path: Path, format: str, algorithm: str) -> None:
    left = arrays(values=True)
    source = write(tmp_path / "left", left, CONFIG, format="cerebras-h5")
    drop = ("step", "bytes") if format == "safetensors" else ()
    receipt = converted(source, tmp_path / "out", MAPPING, {"format": format, "drop": drop}, digest=algorithm)
    assert receipt == json.loads(receipt_path(tmp_path / "out").read_text())
    for side, held in (("source", left), ("target", read(tmp_path / "out"))):
        found = {key: leaf["digest"] for key, leaf in receipt[side]["leaves"].items()}
        assert found == {
            key: digest_array(algorithm, value) if isinstance(value, np.ndarray) else digest_value(algorithm, value)
            for key, value in held.items()
        }
    assert receipt["target"]["path"] == "out"
    assert str(tmp_path) not in json.dumps(receipt["plan"])


@pytest.mark.parametrize("format", ["safetensors", "torch"])
@pytest.mark.parametrize("shard_size", [1, 2000, 10**9])
def test_shards_of_the_source_change_nothing(tmp_path: Path, format: str, shard_size: int) -> None:
    left = arrays()
    plain = write(tmp_path / "a" / "left", left, CONFIG, format=format)
    shuffled = dict(random.Random(shard_size).sample(list(left.items()), len(left)))
    sharded = write(tmp_path / "b" / "left", shuffled, CONFIG, format=format, shard_size=shard_size)
    one = converted(plain, tmp_path / "one", MAPPING)
    other = converted(sharded, tmp_path / "other", MAPPING)
    assert_same(read(tmp_path / "one"), read(tmp_path / "other"))
    assert one["target"]["leaves"] == other["target"]["leaves"]


@pytest.mark.parametrize("format", ["safetensors", "torch"])
def test_the_target_is_written_in_shards(tmp_path: Path, format: str) -> None:
    source = write(tmp_path / "left", arrays(), CONFIG)
    converted(source, tmp_path / "one", MAPPING, {"format": format})
    receipt = converted(source, tmp_path / "many", MAPPING, {"format": format}, options=WriteOptions(shard_size=1000))
    assert len(receipt["target"]["files"]) > 5
    assert_same(read(tmp_path / "one"), read(tmp_path / "many"))


@given(st.randoms(use_true_random=False))
@settings(max_examples=10)
def test_the_order_of_work_changes_nothing(chance: random.Random) -> None:
    def shuffled(self: Any, jobs: list, writers: Any) -> None:
        in_order(self, chance.sample(jobs, len(jobs)), writers)

    in_order = Carrier.make
    with TemporaryDirectory() as name:
        folder = Path(name)
        source = write(folder / "left", arrays(), CONFIG)
        converted(source, folder / "a" / "out", MAPPING)
        with patch.object(Carrier, "make", shuffled):
            converted(source, folder / "b" / "out", MAPPING)
        assert everything_below(folder / "a") == everything_below(folder / "b")


@pytest.mark.parametrize("length", [1, 17, 100])
def test_sources_that_must_be_decoded_give_the_same(length: int) -> None:
    """In whatever pieces the target is asked for."""
    left = Memory(arrays())
    made = Converted(links_of(plan_of(MAPPING, left, CONFIG), left, None)[-1])
    with ExitStack() as stack:
        small(stack, TILE=4)
        for key, array in carried(MAPPING, arrays(), CONFIG).items():
            parts = [made.read(key, at, min(at + length, array.size)) for at in range(0, array.size, length)]
            assert b"".join(part.tobytes() for part in parts) == array.tobytes(), key


def test_tensors_stored_turned_are_read_in_order(tmp_path: Path) -> None:
    """torch keeps the strides of what it saves: a transposed view, a slice, a broadcast."""
    torch = pytest.importorskip("torch")
    base = torch.arange(35, dtype=torch.float32).reshape(5, 7)
    held = {"turned": base.T, "strided": base[::2, 1::3], "spread": base[:1].expand(4, 7), "plain": base.clone()}
    torch.save(held, tmp_path / "left.pt")
    mapping = mapping_of(Rule("{n:turned|strided|spread|plain}", "{n}.t", "x y -> y x"))
    converted(tmp_path / "left.pt", tmp_path / "right", mapping)
    assert_same(read(tmp_path / "right"), {f"{key}.t": tensor.numpy().T.copy() for key, tensor in held.items()})


# --- targets ----------------------------------------------------------------------------------------------


def test_a_strangers_folder_is_never_replaced(tmp_path: Path) -> None:
    source = write(tmp_path / "left", arrays(), CONFIG)
    target = tmp_path / "right"
    target.mkdir()
    (target / "precious").write_text("keep me")
    for overwrite, why in ((False, "exists"), (True, "is a folder that convkit didn't write")):
        with pytest.raises(UsageError, match=why) as refusal:
            converted(source, target, MAPPING, overwrite=overwrite)
        assert refusal.value.path == str(target)
        assert everything_below(tmp_path).keys() == {"left/config.json", "left/model.safetensors", "right/precious"}


def test_a_conversion_is_replaced_where_it_may_go(tmp_path: Path) -> None:
    source = write(tmp_path / "left", arrays(), CONFIG)
    target = tmp_path / "right"
    converted(source, target, MAPPING, {"dtype": "float64"})
    with pytest.raises(UsageError, match="exists"):
        converted(source, target, MAPPING)
    converted(source, target, MAPPING, overwrite=True)
    assert_same(read(target), carried(MAPPING, arrays(), CONFIG))
    beside = ["right", "right.complement.safetensors", "right.convkit.json"]  # shifting rounds
    assert sorted(path.name for path in tmp_path.iterdir()) == ["left", *beside]


def test_a_folder_that_holds_files_of_others_is_not_replaced(tmp_path: Path) -> None:
    source = write(tmp_path / "left", arrays(), CONFIG)
    target = tmp_path / "right"
    converted(source, target, MAPPING, {"dtype": "float64"})
    (target / "notes").mkdir()
    (target / "notes" / "mine.txt").write_text("of the user")
    with pytest.raises(UsageError, match=r"right: holds notes/mine\.txt, which convkit didn't write"):
        converted(source, target, MAPPING, overwrite=True)
    assert (target / "notes" / "mine.txt").read_text() == "of the user"
    (target / "notes" / "mine.txt").unlink()
    converted(source, target, MAPPING, overwrite=True)
    assert_same(read(target), carried(MAPPING, arrays(), CONFIG))


def test_a_copy_is_replaced_without_what_lies_beside_the_first(tmp_path: Path) -> None:
    source = write(tmp_path / "left", arrays(), CONFIG)
    first, copy = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    converted(source, first, MAPPING)
    before = everything_below(tmp_path)
    shutil.copy2(first, copy)
    shutil.copy2(f"{first}.convkit.json", f"{copy}.convkit.json")
    converted(source, copy, MAPPING, overwrite=True)
    assert before.items() <= everything_below(tmp_path).items()


def test_overwriting_takes_the_old_complement_along(tmp_path: Path) -> None:
    mapping = mapping_of(Rule("large", "small", "v -> v", v=3))
    source = write(tmp_path / "left", {"large": np.arange(3)}, {})
    (tmp_path / "right.complement.safetensors").write_bytes(b"of an earlier conversion")
    with pytest.raises(UsageError, match=r"right\.complement\.safetensors: exists"):
        converted(source, tmp_path / "right", mapping)
    converted(source, tmp_path / "right", mapping, overwrite=True)
    assert not (tmp_path / "right.complement.safetensors").exists()


def test_two_writers_exclude_each_other(tmp_path: Path) -> None:
    source = write(tmp_path / "left", arrays(), CONFIG)
    target = tmp_path / "right"
    inside, release = threading.Event(), threading.Event()
    outcome: list[Any] = []

    def slow(done: int, total: int) -> None:
        inside.set()
        assert release.wait(30)

    first = threading.Thread(target=lambda: outcome.append(converted(source, target, MAPPING, progress=slow)))
    first.start()
    try:
        assert inside.wait(30)
        with pytest.raises(UsageError, match="another convkit is writing it"):
            converted(source, target, MAPPING)
    finally:
        release.set()
        first.join()
    assert outcome[0]["target"]["leaves"]
    assert_same(read(target), carried(MAPPING, arrays(), CONFIG))


def test_a_lock_on_a_file_that_is_gone_counts_for_nothing(tmp_path: Path) -> None:
    """The owner removes its folder and then lets go: who got the lock in between must not go on."""
    source = write(tmp_path / "left", arrays(), CONFIG)
    flock = fcntl.flock

    def vanishing(file: int, how: int) -> None:
        flock(file, how)
        (tmp_path / ".right.convkit-part" / "lock").unlink()

    with patch("fcntl.flock", vanishing), pytest.raises(UsageError, match="another convkit is writing it"):
        converted(source, tmp_path / "right", MAPPING)


def test_a_target_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    source = write(tmp_path / "left", arrays(), CONFIG)
    flock = fcntl.flock

    def late(file: int, how: int) -> None:
        flock(file, how)
        (tmp_path / "right").mkdir()

    with patch("fcntl.flock", late), pytest.raises(UsageError, match="exists"):
        converted(source, tmp_path / "right", MAPPING)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["left", "right"]


# --- failures ---------------------------------------------------------------------------------------------


def failing_after(calls: int, error: Exception) -> Callable[..., Any]:
    def write_or_fail(*args: Any, real: Any = os.pwrite) -> Any:
        nonlocal calls
        calls -= 1
        if calls < 0:
            raise error
        return real(*args)

    return write_or_fail


@pytest.mark.parametrize("format", ["safetensors", "torch"])
@pytest.mark.parametrize("after", [0, 3, 20])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, format: str, after: int, threads: int) -> None:
    source = write(tmp_path / "left", arrays(), CONFIG)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with (
        patch.object(preallocated.os, "pwrite", failing_after(after, full)),
        pytest.raises(ConvkitError, match="No space left on device") as refusal,
    ):
        converted(source, tmp_path / "right", MAPPING, {"format": format}, threads=threads)
    assert refusal.value.remedy
    assert sorted(path.name for path in tmp_path.iterdir()) == ["left"]
    converted(source, tmp_path / "right", MAPPING, {"format": format})


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("limit", [100, 10_000])
def test_a_file_that_may_not_grow_leaves_nothing_behind(tmp_path: Path, format: str, limit: int) -> None:
    """As a full disk, for formats that write through a library."""
    source = write(tmp_path / "left", arrays(), CONFIG)

    def under_a_limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises(ConvkitError, match="can't be written"):
            converted(source, tmp_path / "right", MAPPING, {"format": format})

    in_a_process_that_dies(under_a_limit)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["left"]


def test_a_disk_too_small_is_seen_before_the_first_write(tmp_path: Path) -> None:
    source = write(tmp_path / "left", arrays(), CONFIG)
    usage = type("Usage", (), {"free": 1000})
    with (
        patch("shutil.disk_usage", lambda path: usage),
        pytest.raises(ConvkitError, match=r"needs .* GB, the disk has"),
    ):
        converted(source, tmp_path / "right", MAPPING)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["left"]


def test_a_source_that_fails_names_itself_and_leaves_nothing(tmp_path: Path) -> None:
    class Failing(Memory):
        def read(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
            if key == "l.1.up":
                raise ConvkitError("is damaged", path="somewhere", key=key, remedy="fetch it again")
            return super().read(key, start, stop)

    checkpoint = Failing(arrays())
    plan = plan_of(MAPPING, checkpoint, CONFIG)
    with pytest.raises(ConvkitError, match=r"somewhere: l\.1\.up: is damaged \(fetch it again\)"):
        convert(source_of(checkpoint, CONFIG), plan, tmp_path / "right", threads=4)
    assert list(tmp_path.iterdir()) == []


def test_a_target_in_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    source = write(tmp_path / "left", arrays(), CONFIG)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConvkitError, match=r"can't be written: Not a directory"):
        converted(source, tmp_path / "file" / "right", MAPPING)


def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    source = write(tmp_path / "left", arrays(), CONFIG)
    seen: list[tuple[int, int]] = []
    receipt = converted(source, tmp_path / "right", MAPPING, progress=lambda done, total: seen.append((done, total)))
    kept = sum(arrays()[key].nbytes for key in receipt["complement"]["tensors"])
    assert seen[-1] == (receipt["bytes_written"] + kept,) * 2
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize(("format", "name"), [("safetensors", "x.safetensors"), ("torch", "x.pt"), ("torch", "x.bin")])
def test_a_single_file_where_the_format_knows_its_name(tmp_path: Path, format: str, name: str) -> None:
    source = write(tmp_path / "left", arrays(), CONFIG)
    receipt = converted(source, tmp_path / name, MAPPING, {"format": format})
    assert (tmp_path / name).is_file()
    assert [file["name"] for file in receipt["target"]["files"]] == [name]
    back = converted(tmp_path / name, tmp_path / "back", inverse(MAPPING))
    assert back["plan"]["source"]["config"] == CONFIG


def test_dtypes_have_the_width_that_digests_need() -> None:
    """A run starts on a block of the digest, so every width must divide it."""
    assert all(BLOCK % width == 0 for width in ITEMSIZE.values())
