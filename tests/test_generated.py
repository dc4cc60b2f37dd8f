"""Generated models are real checkpoints, reproducible, and strong enough to expose a wrong forward pass."""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from convkit.errors import UsageError
from convkit.fetch import fetch
from convkit.generate import generate
from convkit.generate.families import FAMILIES
from convkit.generate.families.vision import ClipVit, Vit
from convkit.generate.options import parse
from convkit.generate.orbax import OrbaxTraining
from convkit.generate.training import Training
from convkit.generate.weights import draw
from convkit.plan import open_source
from convkit.plan.detect import detect_layout
from convkit.state.cerebras.loader_state import read_workers

if TYPE_CHECKING:
    import torch


@pytest.fixture
def transformers() -> Any:
    return pytest.importorskip("transformers")


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_importing_is_light() -> None:
    heavy = "{'torch', 'transformers', 'fsspec', 'requests', 'numpy'}"
    code = f"import sys, convkit.generate, convkit.fetch; print({heavy} & {{*sys.modules}})"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"


def test_numbers_never_change() -> None:
    """Written down once: a change would change every generated model and every record of one."""
    np.testing.assert_array_equal(
        draw(7, "model.norm.weight", 3), [-0.318786572926757, 0.24637111862238673, 0.4028836443123432]
    )


def test_numbers_are_bell_shaped() -> None:
    numbers = draw(0, "a", 100_000)
    assert abs(numbers.mean()) < 0.02
    assert abs(numbers.std() - 1) < 0.02
    assert abs((numbers**4).mean() - 2.7) < 0.1  # of four uniform numbers; 3 of a normal one
    assert abs(np.corrcoef(numbers, draw(0, "b", 100_000))[0, 1]) < 0.02


@pytest.mark.parametrize(
    ("uri", "model", "config"),
    [
        ("llama", "AutoModelForCausalLM", {"num_key_value_heads": 2, "tie_word_embeddings": False}),
        ("llama?tied=true&heads=4&kv_heads=1", "AutoModelForCausalLM", {"hidden_size": 40, "num_attention_heads": 4}),
        ("llama?attention_bias=true&mlp_bias=true&rope=llama3", "AutoModelForCausalLM", {"mlp_bias": True}),
        ("llama?rope=linear", "AutoModelForCausalLM", {}),
        ("llama?rope=yarn", "AutoModelForCausalLM", {}),
        ("llama?rope=longrope&head=none", "AutoModel", {"architectures": ["LlamaModel"]}),
        ("llama?shard_size=50KB&dtype=bfloat16", "AutoModelForCausalLM", {"dtype": "bfloat16"}),
        ("llama?shard_size=50KB&format=torch", "AutoModelForCausalLM", {}),
        ("gpt2", "AutoModelForCausalLM", {"tie_word_embeddings": True}),
        ("gpt2?tied=false&dtype=float16", "AutoModelForCausalLM", {"dtype": "float16"}),
        ("gpt2?format=torch&head=none", "AutoModel", {"architectures": ["GPT2Model"]}),
        ("bert", "AutoModelForPreTraining", {"architectures": ["BertForPreTraining"]}),
        ("bert?tied=false&activation=relu", "AutoModelForPreTraining", {"hidden_act": "relu"}),
        ("bert?head=sequence-classification&labels=7", "AutoModelForSequenceClassification", {}),
        ("bert?head=token-classification", "AutoModelForTokenClassification", {}),
        ("bert?head=question-answering", "AutoModelForQuestionAnswering", {}),
        ("bert?head=none", "AutoModel", {"architectures": ["BertModel"]}),
        ("gptj?rotary_dim=6", "AutoModelForCausalLM", {"rotary_dim": 6, "tie_word_embeddings": False}),
        ("codegen?activation=relu", "AutoModelForCausalLM", {"activation_function": "relu", "n_head": 8}),
        ("codegen?head=none", "AutoModel", {"architectures": ["CodeGenModel"]}),
    ],
)
def test_is_a_checkpoint_of_the_library(
    uri: str, model: str, config: dict[str, Any], tmp_path: Path, transformers: Any
) -> None:
    generate(f"generated://{uri}", tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert config.items() <= written.items()
    loaded, report = getattr(transformers, model).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert list(loaded.config.architectures) == [type(loaded).__name__]
    assert all(parameter.abs().max() > 0 for parameter in loaded.parameters())


@pytest.mark.parametrize("uri", ["llama?tied=true", "gpt2?format=torch", "llama?format=torch&shard_size=50KB"])
def test_same_bytes_every_time(uri: str, tmp_path: Path, transformers: Any) -> None:
    generate(f"generated://{uri}", tmp_path / "a")
    generate(f"generated://{uri}", tmp_path / "b")
    generate(f"generated://{uri}&seed=1", tmp_path / "c")
    a, b, c = (_digests(tmp_path / name) for name in "abc")
    assert a == b
    assert {name for name in a if a[name] != c[name]} == {name for name in a if name.endswith(("safetensors", "bin"))}


def test_weights_depend_on_seed_and_name_alone(tmp_path: Path, transformers: Any) -> None:
    import torch

    generate("generated://llama?seed=3", tmp_path / "whole")
    generate("generated://llama?seed=3&head=none&dtype=bfloat16", tmp_path / "body")
    whole, body = _tensors(tmp_path / "whole"), _tensors(tmp_path / "body")
    assert {f"model.{key}" for key in body} | {"lm_head.weight"} == whole.keys()
    for key, tensor in body.items():
        assert torch.equal(tensor, whole[f"model.{key}"].bfloat16())


def test_tied_weights_are_stored_as_the_library_stores_them(tmp_path: Path, transformers: Any) -> None:
    import torch

    generate("generated://llama?tied=true", tmp_path / "safetensors")
    generate("generated://llama?tied=true&format=torch", tmp_path / "torch")
    assert "lm_head.weight" not in _tensors(tmp_path / "safetensors")
    state = torch.load(tmp_path / "torch" / "pytorch_model.bin", weights_only=True, mmap=True)
    assert torch.equal(state["lm_head.weight"], state["model.embed_tokens.weight"])


def test_random_numbers_of_others_go_on_undisturbed(tmp_path: Path, transformers: Any) -> None:
    import torch

    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    generate("generated://gpt2?layers=1", tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_may_be_larger_than_memory(tmp_path: Path, transformers: Any) -> None:
    """150 MB of weights, in a process that may take 64 MiB more."""
    generate("generated://llama", tmp_path / "warm")
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, ((int(status["VmData"].split()[0]) << 10) + (64 << 20), limits[1]))
    try:
        generate("generated://llama?hidden=576&vocab=32000&layers=1", tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)
    assert sum(path.stat().st_size for path in (tmp_path / "model").iterdir()) > 150e6


def test_progress_of_fetching_one(tmp_path: Path, transformers: Any) -> None:
    seen: list[tuple[int, int | None, str]] = []
    fetch("generated://llama?vocab=4000", tmp_path / "m", progress=lambda *step: seen.append(step))
    drawn = [done for done, _, part in seen if part == "weights"]
    assert len({*drawn}) > 10
    assert drawn == sorted(drawn)
    assert {total for _, total, part in seen if part == "weights"} == {drawn[-1]}
    assert drawn[-1] == sum(tensor.nbytes for tensor in _tensors(tmp_path / "m").values())


def _swap(owner: Any, one: str, other: str) -> None:
    first, second = getattr(owner, one), getattr(owner, other)
    setattr(owner, one, second)
    setattr(owner, other, first)


def _no_last_key_bias(model: Any) -> None:
    model.model.layers[-1].self_attn.k_proj.bias.data.zero_()


def _slower_rotation(model: Any) -> None:
    model.model.rotary_emb.inv_freq.pow_(1.001)


def _other_epsilon(model: Any) -> None:
    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon = 1e-5


@pytest.mark.parametrize(
    ("fault", "least"),
    [
        (lambda model: _swap(model.model.layers[1].mlp, "gate_proj", "up_proj"), 0.1),
        (lambda model: _swap(model.model.layers[1], "input_layernorm", "post_attention_layernorm"), 0.1),
        (lambda model: model.model.layers[0].self_attn.k_proj.weight.data.copy_(
            model.model.layers[0].self_attn.k_proj.weight.data.roll(10, 0)), 0.1),
        (_no_last_key_bias, 1e-2),
        (_slower_rotation, 1e-2),
        (_other_epsilon, 1e-4),
    ],
)  # fmt: skip
def test_a_wrong_forward_pass_shows(
    fault: Callable[[Any], object], least: float, tmp_path: Path, transformers: Any
) -> None:
    """Each fault moves some logit by at least this much of the largest: a check asks for 5e-6."""
    import torch

    generate("generated://llama?attention_bias=true&rope=llama3", tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    probe = torch.arange(256).mul(37).remainder(211)[None]
    with torch.no_grad():
        good = model(probe, output_attentions=True)
        fault(model)
        bad = model(probe)
    assert (bad.logits - good.logits).abs().max() / good.logits.abs().max() > least
    for scores in good.attentions:  # far from uniform, which would be 1/256, and from one-hot
        assert 0.02 < scores[:, :, -1].max(-1).values.mean() < 0.6


@pytest.mark.parametrize("activation_eps", [("gpt2", "gelu", 1e-5), ("bert", "gelu_new", 1e-12)])
def test_activation_and_epsilon_show(activation_eps: tuple[str, str, float], tmp_path: Path, transformers: Any) -> None:
    import torch

    family, activation, epsilon = activation_eps
    generate(f"generated://{family}?head=none", tmp_path)
    name = {"gpt2": "activation_function", "bert": "hidden_act"}[family]
    probe = torch.arange(256).mul(37).remainder(211)[None]
    models = [
        transformers.AutoModel.from_pretrained(tmp_path),
        transformers.AutoModel.from_pretrained(tmp_path, **{name: activation}),
        transformers.AutoModel.from_pretrained(tmp_path),
    ]
    for module in models[2].modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = epsilon
    with torch.no_grad():
        good, other_activation, other_epsilon = (model(probe).last_hidden_state for model in models)
    assert (good - other_activation).abs().max() / good.abs().max() > 5e-5
    assert (good - other_epsilon).abs().max() / good.abs().max() > 1e-5


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("generated://cerebras-old?workers=-1", "workers is -1"),
        ("generated://lama", "no family is called 'lama' (did you mean llama? families: llama, "),
        ("generated://llama/x", "no family is called 'llama/x'"),
        (
            "generated://gpt2?kv_heads=2",
            "'kv_heads' isn't an option of gpt2 (did you mean heads? options: seed, dtype, ",
        ),
        ("generated://gpt2?seed=1&seed=2", "'seed' is given twice"),
        ("generated://llama?tied=maybe", "tied can't be 'maybe' (it is true or false)"),
        ("generated://llama?heads=six", "heads can't be 'six' (it is a whole number)"),
        ("generated://llama?rope_theta=x", "rope_theta can't be 'x' (it is a number)"),
        ("generated://llama?rope=su", "rope can't be 'su' (choices: default, linear, llama3, yarn, longrope)"),
        ("generated://llama?shard_size=5", "shard_size can't be '5' (write 100KB, 5GB)"),
        ("generated://llama?layers=0", "layers is 0 (it must be at least 1)"),
        ("generated://llama?heads=5", "heads 5 isn't a multiple of kv_heads 2"),
        ("generated://llama?hidden=66", "hidden / heads is 11 (rotary positions need it even)"),
        ("generated://gpt2?hidden=64", "hidden 64 isn't a multiple of heads 6"),
        ("generated://gptj?rotary_dim=12", "rotary_dim is 12 (it is even and at most hidden / heads: 10)"),
        ("generated://gptj?rotary_dim=0", "rotary_dim is 0 (it is even and at most hidden / heads: 10)"),
        ("generated://vit?patch=10", "image 33 isn't a multiple of patch 10"),
        ("generated://vit?width=45", "width 45 isn't a multiple of patch 11"),
        ("generated://vit?vocab=5", "'vocab' isn't an option of vit"),
        ("generated://bloom?intermediate=84", "intermediate is 84 (a Bloom's is four times the hidden size: 240)"),
        ("generated://bloom?heads=0", "heads is 0 (it must be at least 1)"),
        ("generated://codegen?heads=6", "heads 6 isn't a multiple of 4 (codegen has 4 groups)"),
    ],
)
def test_mistakes_are_one_line(uri: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(uri)
    assert str(caught.value).startswith(f"{uri}: {says}")
    assert "\n" not in str(caught.value)


def test_every_family_has_awkward_sizes() -> None:
    for family in FAMILIES.values():
        made = family()
        if isinstance(made, OrbaxTraining):
            assert len({made.layers, made.inputs, made.hidden, made.outputs}) == 4
            continue
        own = made.head_dim if isinstance(made, Training) else made.hidden // made.heads
        sizes = [made.heads, own, made.layers, made.intermediate]
        if isinstance(made, Vit | ClipVit):
            sizes += [made.channels, made.patch, made.image]
            sizes += [made.width, made.labels] if isinstance(made, Vit) else [made.projection]
        else:
            sizes += [made.vocab, made.hidden if isinstance(made, Training) else made.positions]
        products = [one * other for index, one in enumerate(sizes) for other in sizes[index + 1 :]]
        assert len({*sizes}) == len(sizes)
        assert len({*products}) == len(products)


@pytest.mark.parametrize("release", ["1.7", "1.8", "1.9"])
def test_an_old_cerebras_checkpoint(tmp_path: Path, release: str) -> None:
    """Needs repair, and is a model that converts as it is."""
    generate(f"generated://cerebras-old?release={release}&seed=3", tmp_path / "old")
    with open_source(tmp_path / "old") as source:
        assert source.checkpoint.metadata["cstorch_version"] == release
        assert bool(source.checkpoint.metadata["tensor_scalar_dicts"]) == (release == "1.7")
        assert bool(source.checkpoint.metadata["left_out"]) == (release != "1.9")
        assert detect_layout(source)[0].name == "cerebras/llama"
    generate(f"generated://cerebras-old?release={release}&seed=3&workers=2", tmp_path / "again")
    assert read_workers(tmp_path / "again" / "data_iter").samples == {0: 1500, 1: 1485}
    assert (tmp_path / "old" / "params.yaml").read_bytes() == (tmp_path / "again" / "params.yaml").read_bytes()
