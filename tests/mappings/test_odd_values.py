"""Each field of each class, with values as people's files have them: read exactly, or refused by the field's name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from convkit.config import ConfigTable, Constant, Kind
from convkit.config.tree import dig, plant
from convkit.errors import ConfigError
from convkit.mapping.components import PackedTable
from convkit.mappings import all_mappings

ODD = (
    None, True, 0, -1, 1.5, 64.0, 10**30, math.nan, "x", "16", "1e-5", "1e6", "1.0e6", "true", [16], {"a": 1},
)  # fmt: skip
#: what the defaults of transformers' classes don't say
MORE: dict[str, tuple[dict[str, Any], ...]] = {
    "hf/bert": tuple(
        {"architectures": [f"BertFor{task}"], "problem_type": "single_label_classification"}
        for task in ("PreTraining", "SequenceClassification", "TokenClassification")
    ),
    "hf/esm": tuple(
        {"vocab_size": 33, "pad_token_id": 1, "token_dropout": True, "mask_token_id": 32} | more
        for more in ({"position_embedding_type": "rotary"}, {"position_embedding_type": "absolute"})
    ),
    "hf/llama": tuple(
        {"rope_scaling": {"rope_type": kind, "factor": 2.0, "original_max_position_embeddings": 8} | more}
        for kind, more in (
            ("yarn", {"attention_factor": 1.5}),
            ("llama3", {"low_freq_factor": 1.0, "high_freq_factor": 4.0}),
        )
    ),
}


def _tables() -> Iterator[tuple[str, ConfigTable, dict[str, Any]]]:
    """Each table that has classes, with complete configs of its source."""
    for mapping in all_mappings():
        table = mapping.config
        if table.left is None or table.right is None or isinstance(table, PackedTable):
            continue
        if "/dpo-" in mapping.name:  # the rows of the model that DPO trains, which have their own turn
            continue
        fixed = {row.field: row.value for row in table.rows if isinstance(row, Constant) and row.side == "left"}
        for number, more in enumerate(MORE.get(mapping.left.name, ({},))):
            start: dict[str, Any] = {}
            plant(start, table.left_at[0], fixed | more)
            right = table.convert(start).config
            left = table.inverse().convert(right).config
            yield f"{mapping.name}-{number}", table, left if table.left_at[0] else left | more
            yield f"{mapping.name}-{number}-back", table.inverse(), right


#: numbers that no model can have
IMPOSSIBLE = {
    "vocab_size": 0, "num_attention_heads": 0, "n_head": 0, "num_heads": -2, "hidden_size": 0, "n_embd": 0,
    "rope_theta": 0, "rms_norm_eps": -1, "layer_norm_eps": -1e-5, "layer_norm_epsilon": -1, "pos_scaling_factor": -2.0,
    "attention_dropout": 2, "resid_pdrop": 1.5, "hidden_dropout_prob": 2, "dropout_rate": -0.1,
}  # fmt: skip
TABLES = {name: (table, config) for name, table, config in _tables()}


def _changed(config: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The config with another value at a path."""
    name, _, rest = path.partition(".")
    return config | {name: _changed(config.get(name, {}), rest, value) if rest else value}


class Checked:
    """A table with a complete config of its source."""

    def __init__(self, table: ConfigTable, config: dict[str, Any]) -> None:
        run = table.begun(config, {}, ())
        assert run.source.cls is not None
        self.table, self.config = table, config
        self.fields, self.seen, self.section = run.source.cls.fields, run.source.seen, table.section_path(config)

    def outcome(self, path: str, value: Any) -> tuple[str, Any]:
        """What the config with that value becomes, or the field by whose name it is refused."""
        try:
            found = self.table.convert(_changed(self.config, path, value))
        except ConfigError as error:
            assert error.remedy, error
            return "refused", error.key
        names = {name: value for name, value in found.names.items() if not callable(value)}
        return "converted", repr((found.config, names))

    def check(self, name: str, kind: Kind, values: Iterable[Any] = ODD) -> None:
        """Check that each value of a field counts as what its kind reads, or is refused, or counts for nothing."""
        path = f"{self.section}.{name}" if self.section else name
        said = dig(self.config, path)
        meant: dict[str, tuple[str, Any]] = {}
        for value in (*values, str(said), [said]):
            found = self.outcome(path, value)
            try:
                exact = kind.read(value)
            except ValueError:
                assert found[0] == "refused", f"{name} = {value!r} is passed on"
                assert found[1] is not None and found[1].startswith(name), f"{name} = {value!r}: {found}"
                continue
            if repr(exact) not in meant:
                meant[repr(exact)] = found if exact is value else self.outcome(path, exact)
            assert found == meant[repr(exact)], f"{name} = {value!r} isn't taken as {exact!r}"


@pytest.mark.parametrize("name", TABLES)
def test_every_odd_value_is_read_exactly_or_refused_by_name(name: str) -> None:
    checked = Checked(*TABLES[name])
    for path, field in checked.fields.items():
        checked.check(path, field.kind)


@pytest.mark.parametrize("name", TABLES)
def test_every_odd_part_of_a_section_too(name: str) -> None:
    checked = Checked(*TABLES[name])
    section = dig(checked.config, checked.section)
    for path, field in checked.fields.items():
        for part, kind in field.kind.parts if isinstance(section.get(path), dict) else ():
            if part in section[path]:
                checked.check(f"{path}.{part}", kind)


@pytest.mark.parametrize("name", TABLES)
def test_numbers_that_no_model_can_have_are_refused_by_name(name: str) -> None:
    checked = Checked(*TABLES[name])
    at = checked.section
    numbers = {path: IMPOSSIBLE.get(path.rpartition(".")[2]) for path in checked.fields}
    found = {path: checked.outcome(f"{at}.{path}" if at else path, number)
             for path, number in numbers.items() if number is not None}  # fmt: skip
    assert len(found) >= 3
    assert found == {path: ("refused", path) for path in found}
