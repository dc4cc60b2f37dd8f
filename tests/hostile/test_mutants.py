"""Three thousand damaged files over all formats: every command says one line, or does its work; no trace comes out.

What is called is below the handler that turns a fault of convkit into a line: a fault fails the test. The seeds are
fixed: a mutant that fails is ``pytest -k "mutants and zip" --co`` and its number.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from mutants import mutated
from sources import OUT, SOURCES, SRC, Source, make

from convkit.cli import run

#: mutants of each source
MUTANTS = 180
#: commands that each meets
COMMANDS = 2


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    pytest.importorskip("orbax.checkpoint")
    folder = tmp_path_factory.mktemp("mutants")
    make(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_mutants(source: Source, made: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shutil.copytree(made / source.name, tmp_path / "whole")
    faults = [fault for seed in range(MUTANTS) for fault in _faults(source, seed, tmp_path, capsys)]
    assert not faults, "\n".join(faults)


def _faults(source: Source, seed: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[str]:
    random = Random(f"{source.name}{seed}")
    whole = folder / "whole"
    files = sorted({path for pattern in source.files for path in whole.glob(pattern) if path.is_file()})
    path = random.choice(files)
    sound = path.read_bytes()
    path.write_bytes(mutated(path, random))
    for command in random.sample(source.commands, min(COMMANDS, len(source.commands))):
        out = folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        places = {SRC: str(whole / source.inner), OUT: str(out / "o")}
        words = [word.replace(SRC, places[SRC]).replace(OUT, places[OUT]) for word in command]
        where = f"{source.name} {seed}: {path.relative_to(whole)}: {' '.join(command)}"
        capsys.readouterr()
        try:
            code = run(words)
        except Exception as error:
            yield f"{where}: {type(error).__name__}: {error}"
            continue
        lines = capsys.readouterr().err.splitlines()
        if code not in (0, 1, 2, 3):
            yield f"{where}: exit {code}"
        elif code > 1 and not (lines and lines[-1].startswith("convkit: ") and str(folder) in lines[-1]):
            yield f"{where}: {lines}"
    path.write_bytes(sound)
