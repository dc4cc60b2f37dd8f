"""Laws of yamls from release to release, on yamls made up by hypothesis."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.config.tree import plant
from convkit.errors import ConfigError
from convkit.mappings.cerebras.releases.yaml import KNOWN, yaml_table

Section = dict[str, Any]
#: each with the norm of its own that a flag says before 2.0
FAMILIES = {
    "gpt2": ("use_rms_norm", "rmsnorm"),
    "llama": ("use_rms_norm", "rmsnorm"),
    "gptj": ("use_biasless_norm", "biasless-layernorm"),
    "t5": ("use_t5_layer_norm", "rmsnorm"),
    "bert": ("", ""),
}
OPTIMIZERS: dict[str, Section] = {
    "AdamW": {"betas": [0.9, 0.95], "weight_decay": 0.1, "eps": 1e-8, "correct_bias": True},
    "SGD": {"momentum": 0.9, "weight_decay": 0.1, "nesterov": True},
    "Adafactor": {"eps": [1e-30, 1e-3], "beta1": 0.9, "scale_parameter": True},
    "Rprop": {"etas": [0.5, 1.2], "step_sizes": [1e-6, 50]},
    "Unheard": {"beta1": 0.5},
}
SCHEDULES = (
    {"scheduler": "LinearLR", "initial_learning_rate": 0.0, "end_learning_rate": 6e-4, "total_iters": 12},
    {"scheduler": "CosineDecayLR", "initial_learning_rate": 6e-4, "end_learning_rate": 6e-5, "total_iters": 88},
    {"scheduler": "PiecewiseConstantLR", "learning_rates": [0.1, 0.2], "milestones": [3]},
    {"scheduler": "CosineAnnealingWarmRestarts", "initial_learning_rate": 0.1, "T_0": 4, "T_mult": 2},
    {"scheduler": "CyclicLR", "base_lr": 0.1, "max_lr": 0.2},
)
RUNCONFIG = {
    **{"max_steps": 100, "eval_frequency": 50, "checkpoint_steps": 10, "log_steps": 1, "seed": 1, "model_dir": "./m"},
    **{"num_csx": 1, "num_workers_per_csx": 1, "mount_dirs": ["./a", "./b"], "logging": "DEBUG", "max_checkpoints": 3},
    **{"precision_opt_level": 1, "load_checkpoint_states": ["model", "dataloader"], "checkpoint_path": "./x.mdl"},
    **{"log_input_summaries": True, "check_loss_values": False, "tasks": "winogrande", "num_fewshot": 2},
    **{"transfer_processes": 3, "ini": {"a": 1}, "debug_args_path": "./d", "summary_dir": "./s"},
    "experimental": {"listeners": [{"listener_type": "grad_norm", "params": ["*"]}]},
}
SPARSITY = (
    0.5,
    {"sparsity": 0.5, "init_method": "random"},
    {"algorithm": "set", "sparsity": 0.5, "update": {"freq": 100}, "param_filter": ["fc*weight", "proj_*"]},
    {"algorithm": "gmp", "schedule": [0.1, 0.5], "update": {"steps": [0, 10]}},
    {"algorithm": "gmp", "schedule": {"type": "exp", "init": 0, "gamma": 0.1}, "update": {"start": 0, "freq": 10}},
    [{"algorithm": "set", "param_filter": "fc*", "sparsity": 0.1}, {"algorithm": "set", "param_filter": "p*"}],
)


@st.composite
def runs(draw: st.DrawFn, family: str) -> Section:
    """A yaml of 2.2, with the names that only it has."""
    norm = draw(st.sampled_from(("layernorm", FAMILIES[family][1] or "layernorm")))
    model = {"hidden_size": 24, "num_heads": 4, "filter_size": 28, "max_position_embeddings": 20} | {
        "attention_dropout_rate": draw(st.sampled_from((0.0, 0.1))), "mixed_precision": draw(st.booleans()),
        "fp16_type": draw(st.sampled_from(("bfloat16", "float16"))),
    } | ({} if family == "bert" else {"norm_type": norm})  # fmt: skip
    yaml: Section = {"model": model}
    if draw(st.booleans()):
        yaml["optimizer"] = draw(_optimizers())
    for name in ("train_input", "eval_input"):
        if draw(st.booleans()):
            yaml[name] = {"data_processor": "X", "batch_size": draw(st.integers(1, 9)), "mixture": []}
    size = draw(st.sampled_from(("auto", 2, "unsaid")))
    for name in yaml.keys() & {"train_input", "eval_input"} if size != "unsaid" else ():
        yaml[name]["micro_batch_size"] = size
    if chosen := draw(st.sets(st.sampled_from(sorted(RUNCONFIG)))):
        if "num_fewshot" in chosen:  # it goes with tasks
            chosen.add("tasks")
        if not yaml.keys() & {"train_input", "eval_input"}:
            chosen.discard("checkpoint_path")
        yaml["runconfig"] = {name: deepcopy(RUNCONFIG[name]) for name in sorted(chosen)}
    if draw(st.booleans()):
        yaml["sparsity"] = deepcopy(draw(st.sampled_from(SPARSITY)))
    if draw(st.booleans()):
        yaml["wandb"] = {"project": "p", "tags": ["a", "b"]}
    return {name: value for name, value in yaml.items() if value != {}}


@st.composite
def _optimizers(draw: st.DrawFn) -> Section:
    kind = draw(st.sampled_from(sorted(OPTIMIZERS)))
    one, several = st.sampled_from(SCHEDULES), st.lists(st.sampled_from(SCHEDULES), min_size=2, max_size=3)
    rate = draw(st.one_of(st.just(1e-3), one, several))
    more = {"loss_scaling_factor": "dynamic", "max_gradient_norm": 1.0, "log_summaries": True, "grad_accum_steps": 2}
    chosen = draw(st.sets(st.sampled_from(sorted(more))))
    return {"optimizer_type": kind, **deepcopy(OPTIMIZERS[kind]), "learning_rate": deepcopy(rate)} | {
        name: more[name] for name in chosen
    }


FAMILY = st.sampled_from(sorted(FAMILIES))
FAMILY_AND_RUN = FAMILY.flatmap(lambda family: st.tuples(st.just(family), runs(family)))
#: releases in whose names the yamls above can be said
SAID = [release for release in KNOWN if release >= (1, 8)]


@settings(max_examples=25)
@given(FAMILY_AND_RUN, st.sampled_from([release for release in SAID if release > (2, 2)]))
def test_to_the_trainer_and_back_nothing_is_lost(chosen: tuple[str, Section], release: tuple[int, ...]) -> None:
    family, yaml = chosen
    table = yaml_table(family, (2, 2), release)
    there = table.convert(deepcopy(yaml))
    assert not any("left out" in warning for warning in there.warnings)
    assert table.inverse().convert(there.config).config == yaml


@settings(max_examples=25)
@given(FAMILY_AND_RUN, st.lists(st.sampled_from(SAID), min_size=3, max_size=3))
def test_steps_compose(chosen: tuple[str, Section], releases: list[tuple[int, ...]]) -> None:
    family, yaml = chosen
    for first, second, third in (sorted(releases), sorted(releases, reverse=True)):
        start = yaml_table(family, (2, 2), first).convert(yaml).config
        once = yaml_table(family, first, third).convert(start).config
        on_the_way = yaml_table(family, first, second).convert(start).config
        assert yaml_table(family, second, third).convert(on_the_way).config == once


@settings(max_examples=25)
@given(FAMILY_AND_RUN, st.sampled_from(SAID), st.sampled_from(SAID))
def test_what_went_there_and_back_goes_so_again(
    chosen: tuple[str, Section], source: tuple[int, ...], target: tuple[int, ...]
) -> None:
    family, yaml = chosen
    start = yaml_table(family, (2, 2), source).convert(yaml).config
    table = yaml_table(family, source, target)
    back = table.inverse().convert(table.convert(start).config).config
    assert table.inverse().convert(table.convert(back).config).config == back


ODD = st.sampled_from((None, True, 0, -1, 1.5, "x", "", [], ["x"], {}, {"x": 1}, [{"x": {}}]))


@settings(max_examples=60)
@given(FAMILY_AND_RUN, st.sampled_from(SAID), st.sampled_from(SAID), ODD, st.randoms(use_true_random=False))
def test_odd_values_are_converted_or_refused(
    chosen: tuple[str, Section], source: tuple[int, ...], target: tuple[int, ...], odd: Any, random: Any
) -> None:
    family, yaml = chosen
    start = yaml_table(family, (2, 2), source).convert(yaml).config
    path = random.choice(sorted(_places(start)))
    plant(start, path, odd)
    try:
        yaml_table(family, source, target).convert(start)
    except ConfigError as error:
        assert error.key and error.remedy


def _places(value: Any, at: str = "") -> Iterator[str]:
    """Every path, of sections and of values."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in items:
        path = f"{at}{name}"
        if "." not in str(name):
            yield path
            yield from _places(one, f"{path}.")
