"""What an equivalence check needs is predicted: never less than it takes, and not much more."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from convkit.cli import main
from convkit.verify.documents import Described, read_plan
from convkit.verify.equivalence.need import need

#: how much more than the memory that is taken may be predicted
MORE = 1.4
#: what a process takes between two looks at it isn't seen
SEEN = 1.05
#: llamas of two layers: hidden, kv heads' width, feed-forward width, vocabulary -> the peak of the process's anonymous
#: memory in MB, as it was measured on two processors
MEASURED = {
    (60, 20, 84, 211): 339,
    (1024, 256, 4096, 128_000): 697,
    (2048, 512, 5632, 8_000): 943,
    (4096, 4096, 11008, 4_000): 2553,
}


def planned(
    source: dict[str, tuple[int, ...]], target: dict[str, tuple[int, ...]] | None = None, **config: Any
) -> Described:
    """A plan of tensors of these shapes."""
    side = {"format": "safetensors", "config": config}

    def leaves(shapes: dict[str, tuple[int, ...]], word: str) -> dict[str, Any]:
        return {key: {"shape": shape, "dtype": "bfloat16", word: "moved"} for key, shape in shapes.items()}

    return read_plan(
        Described,
        {
            "source": side,
            "target": side,
            "source_leaves": leaves(source, "fate"),
            "target_leaves": leaves(target or source, "origin"),
        },
    )


def llama(hidden: int, keys: int, wide: int, vocab: int, layers: int = 2) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocab, hidden),
        "lm_head.weight": (vocab, hidden),
    }
    for i in range(layers):
        at = f"model.layers.{i}."
        shapes |= {f"{at}self_attn.{name}_proj.weight": (hidden, hidden) for name in "qo"}
        shapes |= {f"{at}self_attn.{name}_proj.weight": (keys, hidden) for name in "kv"}
        shapes |= {f"{at}mlp.{name}_proj.weight": (wide, hidden) for name in ("gate", "up")}
        shapes |= {f"{at}mlp.down_proj.weight": (hidden, wide), f"{at}input_layernorm.weight": (hidden,)}
    return shapes


@pytest.mark.parametrize("sizes", MEASURED)
def test_memory_is_as_predicted(sizes: tuple[int, int, int, int]):
    predicted = need(planned(llama(*sizes))).memory / 1e6
    assert MEASURED[sizes] <= predicted <= MORE * MEASURED[sizes]


def test_memory_follows_the_largest_stage():
    """It doesn't grow with the number of layers, but with a layer, whichever side has it."""
    sizes = (4096, 4096, 11008, 32_000)
    few, many = (planned(llama(*sizes, layers=layers)) for layers in (2, 80))
    assert need(few).memory == need(many).memory < 3.5 * (1 << 30)
    assert need(few).seconds < need(many).seconds
    wider = planned(llama(*sizes), llama(4096, 4096, 30_000, 32_000))
    assert need(wider).memory > need(few).memory


@pytest.mark.parametrize("layer", ["target.encoder.layers_{}.mlp.wi.kernel", "h.{}.mlp.weight", "x_layers_{}/w"])
def test_layers_are_found_in_keys(layer: str):
    alone = {"head.norm1.kernel": (64, 64), layer.format(0): (5000, 1000)}
    others = {layer.format(i): (5000, 1000) for i in range(1, 30)}
    assert need(planned(alone | others)).memory == need(planned(alone)).memory
    slots = {f"state.param_states.{key}": shape for key, shape in others.items()}
    assert need(planned(alone | slots)) == need(planned(alone))


def test_a_head_with_a_number_is_no_layer():
    """Cerebras' BERT calls the weight of its head so."""
    bert = {"embedding.weight": (30522, 768), "layers.0.ffn.weight": (3072, 768), "layers.0.ffn.bias": (3072,)}
    head = {"mlm_head.classifier.ffn.0.weight": (30522, 768), "mlm_head.classifier.ffn.0.bias": (30522,)}
    assert need(planned(bert | head)).memory == need(planned(bert)).memory


def test_stacked_layers_are_one_stage():
    stacked = {"repeat.sub.ff.w": (30, 5000, 1000), "emb": (100, 1000)}
    assert need(planned(stacked)).memory > 4 * 30 * 5000 * 1000


def test_a_longrope_model_is_run_on_a_long_input():
    rope = {"rope_scaling": {"rope_type": "longrope"}, "original_max_position_embeddings": 4096}
    shapes = llama(2048, 512, 5632, 8_000)
    assert need(planned(shapes, **rope)).memory > 2 * need(planned(shapes)).memory
    assert need(planned(shapes, original_max_position_embeddings=4096)) == need(planned(shapes))


def test_more_takes_longer():
    plan = planned(llama(2048, 512, 5632, 8_000))
    assert need(plan, faults="none").seconds < need(plan).seconds < need(plan, faults="all").seconds
    assert need(plan, threads=8).seconds < need(plan).seconds
    assert need(plan, positions=512).memory > need(plan).memory


def test_predicting_needs_no_framework():
    code = "import sys, convkit.verify.equivalence.need; assert not {'torch', 'transformers', 'jax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        "llama?layers=2",
        "t5x?layers=2&hidden=512&heads=8&intermediate=2048&vocab=32000",
        "bert?layers=2&hidden=768&heads=12&intermediate=3072&vocab=30522",
        "gpt2?layers=2&hidden=768&heads=12&intermediate=3072&vocab=50257",
        "llama?layers=4&hidden=1024&heads=16&kv_heads=4&intermediate=4096&vocab=32000&dtype=bfloat16",
        "llama?layers=2&hidden=2048&heads=32&kv_heads=8&intermediate=5632&vocab=8000&dtype=bfloat16",
    ],
)
def test_a_process_takes_what_is_predicted(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("transformers")
    source, target = tmp_path / "source", tmp_path / "target.mdl"
    assert main(["fetch", f"generated://{model}", str(source)]) == 0
    family = model.partition("?")[0]
    to = {"t5x": "te/t5-fused"}.get(family, f"cerebras/{family}")
    assert main(["convert", str(source), str(target), "--to", to]) == 0
    capsys.readouterr()
    assert main(["plan", str(source), "--to", to, "--json"]) == 0
    predicted = need(read_plan(Described, json.loads(capsys.readouterr().out)), threads=2).memory
    used = peak_memory(["equivalence", str(source), str(target), "--threads", "2"])
    assert used <= predicted <= MORE * SEEN * used


def peak_memory(words: list[str]) -> int:
    """Run the command in a process of its own; the most anonymous memory that it took."""
    process = subprocess.Popen([sys.executable, "-m", "convkit", *words], stdout=subprocess.DEVNULL)
    peak, status = 0, Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        lines = status.read_text().splitlines()
        peak = max(peak, *(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:")), 0)
        time.sleep(0.01)
    assert process.returncode == 0
    return peak
