"""What changes in a training's state from release to release, beside the names of leaves.

Facts: ModelZoo release 2.10.0, ``tools/checkpoint_converters/base_converter.py``, which sets the step of the outermost
scheduler only, and forgets that an optimizer names its parameters.
"""

from __future__ import annotations

from convkit.config.classes import Release
from convkit.mapping import AnyRule, LeftBehind, Restated, Rule

#: the first release that takes a scheduler's own step as the training's
_STEPS_COUNT = (2, 0)
#: texts that may be names of parameters
_NAMES = {"keys": "optimizer.{rest:*}"}
#: the first release whose models hold their masks of sparsity
_MASKS_IN_MODEL = (2, 2)
_SPARSITY = "optimizer.sparsity"
_MASKS: tuple[AnyRule, ...] = (
    Rule(f"{_SPARSITY}.state.{{name:*}}.mask", "model.{name:*}_mask", optional=True),
    Rule(f"{_SPARSITY}.step", "sparsity.step", optional=True),
    Restated(
        "sparsity",
        {
            "names": f"{_SPARSITY}.param_groups.{{g}}.param_names.{{n}}",
            "step": f"{_SPARSITY}.param_groups.{{g}}.sparsity.step",
            "index": "sparsity.sparsity.{name}.index",
        },
        {"unsaid": "sparsity.sparsity.{name:*}.index"},
    ),
    LeftBehind("left", f"{_SPARSITY}.{{rest:*}}", "the optimizer of masks has no state since release 2.2"),
)
#: names of one tensor, of which releases before 2.0 stored one; and the field that says that they are two
_ALIASES = {
    "pairs": (
        (("model.embedding_layer.word_embeddings.weight", "model.lm_head.weight"), "model.share_embedding_weights"),
        *(((f"model.transformer_decoder.norm.{end}", f"model.ln_f.{end}"), "") for end in ("weight", "bias")),
    )
}
#: the loader's state in files of release 1.9, and the kind of loader
_LOADER = {
    "folder": "cerebras.save_iter_state_path",
    "kind": "train_input.data_processor",
    "kinds": {"GptHDF5DataProcessor": "iterable", "GptHDF5MapDataProcessor": "map"},
}


def restated(low: Release, high: Release) -> tuple[AnyRule, ...]:
    """The rules of values between two releases, from the earlier to the later one."""
    record = Restated("record", _entry(high), _entry(low))
    names = Restated("names", _NAMES, _NAMES)
    steps = Restated("steps", {} if low < _STEPS_COUNT else None, {} if high < _STEPS_COUNT else None)
    rules: tuple[AnyRule, ...] = (record, names, steps)
    if low < _STEPS_COUNT:
        rules += (Restated("loader", _LOADER),)
    if low < _STEPS_COUNT <= high:
        rules += (Restated("aliases", _ALIASES),)
    return rules + _MASKS if low < _MASKS_IN_MODEL <= high else rules


def _entry(release: Release) -> dict[str, dict[str, str]]:
    return {"entry": {"version": f"{'.'.join(map(str, release))}.0", "model_name": ""}}
