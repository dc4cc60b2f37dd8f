"""The same llama, converted by convkit and by what people use instead, each a whole process.

convkit digests every leaf of both sides and syncs what it writes; the peers do neither, except ``cp``, which is
followed by ``sync``. ModelZoo's converter runs where ``CONVKIT_MODELZOO`` names the folder ``src`` of a checkout of
ModelZoo 2.10, in the environment that ``make test-interop`` makes (or that ``CONVKIT_INTEROP_PYTHON`` is of).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks import checkpoint
from benchmarks.case import CONVKIT, Case, Figure, Side, command
from benchmarks.checkpoint import Size

ROOT = Path(__file__).parent.parent
MODELZOO = "CONVKIT_MODELZOO"
PYTHON = Path(os.environ.get("CONVKIT_INTEROP_PYTHON", ROOT / ".venv-interop/bin/python"))
SAFE = ("--format", "safetensors")
#: layers of the llama of checkpoint.py by GB
LAYERS = {1: 1, 8: 17}

TRANSFORMERS = """
import sys, transformers
transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="auto").save_pretrained(sys.argv[2])
"""
SAFETENSORS = """
import os, sys
from pathlib import Path
from safetensors.torch import load_file, save_file
tensors = {}
for path in Path(sys.argv[1]).glob("*.safetensors"):
    tensors |= load_file(path)
os.mkdir(sys.argv[2])
renamed = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
save_file(renamed, Path(sys.argv[2], "model.safetensors"))
"""
TORCH = """
import sys, torch
tensors = torch.load(sys.argv[1], weights_only=True)
torch.save({name.removeprefix("model."): tensor for name, tensor in tensors.items()}, sys.argv[2])
"""
TO_TORCH = """
import sys, torch
from pathlib import Path
from safetensors.torch import load_file
tensors = {}
for path in Path(sys.argv[1]).glob("*.safetensors"):
    tensors |= load_file(path)
torch.save(tensors, sys.argv[2])
"""


def weights(work: Path) -> Iterator[Mapping[str, Side]]:
    """Hugging Face's folder, to a Cerebras layout in safetensors."""
    source, out = work / "1", work / "out"
    checkpoint.make(source, Size(LAYERS[1]))
    python = (sys.executable, "-c")
    copy = f'cp -r "{source}" "{out}" && sync "{out}"/*'
    yield {
        "cp": command("sh", "-c", copy, clears=out),
        "convkit": command(*CONVKIT, "convert", source, out, "--to", "cerebras/llama", *SAFE, clears=out),
        "transformers": command(*python, TRANSFORMERS, source, out, clears=out),
        "safetensors": command(*python, SAFETENSORS, source, out, clears=out),
    }


def torch(work: Path) -> Iterator[Mapping[str, Side]]:
    """A file of torch.save, to another one."""
    source, folder, out = work / "1", work / "torch", work / "out.bin"
    checkpoint.make(source, Size(LAYERS[1]))
    folder.mkdir()
    command(sys.executable, "-c", TO_TORCH, source, folder / "pytorch_model.bin")()
    (folder / "config.json").write_bytes((source / "config.json").read_bytes())
    words = ("convert", folder, out, "--to", "cerebras/llama", "--format", "torch")
    yield {
        "convkit": command(*CONVKIT, *words, clears=out),
        "torch": command(sys.executable, "-c", TORCH, folder / "pytorch_model.bin", out, clears=out),
    }


def to_modelzoo(work: Path, size: int) -> Iterator[Mapping[str, Side]]:
    """Hugging Face's folder, to ``.mdl``."""
    source, ours, theirs = work / str(size), work / "ours.mdl", work / "theirs"
    checkpoint.make(source, Size(LAYERS[size]))
    words = ("--config", source / "config.json", source / "model.safetensors.index.json")
    yield {
        "convkit": command(*CONVKIT, "convert", source, ours, "--to", "cerebras/llama", clears=(ours, theirs)),
        "modelzoo": _modelzoo("hf", "cs-2.9", theirs, *words, clears=(ours, theirs)),
    }


def from_modelzoo(work: Path, size: int) -> Iterator[Mapping[str, Side]]:
    """``.mdl``, to Hugging Face's folder."""
    source, made, ours, theirs = work / str(size), work / "made.mdl", work / "ours", work / "theirs"
    checkpoint.make(source, Size(LAYERS[size]))
    command(*CONVKIT, "convert", source, made, "--to", "cerebras/llama", "--release", "2.9", clears=made)()
    made.with_suffix(".mdl.convkit.json").unlink()  # what is converted back by its receipt is easier
    words = ("--config", made.with_suffix(".yaml"), "--export-safetensors", made)
    yield {
        "convkit": command(*CONVKIT, "convert", made, ours, "--to", "hf/llama", clears=(ours, theirs)),
        "modelzoo": _modelzoo("cs-2.9", "hf", theirs, *words, clears=(ours, theirs)),
    }


def _modelzoo(source: str, target: str, folder: Path, *words: str | Path, clears: tuple[Path, ...]) -> Side:
    options = ("--model", "llama", "--src-fmt", source, "--tgt-fmt", target, "--output-dir", folder)
    run = (PYTHON, Path(__file__).with_name("modelzoo.py"), os.environ.get(MODELZOO, ""))
    return command(*run, "convert", *options, "--no-progress-bar", *words, clears=clears)


def _missing() -> str:
    if not os.environ.get(MODELZOO):
        return f"needs the source of ModelZoo 2.10 ({MODELZOO} names the folder src of a checkout)"
    return "" if PYTHON.exists() else "needs the environment of make test-interop"


def _versions() -> dict[str, str]:
    """Of the packages that ModelZoo's converter runs with."""
    names = ("cerebras-pytorch", "torch", "h5py", "numpy")
    script = f"from importlib.metadata import version\nprint(*map(version, {names}))"
    said = subprocess.run([PYTHON, "-c", script], check=True, capture_output=True, text=True).stdout
    return {f"{name} of modelzoo": each for name, each in zip(names, said.split(), strict=True)}


def _modelzoo_case(name: str, about: str, sides: Callable[..., Iterator[Mapping[str, Side]]], size: int) -> Case:
    return Case(
        f"{name}-{size}gb",
        f"{size} GB of llama, {about}: convkit and ModelZoo's converter",
        partial(sides, size=size),
        (
            Figure("convkit"),
            Figure("modelzoo"),
            Figure("convkit", "modelzoo", limit=0.2),
            Figure("convkit", "modelzoo", what="cpu"),
            Figure("convkit", what="anonymous"),
            Figure("modelzoo", what="anonymous"),
        ),
        disk=4 * size + 1,
        peers={"modelzoo": "convkit"},
        missing=_missing,
        versions=_versions,
        long=size > 1,
    )


CASES = (
    Case(
        "peers",
        "1 GB of llama from Hugging Face, to a Cerebras layout in safetensors: convkit, cp and sync, and others",
        weights,
        (
            Figure("convkit"),
            Figure("convkit", "cp", limit=1),
            *(
                figure
                for peer, limit in (("transformers", 0.2), ("safetensors", None))
                for figure in (
                    Figure(peer),
                    Figure("convkit", peer, limit=limit),
                    Figure("convkit", peer, what="cpu"),
                    Figure(peer, what="anonymous"),
                )
            ),
            Figure("convkit", what="anonymous"),
        ),
        disk=4,
        packages=("transformers", "safetensors", "torch"),
        peers=dict.fromkeys(("cp", "transformers", "safetensors"), "convkit"),
    ),
    Case(
        "peers-torch",
        "1 GB of llama in a file of torch.save, to another one: convkit, and torch's load and save",
        torch,
        (
            Figure("convkit"),
            Figure("torch"),
            Figure("convkit", "torch"),
            Figure("convkit", "torch", what="cpu"),
            Figure("convkit", what="anonymous"),
            Figure("torch", what="anonymous"),
        ),
        disk=5,
        packages=("torch",),
        peers={"torch": "convkit"},
    ),
    *(
        _modelzoo_case(name, about, sides, size)
        for size in LAYERS
        for name, about, sides in (
            ("modelzoo-to", "from Hugging Face to .mdl", to_modelzoo),
            ("modelzoo-from", "from .mdl to Hugging Face", from_modelzoo),
        )
    ),
)
