"""Only what is needed is imported: help is quick, and converting safetensors needs no framework."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from recorded import HERE

HEAVY = ("torch", "jax", "transformers", "tensorstore", "pandas")
MAIN = "import sys\nfrom convkit.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass"


#: what only other formats, other layouts, pages, parts and stores need
OF_OTHERS = (
    *("audit", "baseline", "execute.in_parts", "files.stores.s3", "migrate", "oracles", "orbax", "report.summary"),
    *("formats.cerebras_h5", "formats.orbax", "formats.t5x", "formats.torch", "mappings.te", "state.cerebras"),
    *("mappings.cerebras.dpo", "mappings.cerebras.bert", "mappings.cerebras.releases.yamls"),
)


def loaded(code: str, *arguments: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after some code."""
    return {name.partition(".")[0] for name in modules(code, *arguments)}


def modules(code: str, *arguments: str) -> set[str]:
    """The modules that a fresh interpreter has after some code."""
    end = "\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", code + end, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_convkit_and_asking_for_help_is_light() -> None:
    assert not loaded("import convkit").intersection([*HEAVY, "numpy"])
    assert not loaded(MAIN, "--help").intersection([*HEAVY, "numpy", "h5py", "yaml"])


def test_converting_and_checking_safetensors_is_light(tmp_path: Path) -> None:
    source, target = str(HERE / "llama_gqa" / "hf"), str(tmp_path / "cs")
    layout = ["--to", "cerebras/llama", "--format", "safetensors"]
    assert not loaded(MAIN, "convert", source, target, *layout).intersection(HEAVY)
    assert (tmp_path / "cs.convkit.json").is_file()
    assert not loaded(MAIN, "roundtrip", source, target).intersection(HEAVY)
    assert not loaded(MAIN, "verify", target).intersection(HEAVY)
    assert not loaded(MAIN, "diff", target, target).intersection(HEAVY)


def test_commands_import_only_what_this_checkpoint_needs(tmp_path: Path) -> None:
    """A start takes as long as its imports."""
    source, target = str(HERE / "llama_gqa" / "hf"), str(tmp_path / "cs")
    to = ["--to", "cerebras/llama", "--format", "safetensors"]
    for words in (["plan", source, *to], ["convert", source, target, *to]):
        found = {name for name in modules(MAIN, *words) if name.startswith("convkit.")}
        others = {name for name in found if f"{name}.".startswith(tuple(f"convkit.{one}." for one in OF_OTHERS))}
        assert not others, words
        assert "convkit.mappings.cerebras.llama" in found
    assert (tmp_path / "cs.convkit.json").is_file()
