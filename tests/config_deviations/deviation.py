"""What a recorded conversion and ours may differ in, and reasons that several families have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: keys of the original's yaml that 2.10's classes of decoders and BERT reject; they say what these models are anyway
LEFT_OUT = {"norm_first", "use_ff_layer1_dropout"}
#: what the tensors of a base model would have shown
HEADLESS: dict[str, Any] = {"lm_head": False, "hf": ""}


@dataclass(frozen=True)
class Deviation:
    """A difference from the original.

    Attributes:
        model: a pattern of the models of the module that declares it.
        case: a pattern of cases.
        ours: "refuse", "accept", or what we write in the fields that differ (None: nothing).
        reason: why.
        releases: a pattern of releases.
    """

    model: str
    case: str
    ours: str | dict[str, Any]
    reason: str
    releases: str = "*"


NO_ACTIVATION = "2.10 has no activation of that name, or transformers none (gates included): the model can't be built"
TANH_GELU = "gelu_pytorch_tanh is what ModelZoo calls gelu_new; 2.10's classes reject the other name"
LOST_ATTENTION = "grouped keys and values, which GPT-2 and BERT of transformers don't have: the original drops them"
ROTARY = "the default of a tiny model: more than a head has, or an odd number, of which no framework makes pairs"
YARN = {"original_max_position_embeddings": 16, "mscale_a": 0.0, "mscale_b": 1.2}


def activations(hf: str, cs: str = "nonlinearity") -> tuple[Deviation, ...]:
    """Of a family without gates, whose activation these fields of both sides name."""
    return (
        Deviation("*", f'{hf}="gelu_pytorch_tanh"', {cs: "gelu_new"}, TANH_GELU),
        Deviation("*", f'*{hf}="*glu"', "refuse", NO_ACTIVATION),
        Deviation("*", f'*{hf}="not_an_act"', "refuse", NO_ACTIVATION),
        Deviation("*", f"*{hf}=null", "refuse", NO_ACTIVATION),
    )


#: of a decoder without gates, experts or shared keys
PLAIN = (
    Deviation("*", 'cs:nonlinearity="*glu"', "refuse", NO_ACTIVATION),
    Deviation("*", 'cs:nonlinearity="bogus"', "refuse", NO_ACTIVATION),
    Deviation("*", "cs:mqa-noextra", "refuse", LOST_ATTENTION),
)
#: of a decoder in ModelZoo's GPT-J class
GPTJ_CLASS = (
    Deviation("*", "cs:+dropout_rate=0.1", "refuse", "another name of residual_dropout_rate, which says 0.0"),
    Deviation("*", "cs:+fixed_sparse_attention=*", "accept", "the GPT-J class has no such field: it is listed"),
)
