"""The encoder-decoders of ``transformers``, a row a family.

Source of every row: ``models/<family>/{configuration,modeling}_<family>.py`` in transformers 5.23.
"""

from __future__ import annotations

from dataclasses import dataclass

from convkit.oracles.hf.family import Architecture, Family, Modules


@dataclass(frozen=True, kw_only=True)
class TwoStacks(Family):
    """A family of models of two stacks, the modules ``encoder`` and ``decoder``; the roles outside are the model's.

    Attributes:
        inside: role -> module of an encoder's layer.
        inside_decoder: role -> module of a decoder's layer.
        attention: module of a layer that returns its output, the bias of positions, and the probabilities. In the first
            layer of a stack it makes that bias for all layers.
        cross_attention: the same for what a decoder's layer reads of the encoder.
        embeddings: module of a stack: its view of the embedding.
    """

    inside_decoder: Modules
    cross_attention: str
    embeddings: str


_ATTENTION = {"norm_attention": "layer.0.layer_norm"} | {part: f"layer.0.SelfAttention.{part}" for part in "qkvo"}
_CROSS = {"norm_cross": "layer.1.layer_norm"} | {f"cross_{part}": f"layer.1.EncDecAttention.{part}" for part in "qkvo"}


def _feed_forward(sublayer: str) -> Modules:
    ffn = f"{sublayer}.DenseReluDense"
    return {
        "norm_ffn": f"{sublayer}.layer_norm",
        "gate": f"{ffn}.wi_0",
        "up": (f"{ffn}.wi_1", f"{ffn}.wi"),
        "down": f"{ffn}.wo",
    }


ENCODER_DECODERS: dict[str, TwoStacks] = {
    "hf/t5": TwoStacks(
        name="T5",
        trunk="transformer",
        layers="block",
        outside={
            "embedding": "shared",
            "positions_encoder": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
            "norm_encoder": "encoder.final_layer_norm",
            "positions_decoder": "decoder.block.0.layer.0.SelfAttention.relative_attention_bias",
            "norm_decoder": "decoder.final_layer_norm",
        },
        inside={**_ATTENTION, **_feed_forward("layer.1")},
        inside_decoder={**_ATTENTION, **_CROSS, **_feed_forward("layer.2")},
        embeddings="embed_tokens",
        heads={"head.lm": "lm_head"},
        architectures=(Architecture("T5ForConditionalGeneration", (), {"lm": ("logits",)}),),
        attention="layer.0.SelfAttention",
        cross_attention="layer.1.EncDecAttention",
        activation="dense_act_fn",
        epsilon="layer_norm_epsilon",
        states={"final": "decoder.final_layer_norm"},
        wrong={
            "scale before the head wrong": lambda config: {"scale_decoder_outputs": not config["scale_decoder_outputs"]}
        },
    ),
}
