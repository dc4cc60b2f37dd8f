"""`docs/reference/python.md` is true: its code runs, its names can be imported, and earlier import paths still work."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from recorded import HERE

import convkit

TEXT = (Path(__file__).parent.parent / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
#: paths that were documented before, and a name that each has
BEFORE = {
    "convkit.chain": "plan_chain",
    "convkit.digests": "digest_array",
    "convkit.keys": "KeyTemplate",
    "convkit.ops": "Cast",
    "convkit.pack": "pack",
    "convkit.source": "open_source",
    "convkit.tensors": "TensorSpec",
    "convkit.verify.compare": "diff",
}


def named() -> list[str]:
    """Every dotted name of the package in the document, except paths of before."""
    return sorted(set(re.findall(r"\bconvkit(?:\.\w+)+", TEXT)) - BEFORE.keys())


def found(name: str) -> tuple[ModuleType, str]:
    """The module that a dotted name leads to, and what it is called there; nothing for the module itself."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(".".join(parts[:n])), ".".join(parts[n:])
    raise AssertionError(f"{name} leads nowhere")


@pytest.mark.parametrize("name", named())
@pytest.mark.filterwarnings("error::DeprecationWarning")
def test_what_is_named_is_there_and_in_the_face_of_its_room(name: str) -> None:
    module, rest = found(name)
    face: list[str] = getattr(module, "__all__", [rest])
    assert face == sorted(set(face))
    assert all(hasattr(module, one) for one in face)
    assert not rest or rest in face
    assert face != [""], "a room that is named has a face"


def test_every_path_of_before_is_shown() -> None:
    assert BEFORE.keys() == convkit._MOVED.keys()


@pytest.mark.parametrize("name", BEFORE)
def test_paths_of_before_lead_to_the_same_objects_and_say_where(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{name} is now") as warned:
        before = importlib.import_module(name)
    now = str(warned[0].message).rpartition(" ")[2]
    assert before is importlib.import_module(now)
    assert before.__name__ == before.__spec__.name == now
    assert hasattr(before, BEFORE[name])


def test_a_path_of_before_blames_the_line_that_imports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "convkit.source", raising=False)
    with pytest.warns(DeprecationWarning) as warned:
        from convkit.source import open_source  # noqa: F401
    assert warned[0].filename == __file__


def test_a_path_of_before_imports_what_is_asked_for_and_no_more() -> None:
    code = "import convkit.digests, sys; print(any(name.startswith('convkit.plan') for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "False\n"


def test_code_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    (tmp_path / "llama-hf").symlink_to(HERE / "llama_gqa" / "hf")
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "lm_head" in done.stdout
    assert (tmp_path / "llama.mdl").is_file()
