"""``convkit orbax check`` as a command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import layouts
import pytest

from convkit.cli import main
from convkit.orbax.check.calls import CALLS

Layout = Callable[[str], Path]


def document(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict]:
    code = main(["orbax", "check", "--json", *words])
    return code, json.loads(capsys.readouterr().out)


def test_words(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["orbax", "check", str(layout("v0_composite_checkpointer"))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  v1.load_checkpointables(p, dict(arr=None, meta=None, state=None))" in lines
    assert "  NoEntryError: item rng can't be loaded as pytree <- FileNotFoundError: no _METADATA lies there" in lines
    assert "- rng: is a random key's item: v1 has no handler for it" in lines
    assert all(any(call.text in line for line in lines) for call in CALLS)


@pytest.mark.parametrize("name", layouts.MATRIX)
def test_lines_are_not_long(layout: Layout, capsys: pytest.CaptureFixture[str], name: str) -> None:
    path = layout(name)
    main(["orbax", "check", str(path)])
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if str(path) not in line) <= 120


def test_json(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = document(capsys, str(layout("v0_manager_root/1234")))
    assert code == 0
    assert (found["schema"], found["kind"], found["api"]) == ("convkit.orbax-check/1", "step", "v0")
    assert found["items"]["my_json_data"]["kind"] == "json"
    calls = {entry["call"]: entry for entry in found["calls"]}
    assert set(calls) >= {call.text for call in CALLS}
    assert calls["v1.load(p)"]["value"] == {"a": "jax.Array int32[8]", "b": {"c": "np.ndarray float32[2, 3]"}}
    failed = calls["v1.load(p, checkpointable_name=None)"]
    assert failed["result"] == "InvalidLayoutError"
    assert [cause["error"] for cause in failed["causes"]] == ["InvalidLayoutError", "FileNotFoundError"]
    assert found["use"] == {
        "v1": "v1.load_checkpointables(p)",
        "v0": "v0 Checkpointer(Composite).restore(p)",
    }
    assert found["confirmed"] is None


def test_names_of_steps_are_spelled(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    _, found = document(capsys, str(layout("v0_manager_metrics_prefix")))
    assert found["where"]["f"] == (
        "v1.path.step.standard_name_format(step_prefix='my_run', step_format_fixed_length=6)"
    )
    assert found["use"]["v0"] == "v0 CheckpointManager(p, options=o).restore(latest)"
    assert found["steps"] == ["my_run_000000", "my_run_001234"]


def test_nothing_loads_it(tmp_path: Path, layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "item"
    path.mkdir()
    (path / "_METADATA").write_bytes((layout("v0_direct_pytree") / "_METADATA").read_bytes())
    assert main(["orbax", "check", str(path)]) == 1
    assert "nothing of v1 loads it" in capsys.readouterr().out
    assert main(["orbax", "check", "--no-fail", str(path)]) == 0


def test_nothing_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["orbax", "check", str(tmp_path / "nope")]) == 3
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "no such file or folder" in said.err
    assert "not recognised as an Orbax checkpoint" in said.out
    code, found = document(capsys, str(tmp_path / "nope"))
    assert (code, found["kind"]) == (3, None)
    assert {entry["result"] for entry in found["calls"]} >= {"InvalidLayoutError", "FileNotFoundError"}


def test_devices(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(layout("v1_sharded"))
    results = [
        {entry["call"]: entry["result"] for entry in document(capsys, path, "--devices", n)[1]["calls"]}["v1.load(p)"]
        for n in ("1", "4")
    ]
    assert results == ["ValueError", "OK"]


def test_run(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("orbax.checkpoint")
    code, found = document(capsys, "--run", str(layout("v1_save")))
    assert (code, found["confirmed"]) == (0, True)
    assert all(entry["agrees"] for entry in found["calls"])
    assert found["calls"][1]["ran"]["value"] == found["calls"][1]["value"]


def test_prediction_imports_neither_orbax_nor_jax(layout: Layout) -> None:
    program = (
        "import sys; from convkit.cli import main; main(sys.argv[1:]); "
        "print(sorted({'jax', 'orbax', 'torch'} & set(sys.modules)), file=sys.stderr)"
    )
    words = ["orbax", "check", str(layout("v0_items"))]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
