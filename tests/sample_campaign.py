"""A campaign's results folder as the stages leave it, for tests of the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FAULTS = {
    "q and k swapped": 3.1e-1,
    "gate and up swapped": 4.4e-1,
    "rotary half for interleaved": 6.2e-2,
    "kv heads in the wrong order": 9.0e-2,
    "square kernel transposed": 7.7e-1,
    "two norms swapped": 2.5e-2,
    "layers off by one": 5.1e-1,
    "vocabulary shifted by one": 8.8e-1,
    "norm scale off by one": 9.4e-1,
    "cast to bfloat16": 3.9e-3,
    "head tied to the embedding": 1.2,
    "rotary base 500000": 1.1e-2,
}
BOUND = 5e-6


def step(rule: str, source: str, target: str, axes: tuple[str, str] = ("d", "d")) -> dict[str, Any]:
    return {
        "rule": rule,
        "op": "rearrange",
        "exactness": "exact",
        "sources": [{"key": source, "axes": axes[0]}],
        "targets": [{"key": target, "axes": axes[1]}],
    }


def plan(layers: int = 6) -> dict[str, Any]:
    shapes = {"q_proj": [60, 60], "k_proj": [20, 60], "v_proj": [20, 60], "o_proj": [60, 60]}
    source: dict[str, Any] = {"model.embed_tokens.weight": {"shape": [251, 60], "dtype": "float32", "fate": "moved"}}
    target: dict[str, Any] = {
        "model.embedding_layer.word_embeddings.weight": {"shape": [251, 60], "dtype": "float32", "origin": "moved"}
    }
    steps = [
        step(
            "model.embed_tokens.weight <-> model.embedding_layer.word_embeddings.weight",
            "model.embed_tokens.weight",
            "model.embedding_layer.word_embeddings.weight",
        )
    ]
    for name, shape in shapes.items():
        axes = ("(h two r) _0 _1", "(h r two) _0 _1") if name in ("q_proj", "k_proj") else ("d", "d")
        for i in range(layers):
            left = f"model.layers.{i}.self_attn.{name}.weight"
            right = f"model.transformer_decoder.layers.{i}.self_attn.proj_{name[0]}_dense_layer.weight"
            source[left] = {"shape": shape, "dtype": "float32", "fate": "moved", "step": len(steps)}
            target[right] = {"shape": shape, "dtype": "float32", "origin": "moved", "step": len(steps)}
            steps.append(step(f"{left} <-> {right}".replace(f".{i}.", ".{i}."), left, right, axes))
    source["model.rotary_emb.inv_freq"] = {
        "shape": [5],
        "dtype": "float32",
        "fate": "dropped",
        "step": None,
        "reason": "Cerebras computes it from the config",
    }
    return {
        "schema": "convkit.plan/1",
        "mapping": "llama",
        "direction": "forward",
        "source": {
            "layout": "hf/llama",
            "format": "safetensors",
            "conventions": {"rotary": "half"},
            "config": {"hidden_size": 60, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        },
        "target": {
            "layout": "cerebras/llama",
            "format": "cerebras-h5",
            "release": "2.10",
            "conventions": {"rotary": "interleaved"},
            "config": {"model": {"hidden_size": 60, "rotary_dim": 10}},
        },
        "variant": {"hf": "model.", "cs": "model."},
        "square": ["model.layers.0.self_attn.o_proj.weight"],
        "defaults": [{"name": "rms_norm_eps", "value": 1e-6, "source": "transformers LlamaConfig"}],
        "steps": steps,
        "source_leaves": source,
        "target_leaves": target,
        "warnings": ["the target's vocabulary is padded by no row"],
        "summary": {
            "source_leaves": len(source),
            "target_leaves": len(target),
            "bytes_read": 1_400_000,
            "bytes_written": 1_399_980,
            "peak_bytes": 60_240,
        },
    }


def receipt(plan_: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema": "convkit.receipt/1",
        "convkit": "0.1.0",
        "plan": plan_,
        "plan_digest": "sha256:" + "5e" * 32,
        "source": {"path": "source", "format": "safetensors", "files": [{"name": "model.safetensors", "bytes": 1400}]},
        "target": {"path": "target.mdl", "format": "cerebras-h5", "files": [{"name": "target.mdl", "bytes": 1234567}]},
        "complement": {"values": {}, "config": {"attention_dropout": 0.0}, "tensors": {}},
        "versions": {"python": "3.11.7", "numpy": "2.4.6"},
        "started": "2026-11-22T08:00:00+00:00",
        "seconds": 0.31,
        "threads": 2,
        "bytes_read": 1_400_000,
        "bytes_written": 1_399_980,
        "peak_anonymous_bytes": 31_000_000,
        "warnings": [],
    }


def roundtrip(passed: bool = True) -> dict[str, Any]:
    return {
        "schema": "convkit.verdict/2",
        "check": "roundtrip",
        "state": "yes" if passed else "no",
        "passed": passed,
        "source": "source",
        "target": "target.mdl",
        "measured": {"leaves": 26, "different": 0 if passed else 1},
        "bound": {"different": 0},
        "sensitivity": "caught 2 of 2",
        "faults": [{"name": name, "caught": True, "measured": {}} for name in ("one bit flipped", "leaf missing")],
        "details": {},
        "problems": [] if passed else ["model.norm.weight: 3 of 60 elements differ"],
        "seconds": 0.2,
    }


def equivalence(passed: bool = True, layers: int = 6, missed: str = "") -> dict[str, Any]:
    own = 4.1e-7 if passed else 3.3e-2
    faults = [
        {"name": name, "caught": name != missed, "measured": {"max_rel": 2e-6 if name == missed else error}}
        for name, error in FAULTS.items()
    ]
    return {
        "schema": "convkit.verdict/2",
        "check": "equivalence",
        "state": "not shown" if passed and missed else "yes" if passed else "no",
        "passed": passed and not missed,
        "source": "source",
        "target": "target.mdl",
        "measured": {"max_abs": 2.2e-6, "max_rel": own, "max_kl": 1e-12},
        "bound": {"max_rel": BOUND},
        "sensitivity": f"caught {sum(fault['caught'] for fault in faults)} of {len(faults)}",
        "faults": faults,
        "details": {
            "positions": 256,
            "states": [{"name": f"layers.{i}", "max_rel": own * (i + 1) / layers} for i in range(layers)],
        },
        "problems": [
            *([] if passed else ["the models first differ at layers.0.attention, fed by model.proj_q.weight"]),
            *([f"planted fault missed: {missed}: max_rel 2e-06"] if missed else []),
        ],
        "seconds": 3.2,
    }


def walked(layers: int = 6, wrong: dict[str, Any] | None = None, missed: str = "", **changes: Any) -> dict[str, Any]:
    """A verdict with stages: two faults in each, of which those with the name ``missed`` weren't caught.

    ``wrong``: by stage, what is otherwise there.
    """
    names = ["embedding", *(f"layers.{i}" for i in range(layers)), "head"]
    stages = [
        {
            "name": name,
            "max_rel": 2.1e-7 + 1e-8 * (i % 5),
            "bound": BOUND * (1 + i % 2),
            "noise": 1.5e-7,
            "repeat": 0.0,
            "free_max_rel": 2e-7 * (i + 1),
            "unshown": "",
            "problems": [],
            **(wrong or {}).get(name, {}),
        }
        for i, name in enumerate(names)
    ]
    planted = [(name, fault) for i, name in enumerate(names) for fault in ([*FAULTS] * 2)[i % 12 : i % 12 + 2]]
    faults = [
        {"name": f, "caught": f != missed, "measured": {"max_rel": 2e-6 if f == missed else FAULTS[f]}, "stage": stage}
        for stage, f in planted
    ]
    missing = sum(not fault["caught"] for fault in faults)
    return equivalence() | {
        "schema": "convkit.verdict/3",
        "state": "not shown" if missed else "yes",
        "passed": not missed,
        "sensitivity": f"caught {len(faults) - missing} of {len(faults)}",
        "faults": faults,
        "stages": stages,
        **changes,
    }


#: what a plan declares of an activation that the target lacks
DEVIATION = {
    "side": "source",
    "field": "hidden_act",
    "value": "gelu_new",
    "taken_as": "gelu",
    "reason": "the gate has no other curve",
}


def deviating_stages(size: float = 3.2e-4) -> dict[str, dict[str, Any]]:
    """The documents of a conversion that is proved under a deviation."""
    planned = plan() | {"deviations": [DEVIATION], "unknown": ["model_flavour"]}
    measured = {"deviations": [DEVIATION | {"measured": {"max_rel": size, "top1_agreement": 1.0}}]}
    return all_stages(
        plan=planned,
        convert=receipt(planned),
        roundtrip=roundtrip() | {"deviations": [DEVIATION | {"measured": {}}]},
        equivalence=equivalence() | measured,
    )


def write_target(folder: Path, receipt_: dict[str, Any]) -> None:
    """The file that a receipt tells of, of the right size."""
    with (folder / receipt_["target"]["path"]).open("wb") as file:
        file.truncate(receipt_["target"]["files"][0]["bytes"])


def write_row(folder: Path, *, stages: dict[str, dict[str, Any]], log: dict[str, str] | None = None) -> None:
    for sub in ("logs", "benchmarks"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for i, (stage, document) in enumerate(stages.items()):
        (folder / f"{stage}.json").write_text(json.dumps(document))
        (folder / "logs" / f"{stage}.log").write_text("")
        (folder / "benchmarks" / f"{stage}.tsv").write_text(
            "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
            f"{1.5 * (i + 1)}\t0:00:01\t{80 * (i + 1)}.5\t0\t0\t0\t0\t0\t0\t1.0\n"
        )
    if "target" in stages.get("convert", {}):
        write_target(folder, stages["convert"])
    for stage, text in (log or {}).items():
        (folder / "logs" / f"{stage}.log").write_text(text)


def all_stages(**changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    made = plan()
    stages = {
        "fetch": {"uri": "generated://llama", "sha256": "ab" * 32},
        "inspect": {"format": "safetensors", "layout": "hf/llama"},
        "plan": made,
        "convert": receipt(made),
        "roundtrip": roundtrip(),
        "equivalence": equivalence(),
    }
    return stages | changes


def write_campaign(results: Path) -> Path:
    """Four rows: one proved, one with a missed fault, one whose verdicts are no, one that stopped at its plan."""
    write_row(results / "good", stages=all_stages())
    write_row(results / "blunt", stages=all_stages(equivalence=equivalence(missed="cast to bfloat16")))
    write_row(results / "wrong", stages=all_stages(roundtrip=roundtrip(False), equivalence=equivalence(False)))
    stages = all_stages()
    write_row(
        results / "refused",
        stages={stage: stages[stage] for stage in ("fetch", "inspect")},
        log={"plan": "reading\nsource: model.extra.weight: no rule takes this leaf (drop it by name: --drop)\n"},
    )
    (results / "checkpoints.tsv").write_text(
        "id\tsource\tsha256\tfrom\tto\tformat\toptions\n"
        + "".join(
            f"{name}\tgenerated://llama\t\t\tcerebras/llama\t\t\n" for name in ("good", "blunt", "wrong", "refused")
        )
    )
    return results


def write_hostile(results: Path) -> Path:
    """A row whose every name is markup, or turns around what follows."""
    markup = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    planned = plan()
    planned["source_leaves"] |= {f"{markup}.weight\u202etxt": {"shape": [1], "dtype": "float32", "fate": markup}}
    planned["source"]["config"] = {markup: {"<b>": markup}}
    planned["source"]["layout"] = f"hf/{markup}"
    planned["target"]["release"] = markup
    planned["warnings"] = [markup]
    made = {"commit": markup, "host": markup, "command_line": f"convkit convert {markup}"}
    stages = all_stages(plan=planned, convert=receipt(planned) | made)
    stages["roundtrip"] = roundtrip(False) | {"problems": [markup]}
    stages["equivalence"] = walked(wrong={"layers.1": {"unshown": markup}}, problems=[markup])
    write_row(results / "<b onclick=alert(1)>\"' &amp;", stages=stages)
    write_row(results / "stopped", stages={}, log={"fetch": f"convkit: {markup}"})
    return results


def write_row_of_many(results: Path, number: int) -> None:
    """One row of a large campaign, of four families: mostly proved, and now and then one of each other kind."""
    family = ("llama", "gpt2", "bert", "t5")[number % 4]
    stages, log = all_stages(), {}
    if number % 97 == 5:
        wrong = walked(wrong={"layers.3": {"max_rel": 3.1e-2}}, state="no", passed=False)
        stages |= {"roundtrip": roundtrip(False), "equivalence": wrong}
    elif number % 61 == 3:
        stages["equivalence"] = equivalence(missed="cast to bfloat16")
    elif number % 71 == 9:
        stages = deviating_stages()
    elif number % 83 == 7:
        stages = {stage: stages[stage] for stage in ("fetch", "inspect")}
        log = {"plan": "source: model.extra.weight: no rule takes this leaf (drop it by name: --drop)"}
    for planned in (stages.get("plan"), stages.get("convert", {}).get("plan")):
        if planned is not None:
            planned["source"]["layout"], planned["target"]["layout"] = f"hf/{family}", f"cerebras/{family}"
    name = f"{family}-{number:04}" + ("-with-a-rather-long-name-instruct" if number % 3 == 0 else "")
    write_row(results / name, stages=stages, log=log)
    with (results / "checkpoints.tsv").open("a") as table:
        table.write("" if number else "id\tsource\tto\n")
        table.write(f"{name}\thf://org/{name}\tcerebras/{family}\n")
