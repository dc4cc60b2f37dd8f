"""Models whose code lies on the hub: their configs name it, so that transformers can load them."""

from __future__ import annotations

from convkit.config import Row, Written
from convkit.mappings.cerebras.common import Hf


def code_of(repository: str, hf: Hf, module: str) -> tuple[Row, ...]:
    """The rows of a model whose classes lie in ``configuration_<module>.py`` and ``modeling_<module>.py`` there."""
    base, full = hf.classes
    classes = {
        "AutoConfig": f"configuration_{module}.{hf.config.name}",
        "AutoModel": f"modeling_{module}.{base}",
        "AutoModelForCausalLM": f"modeling_{module}.{full}",
    }
    named = {auto: f"{repository}--{found}" for auto, found in classes.items()}
    return Written("left", "auto_map", named), Written("left", "use_cache", True)
