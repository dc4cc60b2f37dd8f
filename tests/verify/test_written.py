"""What receipts record of files, and the seal: which bytes they cover."""

from __future__ import annotations

import doctest
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorded import HERE

from convkit.checkpoint.digests import ALGORITHMS, BLOCK, digest_file
from convkit.cli import main
from convkit.files import written
from convkit.files.receipt import read_receipt
from convkit.files.seal import seal_on, sealed, unbroken
from convkit.files.written import LEAST_SPAN, Digesting, recorded
from convkit.formats import open_checkpoint

_SOME = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=16,
)


def test_doctests() -> None:
    result = doctest.testmod(written)
    assert result.attempted and not result.failed


@_SOME
@given(document=st.dictionaries(st.text(max_size=5), _JSON, max_size=4), data=st.data())
def test_a_seal_is_broken_by_any_flipped_bit(document: dict[str, Any], data: st.DataObject) -> None:
    found, made = sealed(document)
    assert json.loads(made) == found and unbroken(made, found)
    lines = json.dumps(found, indent=2, ensure_ascii=False)
    assert made == f"{lines}\n".encode("utf-8", "backslashreplace")
    spoiled = bytearray(made)
    spoiled[data.draw(st.integers(0, len(made) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert not unbroken(bytes(spoiled), found)
    try:
        other = json.loads(bytes(spoiled))
    except ValueError:
        return
    assert not isinstance(other, dict) or not unbroken(bytes(spoiled), other)


def test_the_seal_on_a_file_is_read_from_its_end(tmp_path: Path) -> None:
    found, made = sealed({"a": "half a pair: \ud800", "digest": "an earlier one"})
    (tmp_path / "r").write_bytes(made)
    assert seal_on(tmp_path / "r") == found["digest"]
    (tmp_path / "r").write_bytes(made + b"\n")
    assert seal_on(tmp_path / "r") is None and seal_on(tmp_path / "none") is None


@_SOME
@given(data=st.data())
def test_a_files_digest_covers_all_that_is_not_left_out(data: st.DataObject, tmp_path: Path) -> None:
    path, size = tmp_path / "file", data.draw(st.integers(0, 3 * BLOCK))
    ends = sorted(data.draw(st.lists(st.integers(0, size), max_size=6)))
    spans = [*zip(ends[::2], ends[1::2], strict=False)]
    algorithm = data.draw(st.sampled_from(ALGORITHMS))
    content = bytearray(size)
    path.write_bytes(content)
    seen: list[int] = []
    before = digest_file(algorithm, path, seen.append, without=spans)
    assert sum(seen) == size - sum(stop - start for start, stop in spans)
    if size:
        at = data.draw(st.integers(0, size - 1))
        content[at] = 1
        path.write_bytes(content)
        inside = any(start <= at < stop for start, stop in spans)
        assert (digest_file(algorithm, path, without=spans) == before) == inside


def test_short_ranges_are_digested_and_adjacent_ones_are_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(5 * LEAST_SPAN))
    pieces = [(4 * LEAST_SPAN, 4 * LEAST_SPAN + 9), (LEAST_SPAN, 2 * LEAST_SPAN), (10, LEAST_SPAN)]
    (entry,) = recorded(tmp_path, ["file"], Digesting(leaf_bytes={tmp_path / "file": pieces}))
    assert entry.leaf_bytes == [(10, 2 * LEAST_SPAN)]


@pytest.mark.parametrize("format", ["safetensors", "torch", "cerebras-h5"])
def test_large_tensors_of_plain_formats_are_not_read_again_for_the_receipt(format: str, tmp_path: Path) -> None:
    target = tmp_path / ("t.mdl" if format == "cerebras-h5" else "t")
    source = HERE / "llama_gqa" / "hf"
    assert main(["convert", str(source), str(target), "--to", "cerebras/llama", "--format", format]) == 0
    with open_checkpoint(target) as checkpoint:
        own = [leaf.spec.nbytes for leaf in checkpoint.leaves.values() if leaf.spec and not leaf.same_as]
    spans = [span for file in (read_receipt(target) or {})["written"] for span in file.get("leaf_bytes", [])]
    assert sum(stop - start for start, stop in spans) >= sum(nbytes for nbytes in own if nbytes >= LEAST_SPAN) > 0
