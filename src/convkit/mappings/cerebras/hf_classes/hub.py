"""Classes of the hub: transformers has none, and their code lies beside the checkpoints.

Facts: the configs of ``cerebras/btlm-3b-8k-base``, ``inceptionai/jais-13b`` and ``inceptionai/jais-30b-v3``, and the
ports of their ``configuration_*.py`` in vLLM (``transformers_utils/configs/jais.py``); ``configuration_gpt2_mq.py`` of
``bigcode/santacoder``, of which ``eth-sri/sven`` has a copy.
"""

from __future__ import annotations

from convkit.config.classes import ClassField, ConfigClass
from convkit.config.values import COUNT, FLAG, NUMBER, POSITIVE, SECTION, TEXT
from convkit.mappings.cerebras.hf_classes.gpt import GPT2_CONFIG

#: how distances are stretched: by a number, or by the length of the input against that of training
_ALIBI_SCALING = SECTION.of(type=TEXT, factor=POSITIVE.or_null, train_seq_len=COUNT.or_null)

BTLM_CONFIG = GPT2_CONFIG.extended(
    "BTLMConfig", "cerebras/btlm-3b-8k-base, configuration_btlm.py, BTLMConfig",
    position_embedding_type=ClassField(TEXT, "learned"),
    alibi_scaling=ClassField(_ALIBI_SCALING.or_null, None),
    mup_width_scale=ClassField(NUMBER, 1.0),
    mup_embeddings_scale=ClassField(NUMBER, 1.0),
    mup_output_alpha=ClassField(NUMBER, 1.0),
    mup_scale_qk_dot_by_d=ClassField(FLAG, False),
)  # fmt: skip

#: the first Jais has other names for muP's fields, and ``width_scale`` for what multiplies the logits
JAIS_CONFIG = BTLM_CONFIG.extended(
    "JAISConfig", "inceptionai/jais-30b-v3, configuration_jais.py, JAISConfig",
    mup_embeddings_scale=ClassField(NUMBER, 1.0, also=("embeddings_scale",)),
    mup_scale_qk_dot_by_d=ClassField(FLAG, False, also=("scale_qk_dot_by_d",)),
    width_scale=ClassField(NUMBER.or_null, None),
)  # fmt: skip

SANTACODER_CONFIG = GPT2_CONFIG.extended(
    "GPT2CustomConfig", "bigcode/santacoder, configuration_gpt2_mq.py, GPT2CustomConfig",
    attention_head_type=ClassField(TEXT, "multihead"),
)  # fmt: skip

#: no transformers has these: nothing that is installed can be asked
HUB: tuple[ConfigClass, ...] = (BTLM_CONFIG, JAIS_CONFIG, SANTACODER_CONFIG)
