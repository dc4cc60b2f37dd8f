"""BTLM and Jais."""

from __future__ import annotations

from typing import Any

from config_deviations.deviation import HEADLESS, NO_ACTIVATION, PLAIN, Deviation, activations

MODELS: dict[str, dict[str, Any]] = {
    "btlm": {},
    "btlm-headless": HEADLESS,
    "jais": {},
    "jais-headless": HEADLESS,
}

NO_POSITIONS = "the code on the hub has ALiBi or learned positions: it would take this for learned ones"
CODE = {
    "AutoConfig": "inceptionai/jais-30b-v3--configuration_jais.JAISConfig",
    "AutoModel": "inceptionai/jais-30b-v3--modeling_jais.JAISModel",
    "AutoModelForCausalLM": "inceptionai/jais-30b-v3--modeling_jais.JAISLMHeadModel",
}
NO_DROPOUT = "the default of ModelZoo's class is 0.1; the original takes dropout_rate, 0.0"
DEFAULT_SIZE = "n_embd is 768 by default (a KeyError)"

# fmt: off
DEVIATIONS = (
    *(one for one in (*activations("activation_function"), *PLAIN) if "glu" not in one.case),
    *(Deviation("*", f'*{gate}="?eglu"', "refuse", NO_ACTIVATION) for gate in ("activation_function", "nonlinearity")),
    *(Deviation("*", f"*position_embedding_type={other}", "refuse", NO_POSITIONS)
      for other in ('"absolute"', '"relative*"', '"rotary"', '"fixed"', "null")),
    Deviation("*", "back: -attn_pdrop", {"attn_pdrop": 0.1}, NO_DROPOUT),
    Deviation("*", "cs:-attention_dropout_rate", {"attn_pdrop": 0.1}, NO_DROPOUT, releases="cs-2.9"),
    Deviation("*", "only-model_type", "accept", DEFAULT_SIZE),
    Deviation("*", "empty", "accept", DEFAULT_SIZE),
    Deviation("*", "", "accept", "the original finds no class of that name"),
    Deviation("jais*", "*", {"name": "jais"}, "the original writes the whole config of transformers as the name"),
    Deviation("jais*", "*", {"_name_or_path": None}, "says where a model came from, which isn't from there"),
    Deviation("jais-headless", "*", {"architectures": ["JAISModel"]}, "a base model has no head"),
    Deviation("jais*", "*", {"auto_map": CODE}, "the classes of models that can be converted"),
    Deviation("*", "cs:rope-llama3", "refuse", "distances have linear scaling alone: the original takes it for that"),
)
# fmt: on
