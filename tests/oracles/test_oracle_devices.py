"""A model that torch runs runs where its tensors are: no step mixes devices. Shown on torch's device without memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from paired_models import bert, gpt2, llama
from test_against_recorded import OPTIONS, Recorded, hf_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from convkit.errors import UsageError
from convkit.oracles import get_oracle
from convkit.oracles.cerebras.encoder import CerebrasBert
from convkit.oracles.opening import open_model
from convkit.oracles.oracle import Oracle, Trace
from convkit.oracles.stage_tensors import StageTensors
from convkit.testing.stages import InMemory
from convkit.verify.equivalence import equivalence
from convkit.verify.equivalence.probe import make_probe

ATEN = torch.ops.aten


class OneDevice(TorchDispatchMode):
    """Refuses functions of tensors on several devices, except copies; there are no values, so 1 stands for each."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        if func is ATEN._local_scalar_dense.default and given[0].is_meta:
            return 1
        if func is ATEN._to_copy.default and given[0].is_meta and (kwargs or {}).get("device") == torch.device("cpu"):
            return torch.ones(given[0].shape, dtype=given[0].dtype)
        out = func(*args, **(kwargs or {}))
        devices = {value.device for value in (*given, *tree_leaves(out)) if isinstance(value, torch.Tensor)}
        assert len(devices) <= 1 or func is ATEN._to_copy.default, (func, devices)
        return out


def paired(make: Callable[[], Any], layout: str) -> Oracle:
    pair = make()
    hf = layout.startswith("hf/")
    return get_oracle(layout)(*((pair.hf_config, pair.hf) if hf else (pair.cs_config, pair.cs)))


def recorded(family: str) -> Oracle:
    return next(one for one in OPTIONS if one.family == family).build()


MODELS: dict[str, Callable[[], Oracle]] = {
    layout: partial(paired, make, layout)
    for family, make in (("llama", partial(llama, tied=True)), ("gpt2", gpt2), ("bert", bert))
    for layout in (f"hf/{family}", f"cerebras/{family}")
}
RECORDED: dict[str, Callable[[], Oracle]] = {
    **{
        f"hf {family}": lambda family=family: hf_model(family)[0] for family in ("gptj", "bloom", "falcon_7b", "gemma2")
    },
    **{f"hf {family}": lambda family=family: hf_model(family)[0] for family in ("codegen", "gpt_neox", "starcoder")},
    **{f"hf {family}": lambda family=family: hf_model(family)[0] for family in ("vit", "clip_vit")},
    **{f"cerebras {family}": partial(recorded, family) for family in ("vit", "clip_vit")},
    **{f"cerebras {family}": partial(recorded, family) for family in ("gptj", "bloom", "gemma2", "t5_gated")},
    "cerebras roberta": Recorded("roberta", CerebrasBert).build,
}


def check_where_it_runs(oracle: Oracle) -> None:
    tensors = StageTensors(InMemory(oracle.tensors), "meta")
    reading = oracle.rebuilt(tensors=tensors)
    probe = make_probe(oracle.facts, oracle.facts, length=16, takes=oracle.inputs)
    with OneDevice():
        state = reading.begin(probe)
        for name in reading.stages:
            trace = Trace(detail=1)
            state = reading.stage(name, state, trace)
            shown = [*state.flow.values(), *trace.states.values(), *trace.outputs.values()]
            assert all(value.device.type == "cpu" for value in shown), name
            assert all(tensor.is_meta for _, _, tensor in tensors.holding()), name
            tensors.release()
        assert trace.outputs


@pytest.mark.parametrize("model", MODELS)
def test_a_model_runs_where_its_tensors_are(model: str) -> None:
    check_where_it_runs(MODELS[model]())


@pytest.mark.golden
@pytest.mark.parametrize("model", RECORDED)
def test_recorded_models_run_where_their_tensors_are(model: str) -> None:
    check_where_it_runs(RECORDED[model]())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for use in (open_model, partial(equivalence, tmp_path)):
        with pytest.raises(UsageError, match="--device cuda: torch finds no CUDA device"):
            use(tmp_path, device="cuda")
