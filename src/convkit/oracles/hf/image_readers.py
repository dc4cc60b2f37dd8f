"""The models of ``transformers`` whose text attends to images, a row a family.

Source of every row: ``models/<family>/{configuration,modeling}_<family>.py`` in transformers 5.23; the names that
published checkpoints have: its ``conversion_mapping.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from convkit.oracles.hf.family import Architecture, Family, Modules


@dataclass(frozen=True, kw_only=True)
class TextAndImage(Family):
    """A family of models of a text model and an image's model. Modules are those of the whole, in ``model``.

    Attributes:
        inside: role -> module of a layer of the text model that attends to the text.
        inside_crossing: the same of one that attends to the image.
        inside_image: the same of a layer of the image's model.
        parameters: role outside the layers -> parameter.
        gates: role in a layer that attends to the image -> parameter of it.
        gates_image: the same of a later layer of the image's model.
        first, later: the lists of the image's layers.
        between: the modules that read the hidden states that the first of them leave, before the later ones do.
        patches: what reads the pixels.
        projector: what makes hidden states of the text model's size.
        cross_attention: module of a layer that attends to the image, as ``attention`` is of the others.
        published: how keys begin in published checkpoints -> in the model.
    """

    inside_crossing: Modules
    inside_image: Modules
    parameters: dict[str, str]
    gates: dict[str, str]
    gates_image: dict[str, str]
    first: str
    later: str
    between: tuple[str, ...]
    patches: str
    projector: str
    cross_attention: str
    published: dict[str, str]


_NORMS = {"norm_ffn": "post_attention_layernorm"}
_GATED = {"gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"}
_ATTENTION = {"norm_attention": "input_layernorm"} | {part: f"self_attn.{part}_proj" for part in "qkvo"}
_CROSS = {"norm_cross": "input_layernorm"} | {f"cross_{part}": f"cross_attn.{part}_proj" for part in "qkvo"}
_VISION = "vision_model"

IMAGE_READERS: dict[str, TextAndImage] = {
    "hf/mllama": TextAndImage(
        name="Mllama",
        trunk="model",
        layers="language_model.layers",
        outside={
            "norm_embedding": f"{_VISION}.layernorm_pre",
            "norm_encoder": f"{_VISION}.layernorm_post",
            "projector": "multi_modal_projector",
            "embedding": "language_model.embed_tokens",
            "norm_final": "language_model.norm",
        },
        parameters={
            "patches.weight": f"{_VISION}.patch_embedding.weight",
            "class_token.weight": f"{_VISION}.class_embedding",
            "patch_positions.weight": f"{_VISION}.gated_positional_embedding.embedding",
            "tile_positions.weight": f"{_VISION}.gated_positional_embedding.tile_embedding.weight",
            "tile_positions.gate": f"{_VISION}.gated_positional_embedding.gate",
            "tiles_before.weight": f"{_VISION}.pre_tile_positional_embedding.embedding.weight",
            "tiles_before.gate": f"{_VISION}.pre_tile_positional_embedding.gate",
            "tiles_after.weight": f"{_VISION}.post_tile_positional_embedding.embedding.weight",
            "tiles_after.gate": f"{_VISION}.post_tile_positional_embedding.gate",
        },
        inside={**_ATTENTION, **_NORMS, **_GATED},
        inside_crossing={
            **_CROSS,
            "norm_cross_q": "cross_attn.q_norm",
            "norm_cross_k": "cross_attn.k_norm",
            **_NORMS,
            **_GATED,
        },
        inside_image={**_ATTENTION, **_NORMS, "up": "mlp.fc1", "down": "mlp.fc2"},
        gates={"gate_attention": "cross_attn_attn_gate", "gate_ffn": "cross_attn_mlp_gate"},
        gates_image={"gate_attention": "gate_attn", "gate_ffn": "gate_ffn"},
        first=f"{_VISION}.transformer.layers",
        later=f"{_VISION}.global_transformer.layers",
        between=(f"{_VISION}.layernorm_post", f"{_VISION}.post_tile_positional_embedding"),
        patches=f"{_VISION}.patch_embedding",
        projector="multi_modal_projector",
        heads={"head.lm": ("lm_head", "language_model.lm_head")},
        architectures=(Architecture("MllamaForConditionalGeneration", (), {"lm": ("logits",)}),),
        attention="self_attn",
        cross_attention="cross_attn",
        rotary="half",
        activation="hidden_act",
        epsilon="rms_norm_eps",
        states={"final": "language_model.norm"},
        published={
            "model.language_model.": "language_model.model.",
            f"model.{_VISION}.": f"{_VISION}.",
            "model.multi_modal_projector": "multi_modal_projector",
        },
    ),
}
