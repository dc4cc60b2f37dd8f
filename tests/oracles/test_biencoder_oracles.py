"""Retrievers of two encoders: against recorded embeddings of the real ones, and against each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from goldens import golden_dir
from safetensors.torch import load_file

from convkit.errors import ConvkitError
from convkit.execute import convert
from convkit.generate import generate
from convkit.oracles import get_oracle
from convkit.oracles.opening import open_model
from convkit.oracles.oracle import Oracle
from convkit.plan import make_plan, open_source
from convkit.testing.stages import check_stages, compared
from convkit.verify.equivalence.check import equivalence
from convkit.verify.equivalence.probe import make_probe

torch.set_num_threads(1)

INPUTS = ("input_ids", "attention_mask", "token_type_ids")

SMALL = "layers=2&heads=4&hidden=12&intermediate=14&vocab=29&positions=20"
CS = "cerebras/dpr-biencoder"
#: what is generated -> its layout
RETRIEVERS = {
    f"dpr-biencoder?{SMALL}&projected=true&seed=3": "hf/dpr-biencoder",
    f"dpr-biencoder?{SMALL}&seed=3": "hf/dpr-biencoder",
    f"dragon-biencoder?{SMALL}&seed=3": "hf/dragon-biencoder",
}
#: faults that are planted in a retriever that has projections, and in any, by how their names begin
OF_PROJECTIONS = ("transpose the projection", "drop the bias of the projection", "the other encoder's projection")
OF_ANY = ("tables of the other encoder", "a layer of the other encoder")


@pytest.fixture(scope="module", params=RETRIEVERS, ids=lambda uri: uri.partition("?")[0] + "+" * ("proj" in uri))
def sides(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("retriever")
    generate(f"generated://{request.param}", folder / "hf")
    with open_source(folder / "hf") as opened:
        convert(opened, make_plan(opened, CS, from_=RETRIEVERS[request.param]), folder / "cs.mdl", threads=1)
    return folder / "hf", folder / "cs.mdl"


@pytest.fixture(scope="module")
def oracles(sides: tuple[Path, Path]) -> list[Oracle]:
    found = []
    for path in sides:
        with open_model(path) as opened:
            found.append(
                opened.oracle.rebuilt(
                    tensors={key: opened.oracle.tensors[key].clone() for key in opened.oracle.tensors}
                )
            )
    return found


def probe_of(oracles: list[Oracle]) -> dict[str, torch.Tensor]:
    ours, theirs = oracles
    return make_probe(ours.facts, theirs.facts, 18, takes=ours.inputs.keys() & theirs.inputs.keys())


@pytest.mark.parametrize("side", [pytest.param("hf", marks=pytest.mark.slow), "cs"])
def test_stages_roles_and_faults_are_where_they_are_said_to_be(side: str, oracles: list[Oracle]) -> None:
    probe, oracle = probe_of(oracles), oracles[side == "cs"]
    assert not oracle.problems and not probe["input_ids"].equal(probe["ctx_input_ids"])
    projected = "head.question.weight" in oracle.roles
    roles = ["ctx_encoder.embedding.weight", "layers.2.q.weight", "layers.1.down.bias"]
    planted = check_stages(oracle, probe, roles + ["head.context.weight"] * projected)
    assert planted >= {*OF_ANY}
    assert all(any(name.startswith(kind) for name in planted) == projected for kind in OF_PROJECTIONS)


def test_both_agree_and_no_fault_is_missed(oracles: list[Oracle]) -> None:
    probe, (hf, cs) = probe_of(oracles), oracles
    assert hf.roles.keys() == cs.roles.keys()
    for source, target in ((hf, cs), (cs, hf)):
        found = compared(source, target, probe)
        assert found.sound and [fault.name for fault in found.all_faults if not fault.caught] == []
    ours = {fault.name for fault in compared(hf, cs, probe).all_faults}
    assert "mean of all tokens for the first" in ours and {*OF_ANY} <= ours


def test_swapped_encoders_are_another_model(oracles: list[Oracle]) -> None:
    hf, cs = oracles
    names = {"question_encoder.": "ctx_encoder.", "ctx_encoder.": "question_encoder."}
    other = {key: next(key.replace(a, b) for a, b in names.items() if f".{a}" in key) for key in cs.tensors}
    found = compared(hf, cs.rebuilt(tensors={key: cs.tensors[of] for key, of in other.items()}), probe_of(oracles))
    differing = [stage.name for stage in found.stages if stage.problems]
    assert differing[:2] == ["embedding", "q_encoder.layers.0"] and "ctx_encoder.embedding" in differing
    assert found.parted and found.parted["target"][0].endswith(
        "question_encoder.embedding_layer.word_embeddings.weight"
    )


def test_the_verdict_says_what_was_compared(sides: tuple[Path, Path]) -> None:
    verdict = equivalence(*sides, threads=1)
    assert verdict.passed
    shown = {figure["name"] for figure in verdict.details["states"]}
    assert shown >= {"ctx_encoder.embedding", "question", "context", "similarity"}
    assert [note.partition(":")[0] for note in verdict.details["notes"] if "similarity is" in note] == [
        "source",
        "target",
    ]


@pytest.mark.golden
@pytest.mark.parametrize("side", ["hf", "cs"])
def test_what_the_real_encoders_computed(side: str) -> None:
    """And how similar they then are."""
    root = golden_dir("cerebras.tar.gz") / "dpr"
    tensors: dict[str, torch.Tensor]
    config: dict[str, Any]
    if side == "hf":
        parts = ("q_encoder", "ctx_encoder")
        config = {name: json.loads((root / "hf" / name / "config.json").read_text()) for name in parts}
        loaded = {name: load_file(root / "hf" / name / "model.safetensors") for name in parts}
        tensors = {f"{name}.{key}": one for name, own in loaded.items() for key, one in own.items()}
    else:
        (path,) = (root / "hf-cs-2.9").glob("*.yaml")
        config = yaml.safe_load(path.read_text())["model"]
        tensors = arrays(root / "hf-cs-2.9" / "flat.npz")
    forward = golden_dir("cerebras_forward.tar.gz") / "dpr"
    recorded = {text: arrays(forward / f"forward_{text}.npz") for text in ("q_encoder", "ctx_encoder")}
    inputs = {name: recorded["q_encoder"][name] for name in INPUTS if name in recorded["q_encoder"]}
    inputs |= {f"ctx_{name}": recorded["ctx_encoder"][name] for name in INPUTS if name in recorded["ctx_encoder"]}
    oracle = get_oracle("hf/dpr-biencoder" if side == "hf" else CS)(config, tensors)
    assert not oracle.problems
    outputs = oracle.run(inputs).outputs
    expected = {name: one[f"{side}_logits"] for name, one in recorded.items()}
    texts = {name: one[:, 0] if one.ndim == 3 else one for name, one in expected.items()}
    wanted = {"question": texts["q_encoder"], "context": texts["ctx_encoder"]}
    wanted["similarity"] = wanted["question"] @ wanted["context"].T
    for name, one in wanted.items():
        assert ((outputs[name] - one).abs().max() / one.abs().max()).item() <= 5e-6, name


def arrays(path: Path) -> dict[str, torch.Tensor]:
    with np.load(path) as found:
        return {key: torch.from_numpy(found[key]) for key in found.files}


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("pooler_type", "last", "is 'last'"),
        ("ctx_encoder", None, "no such section"),
        ("q_encoder.norm_first", True, "norm_first"),
    ],
)
def test_what_it_cannot_run_is_said(field: str, value: Any, why: str, oracles: list[Oracle]) -> None:
    cs = oracles[1]
    name, _, inner = field.partition(".")
    config = {**cs.config, name: {**cs.config[name], inner: value} if inner else value}
    with pytest.raises(ConvkitError, match=why):
        cs.rebuilt(config=config)


def test_a_pooler_that_the_config_denies_is_a_problem(oracles: list[Oracle]) -> None:
    cs = oracles[1]
    projected = "head.question.weight" in cs.roles
    wrong = cs.rebuilt(config={**cs.config, "pooler_type": "cls" if projected else "ffn_pooler"})
    assert len(wrong.problems) == 2 and "pooler_type is" in wrong.problems[0]
    corrected, notes = type(cs).reconcile(wrong.config, wrong.tensors)
    assert corrected["pooler_type"] == ("ffn_pooler" if projected else "cls") and len(notes) == 1
    strange = cs.rebuilt(tensors={**cs.tensors, "model.other.weight": torch.ones(1)})
    assert "model.other.weight" in strange.problems[0]
