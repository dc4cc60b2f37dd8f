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
    for words in (["inspect", source], ["plan", source, *to], ["convert", source, target, *to]):
        found = {name for name in modules(MAIN, *words) if name.startswith("convkit.")}
        others = {name for name in found if f"{name}.".startswith(tuple(f"convkit.{one}." for one in OF_OTHERS))}
        assert not others, words
        assert "convkit.mappings.cerebras.llama" in found
    assert (tmp_path / "cs.convkit.json").is_file()


def test_what_reads_no_tensor_imports_no_numpy() -> None:
    """numpy takes as long as the rest of such a command."""
    source = str(HERE / "llama_gqa" / "hf")
    for words in (["inspect", source], ["plan", source, "--to", "cerebras/llama"]):
        assert not loaded(MAIN, *words).intersection(["numpy", "h5py", "yaml", "subprocess", "socket"]), words


def test_migrating_imports_no_mappings() -> None:
    found = {f"{name}." for name in modules("import convkit.cli.migrate")}
    assert not {name for name in found if name.startswith(("convkit.mapping.", "convkit.mappings.", "convkit.config."))}


def test_writing_an_mdl_file_registers_no_filters(tmp_path: Path) -> None:
    target = tmp_path / "cs.mdl"
    assert "hdf5plugin" not in loaded(
        MAIN, "convert", str(HERE / "llama_gqa" / "hf"), str(target), "--to", "cerebras/llama"
    )
    assert target.is_file()


def test_what_is_declared_at_a_start_is_a_struct(tmp_path: Path) -> None:
    """The module `dataclasses` writes and compiles code for each class: twenty times what a Struct takes."""
    count = """
import dataclasses
made, make = [], dataclasses._process_class
dataclasses._process_class = lambda of, *how: (made.append(f"{of.__module__}.{of.__name__}"), make(of, *how))[1]
"""
    source, target = str(HERE / "llama_gqa" / "hf"), str(tmp_path / "cs.mdl")
    end = "\nimport json; print(json.dumps(made))"
    command = [sys.executable, "-c", count + MAIN + end, "convert", source, target, "--to", "cerebras/llama"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert not {name for name in json.loads(done.stdout.splitlines()[-1]) if name.startswith("convkit.")}
