"""hf/codegen <-> cerebras/gptj: ModelZoo runs CodeGen as a GPT-J.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/salesforce_codegen_hf_cs.py`` (rules of cs-2.1 ...
cs-2.9); transformers, ``models/codegen``: queries, values and keys are fused in four parts, from a training on four
cores.
"""

from __future__ import annotations

from typing import Any

from convkit.config import Answer, ConfigError, Coupled
from convkit.config.rows import Together
from convkit.mapping import Rule
from convkit.mappings.cerebras.common import Hf
from convkit.mappings.cerebras.decoder import decoder, final_norm
from convkit.mappings.cerebras.gptj import CS, OUTPUT_AND_FFN, ROWS
from convkit.mappings.cerebras.hf_classes.gpt import CODEGEN_CONFIG

PARTS = 4


def _part(heads: str) -> Together:
    """The outputs of a part: whole heads, whose number is the field ``heads``. Declares ``part``."""

    def size(values: dict[str, Any], names: dict[str, Any]) -> Answer:
        if names["heads"] % PARTS:
            problem = f"is {names['heads']}, but CodeGen's heads lie in {PARTS} equal parts"
            raise ConfigError(problem, key=heads, remedy="correct the config, or convert to hf/gptj")
        return Answer(names={"part": names["hidden"] // PARTS})

    return size


FUSED = Rule(
    "attn.qkv_proj.weight", "self_attn.proj_{qvk:q|v|k}_dense_layer.weight", "(m qvk o) d -> qvk (m o) d",
    m=PARTS, o="part", d="hidden",
)  # fmt: skip

MAPPING = decoder(
    Hf("codegen", ("CodeGenModel", "CodeGenForCausalLM"), CODEGEN_CONFIG, "transformer.", "wte.weight",
       conventions={"rotary": "interleaved", "qkv": "fused in 4 parts: q, v, k"}),
    CS, "h.{i}.", (FUSED, *OUTPUT_AND_FFN), rest=(final_norm("ln_f.{p:weight|bias}"),),
    rows=(*ROWS, Coupled((), (), _part("n_head"), _part("num_heads"))), head_bias="use_bias_in_output",
)  # fmt: skip
