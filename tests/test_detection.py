"""Which layout a config is of: by its name; without a name by its fields, their class, and where it is to go."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest
from goldens import golden_dir

from convkit.checkpoint import Checkpoint
from convkit.errors import ConvkitError
from convkit.plan import Source
from convkit.plan.detect import detect_layout

#: recorded model -> the layouts that its yamls may be recognised as; of others, none is
OURS = {
    "llama": {"llama", "llama-headless", "llamaV2", "llamaV2-headless", "code-llama", "code-llama-headless",
              "wizardlm", "wizardlm-headless"},
    "gpt2": {"gpt2", "gpt2-headless"},
    "bert": {"bert", "bert-sequence-classifier", "bert-token-classifier", "bert-qa"},
    "roberta": {"roberta"},
    "esm-2": {"esm-2"},
    "gptj": {"gptj", "gptj-headless", "codegen", "codegen-headless"},
    "gpt-neox": {"gpt-neox", "gpt-neox-headless"},
    "bloom": {"bloom", "bloom-headless"},
    "santacoder": {"santacoder", "santacoder-headless"},
    "vit": {"vit", "vit-headless"},
    "clip-vit": {"clip-vit"},
    "gemma2": {"gemma2"},
    "t5": {"t5", "ul2", "flan-ul2", "transformer"},
    "starcoder": {"starcoder", "starcoder-headless", "octocoder", "octocoder-headless", "sqlcoder",
                  "sqlcoder-headless", "wizardcoder", "wizardcoder-headless"},
    "falcon": {"falcon", "falcon-headless"},
}  # fmt: skip
EXPECTED = {model: f"cerebras/{family}" for family, models in OURS.items() for model in models}
EXPECTED |= {"llava": "cerebras/llava", "mmsimple-llava": "cerebras/multimodal_simple"}
EXPECTED |= dict.fromkeys(("dpr", "dragon"), "cerebras/dpr-biencoder")
#: no GPT-2 of transformers has them
NO_ACTIVATIONS = ("swiglu", "geglu", "reglu", "not_an_act")
NAMELESS = ("cs-2.1", "cs-2.2", "cs-2.3")


def source(config: dict[str, Any]) -> Source:
    return Source(Path("model.mdl"), cast(Checkpoint, None), config, Path("params.yaml"), {})


def detected(config: dict[str, Any], named: str | None = None, to: str | None = None) -> str:
    """The layout's name, or the problem."""
    try:
        return detect_layout(source(config), named, to)[0].name
    except ConvkitError as error:
        return error.problem


@pytest.mark.golden
def test_every_recorded_yaml_without_a_name() -> None:
    folder = golden_dir("cerebras_more.tar.xz", "config/") / "config"
    seen: Counter[str] = Counter()
    for path in sorted(folder.glob("*.jsonl")):
        for case in map(json.loads, filter(str.strip, path.read_text().splitlines())):
            if case["dir"] != "hf->cs" or case["tgt"] not in NAMELESS or "output" not in case:
                continue
            model, config = path.stem, case["output"]
            if model == "mmsimple-llava":  # recorded before the original, when it saves it, takes that out
                del config["model"]["image_model"]
            found = detected(config)
            seen[model] += 1
            if model.startswith("mistral") and config["model"]["attention_sliding_window_length"] is None:
                assert found == "cerebras/llama"  # without its window it is one
            elif model in EXPECTED and config["model"].get("nonlinearity") not in NO_ACTIVATIONS:
                assert found == EXPECTED[model], (case["case"], case["tgt"])
            elif model not in EXPECTED:
                assert not found.startswith("cerebras/"), (model, case["case"], case["tgt"])
    assert len(seen) > 45
    assert sum(seen.values()) > 1400


NEOX = {"hidden_size": 8, "num_heads": 2, "use_untied_layer_norm": True, "residual_dropout_rate": 0.0}
GPT2 = {"hidden_size": 8, "num_heads": 2, "nonlinearity": "gelu", "dropout_rate": 0.1, "use_bias_in_output": False}
T5 = {"d_model": 8, "num_heads": 2, "d_kv": 4, "norm_type": "rmsnorm", "encoder_nonlinearity": "gelu"}
DIT = {"hidden_size": 8, "num_heads": 2, "norm_type": "layernorm", "num_diffusion_steps": 1000}


def test_a_nameless_config_of_an_unknown_family() -> None:
    for config in (NEOX, DIT):
        assert "isn't of a known model family" in detected({"model": config})


@pytest.mark.parametrize("at", ["model", "trainer.init.model"])
def test_a_nameless_config_of_a_known_family(at: str) -> None:
    config: dict[str, Any] = GPT2
    for name in reversed(at.split(".")):
        config = {name: config}
    assert detected(config) == "cerebras/gpt2"


def test_a_nameless_config_of_an_encoder_decoder() -> None:
    assert detected({"model": T5}) == "cerebras/t5"
    assert detected({"model": T5 | {"norm_type": "layernorm"}}) == "cerebras/t5"


def test_a_field_of_a_later_release_counts_less() -> None:
    """BERT has ``nonlinearity`` too, but only in releases whose yamls are named."""
    shared = {name: value for name, value in GPT2.items() if name != "use_bias_in_output"}
    assert detected({"model": shared}) == "cerebras/gpt2"
    without = {name: value for name, value in shared.items() if name != "nonlinearity"}
    assert detected({"model": without}) == "could be any of cerebras/bert, cerebras/gpt2"
    assert detected({"model": without}, to="hf/bert") == "cerebras/bert"


def test_one_unknown_field_is_another_family() -> None:
    assert not detected({"model": GPT2 | {"image_size": 224}}).startswith("cerebras/")


@pytest.mark.parametrize("name", ["vision_transformer", None])
def test_the_norm_after_the_embedding_tells_clip_from_vit(name: str | None) -> None:
    """Yamls of both have one name, or none."""
    plain = {"name": name} if name else {}
    plain |= {"hidden_size": 8, "num_heads": 2, "image_size": [4, 4], "use_conv_patchified_embedding": True}
    assert detected({"model": plain}) == "cerebras/vit"
    assert detected({"model": plain | {"use_post_embed_layer_norm": False}}) == "cerebras/vit"
    assert detected({"model": plain | {"use_post_embed_layer_norm": True}}) == "cerebras/clip-vit"


def test_a_named_config_may_have_unknown_fields() -> None:
    assert detected({"model": GPT2 | {"name": "gpt2", "image_size": 224}}) == "cerebras/gpt2"


def test_a_gpt2_whose_heads_share_one_key_is_a_starcoder() -> None:
    """ModelZoo's converter calls WizardCoder so, and transformers' GPT-2 has no such attention."""
    shared = {"name": "gpt2", "attention_module": "multiquery_attention"}
    assert detected({"model": shared}) == "cerebras/starcoder"
    assert detected({"model": shared | {"attention_module": "aiayn_attention"}}) == "cerebras/gpt2"
    assert detected({"model": shared}, named="cerebras/gpt2") == "cerebras/gpt2"


def test_a_nameless_btlm_may_be_a_jais() -> None:
    bare = {"model": {"hidden_size": 8, "num_heads": 2, "position_embedding_type": "alibi", "nonlinearity": "swiglu"}}
    assert detected(bare) == "could be any of cerebras/btlm, cerebras/jais"
    assert detected(bare, to="hf/btlm") == "cerebras/btlm"
    assert detected(bare, to="hf/jais") == "cerebras/jais"


def test_a_yaml_named_by_the_whole_config_of_jais() -> None:
    """ModelZoo's converter writes such ones."""
    assert detected({"model": GPT2 | {"name": {"model_type": "jais", "n_embd": 8}}}) == "cerebras/jais"


def test_the_target_decides_between_families_that_share_a_class() -> None:
    bare = {"model": {"hidden_size": 8, "num_heads": 2, "position_embedding_type": "alibi"}}
    assert "isn't of a known model family" in detected(bare)
    assert detected(bare, to="hf/gpt2") == "cerebras/gpt2"
    assert detected(bare, to="hf/llama") == "cerebras/llama"
    assert not detected(bare, to="hf").startswith("cerebras/")


def test_a_nameless_config_may_be_what_the_user_says() -> None:
    bare = {"model": {"hidden_size": 8, "num_heads": 2, "position_embedding_type": "alibi"}}
    assert detected(bare, named="cerebras/llama") == "cerebras/llama"
    assert "is not the config of a cerebras/bert checkpoint" in detected({"model": NEOX}, named="cerebras/bert")
    assert "it is one of cerebras/gpt2" in detected({"model": {"name": "gpt2"}}, named="cerebras/llama")


def test_santacoder_has_the_model_type_of_gpt2() -> None:
    assert detected({"model_type": "gpt2", "attention_head_type": "multiquery"}) == "hf/santacoder"
    assert detected({"model_type": "gpt2", "attention_head_type": "multihead"}) == "hf/gpt2"
    assert detected({"model_type": "gpt2"}) == "hf/gpt2"


def test_a_nameless_santacoder_says_nothing_of_its_softmax() -> None:
    shared = {"attention_module": "multiquery_attention", "hidden_size": 8, "use_bias_in_output": False}
    assert detected({"model": shared}) == "cerebras/santacoder"
    assert detected({"model": shared | {"attention_softmax_fp32": True}}) == "cerebras/starcoder"


def test_the_signature_that_demands_more_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two families of one ``model_type``."""
    from msgspec.structs import replace

    from convkit.mappings import layouts
    from convkit.plan import detect

    special = replace(
        layouts()["hf/gpt2"], name="hf/special", signature=({"model_type": "gpt2", "architectures": ["Special"]},)
    )
    monkeypatch.setattr(detect, "layouts", lambda: layouts() | {"hf/special": special})
    assert detected({"model_type": "gpt2", "architectures": ["Special"]}) == "hf/special"
    assert detected({"model_type": "gpt2"}) == "hf/gpt2"
