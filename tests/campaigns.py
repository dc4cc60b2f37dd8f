"""Campaigns for tests of the workflow: a table of claims, a config, and Snakemake in a folder of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parent.parent
COLUMNS = ("id", "source", "sha256", "from", "to", "format", "options")
CONFIG = {
    "checkpoints": "claims.tsv",
    "results": "results",
    "threads": 2,
    "digest": "xxh3-128",
    "probe_length": 256,
}

#: the order of a few small jobs needs no solver, which is a process each time
QUICK = ("--scheduler", "greedy")


def claim(**cells: str) -> dict[str, str]:
    return dict.fromkeys(COLUMNS, "") | {"to": "cerebras/llama"} | cells


GOOD = claim(id="good", source="generated://llama?kv_heads=2&tied=false")
BACK = claim(id="back", source="row:good", to="hf/llama", format="torch", options="--release 2.9 --config 'a b.json'")
WRONG = claim(id="wrong", source="generated://llama?seed=14")
BLUNT = claim(id="blunt", source="generated://llama?seed=15")
REFUSED = claim(id="refused", source="generated://llama?seed=13")


def scripts(name: str) -> ModuleType:
    """A module of the workflow's scripts."""
    spec = importlib.util.spec_from_file_location(f"convkit_{name}", ROOT / f"workflow/scripts/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Campaign:
    """A working directory with a config and a table of claims."""

    def __init__(self, directory: Path, search: str, *snakemake: str | Path) -> None:
        self.directory = directory
        self.search = search
        self.command = [*(snakemake or (sys.executable, "-m", "snakemake")), "--snakefile", ROOT / "Snakefile"]

    def write(self, rows: list[dict[str, str]], **config: Any) -> None:
        lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
        (self.directory / "claims.tsv").write_text("\n".join(lines) + "\n")
        (self.directory / "config.json").write_text(json.dumps(CONFIG | config))
        for row in rows:  # what rows name that doesn't lie on the web is there
            for path in {row.get("source", "/"), *row.get("options", "").split("'")[1::2]}:
                if "/" not in path and ":" not in path and path.isprintable():
                    (self.directory / path).touch()

    def start(self, *options: str, config: str = "config.json") -> subprocess.Popen[str]:
        environment = os.environ | {"PATH": self.search, "XDG_CACHE_HOME": str(self.directory / "cache")}
        configured = ["--configfile", config] if config else []
        return subprocess.Popen(
            [*self.command, *options, *configured],
            cwd=self.directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *options: str, config: str = "config.json") -> subprocess.CompletedProcess[str]:
        process = self.start(*options, config=config)
        out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def jobs(self, *options: str, config: str = "config.json") -> set[str]:
        """Run, and return the jobs that were done, apart from printing the table."""
        done = self.run(*options, config=config)
        return set(re.findall(r"Job \d+: (.+)", done.stdout + done.stderr)) - {"the table"}

    def document(self, path: str) -> Any:
        return json.loads((self.directory / "results" / path).read_text())

    def verdicts(self) -> dict[str, str]:
        return {row["id"]: row["verdict"] for row in self.document("summary.json")["rows"]}
