"""What decoders like LLaMA share: rotary attention of whole heads, RMS norms, a gated feed-forward part.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/llama.py`` (rules of cs-2.1 ... cs-2.9), which the
converters of Mistral, Mixtral and Gemma 2 extend; transformers, ``models/llama``.
"""

from __future__ import annotations

from convkit.config import ABSENT, Constant, Field, Row
from convkit.mapping import AnyRule, Mapping, Part, Rule
from convkit.mapping.ops import Shift
from convkit.mappings.cerebras.common import DOWN, GATE, GATED, OUT, UP, Cs, Hf, K, Q, V, fixed
from convkit.mappings.cerebras.decoder import NORM1, NORM2, SIZES, Bias, decoder, final_norm
from convkit.mappings.cerebras.heads import whole_heads
from convkit.mappings.cerebras.mup import Scales
from convkit.mappings.cerebras.rope import FREQUENCIES

# fmt: off
PAIRS = "(h two r) ... -> (h r two) ..."  # the halves of a head become pairs
ATTENTION = (
    Rule("self_attn.q_proj.{p:weight|bias?}", f"{Q}.{{p}}", PAIRS, h="heads", two=2, r="half"),
    Rule("self_attn.k_proj.{p:weight|bias?}", f"{K}.{{p}}", PAIRS, h="kv_heads", two=2, r="half"),
    Rule("self_attn.v_proj.{p:weight|bias?}", f"{V}.{{p}}", "(h r) ... -> (h r) ...", h="kv_heads", r="head_dim"),
    Rule("self_attn.o_proj.weight", f"{OUT}.weight", "d (h r) -> d (h r)", d="hidden", h="heads", r="head_dim"),
    Rule("self_attn.o_proj.bias", f"{OUT}.bias", "d -> d", d="hidden", optional=True),
)
NORMS = (
    Rule("input_layernorm.weight", f"{NORM1}.weight", "d -> d", d="hidden"),
    Rule("post_attention_layernorm.weight", f"{NORM2}.weight", "d -> d", d="hidden"),
)
MLP = (
    Rule("mlp.up_proj.{p:weight|bias?}", f"{UP}.{{p}}", "f ... -> f ...", f="filter"),
    Rule("mlp.gate_proj.{p:weight|bias?}", f"{GATE}.{{p}}", "f ... -> f ...", f="filter"),
    Rule("mlp.down_proj.{p:weight|bias?}", f"{DOWN}.{{p}}", "d ... -> d ...", d="hidden"),
)
NO_BIASES = fixed(use_projection_bias_in_attention=False, use_ffn_bias_in_attention=False, use_ffn_bias=False)
ROWS: tuple[Row, ...] = (
    *SIZES,
    Field("intermediate_size", "filter_size", "filter"),
    Field("rms_norm_eps", "layer_norm_epsilon", "eps"),
    Field("attention_dropout", "attention_dropout_rate", null=0.0),
    *fixed(norm_type="rmsnorm", position_embedding_type="rotary", attention_type="scaled_dot_product",
           use_bias_in_output=False, embedding_layer_norm=False),
    *(Constant("right", dropout, 0.0, default=ABSENT) for dropout in ("dropout_rate", "embedding_dropout_rate")),
)
ACTIVATION = Field("hidden_act", "nonlinearity", "act", values=GATED)
HALVES = {"rotary": "half", "norm_scale": "direct", "gate": "gate_proj"}
PAIRED = {"rotary": "interleaved", "norm_scale": "direct", "gate": "linear_layer_for_glu"}
# fmt: on


def without_biases(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """The same rules for a family whose modules never have biases."""

    def weights(keys: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(key.replace("{p:weight|bias?}", "weight").replace("{p}", "weight") for key in keys)

    own = (rule for rule in rules if not rule.left[0].endswith(".bias"))
    return tuple(rule.changed(left=weights(rule.left), right=weights(rule.right)) for rule in own)


def llama_like(
    hf: Hf,
    cs: Cs,
    layer: tuple[AnyRule, ...],
    rows: tuple[Row | Bias, ...],
    *,
    parts: tuple[Part, ...] = (),
    heads: tuple[Row, ...] = whole_heads(),
    norm_ops: tuple[Shift, ...] = (),
    scales: Scales | None = None,
) -> Mapping:
    """The mapping of such a decoder.

    Args:
        hf: transformers' side.
        cs: ModelZoo's side.
        layer: the rules of a layer.
        rows: the rows beside :data:`ROWS`: activation, biases, ``kv_heads``, ``rope_theta``, and what the rules use.
        parts: the parts of a layer.
        heads: the rows of the size of a head.
        norm_ops: what happens to the scale of the norm after the last layer.
        scales: how the class scales a muP model, if not as usual.
    """
    rest = (final_norm("norm.weight", ops=norm_ops), FREQUENCIES)
    return decoder(hf, cs, "layers.{i}.", layer, rest=rest, rows=(*ROWS, *heads, *rows), parts=parts, scales=scales)
