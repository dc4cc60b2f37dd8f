"""Generated T5X and Pax checkpoints have the leaves that the frameworks write, and can be run."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine.disk import everything_below
from te_runs import genuine, unpacked

from convkit.checkpoint import TensorSpec
from convkit.cli import main
from convkit.errors import UsageError
from convkit.formats import open_checkpoint
from convkit.generate import generate
from convkit.generate.options import parse

T5 = "t5x?layers=2&decoder_layers=2&heads=2&head_dim=4&hidden=12&intermediate=10&vocab=20"
PAX = "pax?layers=2&heads=2&head_dim=4&hidden=8&intermediate=10&vocab=16"


@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("t5x_adamw", T5),
        ("t5x_weights", f"{T5}&adam=false"),
        ("pax_norepeat", f"{PAX}&gated=false"),
        ("pax_repeat", f"{PAX.replace('layers=2', 'layers=3')}&gated=false&repeat=true"),
        ("pax_split", f"{PAX}&gated=false&kv_heads=2"),
        ("pax_split_gated_nobias", f"{PAX}&kv_heads=2&biases=false&norm=rms"),
        ("pax_gqa_real", f"{PAX.replace('heads=2&head_dim=4', 'heads=4&head_dim=2')}&gated=false&kv_heads=2"),
    ],
)
def test_leaves_are_those_of_the_framework(name: str, uri: str, tmp_path: Path) -> None:
    """By name, shape and dtype, those that lie inline too; and so is what describes them."""
    generate(f"generated://{uri}", tmp_path / "made")
    step = next(iter(sorted((unpacked("sources") / name).iterdir())))
    with open_checkpoint(step) as theirs, open_checkpoint(tmp_path / "made") as ours:
        assert {key: leaf.spec for key, leaf in ours.leaves.items()} == {
            key: leaf.spec for key, leaf in theirs.leaves.items()
        }
        assert ours.metadata == theirs.metadata
        assert {file.relative_to(ours.path) for file in ours.files()} == {
            file.relative_to(theirs.path) for file in theirs.files()
        }


@pytest.mark.golden
def test_per_framework_the_dtypes(tmp_path: Path) -> None:
    """T5X's own bfloat16 checkpoint has float32 moments as well."""
    generate(f"generated://{T5}&dtype=bfloat16", tmp_path / "made")
    with open_checkpoint(tmp_path / "made") as ours:
        assert {key: leaf.spec.dtype for key, leaf in ours.leaves.items() if leaf.spec} == {
            key: array.dtype.name for key, array in genuine("t5x_adamw_bf16").items()
        } | {"state.step": "int32", "state.param_states.1.0.count": "int32"}


@pytest.mark.parametrize("repeat", ["false", "true"])
def test_a_single_head_goes_there_and_back(repeat: str, tmp_path: Path) -> None:
    """It is one of queries and one of keys, which Praxis stores without an axis."""
    made, te, back = (str(tmp_path / name) for name in ("made", "te", "back"))
    generate(f"generated://pax?layers=2&heads=1&kv_heads=1&repeat={repeat}", Path(made))
    assert main(["te", "--input-path", made, "--output-path", te, "--fw=pax", "--direction=fw2te"]) == 0
    assert main(["te", "--input-path", te, "--output-path", back, "--fw=pax", "--direction=te2fw"]) == 0
    assert main(["diff", made, back]) == 0


@pytest.mark.parametrize("uri", ["t5x?layers=1&decoder_layers=1", "pax?layers=1"])
def test_a_seed_is_the_model(uri: str, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        generate(f"generated://{uri}&seed={seed}", tmp_path / name)
    assert everything_below(tmp_path / "a") == everything_below(tmp_path / "b")
    assert everything_below(tmp_path / "a") != everything_below(tmp_path / "c")


def test_one_head_of_keys_has_no_axis() -> None:
    model = parse("generated://pax?kv_heads=1").leaves()  # type: ignore[union-attr]
    key = model["mdl_vars.params.lm.transformer.x_layers_0.self_attention.key.w"]
    assert TensorSpec(key.shape, key.dtype.name) == TensorSpec((44, 10), "float32")


@pytest.mark.parametrize(
    ("uri", "to", "faults"),
    [
        ("t5x?layers=1&tied=true&gated=false", "te/t5", 8),
        ("t5x?decoder_layers=1", "te/t5-fused", 8),
        ("pax?kv_heads=2&biases=false&norm=rms", "te/pax", 8),
        ("pax?repeat=true&gated=false", "te/pax-repeat", 8),
    ],
)
def test_models_compute_the_same_and_faults_show(
    uri: str, to: str, faults: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source, target = str(tmp_path / "source"), str(tmp_path / "target")
    generate(f"generated://{uri}", tmp_path / "source")
    assert main(["convert", source, target, "--to", to]) == 0
    assert main(["equivalence", source, target, "--probe-length", "64"]) == 0
    caught = int(capfd.readouterr().out.partition("caught ")[2].split()[0])
    assert caught >= faults


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("t5x?decoder_layers=0", "decoder_layers is 0"),
        ("pax?kv_heads=4", "heads 6 isn't a multiple of kv_heads 4"),
        ("pax?kv_heads=2&head_dim=5", "head_dim is 5"),
        ("pax?norm=batch", "norm can't be 'batch' \\(choices: layer, rms\\)"),
    ],
)
def test_wrong_options_are_refused(uri: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse(f"generated://{uri}")
