"""The tables of config classes: transformers' against the installed classes; all of them in themselves."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from convkit.config.classes import ConfigClass
from convkit.mappings.cerebras import hf_classes
from convkit.mappings.cerebras.classes import bert, gpt2, gptj

OURS = [found for module in (hf_classes, bert, gpt2, gptj) for found in vars(module).values()
        if isinstance(found, ConfigClass)]  # fmt: skip
THEIRS = [hf_classes.GPT2_CONFIG, hf_classes.LLAMA_CONFIG, hf_classes.BERT_CONFIG, hf_classes.GPTJ_CONFIG,
          hf_classes.CODEGEN_CONFIG, hf_classes.MISTRAL_CONFIG, hf_classes.MIXTRAL_CONFIG,
          hf_classes.GPT_NEOX_CONFIG]  # fmt: skip


@pytest.mark.parametrize("table", THEIRS, ids=lambda table: table.name)
def test_transformers_has_these_fields_defaults_and_spellings(table: ConfigClass) -> None:
    real = getattr(pytest.importorskip("transformers"), table.name)
    fields = {field.name: field for field in dataclasses.fields(real)}
    assert fields.keys() <= table.fields.keys()
    ours = {name: table.fields[name].default for name in fields}
    assert ours == {name: _default(field) for name, field in fields.items()}
    spellings = {also: name for name, field in table.fields.items() for also in field.also if name in fields}
    assert spellings == {"torch_dtype": "dtype"} | real.attribute_map
    saved = real().to_dict()
    assert saved.keys() <= table.fields.keys()


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


@pytest.mark.parametrize("table", OURS, ids=lambda table: table.name)
def test_a_table_agrees_with_itself(table: ConfigClass) -> None:
    names = [name for field in table.fields.values() for name in field.also] + list(table.fields)
    assert len(names) == len(set(names)), "one name for two fields"
    for name, field in table.fields.items():
        assert not field.beside or field.beside[0] in table.fields, name
        assert not field.until or field.since < field.until, name
        assert [release for release, _ in field.moved] == sorted(release for release, _ in field.moved), name
