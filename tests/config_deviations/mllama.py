"""Llama 3.2 Vision, whose configs were recorded before the original sorts their fields into two sections."""

from __future__ import annotations

from typing import Any

from config_deviations.deviation import Deviation

MODELS: dict[str, dict[str, Any]] = {"mllama": {}}


def recorded(model: dict[str, Any]) -> dict[str, Any]:
    """The fields of the text model, and those of the vision model with its prefix."""
    return model["text_model"] | {f"vision_config_{key}": value for key, value in model["image_model"].items()}


DEVIATIONS = (
    Deviation("*", "", "accept", "the original's registry lacks the name"),
    Deviation("*", "base", "refuse", "its class has layers that attend to images since 2.5", "cs-2.4"),
    Deviation("*", "tie_word_embeddings=true", {"share_embedding_weights": False}, "the embeddings have 8 rows more"),
    Deviation("*", "position_embedding_type=null", "accept", "null says nothing"),
    Deviation("*", 'model_type="bogus"', "refuse", "the original writes over it"),
)
