"""Weights that are NaN or infinite: no check warns about them, no document holds what JSON can't say."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
import pytest
from engine.memory import Memory
from recorded import HERE

from convkit.checkpoint import TensorSpec
from convkit.checkpoint.tensors import carrier, value_dtype
from convkit.cli import main
from convkit.execute.fold import Multiplied
from convkit.files.receipt import receipt_path
from convkit.mapping.ops import EXACT, bits_of
from convkit.plan.step import Fold as PlannedFold
from convkit.report.stages import headline, stages_of
from convkit.verify.documents import Cast, Fold, Step, replace
from convkit.verify.roundtrip.arithmetic import differing, distance, undo
from convkit.verify.roundtrip.derived import Seen, derive
from convkit.verify.ulps import Tally

torch = pytest.importorskip("torch")

#: NaNs that signal among them
ODD = {1: [], 2: [0x7C01, 0x7F81, 0x7C00, 0x7F80, 0xFF80], 4: [0x7F800001, 0xFF800000, 0x7F7FFFFF], 8: [0x7FF1 << 48]}
DTYPES = ("float8_e5m2", "float16", "bfloat16", "float32", "float64", "complex64", "int64")


@pytest.fixture(autouse=True)
def loud() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def odd(dtype: str) -> np.ndarray:
    """Bits of 256 elements: NaNs, infinities and the largest numbers, then anything."""
    size = carrier(dtype).itemsize
    bits = np.random.default_rng(0).bytes(256 * size)
    elements = np.frombuffer(bits, f"u{size}").copy()
    elements[: len(ODD[size])] = ODD[size]
    return elements.view(carrier(dtype))


@pytest.mark.parametrize(("one", "other"), [*itertools.product(DTYPES, DTYPES)])
def test_tallies_are_finite(one: str, other: str) -> None:
    tally = Tally(one, other)
    a, b = odd(one), np.roll(odd(other), 1)
    size = min(a.size, b.size)
    tally.add(a[:size], b[:size])
    assert tally.incomparable or one == other == "int64"
    assert all(math.isfinite(figure) for figure in tally.to_json().values())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_distances_and_recipes(dtype: str) -> None:
    bits, spec = odd(dtype), TensorSpec((256,), dtype)
    cast = Cast(from_=dtype, to="float8_e5m2")
    assert differing(bits, np.roll(bits, 1), [cast], dtype).any()
    step = replace(_step(), ops=(cast,))
    assert np.isinf(distance(bits, np.roll(bits, 1), dtype, step)).any()
    undo(bits, [cast], "float8_e5m2", dtype)
    bits_of(1e300, dtype)
    leaves = Memory({"w": bits.view(value_dtype(dtype)).reshape(2, 128), "s": bits.view(value_dtype(dtype))[:128]})
    assert derive("amax history", {}, TensorSpec((2, 4), "float32"), ["w"], leaves) is not None
    assert derive("constant", {"value": 1e300}, TensorSpec((), dtype), [], leaves) is not None
    arguments = {"parts": 1}
    again = Seen(leaves, Fold("source", "w", "s", "per-dim scale", arguments, "exact")).read("w")
    made = Multiplied(leaves, PlannedFold("source", "w", "s", "per-dim scale", arguments, EXACT)).read("w")
    assert spec.size == again.size == made.size


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A llama with every kind of number that isn't finite, or isn't in a narrower dtype."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(HERE / "llama_gqa" / "hf", tmp_path / "source")
    path = tmp_path / "source" / "model.safetensors"
    weights = load_file(path)
    for weight in weights.values():
        weight.view(-1)[:5] = torch.tensor([math.nan, math.inf, -math.inf, 1e38, 1e-40])
    save_file(weights, path, {"format": "pt"})
    return tmp_path / "source"


def strict(text: str) -> Any:
    """The document, if every reader of JSON would take it."""

    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} in {text}")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_commands_on_such_weights(source: Path, tmp_path: Path, dtype: str, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "target"
    convert = ["convert", str(source), str(target), "--to", "cerebras/llama", "--format", "safetensors"]
    assert main([*convert, "--dtype", dtype, "--allow-overflow", "--json"]) == 0
    strict(capsys.readouterr().out)
    strict(receipt_path(target).read_text())
    commands = (["roundtrip", str(source), str(target)], ["diff", str(source), str(target)], ["verify", str(target)])
    for argv in (*commands, ["inspect", "--digest", str(source)]):
        main([*argv, "--json"])
        said = capsys.readouterr()
        strict(said.out)
        main(argv)
        text = capsys.readouterr()
        assert not {"nan", "inf"} & set(text.out.replace(",", " ").split())
        assert not said.err and not text.err


def test_what_a_narrow_dtype_cannot_hold_is_said(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "target"
    convert = ["convert", str(source), str(target), "--to", "cerebras/llama", "--format", "safetensors"]
    assert main([*convert, "--dtype", "float16", "--allow-overflow"]) == 0
    capsys.readouterr()
    assert main(["roundtrip", str(source), str(target)]) == 1
    text = capsys.readouterr().out
    assert "max_ulp not finite" in text
    assert "1 of 3072 elements lie more than 0.5 ulp from" in text
    assert "the first at [0, 3], the worst finite on one side only" in text


@pytest.mark.parametrize(
    ("sides", "said"), [(("source", "target"), "compute nothing to compare"), (("target",), "part")]
)
def test_equal_weights_that_are_not_finite_do_not_part_the_models(sides: tuple[str, ...], said: str) -> None:
    """Models that hold NaN on both sides can't be compared by running them, which is no difference of theirs."""
    problem = "; ".join(f"w of the {side} holds NaN or infinite values" for side in sides)
    stage = {"name": "layers.0", "max_rel": None, "bound": 5e-6, "problems": [f"not finite: {problem}"]}
    assert headline(stages_of({"stages": [stage]})) == f"the models {said} at layers.0: not finite"


def test_values_beside_tensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"w": torch.ones(2), "nan": math.nan, "inf": -math.inf}, tmp_path / "a.pt")
    for argv in (["inspect", "--digest", str(tmp_path / "a.pt")], ["diff", *[str(tmp_path / "a.pt")] * 2]):
        assert main([*argv, "--json"]) == 0
        strict(capsys.readouterr().out)


def _step() -> Step:
    side = ({"key": "any", "axes": "a", "at": {}},)
    step = {"rule": "any", "sources": side, "targets": side, "sizes": {"a": 1}, "exactness": "exact", "ops": ()}
    return msgspec.convert(step, Step)
