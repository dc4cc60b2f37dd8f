"""TE's FP8 metas, the delayed-scaling state of each GEMM's tensors, made for models that come from Pax or T5X.

Facts: TransformerEngine v1.5, v1.7, v1.8, v2.2, v2.3 and v2.18, ``jax/flax/module.py`` (names, shapes, first
values) and ``jax/fp8.py``, ``jax/quantize/`` (slot 0 of a history is the latest); JAX-Toolbox ebc97458,
``paxml_converters.py`` and ``t5x_converters.py`` (collections; the kernel's magnitude in slot 0).

All values are TE's initial ones, ones and zeros, except the kernel's largest magnitude, which is known.
Names by the first TE release that has them (``t`` is the tensor, ``n`` the GEMM; ``_n`` only in modules of two)::

    1.0  fp8_meta_collection  fp8_meta_amax (3*GEMMs, slots), fp8_meta_scale and _scale_inv and fp8_max (3*GEMMs, 1)
    1.8  fp8_metas            amax_{i,w,g}_n (slots), scale_{i,w,g}_n (1)
    2.3  fp8_metas            {x,kernel,grad}_n_amax_history (slots), {x,kernel,grad}_n_scale (1)
"""

from __future__ import annotations

from typing import Any

from convkit.config import Answer, Coupled
from convkit.mapping import AnyRule, Derived, LeftBehind, Measure, Variant

#: whether metas are made, and the first TE release with this form
FP8 = Variant("fp8", "right", ("none", "2.3", "1.8", "1.0"))
#: length of a history, which only the user and the receipt know
SLOT = "amax_history"
SLOTS = Measure(SLOT, None, None)

COLLECTIONS = {"1.0": "fp8_meta_collection", "1.8": "fp8_metas", "2.3": "fp8_metas"}
DENSE = "{a:attention|self_attention|encoder_decoder_attention}.{n:query|key|value|qkv|kv|out}"
#: modules of a layer, and their kernels in the order of the GEMMs
MODULES = ((DENSE, ("kernel",)), ("mlp", ("wi_kernel", "wo_kernel")))


def _slots(_: dict[str, Any], names: dict[str, Any]) -> Answer:
    """The default of TE's DelayedScaling."""
    return Answer(names={SLOT: names.get(SLOT, 1024)})


DEFAULT = Coupled((), (), _slots, _slots)


def fp8_rules(collections: str, weights: str, layers: str, stack: tuple[str, ...] = ()) -> tuple[AnyRule, ...]:
    """The rules for the metas of all layers; ``stack`` is the declared name of the axis of stacked layers."""
    rules: list[AnyRule] = []
    for module, kernels in MODULES:
        at = {release: f"{collections}{name}.{layers}{module}." for release, name in COLLECTIONS.items()}
        of = tuple(f"{weights}{layers}{module}.{kernel}" for kernel in kernels)
        for n, kernel in enumerate(of):
            rules += _since_1_8(at["1.8"], f"_{n}", kernel, stack)
            rules += _since_2_3(at["2.3"], f"_{n}" if len(of) > 1 else "", kernel, stack)
        rules += _before_1_8(at["1.0"], of, stack)
    names = "|".join(dict.fromkeys(COLLECTIONS.values()))
    return *rules, LeftBehind("right", f"{collections}{{c:{names}}}.{{rest:*}}", "only TE has FP8 metas")


def _before_1_8(at: str, of: tuple[str, ...], stack: tuple[str, ...]) -> list[AnyRule]:
    rows: tuple[int | str, ...] = (*stack, 3 * len(of))
    return [
        _meta("1.0", f"{at}fp8_meta_amax", "amax rows", of, (*rows, SLOT)),
        _meta("1.0", f"{at}fp8_meta_{{s:scale|scale_inv}}", "filled", of, (*rows, 1), value=1.0),
        _meta("1.0", f"{at}fp8_max", "fp8 max", of, (*rows, 1)),
    ]


def _since_1_8(at: str, n: str, of: str, stack: tuple[str, ...]) -> list[AnyRule]:
    return [
        _meta("1.8", f"{at}amax_w{n}", "amax history", (of,), (*stack, SLOT)),
        _meta("1.8", f"{at}amax_{{t:i|g}}{n}", "filled", (of,), (*stack, SLOT), value=0.0),
        _meta("1.8", f"{at}scale_{{t:i|w|g}}{n}", "filled", (of,), (*stack, 1), value=1.0),
    ]


def _since_2_3(at: str, n: str, of: str, stack: tuple[str, ...]) -> list[AnyRule]:
    return [
        _meta("2.3", f"{at}kernel{n}_amax_history", "amax history", (of,), (*stack, SLOT)),
        _meta("2.3", f"{at}{{t:x|grad}}{n}_amax_history", "filled", (of,), (*stack, SLOT), value=0.0),
        _meta("2.3", f"{at}{{t:x|kernel|grad}}{n}_scale", "filled", (of,), (*stack, 1), value=1.0),
    ]


def _meta(
    release: str, key: str, recipe: str, of: tuple[str, ...], shape: tuple[int | str, ...], **arguments: float
) -> Derived:
    return Derived("right", key, recipe, arguments, of, shape, "float32", when=f"fp8={release}")
