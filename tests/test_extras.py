"""A command that needs a package of an extra says in one line which one to install, and leaves nothing half-written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recorded import HERE

from convkit.cli import main
from convkit.extras import EXTRA_OF

MODEL = str(HERE / "llama_gqa" / "hf")
CONVERTED = ["--to", "cerebras/llama", "--format", "safetensors"]
#: the package that isn't there, and a command that needs it
NEEDED = [
    ("torch", f"equivalence {MODEL} converted"),
    ("transformers", f"equivalence {MODEL} converted"),
    ("torch", f"logits {MODEL} --ids ids.npz --out made"),
    ("transformers", "fetch generated://llama made"),
    ("tensorstore", "fetch generated://t5x made"),
    ("msgpack", "fetch generated://t5x made"),
    ("jax", "fetch generated://orbax-v0 made"),
    ("flax", "fetch generated://orbax-v0 made"),
    ("optax", "fetch generated://orbax-v0 made"),
    ("orbax", "fetch generated://orbax-v0 made"),
    ("orbax", "orbax guide"),
    ("cryptography", "audit keygen made"),
    ("s3fs", "fetch s3://bucket/model made"),
    ("gcsfs", "fetch gs://bucket/model made"),
    ("huggingface_hub", "fetch hf://org/model made"),
]
#: convkit in an interpreter that doesn't find one package, as if it weren't installed
WITHOUT = """
import sys

class Finder:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] == sys.argv[1] else self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Finder, sys.meta_path)
from convkit.cli import main
raise SystemExit(main(sys.argv[2:]))
"""


def without(module: str, command: list[str], folder: Path) -> tuple[int, str]:
    """Run a command where a module isn't installed: the exit code, and what it says on standard error."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, module, *command], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("extras")
    np.savez(made / "ids.npz", input_ids=np.array([[1, 2, 3]]))
    assert main(["convert", MODEL, str(made / "converted"), *CONVERTED]) == 0
    return made


@pytest.mark.parametrize(("module", "command"), NEEDED)
def test_a_command_without_its_extra(module: str, command: str, folder: Path) -> None:
    before = sorted(folder.iterdir())
    code, said = without(module, command.split(), folder)
    assert code == 3
    line = said.splitlines()[-1]
    assert line.startswith("convkit: ")
    assert line.endswith(f"isn't installed (pip install 'convkit-checkpoints[{EXTRA_OF[module]}]')")
    assert "Traceback" not in said
    assert sorted(folder.iterdir()) == before


def test_a_proof_keeps_what_it_could_do_and_names_the_extra(tmp_path: Path) -> None:
    code, said = without("torch", ["prove", MODEL, "made", *CONVERTED], tmp_path)
    assert code == 3
    line = "torch isn't installed (pip install 'convkit-checkpoints[torch]')"
    assert f"equivalence: {line}" in said
    assert json.loads((tmp_path / "made.roundtrip.json").read_text())["state"] == "yes"
    assert line in (tmp_path / "made.report.html").read_text().replace("&#39;", "'")
    assert main(["prove", MODEL, str(tmp_path / "made"), *CONVERTED]) == 0
