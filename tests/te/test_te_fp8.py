"""FP8 metas that TE expects: made from every layer's kernels, checked by the round trip, dropped by the inverse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine.memory import assert_same, carried
from te_runs import Arrays, arrays, genuine, unpacked
from te_runs import write_leaf as write

from convkit.cli import main
from convkit.files.receipt import read_receipt
from convkit.mappings import find_mapping
from convkit.verify.roundtrip.check import roundtrip

pytestmark = pytest.mark.golden

CASES = [
    ("pax_norepeat", "pax/lm", "te/pax"),
    ("pax_gqa_real", "pax/lm", "te/pax"),
    ("pax_repeat", "pax/lm-repeat", "te/pax-repeat"),
    ("pax_repeat_gated_wo", "pax/lm-repeat", "te/pax-repeat"),
    ("t5x_adamw_bf16", "t5x/t5", "te/t5-fused"),
    ("t5x_weights", "t5x/t5", "te/t5"),
]
SLOTS = 5


def kernels(arrays: Arrays) -> dict[str, list[np.ndarray]]:
    """The kernels of each module, in the order of its GEMMs, by the module's name."""
    found: dict[str, list[np.ndarray]] = {}
    for key in sorted(arrays):
        weights = next((text for text in ("mdl_vars.params.", "target.") if key.startswith(text)), None)
        module, _, leaf = key.removeprefix(weights or "").rpartition(".")
        if weights and "layers_" in module and leaf in ("kernel", "wi_kernel", "wo_kernel"):
            found.setdefault(module, []).append(arrays[key])
    return found


def largest(kernel: np.ndarray, stacked: bool) -> np.ndarray:
    magnitudes = np.abs(kernel.astype(np.float32))
    return magnitudes.reshape(len(kernel), -1).max(-1) if stacked else magnitudes.max()


def history(kernel: np.ndarray, stacked: bool) -> np.ndarray:
    """As TE's would be after one step that saw the kernel and nothing else."""
    slots = np.zeros(((len(kernel),) if stacked else ()) + (SLOTS,), np.float32)
    slots[..., 0] = largest(kernel, stacked)
    return slots


def expected(made: Arrays, release: str, stacked: bool) -> Arrays:
    """The initial values of that TE release, except the kernels' magnitudes, listed by name."""
    collection = "fp8_meta_collection" if release == "1.0" else "fp8_metas"
    top = "flax_mutables" if any(key.startswith("target.") for key in made) else "mdl_vars"
    metas: Arrays = {}
    for module, own in kernels(made).items():
        at = f"{top}.{collection}.{module}."
        layers = (len(own[0]),) if stacked else ()
        for n, kernel in enumerate(own):
            seen, unseen = history(kernel, stacked), np.zeros((*layers, SLOTS), np.float32)
            one = np.ones((*layers, 1), np.float32)
            if release == "1.8":
                metas |= {f"{at}amax_w_{n}": seen, f"{at}amax_i_{n}": unseen, f"{at}amax_g_{n}": unseen}
                metas |= {f"{at}scale_{t}_{n}": one for t in "iwg"}
            if release == "2.3":
                name = f"_{n}" if len(own) > 1 else ""
                metas |= {f"{at}kernel{name}_amax_history": seen}
                metas |= {f"{at}{t}{name}_amax_history": unseen for t in ("x", "grad")}
                metas |= {f"{at}{t}{name}_scale": one for t in ("x", "kernel", "grad")}
        if release == "1.0":
            rows = 3 * len(own)
            amax = np.zeros((*layers, rows, SLOTS), np.float32)
            for n, kernel in enumerate(own):
                amax[..., 3 * n + 1, 0] = largest(kernel, stacked)
            metas[f"{at}fp8_meta_amax"] = amax
            metas[f"{at}fp8_meta_scale"] = metas[f"{at}fp8_meta_scale_inv"] = np.ones((*layers, rows, 1), np.float32)
            top_of = np.array([448, 448, 57344] * len(own), np.float32)[:, None]
            metas[f"{at}fp8_max"] = np.broadcast_to(top_of, (*layers, rows, 1)).copy()
    return metas


@pytest.mark.parametrize("release", ["1.0", "1.8", "2.3"])
@pytest.mark.parametrize(("name", "fw", "te"), CASES, ids=str)
def test_every_module_of_every_layer_has_its_metas(name: str, fw: str, te: str, release: str) -> None:
    source, mapping = genuine(name), find_mapping(fw, te)
    options: dict[str, Any] = {"format": "torch", "choices": {"fp8": release}, "given": {"amax_history": SLOTS}}
    plain, made = carried(mapping, source, format="torch"), carried(mapping, source, **options)
    metas = {key: made.pop(key) for key in made.keys() - plain.keys()}
    assert_same(made, plain)
    wanted = expected(plain, release, fw.endswith("repeat"))
    assert len(wanted) >= 3 * len(kernels(plain)) > 0
    assert_same(metas, wanted)


def test_as_many_slots_as_te_has_by_default() -> None:
    mapping = find_mapping("t5x/t5", "te/t5")
    made = carried(mapping, genuine("t5x_weights"), format="torch", choices={"fp8": "1.8"})
    assert made["flax_mutables.fp8_metas.encoder.layers_0.mlp.amax_w_1"].shape == (1024,)


def source_of(name: str) -> Path:
    step = next(iter(sorted((unpacked("sources") / name).iterdir())))
    return step / "state" if (step / "state").is_dir() else step


def te(source: Path, target: Path, *flags: str) -> int:
    return main(["te", f"--input-path={source}", f"--output-path={target}", *flags])


@pytest.mark.parametrize("release", ["1.7", "2.2", "2.18"])
@pytest.mark.parametrize(("name", "flags"), [("pax_repeat", []), ("t5x_weights", ["--t5x-fuse-qkv"])], ids=str)
def test_the_way_back_drops_them(name: str, flags: list[str], release: str, tmp_path: Path) -> None:
    source, fw = source_of(name), f"--fw={name.partition('_')[0]}"
    fp8 = ["--gen-fp8-meta", "--amax-history-len=5", f"--te-release={release}"]
    assert te(source, tmp_path / "te", fw, "--direction=fw2te", *flags, *fp8) == 0
    assert any("fp8_meta" in key for key in arrays(tmp_path / "te"))
    receipt = read_receipt(tmp_path / "te")
    assert receipt
    verdict = roundtrip(source, tmp_path / "te", receipt["plan"], receipt=receipt)
    assert verdict.passed
    assert [fault for fault in verdict.faults if fault.name == "a computed leaf changed" and fault.caught]
    assert main(["verify", str(tmp_path / "te")]) == 0
    assert te(tmp_path / "te", tmp_path / "fw", fw, "--direction=te2fw", *flags) == 0
    assert main(["roundtrip", str(tmp_path / "te"), str(tmp_path / "fw")]) == 0
    assert_same(arrays(tmp_path / "fw"), arrays(source))
    assert te(tmp_path / "fw", tmp_path / "again", fw, "--direction=fw2te", *flags) == 0
    assert_same(arrays(tmp_path / "again"), arrays(tmp_path / "te"))


def test_what_training_made_of_them_is_kept_and_put_back(tmp_path: Path) -> None:
    assert te(source_of("t5x_weights"), tmp_path / "te", "--fw=t5x", "--direction=fw2te", "--gen-fp8-meta") == 0
    (tmp_path / "te.convkit.json").unlink()
    trained = np.arange(1024, dtype=np.float32)
    leaf = "flax_mutables.fp8_metas.encoder.layers_1.mlp.amax_w_1"
    write(tmp_path / "te" / leaf, trained)
    assert te(tmp_path / "te", tmp_path / "fw", "--fw=t5x", "--direction=te2fw") == 0
    assert not any("fp8_meta" in key for key in arrays(tmp_path / "fw"))
    assert te(tmp_path / "fw", tmp_path / "again", "--fw=t5x", "--direction=fw2te") == 0
    np.testing.assert_array_equal(arrays(tmp_path / "again")[leaf], trained)


@pytest.mark.parametrize("leaf", ["amax_w_0", "amax_i_1", "scale_g_1"])
def test_a_meta_that_is_wrong_is_seen(leaf: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = source_of("t5x_weights")
    flags = ["--fw=t5x", "--direction=fw2te", "--gen-fp8-meta", "--amax-history-len=4"]
    assert te(source, tmp_path / "te", *flags) == 0
    name = f"flax_mutables.fp8_metas.decoder.layers_0.mlp.{leaf}"
    wrong = arrays(tmp_path / "te")[name].copy()
    wrong[-1] += 0.5
    write(tmp_path / "te" / name, wrong)
    assert main(["roundtrip", str(source), str(tmp_path / "te")]) == 1
    assert name in "".join(capfd.readouterr())
