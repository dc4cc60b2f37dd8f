"""hf/btlm <-> cerebras/btlm: a GPT-2 with a gated feed-forward part, ALiBi, and the scales of muP.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/btlm_hf_cs.py`` (rules of cs-2.1 ... cs-2.9),
``models/nlp/btlm``; the code of the hub's ``cerebras/btlm-3b-8k-base``, whose slopes of ALiBi are a parameter.
"""

from __future__ import annotations

from convkit.config import Field, Name, Row
from convkit.mapping import Mapping, Rule
from convkit.mappings.cerebras.classes.gpt2 import BTLM
from convkit.mappings.cerebras.common import ACTIVATIONS, GATE, Cs, Hf
from convkit.mappings.cerebras.decoder import POSITIONS, SLOPES, decoder, final_norm
from convkit.mappings.cerebras.gpt2 import FIELDS
from convkit.mappings.cerebras.gpt2 import LAYER as GPT2_LAYER
from convkit.mappings.cerebras.hf_classes.hub import BTLM_CONFIG
from convkit.mappings.cerebras.hub import code_of
from convkit.mappings.cerebras.scales import Expressed, scales

# fmt: off
LAYER = (
    *GPT2_LAYER,
    Rule("mlp.c_fc2.weight", f"{GATE}.weight", "d f -> f d", d="hidden", f="filter", when="gated"),
    Rule("mlp.c_fc2.bias", f"{GATE}.bias", "f -> f", f="filter", when="gated"),
)
ROWS = (
    *FIELDS,
    Field("activation_function", "nonlinearity", "act", values=(("swiglu", "swiglu"), *ACTIVATIONS)),
    Name("gated", lambda names: names["act"] == "swiglu"),
    Field("position_embedding_type", "position_embedding_type", "places",
          values=(("alibi", "alibi"), ("learned", "learned"))),
    Field("scale_attn_by_inverse_layer_idx", "scale_qk_dot_by_layer_idx"),
)
REST = (
    final_norm("ln_f.{p:weight|bias}"),
    Rule("{=hf}relative_pe.slopes", SLOPES, "h one -> h one", h="heads", one=1, when="places=alibi"),
    Rule("{=hf}wpe.weight", POSITIONS, "p d -> p d", p="positions", d="hidden", when="places=learned"),
)
#: what shows a yaml without a name, which is BTLM's or Jais's
NAMELESS = {"model.position_embedding_type": "alibi", "model.nonlinearity": "swiglu"}
CONVENTIONS = {"kernels": "in, out", "qkv": "fused"}, {"kernels": "out, in", "qkv": "apart"}


def like_btlm(hf: Hf, cs: Cs, code: str, rows: tuple[Row, ...]) -> Mapping:
    """The mapping of such a decoder. ``code`` is the hub's repository of its classes, ``rows`` those of scales."""
    return decoder(hf, cs, "h.{i}.", LAYER, rows=(*ROWS, *rows, *code_of(code, hf, hf.family)), rest=REST,
                   scales=Expressed(cs.config))


MAPPING = like_btlm(
    Hf("btlm", ("BTLMModel", "BTLMLMHeadModel"), BTLM_CONFIG, "transformer.", "wte.weight", conventions=CONVENTIONS[0]),
    Cs("btlm", "GPT2LMHeadModel configured as BTLM", BTLM, CONVENTIONS[1], unnamed=NAMELESS),
    "cerebras/btlm-3b-8k-base", scales(),
)
