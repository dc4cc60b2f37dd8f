"""Arrays that are rewritten: another zarr, another compressor, in or out of a database; the leaves stay the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convkit.cli import main
from convkit.formats import open_checkpoint
from convkit.migrate.orbax import checks
from convkit.migrate.orbax.migrate import migrate
from convkit.migrate.orbax.request import Encoding, Request
from convkit.state.orbax.layout import recognise
from convkit.verify.files import verify_files

Layout = Callable[[str], Path]


def leaves(path: Path) -> dict[str, Any]:
    with open_checkpoint(path) as opened:
        return {
            key: (leaf.spec, opened.read(key).tobytes()) if leaf.spec else leaf.value
            for key, leaf in opened.leaves.items()
        }


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("v0_leaves", Encoding()),
        ("v0_leaves", Encoding(zarr=2, compressor="gzip:1")),
        ("v0_leaves_folders_zarr3", Encoding(zarr=3, ocdbt=False)),
        ("v1_leaves", Encoding()),
        ("v1_leaves_folders", Encoding(zarr=3, compressor="none")),
        ("v1_random_keys", Encoding(ocdbt=False)),
    ],
    ids=str,
)
def test_there_and_back(layout: Layout, tmp_path: Path, name: str, encoding: Encoding) -> None:
    source = layout(name)
    api = recognise(source).api
    to = "v1" if api == "v0" else "v0"
    receipt = migrate(source, tmp_path / "there", Request(to, "rewrite", encoding=encoding), restored=False)
    assert leaves(tmp_path / "there") == leaves(source)
    (item,) = receipt["parts"][0]["items"].values()
    assert item["rewritten"]
    assert item["leaves"].keys() == set(leaves(source))
    flags = json.loads((tmp_path / "there" / "state" / "_METADATA").read_text())
    assert flags["use_zarr3"] == ((encoding.zarr or {"v0": 2, "v1": 3}[to]) == 3)
    assert flags["use_ocdbt"] == (encoding.ocdbt is not False)
    assert (tmp_path / "there" / "state" / "manifest.ocdbt").is_file() == flags["use_ocdbt"]
    verdict = checks.roundtrip(source, tmp_path / "there", receipt)
    assert verdict.passed, verdict.problems
    assert verdict.measured["leaves_written_anew"] == len(leaves(source))
    assert verify_files(tmp_path / "there", receipt).passed


def test_the_real_orbax_restores_it(layout: Layout, tmp_path: Path) -> None:
    encoding = Encoding(zarr=3, ocdbt=False, compressor="zstd:5")
    receipt = migrate(layout("v0_items"), tmp_path / "there", Request("v1", "rewrite", encoding=encoding))
    assert receipt["restored"]["measured"]["different"] == 0
    assert not list((tmp_path / "there").rglob("manifest.ocdbt"))
    # an array and the random keys are pytrees there, and written anew like the others
    assert {name for name, item in receipt["parts"][0]["items"].items() if item["rewritten"]} == {
        *("state", "keys", "array", "typed", "raw", "numpy")
    }


def test_only_what_must_be_is_written_anew(layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["orbax", "migrate", str(layout("v0_legacy_msgpack_only")), str(tmp_path / "there"), "--to", "v1"]) == 0
    assert "1 items (1 rewritten)" in capsys.readouterr().out
    assert main(["orbax", "migrate", str(layout("v0_direct_standard")), str(tmp_path / "other"), "--to", "v1"]) == 0
    assert "rewritten" not in capsys.readouterr().out


def test_the_same_api_with_another_encoding(layout: Layout, tmp_path: Path) -> None:
    source = layout("v0_manager_root")
    migrate(source, tmp_path / "there", Request("v0", encoding=Encoding(zarr=3)), restored=False)
    for step in ("0", "1234"):
        assert leaves(tmp_path / "there" / step) == leaves(source / step)
        assert json.loads((tmp_path / "there" / step / "state" / "_METADATA").read_text())["use_zarr3"]


def test_chunks(layout: Layout, tmp_path: Path) -> None:
    command = ["orbax", "migrate", str(layout("v0_direct_standard")), str(tmp_path / "there"), "--to", "v1"]
    assert main([*command, "--chunk-size", "16", "--ocdbt", "off", "--compressor", "none"]) == 0
    assert leaves(tmp_path / "there") == leaves(layout("v0_direct_standard"))
    grid = json.loads((tmp_path / "there" / "state" / "b.c" / "zarr.json").read_text())["chunk_grid"]
    assert grid["configuration"]["chunk_shape"] == [1, 3]
    assert sorted(path.name for path in (tmp_path / "there" / "state" / "a" / "c").iterdir()) == ["0", "1"]


def test_items_that_became_pytrees_stay_so_on_the_way_back(layout: Layout, tmp_path: Path) -> None:
    """Their own files are nowhere; their leaves are, and the real Orbax restores them."""
    migrate(layout("v0_items"), tmp_path / "there", Request("v1", "rewrite"), restored=False)
    receipt = migrate(tmp_path / "there", tmp_path / "back", Request("v0"))
    assert receipt["restored"]["measured"]["different"] == 0
    assert not receipt["parts"][0]["given_back"]
    assert any("was rewritten as a pytree" in warning for warning in receipt["warnings"])
    assert leaves(tmp_path / "back").keys() == leaves(tmp_path / "there").keys()
