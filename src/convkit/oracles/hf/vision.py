"""The vision transformers of ``transformers``, a row a family, in the class that fits the head in the file.

Source of every row: ``models/<family>/{configuration,modeling}_<family>.py`` in transformers 5.23. It has other names
for ViT's modules than its checkpoints have.
"""

from __future__ import annotations

from convkit.oracles.hf.family import Architecture, Family

VISION: dict[str, Family] = {
    "hf/vit": Family(
        name="ViT",
        trunk="vit",
        layers="encoder.layer",
        layers_now="layers",
        outside={
            "patches": "embeddings.patch_embeddings.projection",
            "norm_final": "layernorm",
            "pooler": "pooler.dense",
        },
        tables={"class_token": "embeddings.cls_token", "positions": "embeddings.position_embeddings"},
        inside={
            "norm_attention": "layernorm_before",
            "q": ("attention.attention.query", "attention.q_proj"),
            "k": ("attention.attention.key", "attention.k_proj"),
            "v": ("attention.attention.value", "attention.v_proj"),
            "o": ("attention.output.dense", "attention.o_proj"),
            "norm_ffn": "layernorm_after",
            "up": ("intermediate.dense", "mlp.fc1"),
            "down": ("output.dense", "mlp.fc2"),
        },
        heads={"head.classifier": "classifier"},
        architectures=(
            Architecture("ViTForImageClassification", ("classifier",), {"classifier": ("logits",)}),
            Architecture("ViTModel"),
        ),
        attention="attention",
        activation="hidden_act",
        epsilon="layer_norm_eps",
        states={"final": "layernorm", "pooled": "pooler"},
    ),
    "hf/clip_vision_model": Family(
        name="CLIPVision",
        trunk="vision_model",
        layers="encoder.layers",
        outside={
            "patches": "embeddings.patch_embedding",
            "norm_embedding": "pre_layrnorm",
            "norm_final": "post_layernorm",
        },
        tables={"class_token": "embeddings.class_embedding", "positions": "embeddings.position_embedding.weight"},
        inside={
            "norm_attention": "layer_norm1",
            "q": "self_attn.q_proj",
            "k": "self_attn.k_proj",
            "v": "self_attn.v_proj",
            "o": "self_attn.out_proj",
            "norm_ffn": "layer_norm2",
            "up": "mlp.fc1",
            "down": "mlp.fc2",
        },
        heads={"head.classifier": "visual_projection"},
        architectures=(
            Architecture("CLIPVisionModelWithProjection", ("visual_projection",), {"classifier": ("image_embeds",)}),
            Architecture("CLIPVisionModel"),
        ),
        attention="self_attn",
        activation="hidden_act",
        epsilon="layer_norm_eps",
        states={"pooled": "post_layernorm"},  # of the class token alone
    ),
}
