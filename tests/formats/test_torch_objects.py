"""What programs save beside tensors: plain data is read, any other object is a leaf of a kind, and nothing is run."""

from __future__ import annotations

import argparse
import collections
import datetime
import enum
import io
import json
import os
import pathlib
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from engine.disk import converted, planned, read
from engine.memory import mapping_of

from convkit.checkpoint import Leaf, Opaque, TensorSpec, UnknownObject
from convkit.cli import run
from convkit.errors import ConvkitError
from convkit.formats import open_checkpoint
from convkit.formats.torch import pickle as torch_pickle
from convkit.mapping import LeftBehind, Rule, Verbatim
from convkit.verify.diff import diff

torch = pytest.importorskip("torch")

MAPPING = mapping_of(Rule("w", "x"))
ARRAYS = {
    "plain": np.arange(6, dtype="float32").reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(24, dtype="int16").reshape(2, 3, 4)),
    "big": np.arange(5, dtype=">f8"),
    "big complex": np.array([1 + 2j, 3 - 4j], ">c16"),
    "flags": np.array([True, False]),
    "bf16": np.array([1.5, -2], ml_dtypes.bfloat16),
    "scalar": np.array(7, "uint8"),
    "empty": np.empty((0, 3), "float16"),
}


class Color(enum.Enum):
    RED = 1


class Options(dict[str, Any]):
    """A dict of one's own."""


class Ordered(collections.OrderedDict[str, Any]):
    """The same with an order."""


class Built:
    """Pickled by its state, in which there is a tensor."""

    def __init__(self) -> None:
        self.inner = {"t": torch.ones(2), "self": self}


class Run:
    """Pickled as a call that would leave a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.trace}",)


PLAIN: dict[str, tuple[Any, Any]] = {
    "float": (np.float64(0.25), 0.25),
    "half": (np.float16(0.5), 0.5),
    "bf16": (ml_dtypes.bfloat16(1.5), 1.5),
    "int": (np.int64(-3), -3),
    "flag": (np.bool_(True), True),
    "text": (np.str_("naïve"), "naïve"),
    "device": (torch.device("cuda", 1), "cuda:1"),
    "cpu": (torch.device("cpu"), "cpu"),
    "path": (pathlib.PurePosixPath("/data/x.bin"), "/data/x.bin"),
    "drive": (pathlib.PureWindowsPath("C:/data"), "C:\\data"),
    "dtype": (np.dtype("float32"), "numpy.float32"),
    "bytes": (b"\xff\0x", Opaque(b"\xff\0x", "bytes")),
    "no bytes": (b"", Opaque(b"", "bytes")),
    "bytearray": (bytearray(b"ab"), Opaque(b"ab", "bytes")),
    "no set": (set(), []),
}
OTHER: dict[str, tuple[Any, str]] = {
    "args": (argparse.Namespace(lr=1, w=torch.ones(3), of=argparse.Namespace()), "argparse.Namespace"),
    "stream": (io.BytesIO(b"ab"), "_io.BytesIO"),
    "day": (datetime.datetime(2026, 1, 2), "datetime.datetime"),
    "color": (Color.RED, f"{__name__}.Color"),
    "options": (Options(a=1), f"{__name__}.Options"),
    "ordered": (Ordered(a=1), f"{__name__}.Ordered"),
    "built": (Built(), f"{__name__}.Built"),
    "queue": (collections.deque([1, 2]), "collections.deque"),
    "class": (argparse.Namespace, "argparse.Namespace"),
    "complex": (3 + 4j, "complex"),
    "numpy complex": (np.complex64(1j), "complex number"),
    "structured": (np.zeros(2, "i4,f4"), "numpy.ndarray"),
    "texts": (np.array(["a", "b"]), "numpy.ndarray"),
    "objects": (np.array([{}, None], object), "numpy.ndarray"),
    "moment": (np.datetime64("2026-01-02"), "numpy scalar of dtype M8"),
    "storage": (torch.ones(3).untyped_storage(), "torch storage"),
    "huge": (1 << 5000, "int of 5001 bits"),
    "conj": (torch.ones(2, dtype=torch.complex64).conj(), "lazily changed tensor (conj)"),
    "neg": (torch.ones(2, dtype=torch.complex64).conj().imag, "lazily changed tensor (neg)"),
    "sparse": (torch.eye(2).to_sparse(), "sparse tensor"),
    "meta": (torch.ones(2, device="meta"), "meta tensor, which has no elements"),
}


def save(path: Path, state: dict[str, Any], protocol: int = 2) -> Path:
    with warnings.catch_warnings(action="ignore"):
        torch.save(state, path, pickle_protocol=protocol)
    return path


def archive(path: Path, data_pkl: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("archive/data.pkl", data_pkl)
    return path


@pytest.mark.parametrize("protocol", [2, 4, 5])
class TestReading:
    def test_plain_data(self, tmp_path: Path, protocol: int) -> None:
        path = save(tmp_path / "s.pt", {key: given for key, (given, _) in PLAIN.items()}, protocol)
        with open_checkpoint(path) as checkpoint:
            for key, (_, value) in PLAIN.items():
                leaf = checkpoint.leaves[key]
                assert leaf == Leaf(key, value=value) and type(leaf.value) is type(value)

    def test_containers(self, tmp_path: Path, protocol: int) -> None:
        state = {
            "set": {"b", "a", "c"},
            "frozen": frozenset([3, 1]),
            "default": collections.defaultdict(list, {"k": 1}),
            "odd": {(1, 2): 3, "k": 4},
        }
        assert read_values(save(tmp_path / "s.pt", state, protocol)) == {
            **{"set.0": "a", "set.1": "b", "set.2": "c", "frozen.0": 1, "frozen.1": 3, "default.k": 1, "odd.k": 4},
            "odd.(other keys)": UnknownObject("entries with keys of type tuple"),
        }

    def test_arrays_are_tensors(self, tmp_path: Path, protocol: int) -> None:
        path = save(tmp_path / "s.pt", {**ARRAYS, "tied": ARRAYS["plain"]}, protocol)
        with open_checkpoint(path) as checkpoint:
            for key, array in ARRAYS.items():
                native = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1)
                assert checkpoint.leaves[key].spec == TensorSpec(array.shape, array.dtype.name)
                assert checkpoint.read(key).tobytes() == native.tobytes()
                assert checkpoint.read(key, 1, 3).tobytes() == native[1:3].tobytes()
            assert checkpoint.leaves["tied"].same_as == "plain"
            assert checkpoint.rows("fortran", [0, 3], 2).tolist() == [[0, 1], [3, 4]]

    def test_any_other_object_is_a_leaf_of_its_kind(self, tmp_path: Path, protocol: int) -> None:
        with warnings.catch_warnings(action="ignore"):  # both are deprecated, or in a beta state
            late = {
                "csr": (torch.eye(2).to_sparse_csr(), "sparse tensor"),
                "quantised": (torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "quantised tensor"),
            }
        others = OTHER | late
        state = {"w": torch.arange(3.0), **{key: given for key, (given, _) in others.items()}}
        path = save(tmp_path / "s.pt", state, protocol)
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.read("w").view("float32").tolist() == [0, 1, 2]
            for key, (_, kind) in others.items():
                value = checkpoint.leaves[key].value
                assert isinstance(value, UnknownObject)
                assert value.kind.removeprefix("builtins.").removeprefix("__builtin__.") == kind

    def test_nothing_is_run(self, tmp_path: Path, protocol: int) -> None:
        trace = tmp_path / "trace"
        state = {"evil": Run(trace), "within": argparse.Namespace(evil=Run(trace)), "keys": {Run: 1}}
        found = read_values(archive(tmp_path / "s.pt", pickle.dumps(state, protocol)))
        assert found["evil"] == UnknownObject(f"{os.name}.system") and not trace.exists()
        assert found["within"] == UnknownObject("argparse.Namespace")
        pickle.loads(pickle.dumps(state, protocol))
        assert trace.exists(), "the planted code doesn't work: the test shows nothing"


def read_values(path: Path) -> dict[str, Any]:
    with open_checkpoint(path) as checkpoint:
        return {key: leaf.value for key, leaf in checkpoint.leaves.items() if leaf.spec is None}


def test_a_parameter_with_attributes_is_read(tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.seen = 5
    assert "w" in read(save(tmp_path / "s.pt", {"w": parameter}))


class TestConverting:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        args = argparse.Namespace(lr=1)
        path = save(tmp_path / "s.pt", {"w": ARRAYS["fortran"], "args": args, "best": np.float64(0.25)})
        path.with_suffix(".json").write_text("{}")
        return path

    def test_an_unclaimed_object_is_refused_by_its_key_until_it_is_dropped(self, source: Path, tmp_path: Path) -> None:
        line = f"{source}: args: is of a kind that convkit doesn't read: argparse.Namespace (save it"
        with pytest.raises(ConvkitError, match=rf"^{re.escape(line)}.*--drop 'args'") as refused:
            converted(source, tmp_path / "out", MAPPING)
        assert refused.value.exit_code == 3 and not (tmp_path / "out").exists()
        with pytest.raises(ConvkitError, match=r"best: no rule .* claims it .*--drop 'best'"):
            converted(source, tmp_path / "out", MAPPING, {"drop": ("args",)})
        receipt = converted(source, tmp_path / "out", MAPPING, {"drop": ("args", "best")})
        assert (read(tmp_path / "out")["x"] == ARRAYS["fortran"]).all()
        assert {"args", "best"} <= receipt["source"]["leaves"].keys()
        assert planned(source, MAPPING, drop=("*e*", "args")).fates()["args"]["fate"] == "dropped"

    @pytest.mark.parametrize("rule", [Rule("args", "y"), LeftBehind("left", "args", "it is a state"), Verbatim("args")])
    def test_an_object_that_a_rule_wants_is_refused(self, source: Path, rule: Any) -> None:
        with pytest.raises(ConvkitError, match=r"args: .* argparse\.Namespace \(.*--drop 'args'"):
            planned(source, mapping_of(Rule("w", "x"), rule), drop=("best",))

    def test_a_weight_that_is_not_dense_is_named(self, tmp_path: Path) -> None:
        path = save(tmp_path / "s.pt", {"w": torch.ones(2, dtype=torch.complex64).conj(), "v": torch.ones(2)})
        with pytest.raises(ConvkitError, match=r"s\.pt: w: .* lazily changed tensor \(conj\)"):
            planned(path, mapping_of(Rule("w", "x", "a -> a"), Rule("v", "y")))

    def test_it_is_inspected(self, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["inspect", str(source), "--digest"]) == 0
        assert re.search(r"args +value +argparse\.Namespace", capsys.readouterr().out)
        assert run(["inspect", str(source), "--json"]) == 0
        leaves = {leaf["key"]: leaf for leaf in json.loads(capsys.readouterr().out)["leaves"]}
        assert leaves["args"]["value"] == {"opaque": "argparse.Namespace"} and leaves["best"]["value"] == 0.25

    def test_diff_does_not_call_it_equal(self, source: Path) -> None:
        found = diff(source, source)
        assert not found.passed and found.measured["differing_leaves"] == 1


class TestLimits:
    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            (b"}c__builtin__\nset\nq\0)q\x01" + b"h\0h\1R0" * 20, "over 15 objects"),
            (b"}cm\nC\nq\0)q\x01" + b"h\0h\1\x810" * 20, "over 15 objects"),
            (b"}" + b"\x8f0" * 20, "over 15 objects"),
            (b"}" + b"(\x910" * 20, "over 15 objects"),
            (b"}" + b"".join(b"cm\nn%d\n0" % n for n in range(20)) + b".", "over 10 names"),
            (b"}X\x64\0\0\0" + b"k" * 100 + b"q\0c_codecs\nencode\nq\x01" + b"h\x01h\0\x85R0" * 20, "over 1000 bytes"),
            (b"}X\x01\0\0\0acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85B\x01\0\0\0b\x87R"
             b"(K\x01K\x03\x85cnumpy\ndtype\nX\x02\0\0\0f4\x85R\x89B\x04\0\0\0abcdtbs.", "is corrupt: .* don't fit"),
        ],
    )  # fmt: skip
    def test_small_pickles_of_much(
        self, tmp_path: Path, body: bytes, problem: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch_pickle, "NAMES_LIMIT", 10)
        monkeypatch.setattr(torch_pickle, "CALLS_LIMIT", 1000)
        monkeypatch.setattr(torch_pickle, "OBJECTS_LIMIT", 15)
        with pytest.raises(ConvkitError, match=problem):
            open_checkpoint(archive(tmp_path / "s.pt", b"\x80\x02" + body), "torch")

    def test_a_dtype_that_changes_afterwards_does_not_matter(self, tmp_path: Path) -> None:
        dtype = b"cnumpy\ndtype\nX\x02\0\0\0f4\x85Rq\0"
        array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85B\x01\0\0\0b\x87R"
        body = b"}X\x01\0\0\0a" + array + b"(K\x01K\x01\x85" + dtype + b"\x89B\x04\0\0\0\0\0\x80?tbs"
        path = archive(tmp_path / "s.pt", b"\x80\x02" + body + b"X\x01\0\0\0bh\0K\x05bs.")
        assert read(path)["a"].tolist() == [1.0]
