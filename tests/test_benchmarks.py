"""The benchmark of equivalence measures what it says, on a model of two layers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_memory_is_that_of_all_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.processes import timed

    child = "import sys; x = bytearray(48 << 20); print(len(x), flush=True); sys.stdin.read()"
    parent = f"""
import subprocess, sys, time
x = bytearray(32 << 20)
with subprocess.Popen([sys.executable, "-c", {child!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
    print(child.stdout.readline())
    time.sleep(0.1)
"""
    run = timed([sys.executable, "-c", parent], tmp_path / "printed")
    assert 80 << 20 < run.anonymous < 120 << 20
    assert run.cpu > 0
    assert str(48 << 20) in (tmp_path / "printed").read_text()


@pytest.mark.slow
def test_streamed_pass_is_that_of_the_whole_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.forward import difference, ids, streamed, whole
    from convkit.generate import generate

    generate("generated://llama?dtype=bfloat16&shard_size=50KB", tmp_path / "model")
    generate("generated://llama?dtype=bfloat16&seed=1", tmp_path / "other")
    with torch.inference_mode():
        expected = whole(tmp_path / "model")(ids(211)).logits
    torch.testing.assert_close(streamed(tmp_path / "model"), expected)
    assert difference(tmp_path / "model", tmp_path / "model") == 0
    assert difference(tmp_path / "model", tmp_path / "other") > 0.1


@pytest.mark.slow
def test_benchmark_of_equivalence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.equivalence import cases
    from benchmarks.measuring import measure

    stages, proof = (measure(case, tmp_path, pairs=1) for case in cases("tiny", memory=900, disk=0.1, long=True))
    assert [*stages["sides"]] == ["generate", "fetch", "inspect", "plan", "convert", "roundtrip"]
    assert [*proof["sides"]] == ["streamed", "equivalence", "whole"]
    for side in (*stages["sides"].values(), *proof["sides"].values()):
        assert side["MiB"][0] > 0


def test_a_huge_model_of_headers_only_is_a_checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.huge import CONFIG, write
    from convkit.formats import open_checkpoint

    few = CONFIG | {"num_hidden_layers": 2, "num_local_experts": 3, "num_experts_per_tok": 2}
    tensors, nbytes = write(tmp_path / "model", few)
    with open_checkpoint(tmp_path / "model") as opened:
        assert len(opened.leaves) == tensors == 3 + 2 * (7 + 3 * 3)
        assert sum(leaf.spec.nbytes for leaf in opened.leaves.values() if leaf.spec) == nbytes
    taken = sum(path.stat().st_blocks for path in (tmp_path / "model").iterdir()) * 512
    assert taken < 1 << 20 < nbytes
