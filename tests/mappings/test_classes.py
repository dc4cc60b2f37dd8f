"""The tables of config classes: transformers' against the installed classes; all of them in themselves."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

import pytest

from convkit.config.classes import ConfigClass
from convkit.mappings.cerebras import classes, hf_classes
from convkit.mappings.cerebras.hf_classes.hub import HUB


def _tables(package: ModuleType) -> list[ConfigClass]:
    """The tables that the modules of a package declare, each once."""
    modules = [import_module(f"{package.__name__}.{found.name}") for found in iter_modules(package.__path__)]
    found = [one for module in modules for one in vars(module).values() if isinstance(one, ConfigClass)]
    return [*{id(table): table for table in found}.values()]


#: classes of transformers itself; others lie beside models on the hub
THEIRS = [table for table in _tables(hf_classes) if table.source.startswith("transformers")]
OURS = [*_tables(hf_classes), *_tables(classes)]


@pytest.mark.parametrize("table", [one for one in THEIRS if one not in HUB], ids=lambda table: table.name)
def test_transformers_has_these_fields_defaults_and_spellings(table: ConfigClass) -> None:
    real = getattr(pytest.importorskip("transformers"), table.name)
    fields = {field.name: field for field in dataclasses.fields(real)}
    assert fields.keys() <= table.fields.keys()
    ours = {name: table.fields[name].default for name in fields}
    assert ours == {name: _default(field) for name, field in fields.items()}
    spellings = {also: name for name, field in table.fields.items() for also in field.also if name in fields}
    mapped = {"torch_dtype": "dtype"} | real.attribute_map
    assert mapped.items() <= spellings.items()
    for also in spellings.keys() - mapped.keys():  # which the class reads, but never writes
        assert getattr(real(**{also: 7}), spellings[also]) == 7
    saved = real().to_dict()
    assert saved.keys() <= table.fields.keys()


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def test_transformers_has_no_class_of_the_hub() -> None:
    transformers = pytest.importorskip("transformers")
    assert not [table.name for table in HUB if hasattr(transformers, table.name)]


@pytest.mark.parametrize("table", OURS, ids=lambda table: table.name)
def test_a_table_agrees_with_itself(table: ConfigClass) -> None:
    names = [name for field in table.fields.values() for name in field.also] + list(table.fields)
    assert len(names) == len(set(names)), "one name for two fields"
    for name, field in table.fields.items():
        assert not field.beside or field.beside[0] in table.fields, name
        assert not field.until or field.since < field.until, name
        assert [release for release, _ in field.moved] == sorted(release for release, _ in field.moved), name
