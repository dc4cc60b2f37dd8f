"""Stands in for conda, which solves nothing where its channels can't be reached: an environment becomes a venv.

Python is the one that runs this, and the pip section is installed from a file of requirements, as conda does it. So the
files of ``workflow/envs``, what they pin, and Snakemake's ``--sdm conda`` are real; conda's own packages aren't tried.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

#: as Snakemake sources it
ACTIVATE = 'export CONDA_PREFIX="$1" PATH="$1/bin:$PATH"\n'


def install(folder: Path) -> Path:
    """Put a command ``conda`` into a folder, and what activates environments; returns the folder of commands."""
    commands = folder / "bin"
    commands.mkdir(parents=True)
    (commands / "conda").write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {folder} "$@"\n')
    (commands / "conda").chmod(0o755)
    (commands / "activate").write_text(ACTIVATE)
    return commands


def create(file: Path, prefix: Path) -> None:
    """Make an environment from its file."""
    (pip,) = (entry["pip"] for entry in yaml.safe_load(file.read_text())["dependencies"] if isinstance(entry, dict))
    subprocess.run([sys.executable, "-m", "venv", prefix], check=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write("\n".join(pip))
        requirements.flush()
        subprocess.run([prefix / "bin/python", "-m", "pip", "install", "-qq", "-r", requirements.name], check=True)


def main(prefix_of_conda: str, words: list[str]) -> None:
    """Answer what Snakemake asks of conda."""
    match words:
        case ["info", "--json"]:
            print(json.dumps({"conda_prefix": prefix_of_conda, "platform": "linux-64"}))
        case ["--version"]:
            print("conda 26.9.0")
        case ["config", "--get", "channel_priority", "--json"]:
            print(json.dumps({"get": {"channel_priority": "strict"}}))
        case ["env", "create", "--quiet", "--no-default-packages", "--file", file, "--prefix", prefix]:
            create(Path(file), Path(prefix))
        case ["clean", *_]:
            pass
        case _:
            sys.exit(f"stand-in for conda: unknown words {words}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
