"""What a plan of 500,000 tensors takes, and what comes after it.

The checkpoint is headers only: the names and shapes of a mixture of experts of 10^12 parameters, in sparse files whose
data is a hole. The stages after the plan are carried out on as many tensors of few elements.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.case import CONVKIT, Case, Figure, Side, command

#: a Mixtral with more and smaller experts than any that was trained: 497,641 tensors, 1.05e12 parameters
CONFIG = {
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "hidden_size": 2048,
    "intermediate_size": 1024,
    "num_hidden_layers": 120,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "num_local_experts": 1380,
    "num_experts_per_tok": 8,
    "vocab_size": 128_000,
    "max_position_embeddings": 4096,
    "rope_theta": 1e6,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "sliding_window": None,
    "torch_dtype": "bfloat16",
}
#: as many tensors, of few elements
FEW = CONFIG | {
    "hidden_size": 16,
    "intermediate_size": 8,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_experts_per_tok": 2,
    "vocab_size": 32,
}
BYTES = 2  # of a bfloat16
SHARD = 5_000_000_000
#: of tensors of few elements: more would have longer headers than are read
FEW_SHARD = 60_000_000
#: the stages of the chain
CHAIN = ("convert to .mdl", "verify", "roundtrip", "convert to safetensors", "verify safetensors", "report")


def leaves(config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the model, as transformers writes them."""
    d, f, v = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    kv = d // config["num_attention_heads"] * config["num_key_value_heads"]
    yield "model.embed_tokens.weight", (v, d)
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        yield f"{layer}.input_layernorm.weight", (d,)
        for name, rows in (("q", d), ("k", kv), ("v", kv)):
            yield f"{layer}.self_attn.{name}_proj.weight", (rows, d)
        yield f"{layer}.self_attn.o_proj.weight", (d, d)
        yield f"{layer}.post_attention_layernorm.weight", (d,)
        yield f"{layer}.block_sparse_moe.gate.weight", (config["num_local_experts"], d)
        for expert in range(config["num_local_experts"]):
            for name, shape in (("w1", (f, d)), ("w2", (d, f)), ("w3", (f, d))):
                yield f"{layer}.block_sparse_moe.experts.{expert}.{name}.weight", shape
    yield "model.norm.weight", (d,)
    yield "lm_head.weight", (v, d)


def write(folder: Path, config: dict[str, Any], shard: int = SHARD) -> tuple[int, int]:
    """Write the checkpoint into a folder, in files of ``shard`` bytes at most; they are sparse and take the space of
    their headers.

    Returns:
        The number of tensors and of bytes.
    """
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    shards: list[dict[str, dict[str, object]]] = [{}]
    sizes = [0]
    for name, shape in leaves(config):
        nbytes = BYTES
        for length in shape:
            nbytes *= length
        if sizes[-1] and sizes[-1] + nbytes > shard:
            shards.append({})
            sizes.append(0)
        place = [sizes[-1], sizes[-1] + nbytes]
        shards[-1][name] = {"dtype": "BF16", "shape": shape, "data_offsets": place}
        sizes[-1] = place[1]
    index: dict[str, str] = {}
    for number, (held, size) in enumerate(zip(shards, sizes, strict=True), start=1):
        path = folder / f"model-{number:05}-of-{len(shards):05}.safetensors"
        header = json.dumps({"__metadata__": {"format": "pt"}, **held}, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)
        with path.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(8 + len(header) + size)
        index |= dict.fromkeys(held, path.name)
    whole = {"metadata": {"total_size": sum(sizes)}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(whole))
    return len(index), sum(sizes)


def sides(work: Path) -> Iterator[Mapping[str, Side]]:
    """Inspect, plan, and the page of what the two have printed."""
    source, row = work / "model", work / "results/row"
    write(source, CONFIG)
    (row / "logs").mkdir(parents=True)
    for stage in ("inspect", "plan"):
        (row / f"logs/{stage}.log").touch()
    to = ("--to", "cerebras/mixtral")
    yield {
        "inspect": command(*CONVKIT, "inspect", source, "--json", output=row / "inspect.json"),
        "plan": command(*CONVKIT, "plan", source, *to, "--json", output=row / "plan.json"),
        "report": command(*CONVKIT, "report", row.parent, "--no-fail"),
    }


def chain(work: Path) -> Iterator[Mapping[str, Side]]:
    """A conversion to each of two formats, its checks, and the page of one with its receipt and verdict. No reference
    runs a model of so many experts in a time that is worth waiting for, so that there is no equivalence check.
    """
    source, row = work / "few", work / "chain/row"
    packed, folder = row / "out.mdl", work / "out"
    write(source, FEW, FEW_SHARD)
    row.mkdir(parents=True)
    convert = (*CONVKIT, "convert", source)
    to = ("--to", "cerebras/mixtral")
    yield {
        "convert to .mdl": command(*convert, packed, *to, clears=packed),
        "verify": command(*CONVKIT, "verify", packed),
        "roundtrip": command(*CONVKIT, "roundtrip", source, packed, "--json", output=row / "roundtrip.json"),
        "convert to safetensors": command(*convert, folder, *to, "--format", "safetensors", clears=folder),
        "verify safetensors": command(*CONVKIT, "verify", folder),
        "report": command(*CONVKIT, "report", row, "--no-fail"),
    }


CASES = (
    Case(
        "huge",
        "497,643 tensors of a mixture of experts of 10^12 parameters, of which only the headers are there",
        sides,
        (
            *(Figure(side, what=what) for side in ("inspect", "plan", "report") for what in ("wall", "cpu")),
            *(Figure(side, what="anonymous", limit=1024) for side in ("inspect", "plan", "report")),
        ),
        pairs=3,
        warm=False,
    ),
    Case(
        "huge-chain",
        "497,643 tensors of few elements, converted to two formats and verified",
        chain,
        tuple(Figure(side, what=what) for side in CHAIN for what in ("wall", "cpu", "anonymous")),
        disk=2,
        pairs=1,
        warm=False,
        long=True,
    ),
)
