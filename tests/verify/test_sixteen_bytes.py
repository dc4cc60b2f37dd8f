"""Elements of 16 bytes are compared bit by bit, as all others: the two zeros differ, and a NaN equals itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corruption import edit
from recorded import HERE

from convkit.checkpoint import Leaf, TensorSpec, WriteOptions
from convkit.checkpoint.tensors import carrier
from convkit.cli import main
from convkit.formats import get_format, open_checkpoint
from convkit.verify.files import _differing_leaves
from convkit.verify.ulps import Tally

#: zeros of both signs in either part, NaNs whose payloads differ, and a number
BITS = [
    (0, 0), (1 << 63, 0), (0, 1 << 63), (0x7FF8 << 48, 1 << 63),
    (0x7FF0 << 48 | 1, 0), (0xFFFF << 48, 0x7FF8 << 48 | 5), (0x3FF0 << 48, 0x4000 << 48), (1 << 63, 1 << 63),
]  # fmt: skip
BIAS = "transformer.h.0.attn.c_attn.bias"
QUERY = "model.transformer_decoder.layers.0.self_attn.proj_q_dense_layer.bias"


def special(size: int) -> np.ndarray:
    """So many complex numbers out of :data:`BITS`, in their carrier."""
    return np.resize(np.array(BITS, "<u8"), (size, 2)).view(carrier("complex128")).reshape(-1)


def written(path: Path, format: str, arrays: dict[str, tuple[tuple[int, ...], np.ndarray]]) -> Path:
    """Complex tensors in a format."""
    leaves = [Leaf(key, TensorSpec(shape, "complex128")) for key, (shape, _) in arrays.items()]
    writer = get_format(format).create(path, leaves, WriteOptions())
    for key, (_, data) in arrays.items():
        writer.write(key, 0, data)
        writer.finish(key)
    writer.commit()
    writer.close()
    return path


@pytest.fixture
def gpt2(tmp_path: Path) -> Path:
    """A GPT-2 whose tensors are all complex, in torch's format."""
    (folder := tmp_path / "hf").mkdir()
    shutil.copyfile(HERE / "gpt2" / "hf" / "config.json", folder / "config.json")
    with open_checkpoint(HERE / "gpt2" / "hf") as recorded:
        shapes = {key: leaf.spec.shape for key, leaf in recorded.leaves.items() if leaf.spec}
    masks = (".attn.bias", ".attn.masked_bias")
    arrays = {key: (shape, special(int(np.prod(shape)))) for key, shape in shapes.items() if not key.endswith(masks)}
    written(folder / "pytorch_model.bin", "torch", arrays)
    return folder


@pytest.fixture
def converted(gpt2: Path, tmp_path: Path) -> Path:
    target = tmp_path / "cs.pt"
    assert main(["convert", str(gpt2), str(target), "--to", "cerebras/gpt2", "--format", "torch"]) == 0
    return target


def asked(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    """The verdict of a command; its exit code agrees with it."""
    capsys.readouterr()
    code = main([*map(str, arguments), "--json"])
    verdict: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == (0 if verdict["passed"] else 1)
    return verdict


def positive_zero(data: np.ndarray) -> np.ndarray:
    """The first -0.0 made 0.0: to arithmetic nothing has changed."""
    parts = data.view("<u8").reshape(-1, 2)
    parts[np.flatnonzero(parts[:, 0] == 1 << 63)[0], 0] = 0
    return data


def other_payload(data: np.ndarray) -> np.ndarray:
    """The first NaN with another payload."""
    parts = data.view("<u8").reshape(-1, 2)
    parts[np.flatnonzero(parts[:, 0] == 0x7FF8 << 48)[0], 0] |= 9
    return data


def test_what_is_the_same_bit_by_bit_passes(gpt2: Path, converted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(capsys, "verify", converted)["passed"]
    verdict = asked(capsys, "roundtrip", gpt2, converted)
    assert verdict["passed"] and verdict["measured"]["leaves_exact"] == verdict["measured"]["leaves_total"]
    assert asked(capsys, "diff", converted, converted)["passed"]
    back = converted.with_name("back.pt")
    assert main(["convert", str(converted), str(back), "--to", "hf/gpt2", "--format", "torch"]) == 0
    assert asked(capsys, "diff", gpt2, back)["passed"]


@pytest.mark.parametrize("change", [positive_zero, other_payload])
def test_what_only_bits_show_is_found(
    change: Callable[[np.ndarray], np.ndarray], gpt2: Path, converted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_checkpoint(converted) as untouched:
        arrays = {
            key: (leaf.spec.shape, np.array(untouched.read(key))) for key, leaf in untouched.leaves.items() if leaf.spec
        }
    arrays[QUERY] = arrays[QUERY][0], change(arrays[QUERY][1])
    changed = written(converted.with_name("changed.pt"), "torch", arrays)
    assert asked(capsys, "diff", converted, changed)["measured"]["differing"] == 1
    edit(converted, QUERY, change)
    assert any(QUERY in problem for problem in asked(capsys, "verify", converted)["problems"])
    verdict = asked(capsys, "roundtrip", gpt2, converted)
    assert [problem.partition(":")[0] for problem in verdict["problems"]] == [BIAS]
    assert "1 of" in verdict["problems"][0]


def test_complex_numbers_are_compared_with_real_ones_by_value() -> None:
    tally = Tally("complex128", "float32")
    tally.add(np.array([1, 2, 3 + 4j, -0.0]).view("V16"), np.array([1, 5, 3, 0], "float32").view("uint32"))
    assert (tally.elements, tally.differing, tally.first, tally.max_abs) == (4, 2, 1, 4.0)


@pytest.mark.parametrize("format", ["torch", "t5x", "pax", "orbax-v0", "orbax-v1"])
def test_every_format_that_holds_them_keeps_their_bits(format: str, tmp_path: Path) -> None:
    data = special(300 * 7)
    path = written(tmp_path / "made", format, {"some.weight": ((300, 7), data)})
    with open_checkpoint(path, format) as checkpoint:
        (key,) = (key for key, leaf in checkpoint.leaves.items() if leaf.spec)
        read = checkpoint.read(key)
        assert read.dtype == carrier("complex128") and read.tobytes() == data.tobytes()
        assert checkpoint.read(key, 5, 900).tobytes() == data[5:900].tobytes()


def test_a_migrated_leaf_equals_itself_and_no_other(tmp_path: Path) -> None:
    one, other = special(16), positive_zero(special(16))
    same = written(tmp_path / "same", "orbax-v0", {"w": ((16,), one)})
    assert _differing_leaves(same, same, (), ()) == (1, [])
    changed = written(tmp_path / "changed", "orbax-v0", {"w": ((16,), other)})
    count, wrong = _differing_leaves(same, changed, (), ())
    assert count == 1 and len(wrong) == 1
