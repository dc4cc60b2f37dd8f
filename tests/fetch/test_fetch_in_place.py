"""A large source on this machine is read where it lies, by its record, which shows whether it is still that one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

from convkit.cli import main
from convkit.errors import ConvkitError, UsageError
from convkit.fetch import fetch, seen_now
from convkit.fetch.in_place import COPIED_UP_TO, recorded
from convkit.files.receipt import read_receipt
from convkit.files.unchanged import state_of


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some bytes are many."""
    monkeypatch.setattr("convkit.fetch.in_place.COPIED_UP_TO", 10)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "my models" / "a b"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(5000))
    return folder


def in_place(source: Path | str, tmp_path: Path, **more: Any) -> dict[str, Any]:
    return fetch(str(source), tmp_path / "results" / "source", in_place=True, **more)


def record_of(tmp_path: Path) -> Path:
    return tmp_path / "results" / "source.fetch.json"


def test_what_is_copied_although_it_could_stay(tmp_path: Path) -> None:
    """64 MiB in all, in however many files."""
    assert COPIED_UP_TO == 64 << 20
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("a", "b"):
        with (folder / name).open("wb") as file:
            file.truncate(32 << 20)
    assert in_place(folder, tmp_path)["in_place"] is False
    assert (tmp_path / "results" / "source" / "a").is_file()
    (folder / "c").write_text("x")
    assert in_place(folder, tmp_path, overwrite=True)["in_place"] is True
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["source.fetch.json"]


@pytest.mark.usefixtures("few")
def test_nothing_is_copied(source: Path, tmp_path: Path) -> None:
    found = in_place(source, tmp_path)
    assert (found["path"], found["in_place"], found["kind"]) == (str(source), True, "folder")
    state = state_of(source / "model.safetensors")
    assert state is not None
    file = {each["path"]: each for each in found["files"]}["model.safetensors"]
    assert file == {
        "path": "model.safetensors",
        "size": 5000,
        "sha256": file["sha256"],
        "mtime_ns": state.mtime_ns,
        "ctime_ns": state.ctime_ns,
        "inode": state.inode,
        "device": state.device,
    }
    assert fetch(str(source), tmp_path / "copy")["sha256"] == found["sha256"]
    assert recorded(record_of(tmp_path)) == (
        source,
        {source / name: state_of(source / name) for name in ("config.json", "model.safetensors")},
    )
    assert in_place(source, tmp_path)["fetched"] is False


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("uri", ["file", "relative", "package"])
def test_every_way_to_say_it(uri: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "its_package").mkdir()
    shutil.copytree(source, tmp_path / "its_package" / "model")
    said = {"file": source.as_uri(), "relative": "my models/a b", "package": "package://its_package/model"}[uri]
    place = tmp_path / "its_package" / "model" if uri == "package" else source
    assert in_place(said, tmp_path)["path"] == str(place)


@pytest.mark.usefixtures("few")
def test_a_file_and_an_index(source: Path, tmp_path: Path) -> None:
    weights = source / "model.safetensors"
    assert in_place(weights, tmp_path)["files"][0]["path"] == "."
    assert list(recorded(record_of(tmp_path))[1]) == [weights]
    index = source / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors"}}))
    (source / "unrelated").write_text("x")
    found = in_place(index, tmp_path, overwrite=True)
    assert [each["path"] for each in found["files"]] == ["config.json", "model.safetensors", index.name]
    place, states = recorded(record_of(tmp_path))
    assert (place, len(states)) == (index, 3)
    assert fetch(str(index), tmp_path / "copy")["sha256"] == found["sha256"]


@pytest.mark.usefixtures("few")
def test_a_folder_of_links(source: Path, tmp_path: Path) -> None:
    """The snapshot in the cache of a model hub: a link that leads elsewhere later is another source."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (source / name).rename(blobs / f"0{name}")
        (snapshot / name).symlink_to(f"../../blobs/0{name}")
    in_place(snapshot, tmp_path)
    assert len(recorded(record_of(tmp_path))[1]) == 2
    (blobs / "1").write_bytes(bytes(4999) + b"x")
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to("../../blobs/1")
    with pytest.raises(ConvkitError, match=r"snapshots/1/model.safetensors: changed since it was fetched"):
        recorded(record_of(tmp_path))


def same_times(file: Path, change: Callable[[Path], object]) -> None:
    times = file.stat()
    change(file)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def write_into(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(b"edited")


def replace(file: Path) -> None:
    (file.parent / ".new").write_bytes(b"edited" + bytes(4994))
    (file.parent / ".new").rename(file)


def link_elsewhere(file: Path) -> None:
    other = file.parents[1] / "other"
    shutil.copytree(file.parent, other)
    write_into(other / file.name)
    shutil.rmtree(file.parent)
    file.parent.symlink_to(other)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (write_into, "model.safetensors: changed since it was fetched (restore it; or remove "),
        (lambda file: same_times(file, write_into), "model.safetensors: changed since"),
        (lambda file: same_times(file, replace), "model.safetensors: changed since"),
        (link_elsewhere, "model.safetensors: changed since"),
        (Path.unlink, "model.safetensors: is gone since"),
        (lambda file: (file.parent / "adapter_config.json").write_text("{}"), "adapter_config.json: is new since"),
        (lambda file: shutil.rmtree(file.parent), "config.json: is gone since"),
    ],
)
def test_a_source_that_was_changed(change: Callable[[Path], object], says: str, source: Path, tmp_path: Path) -> None:
    in_place(source, tmp_path)
    change(source / "model.safetensors")
    with pytest.raises(ConvkitError) as caught:
        recorded(record_of(tmp_path))
    assert says in str(caught.value)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    "change",
    [
        os.utime,
        lambda file: shutil.copyfile(shutil.move(file, file.with_name(".old")), file),
        lambda file: (file.parent / "link").hardlink_to(file) or (file.parent / "link").unlink(),
        lambda file: (file.parent / ".snakemake_timestamp").touch(),
    ],
)
def test_the_same_bytes_are_the_same_source(change: Callable[[Path], object], source: Path, tmp_path: Path) -> None:
    in_place(source, tmp_path)
    change(source / "model.safetensors")
    assert recorded(record_of(tmp_path))[0] == source


def test_a_copy_is_checked_too_and_moves_with_its_record(source: Path, tmp_path: Path) -> None:
    in_place(source, tmp_path)
    (tmp_path / "results").rename(tmp_path / "moved")
    copy = tmp_path / "moved" / "source"
    assert recorded(tmp_path / "moved" / "source.fetch.json")[0] == copy
    write_into(copy / "model.safetensors")
    with pytest.raises(ConvkitError, match="changed since it was fetched"):
        recorded(tmp_path / "moved" / "source.fetch.json")


def test_records_of_earlier_releases(source: Path, tmp_path: Path) -> None:
    """They say nothing of inodes, nor where the workflow put the copy."""
    file = tmp_path / "results" / "source.safetensors"
    found = fetch(str(source / "model.safetensors"), file)
    for name in ("path", "in_place", "fetched"):
        del found[name]
    for name in ("ctime_ns", "inode", "device"):
        del found["files"][0][name]
    found["schema"] = "convkit-fetch/1"
    for name in ("fetch.json", "source.safetensors.fetch.json"):
        (tmp_path / "results" / name).write_text(json.dumps(found))
        assert recorded(tmp_path / "results" / name)[0] == file
    assert fetch(str(source / "model.safetensors"), file)["path"] == str(file)
    write_into(file)
    with pytest.raises(ConvkitError, match="changed since it was fetched"):
        recorded(tmp_path / "results" / "fetch.json")


@pytest.mark.usefixtures("few")
def test_a_wrong_digest_leaves_no_record(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConvkitError, match=f"sha256 is .*, not {'0' * 64}"):
        in_place(source, tmp_path, sha256="0" * 64)
    assert list((tmp_path / "results").iterdir()) == []


@pytest.mark.parametrize("name", ["my models", "my models/a b"])
def test_a_destination_that_holds_the_source(name: str, source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder that convkit didn't write"):
        fetch(str(source), tmp_path / name, overwrite=True)
    assert (source / "model.safetensors").is_file()


def test_a_source_in_what_an_earlier_fetch_made(source: Path, tmp_path: Path) -> None:
    fetch(str(source), tmp_path / "m")
    for inside in (tmp_path / "m", tmp_path / "m" / "model.safetensors"):
        with pytest.raises(UsageError, match="lies in the destination, or is it"):
            fetch(str(inside), tmp_path / "m", overwrite=True)
        assert (tmp_path / "m" / "model.safetensors").is_file()


@pytest.mark.usefixtures("few")
def test_a_record_names_a_source_for_every_command(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    in_place(source, tmp_path)
    assert main(["inspect", str(record_of(tmp_path)), "--json"]) == 3  # zeros aren't safetensors
    assert f"{source / 'model.safetensors'}: " in capsys.readouterr().err
    write_into(source / "model.safetensors")
    for command in (["inspect"], ["plan", "--to", "cerebras/llama"], ["cerebras", "fix-checkpoint-spec"]):
        assert main([*command, str(record_of(tmp_path))]) == 3
        assert "changed since it was fetched" in capsys.readouterr().err


def test_what_shows_that_a_source_changed(source: Path, tmp_path: Path) -> None:
    """For the workflow: no file is read, and a source that isn't there is what it was."""
    weights, record = source / "model.safetensors", record_of(tmp_path)
    shown = [seen_now(str(weights), record)]
    assert in_place(weights, tmp_path)["seen"] == shown[0]
    for change in (
        lambda: same_times(weights, replace),
        lambda: os.utime(weights),
        lambda: (source / "config.json").write_text("{ }"),
    ):
        change()
        shown.append(seen_now(str(weights), record))
        assert seen_now(weights.as_uri(), record) == shown[-1]
    assert len(set(shown)) == len(shown)
    weights.unlink()
    assert seen_now(str(weights), record) == shown[0]
    assert seen_now(str(weights), tmp_path / "none") == seen_now("s3://bucket/model", record) == ""


@pytest.mark.usefixtures("few")
def test_a_source_that_changes_while_it_is_read_by_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A check says nothing about it, and a conversion leaves what was there."""
    pytest.importorskip("transformers")
    source, record, target = tmp_path / "model", record_of(tmp_path), tmp_path / "target.mdl"
    fetch("generated://llama?layers=1&seed=5", source)
    in_place(source, tmp_path)
    commands = {
        "convkit.execute.carry.Carrier.digest_source": ["convert", str(record), str(target), "--to", "cerebras/llama"],
        "convkit.verify.roundtrip.check.roundtrip": ["roundtrip", str(record), str(target)],
        "convkit.verify.equivalence.check.equivalence": ["equivalence", str(record), str(target), "--faults", "none"],
    }
    convert, roundtrip, _ = commands.values()
    assert main(convert) == main(roundtrip) == 0
    receipt = read_receipt(target)
    assert receipt is not None and receipt["source"]["path"] == str(source)
    for name, command in commands.items():
        real = resolve_name(name)

        def work(*args: Any, real: Callable[..., Any] = real, **more: Any) -> Any:
            found = real(*args, **more)
            os.utime(source / "config.json")
            return found

        in_place(source, tmp_path, overwrite=True)
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(name, work)
            assert main([*command, *(["--overwrite"] if command is convert else [])]) == 3
        said = capsys.readouterr()
        assert f"{source / 'config.json'}: changed while it was read" in said.err
        assert said.out == ""
        assert read_receipt(target) == receipt
