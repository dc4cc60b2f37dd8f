"""What the layouts of Hugging Face's transformers share."""

from __future__ import annotations

#: Files beside the weights that ``from_pretrained`` reads and that hold no weights: tokenizers, processors,
#: and how to generate.
COMPANIONS = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
)
