"""The mapping of a family's checkpoints of one release to those of another."""

from __future__ import annotations

from collections import abc
from typing import Any

from convkit.config.classes import Release
from convkit.mapping import Layout, Mapping, Upgrades, Verbatim, at_release, inverse
from convkit.mappings.cerebras.classes import RELEASES

#: releases whose layouts transformers' models are only reached from through 2.1
OLD: tuple[Release, ...] = ((1, 6), (1, 7), (1, 8), (1, 9), (2, 0))
#: families that are older than 2.1 -> the first release that had them
SINCE: dict[str, Release] = {
    **dict.fromkeys(("bert", "bert-summarization", "t5"), (1, 6)),
    **dict.fromkeys(("gpt2", "gptj", "gpt-neox"), (1, 7)),
    "roberta": (1, 8),
    **dict.fromkeys(("bloom", "falcon", "llama"), (1, 9)),
    **dict.fromkeys(("btlm", "jais", "santacoder", "starcoder"), (2, 0)),
}


def releases(layout: Layout) -> tuple[Release, ...]:
    """The releases that have had a layout."""
    since = SINCE.get(_family(layout), RELEASES[0])
    return (*(old for old in OLD if old >= since), *layout.releases)


def upgrade(layout: Layout, source: Release, target: Release) -> Mapping:
    """The mapping of whole checkpoints of a layout, from release ``source`` to ``target``, up or down.

    Its layouts are called by the release: ``cerebras/gpt2@1.8``.
    """
    from convkit.mappings.cerebras.releases import state, tensors
    from convkit.mappings.cerebras.releases.yaml import yaml_table

    if source > target:
        return inverse(upgrade(layout, target, source))
    family = _family(layout)
    return Mapping(
        left=at_release(layout, source),
        right=at_release(layout, target),
        rules=(*tensors.renamed(family, source, target), *state.restated(source, target), Verbatim("{rest:*}")),
        config=yaml_table(family, source, target),
        variants=tensors.variants(family, source),
        facts=tensors.facts(family, source),
        measures=tensors.measures(family, source, target),
    )


def _family(layout: Layout) -> str:
    return layout.name.partition("/")[2]


#: fields of the model's section that no class has today
_GONE = frozenset(
    (
        *("use_bfloat16", "mixed_precision", "precision_opt_level", "boundary_casting", "tf_summary", "compute_dtype"),
        *("use_position_embedding", "alibi_implementation", "weight_initialization_seed", "use_vsl"),
    )
)
#: flags of releases before 2.0 -> the norms that they chose
_NORMS = {
    "use_rms_norm": "rmsnorm",
    "use_t5_layer_norm": "rmsnorm",
    "use_biasless_norm": "biasless-layernorm",
}


def _today(section: abc.Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in section.items() if name not in _GONE and name not in _NORMS}
    norm = next((norm for flag, norm in _NORMS.items() if section.get(flag)), None)
    return {"norm_type": norm} | found if norm else found


UPGRADES = Upgrades("cerebras", releases, upgrade, _today)
