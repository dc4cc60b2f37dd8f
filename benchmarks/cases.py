"""One timed conversion, run in a separate process: ``python -m benchmarks.cases CASE SRC DST``."""

from __future__ import annotations

import sys
from pathlib import Path

from convkit.checkpoint import WriteOptions
from convkit.execute import convert
from convkit.mapping import Layout, Mapping, Rule, under
from convkit.plan import Options, make_plan, open_source

KERNELS = (
    "{n:self_attn.q_proj|self_attn.k_proj|self_attn.v_proj|self_attn.o_proj|mlp.gate_proj|mlp.up_proj|mlp.down_proj}"
)
NORMS = "{n:input_layernorm|post_attention_layernorm}"


def renamed(pattern: str) -> Mapping:
    """A mapping that renames every leaf and rearranges every kernel by the pattern."""
    left = Layout("hf/llama", "", "safetensors", "config.json")
    right = Layout("bench/llama", "", "safetensors", "params.yaml")
    rules = (
        Rule("model.embed_tokens.weight", "embedding"),
        Rule("lm_head.weight", "head"),
        Rule("model.norm.weight", "norm"),
        *under(
            "model.layers.{i}.",
            "layer_{i}.",
            (Rule(f"{KERNELS}.weight", "{n}.kernel", pattern), Rule(f"{NORMS}.weight", "{n}.scale")),
        ),
    )
    return Mapping(left, right, rules)


#: what to convert to: a layout or a mapping, and the format
CASES: dict[str, tuple[str | Mapping, str]] = {
    "rename": (renamed("rows columns -> rows columns"), "safetensors"),
    "cerebras": ("cerebras/llama", "safetensors"),
    "transpose": (renamed("rows columns -> columns rows"), "safetensors"),
    "transpose-32": (renamed("rows columns -> columns rows"), "safetensors"),
    "mdl": ("cerebras/llama", "cerebras-h5"),
    "t5x-gzip": ("te/t5-fused", "t5x"),
    "t5x-zstd": ("te/t5-fused", "t5x"),
}
#: compressor of the source's and the target's arrays
COMPRESSORS = {"t5x-gzip": "gzip:1", "t5x-zstd": "zstd:1"}


def main() -> None:
    case, source, target = sys.argv[1:]
    to, format_ = CASES[case]
    with open_source(source) as opened:
        plan = make_plan(opened, to, options=Options(format=format_))
        convert(opened, plan, Path(target), options=WriteOptions(compressor=COMPRESSORS.get(case)))


if __name__ == "__main__":
    main()
