"""Makes the report that a page of the site shows: small generated models, converted and proved as the site is built.

Its pages lie in the site under ``example/``; the browser shows them as they are, in a frame or by themselves.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from markdown import block
from sphinx.application import Sphinx

#: the rows: the name of the output, its source, and further options
ROWS = {
    "llama.mdl": ("generated://llama?layers=2", "--to", "cerebras/llama"),
    "gelu-gate.mdl": ("generated://gemma2?layers=2", "--to", "cerebras/gemma2", "--release", "2.9"),
    "no-faults.mdl": ("generated://gpt2?layers=2", "--to", "cerebras/gpt2", "--faults", "none", "--no-fail"),
}
REPORTING = ("report", ".", "--no-fail")


def commands() -> str:
    """The commands by which the pages are made, as they are typed."""
    lines = [shlex.join(["convkit", *words]) for words in (*map(_proving, ROWS), REPORTING)]
    return block("\n".join(lines), "sh")


def _proving(name: str) -> tuple[str, ...]:
    source, *options = ROWS[name]
    return ("prove", source, name, *options)


def setup(app: Sphinx) -> dict[str, object]:
    """See :mod:`sphinx.ext`."""
    app.add_config_value("example_report", True, "")
    app.connect("build-finished", _make)
    return {"parallel_read_safe": True}


def _make(app: Sphinx, error: Exception | None) -> None:
    if error is not None or not app.config.example_report:
        return
    target = Path(app.outdir) / "example"
    target.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder:
        for words in (*map(_proving, ROWS), REPORTING):
            _run(folder, *words)
        for page in ("report.html", "llama.mdl.report.html"):
            (target / page).write_bytes((Path(folder) / page).read_bytes())


def _run(folder: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "convkit", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"convkit {' '.join(arguments)}: {done.stderr}")
