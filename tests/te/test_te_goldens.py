"""The original converter's outputs, leaf by leaf, and the right outputs where it failed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from engine.memory import Memory, assert_same, carried, plan_of
from te_runs import Arrays, Run, cases, recorded

from convkit.errors import ConvkitError
from convkit.mapping import inverse
from convkit.mappings import find_mapping

pytestmark = pytest.mark.golden

#: run -> why ours is another result, or none (docs/how-to/te.md)
REFUSED = {
    "t5x/fused_wrongmlp16__fw2te": "says mlp = 10",
    "t5x/fused_wrongmlp16__te2fw": "says mlp = 10",
    "t5x/fused_wrongmlp6__te2fw": "says mlp = 10",
    "t5x/fused_layers1of2__te2fw": "has 2 encoder, 2 decoder layers, not 1",
    # what the original left of a run that failed: half a tree
    "t5x/fused_adafactor_noweightonly__te2fw": "is missing",
    "pax/split_qkvpacked__te2fw": "says layers = 1",
}
FP8 = re.compile(r"(mdl_vars|flax_mutables)\.fp8_metas\.")
#: of stacked layers the original writes the largest kernel's magnitude, to every slot of the first one's history
WRONG_AMAX = re.compile(r".*\.fp8_metas\..*repeat.*\.amax_w_")


def asked(run: Run) -> tuple[Any, dict[str, Any]]:
    """The mapping and the options that say what the original's flags say."""
    fw, te = {"t5x": ("t5x/t5", "te/t5"), "pax": ("pax/lm", "te/pax")}[run.fw]
    te += "-fused" if "--t5x-fuse-qkv" in run.flags else ""
    if "--pax-repeat" in run.flags:
        fw, te = f"{fw}-repeat", f"{te}-repeat"
    sizes = {name: int(value) for flag, name in SIZES.items() if (value := run.value(flag))}
    # the original's results are right for TE before 1.8
    choices = {"te_release": "1.0"} if run.fw == "pax" else {}
    choices |= {name: choice for flag, (name, choice) in CHOICES.items() if flag in run.flags}
    if layout := run.value("--te-qkv-layout"):
        choices["te_qkv"] = {"qkv_packed": "qkv", "kv_packed": "query"}[layout]
    if "--gen-fp8-meta" in run.flags and run.to_te:
        choices["fp8"] = "1.8"
        sizes["amax_history"] = int(run.value("--amax-history-len") or 1024)
    if "--pax-split-qkv" in run.flags and not run.to_te:
        choices["pax_qkv"] = "query"
    mapping = find_mapping(*(fw, te) if run.to_te else (te, fw))
    return mapping, {"given": sizes, "choices": choices}


SIZES = {
    "--num-of-layer": "layers",
    "--num-of-head": "heads",
    "--head-dim": "head_dim",
    "--mlp-intermediate-dim": "mlp",
    "--num-gqa-groups": "kv_heads",
    "--embed-dim": "embed",
}
CHOICES = {
    "--weight-only": ("scope", "weights"),
    "--skip-ln": ("norms", "kept"),
    "--skip-bias": ("biases", "kept"),
}


def same_dtype_aside(found: Arrays, expected: Arrays, source: Arrays) -> None:
    """Leaf by leaf; the original turned what it transformed into float32, ours keeps the source's dtype."""
    kept = {array.dtype for array in source.values()}
    cast = {}
    for key, array in expected.items():
        dtype = found[key].dtype if key in found else array.dtype
        assert dtype in kept, key
        cast[key] = array.astype(dtype)
        np.testing.assert_array_equal(cast[key].astype(array.dtype), array, err_msg=key)
    assert_same(found, cast)


def rightly(run: Run) -> Arrays:
    """The original's result, without its faults: TE's FP8 metas in a framework's checkpoint, wrong magnitudes."""
    wrong = WRONG_AMAX if run.to_te else FP8
    return {key: array for key, array in run.result().items() if not wrong.match(key)}


def scaled_by_dim(run: Run) -> bool:
    """Towards TE the original loses a per-dim scale (docs/how-to/te.md); what it did is undone rightly."""
    return "per_dim_scale" in run.name and run.to_te


def rightly_converted(run: Run) -> bool:
    """Whether the original converted, and what it made is right, as far as :func:`rightly` says."""
    return run.converted and str(run) not in REFUSED and not scaled_by_dim(run)


@pytest.mark.parametrize("run", cases(scaled_by_dim), ids=str)
def test_moments_of_scaled_queries_are_refused(run: Run) -> None:
    """The weights alone are converted: test_te_per_dim.py."""
    mapping, options = asked(run)
    with pytest.raises(ConvkitError, match="is a moment of a scale that is folded into queries"):
        plan_of(mapping, Memory(run.source()), format="torch", **options)


@pytest.mark.parametrize("run", cases(rightly_converted), ids=str)
def test_what_the_original_converted_rightly(run: Run) -> None:
    mapping, options = asked(run)
    source = run.source()
    expected, found = rightly(run), carried(mapping, source, format="torch", **options)
    same_dtype_aside({key: array for key, array in found.items() if not WRONG_AMAX.match(key)}, expected, source)


@pytest.mark.parametrize("run", cases(lambda run: str(run) in REFUSED), ids=str)
def test_wrong_sizes_and_broken_trees_are_refused(run: Run) -> None:
    mapping, options = asked(run)
    with pytest.raises(ConvkitError, match=REFUSED[str(run)]):
        plan_of(mapping, Memory(run.source()), format="torch", **options)


def failed(run: Run) -> bool:
    """Whether the original failed though the source is whole."""
    return not run.converted and str(run) not in REFUSED


@pytest.mark.parametrize("run", cases(lambda run: failed(run) and run.to_te), ids=str)
def test_what_the_original_could_not_convert(run: Run) -> None:
    mapping, options = asked(run)
    source = run.source()
    choices = options["choices"] | plan_of(mapping, source, format="torch", **options).variant
    found = carried(mapping, source, format="torch", **options)
    back = carried(inverse(mapping), found, format="torch", given=options["given"], choices=choices)
    assert_same(back, source)


@pytest.mark.parametrize("run", cases(lambda run: failed(run) and not run.to_te), ids=str)
def test_what_the_original_could_not_bring_back(run: Run) -> None:
    """The source of the conversion to TE, from its result; where that isn't recorded, there and back again."""
    mapping, options = asked(run)
    found = carried(mapping, run.source(), format="torch", **options)
    if not (run.folder.parent / f"{run.variant}__fw2te" / "argv.json").is_file():
        assert_same(carried(inverse(mapping), found, format="torch", **options), run.source())
        return
    expected = recorded(f"{run.fw}/{run.variant}__fw2te").source()
    for key in [key for key in expected if found[key].shape != expected[key].shape]:
        assert found[key].ndim == expected[key].ndim - 1, key  # one head of keys, which Praxis stores without an axis
        found[key] = found[key].reshape(expected[key].shape)
    assert_same(found, expected)
