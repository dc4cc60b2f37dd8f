"""A run that ends or fails at any change of a name leaves the old files or the new ones whole, or the next run does."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from once import once

from convkit.cli import main
from convkit.errors import ConvkitError
from convkit.files import publication
from convkit.files.exchange import exchange
from convkit.files.staging import heal
from convkit.testing import in_a_process_that_dies

#: what changes names, by the names of functions in ``os``
CHANGES = ("rename", "replace", "unlink", "remove", "link", "mkdir", "symlink", "rmdir")
#: lines of documents that depend on time and chance
CHANCE = {
    *("started", "seconds", "resumed", "peak_anonymous_bytes", "digest", "plan_digest", "time"),
    *("written", "files", "source", "parts"),
}


class Faults:
    """Counts changes of names; at one of them the process ends, or the call fails.

    Args:
        at: which one; None for none.
        how: ``before`` or ``after`` the call the process ends; ``fails``: the call raises instead.
        swaps: whether the system can exchange two names.
    """

    def __init__(self, at: int | None = None, how: str = "before", *, swaps: bool = True) -> None:
        self.at = at
        self.how = how
        self.swaps = swaps
        self.count = 0

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for name in CHANGES:
                stack.enter_context(patch.object(os, name, self._counting(getattr(os, name))))
            swap = self._counting(exchange, False) if self.swaps else lambda one, other: False
            stack.enter_context(patch.object(publication, "exchange", swap))
            stack.enter_context(patch.object(os, "fsync", lambda file: None))  # nothing here dies with the machine
            yield

    def _counting(self, real: Callable[..., Any], failed: bool | None = None) -> Callable[..., Any]:
        def change(*args: Any, **kwargs: Any) -> Any:
            here, self.count = self.count == self.at, self.count + 1
            if here and self.how == "before":
                os._exit(0)
            if here and self.how == "fails":
                if failed is not None:
                    return failed
                raise OSError(errno.EIO, "Input/output error", str(args[0]))
            try:
                return real(*args, **kwargs)
            finally:  # also where the call fails by itself
                if here and self.how == "after":
                    os._exit(0)

        return change


@dataclass(frozen=True)
class Work:
    """A command that writes ``target`` over what ``before`` left; ``{}`` stands for the folder."""

    command: tuple[str, ...]
    target: str
    before: tuple[tuple[str, ...], ...] = ()
    verified: bool = True


def made_sources(folder: Path) -> None:
    """Two models, an old checkpoint, and one of Orbax's, whose threads don't survive a fork."""
    for name, uri in {
        "one": "generated://llama?layers=1",
        "two": "generated://llama?layers=2",
        "old": "generated://cerebras-old?release=1.7",
    }.items():
        assert main(["fetch", uri, str(folder / name)]) == 0
    if find_spec("orbax") is not None:
        subprocess.run([sys.executable, "-m", "convkit", "fetch", "generated://orbax-v0", folder / "v0"], check=True)


SOURCES = "{sources}"
CONVERT = ("convert", f"{SOURCES}/two", "--to", "cerebras/llama")
FIRST = ("convert", f"{SOURCES}/one", "--to", "cerebras/llama")
WORKS = {
    "fresh": Work((*CONVERT, "{}/t.mdl"), "t.mdl"),
    "file": Work((*CONVERT, "{}/t.mdl", "--overwrite"), "t.mdl", ((*FIRST, "{}/t.mdl"),)),
    "folder": Work(
        (*CONVERT, "{}/t", "--format", "safetensors", "--overwrite"),
        "t",
        ((*FIRST, "{}/t", "--format", "safetensors"),),
    ),
    "folder over file": Work(
        (*CONVERT, "{}/t.mdl", "--format", "torch", "--overwrite"), "t.mdl", ((*FIRST, "{}/t.mdl"),)
    ),
    "in place": Work(
        ("cerebras", "fix-checkpoint-spec", "{}/model.mdl", "--fix_inplace", "--yes"),
        "model.mdl",
        (("copy", f"{SOURCES}/old/model.mdl", "{}/model.mdl"),),
    ),
    "migration": Work(
        ("orbax", "migrate", f"{SOURCES}/v0", "{}/t", "--to", "v1", "--no-restore", "--overwrite"),
        "t",
        (("orbax", "migrate", f"{SOURCES}/v0", "{}/t", "--to", "v1", "--step", "1", "--no-restore"),),
    ),
    "fetch": Work(
        ("fetch", f"{SOURCES}/two", "{}/t", "--overwrite"), "t", (("fetch", f"{SOURCES}/one", "{}/t"),), verified=False
    ),
}


class Bench:
    """One work, done again and again with a fault each time."""

    def __init__(self, name: str, folder: Path) -> None:
        self.work = WORKS[name]
        self.sources = once("publication-sources", made_sources)
        if name == "migration" and not (self.sources / "v0").exists():
            pytest.skip("Orbax isn't installed")
        self.folder = folder
        self.old, self.new = folder / "old", folder / "new"
        self.old.mkdir()
        for command in self.work.before:
            if command[0] == "copy":
                shutil.copy(*self._filled(command, self.old)[1:])
            else:
                assert main(self._filled(command, self.old)) == 0
        shutil.copytree(self.old, self.new)
        assert self.run(self.new)["code"] == 0

    def _filled(self, command: tuple[str, ...], folder: Path) -> list[str]:
        return [word.replace(SOURCES, str(self.sources)).replace("{}", str(folder)) for word in command]

    def run(self, folder: Path, at: int | None = None, how: str = "", *, swaps: bool = True) -> dict[str, Any]:
        """Do the work in a process of its own, with a fault; what came of it, empty if the process ended there."""
        told = self.folder / "told.json"
        told.unlink(missing_ok=True)
        command = self._filled(self.work.command, folder)
        child = multiprocessing.get_context("forkserver").Process(target=act, args=(command, at, how, swaps, told))
        child.start()
        child.join()
        assert child.exitcode == 0
        return dict(json.loads(told.read_text())) if told.exists() else {}

    def fresh(self) -> Path:
        """A folder as it is before the work."""
        here = self.folder / "here"
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(self.old, here)
        return here

    def changes(self, *, swaps: bool) -> list[int]:
        """The work's changes of names, by number: of those before the publication, which are all alike, only some."""
        done = self.run(self.fresh(), swaps=swaps)
        assert done["code"] == 0
        publication_from = max(0, int(done["count"]) - 30)
        return [*range(0, publication_from, 9), *range(publication_from, int(done["count"]))]

    def state(self, folder: Path) -> str:
        """Whether the old or the new files are there, whole."""
        found = visible(folder)
        if found == visible(self.old):
            return "old"
        same = found.keys() == visible(self.new).keys() and said(folder) == said(self.new)
        if same and (not self.work.verified or main(["verify", str(folder / self.work.target)]) == 0):
            return "new"
        return f"neither: {sorted(found)}"


def act(command: list[str], at: int | None, how: str, swaps: bool, told: Path) -> None:
    """Run a command with a fault, and write what came of it, unless the process ends."""
    faults, said, shown = Faults(at, how, swaps=swaps), io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(shown), faults.planted():
        code = main(command)
    told.write_text(json.dumps({"code": code, "count": faults.count, "said": said.getvalue()}))


def visible(folder: Path) -> dict[str, bytes]:
    """Every file below, except in staging folders."""
    paths = (path for path in folder.rglob("*") if path.is_file() and ".convkit-part" not in str(path))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def said(folder: Path) -> list[Any]:
    """What receipts and records say, without chance."""
    return [
        {name: value for name, value in document.items() if name not in CHANCE}
        for path in sorted(folder.glob("*.json"))
        if path.name.endswith((".convkit.json", ".fetch.json"))
        for document in [json.loads(path.read_text().replace(str(folder), ""))]
    ]


def killed(bench: Bench, at: int, how: str, *, swaps: bool) -> None:
    """Ended at one change of a name; then what can be seen is whole once it is healed, and the same command goes on."""
    here = bench.fresh()
    assert not bench.run(here, at, how, swaps=swaps)
    heal(here / bench.work.target)
    healed = bench.state(here)
    assert healed in ("old", "new"), f"killed {how} change {at}: {healed}"
    code = bench.run(here, swaps=swaps)["code"]
    assert code == 0 or (code == 2 and healed == "new"), f"killed {how} change {at}"
    assert bench.state(here) == "new", f"killed {how} change {at}, and run again"
    assert code == 2 or not [path for path in here.glob(".*/*") if path.name != "lock"]


def failing(bench: Bench, at: int, *, swaps: bool) -> None:
    """One change of a name fails: all is done all the same, or the old files are there, and one line says why."""
    here = bench.fresh()
    done = bench.run(here, at, "fails", swaps=swaps)
    errors = [line for line in done["said"].splitlines() if "error" in line.lower()]
    assert bench.state(here) == ("new" if done["code"] == 0 else "old"), f"change {at} failed: {done}"
    assert done["code"] == 0 or (len(errors) == 1 and "Traceback" not in done["said"]), f"change {at} failed: {done}"
    if done["code"]:
        assert bench.run(here)["code"] == 0, f"change {at} failed, and run again"
        assert bench.state(here) == "new"


@pytest.mark.slow
@pytest.mark.parametrize("swaps", [True, False], ids=["exchanged", "moved"])
@pytest.mark.parametrize("name", WORKS)
def test_killed_at_every_change_of_a_name(name: str, swaps: bool, tmp_path: Path) -> None:
    bench = Bench(name, tmp_path)
    for at in bench.changes(swaps=swaps):
        for how in ("before", "after"):
            killed(bench, at, how, swaps=swaps)


@pytest.mark.slow
@pytest.mark.parametrize("swaps", [True, False], ids=["exchanged", "moved"])
@pytest.mark.parametrize("name", WORKS)
def test_every_change_of_a_name_may_fail(name: str, swaps: bool, tmp_path: Path) -> None:
    bench = Bench(name, tmp_path)
    for at in bench.changes(swaps=swaps):
        failing(bench, at, swaps=swaps)


# --- the same for the moves alone, with small files ------------------------------------------------------------------


def laid_out(folder: Path) -> tuple[Path, dict[Path, Path], list[Path]]:
    """Old files, and new ones in a staging folder: over a file, over nothing, over a folder; one is stale."""
    staging = folder / ".t.convkit-part"
    (staging / "out" / "t").mkdir(parents=True)
    (staging / "lock").touch()
    (folder / "t").mkdir()
    for name in ("t/a", "t.yaml", "t.stale"):
        (folder / name).write_text("old")
    for name in ("t/a", "t/b", "t.yaml", "t.json"):
        (staging / "out" / name).write_text("new")
    finals = [folder / name for name in ("t.yaml", "t.json", "t")]
    return staging, {final: staging / "out" / final.name for final in finals}, [folder / "t.stale"]


OLD = {"t/a": b"old", "t.yaml": b"old", "t.stale": b"old"}
NEW = {"t/a": b"new", "t/b": b"new", "t.yaml": b"new", "t.json": b"new"}


def dies(faults: Faults, work: Callable[..., None], *arguments: Any) -> None:
    """Do the work in a process that ends at the fault."""

    def dying() -> None:
        with faults.planted():
            work(*arguments)

    in_a_process_that_dies(dying)


@pytest.mark.parametrize("swaps", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["exchanged", "moved"])
def test_the_moves_are_made_all_or_none(swaps: bool, tmp_path: Path) -> None:
    """Killed before each, and again before each of what heals it."""
    with (faults := Faults(swaps=swaps)).planted():
        publication.publish(*laid_out(tmp_path / "count"))
    assert visible(tmp_path / "count") == NEW
    seen = set()
    for at in range(faults.count):
        folder = tmp_path / f"at{at}"
        staging, staged, stale = laid_out(folder)
        dies(Faults(at, swaps=swaps), publication.publish, staging, staged, stale)
        for again in (0, 1, 2):
            dies(Faults(again, swaps=swaps), publication.recover, staging)
        with Faults(swaps=swaps).planted():
            publication.recover(staging)
        assert visible(folder) in (OLD, NEW), at
        assert not publication.interrupted(staging)
        seen.add(len(visible(folder)))
    assert len(seen) == 2


@pytest.mark.parametrize("swaps", [True, False], ids=["exchanged", "moved"])
def test_a_move_that_fails_takes_all_back(swaps: bool, tmp_path: Path) -> None:
    with (faults := Faults(swaps=swaps)).planted():
        publication.publish(*laid_out(tmp_path / "count"))
    for at in range(faults.count):
        folder = tmp_path / f"at{at}"
        work = laid_out(folder)
        failed = False
        with Faults(at, "fails", swaps=swaps).planted():
            try:
                publication.publish(*work)
            except OSError:
                failed = True
        assert visible(folder) == (OLD if failed else NEW), at
        publication.recover(work[0])
        assert visible(folder) == (OLD if failed else NEW), at


def test_what_somebody_put_in_the_place_of_a_file_stays(tmp_path: Path) -> None:
    """After a kill while the old target was away; nothing is lost, and the error says where the rest is."""
    staging, staged, stale = laid_out(tmp_path)
    target = tmp_path / "t"

    def dying() -> None:
        real = Path.rename

        def rename(self: Path, to: Path) -> Path:
            if to == target:
                os._exit(0)
            return real(self, to)

        with patch.object(publication, "exchange", lambda one, other: False), patch.object(Path, "rename", rename):
            publication.publish(staging, staged, stale)

    in_a_process_that_dies(dying)
    assert not target.exists()
    target.write_text("precious")
    with pytest.raises(ConvkitError, match="was being replaced when a run was killed, and something else has come up"):
        publication.recover(staging)
    assert target.read_text() == "precious"
    assert (staging / "replaced" / "t" / "a").read_text() == "old"
    target.unlink()
    publication.recover(staging)
    assert visible(tmp_path) == OLD


def test_an_old_target_that_an_earlier_release_had_moved_away_comes_back(tmp_path: Path) -> None:
    part = tmp_path / ".t.convkit-part"
    (part / "old-t").mkdir(parents=True)
    (part / "old-t" / "a").write_text("old")
    publication.recover(part)
    assert visible(tmp_path) == {"t/a": b"old"}
