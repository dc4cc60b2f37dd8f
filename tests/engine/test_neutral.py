"""Fields that no row reads: which values have no effect."""

from __future__ import annotations

from typing import Any

import pytest

from convkit.config import COUNT, FLAG, NUMBER, SECTION, TEXT, ClassField, ConfigClass, ConfigError, ConfigTable

HERE = ConfigClass("Here", "here.py", {
    "positions": ClassField(TEXT.or_null, "learned", "learned", also=("position_type",)),
    "window": ClassField(COUNT.or_null, None),
    "theta": ClassField(NUMBER, 10000, beside=("positions", "rotary", "alibi")),
    "alternate": ClassField(FLAG, False, beside=("window",)),
    "experts": ClassField(SECTION.or_null, {}, lambda experts: experts.get("number", 0) < 2),
})  # fmt: skip
TABLE = ConfigTable(left=HERE)


@pytest.mark.parametrize(
    "config",
    [
        {"theta": 500, "positions": "learned"},
        {"theta": 500},  # by default
        {"alternate": True},
        {"experts": {"number": 1}},
        {"experts": {}},
        {"experts": None},
    ],
)
def test_without_an_effect(config: dict[str, Any]) -> None:
    assert TABLE.convert(config).unknown == ()


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"theta": 500, "positions": "rotary"}, "theta"),
        ({"alternate": True, "window": 4}, "alternate"),
        ({"experts": {"number": 4}}, "experts"),
        ({"experts": "four"}, "experts"),
    ],
)
def test_with_an_effect(config: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as refused:
        TABLE.convert(config)
    assert refused.value.key == field
    assert refused.value.remedy


@pytest.mark.parametrize("spelling", ["positions", "position_type"])
def test_the_other_field_is_read_under_any_of_its_names(spelling: str) -> None:
    free = HERE.extended("Free", positions=ClassField(TEXT, "learned", lambda value: True, also=("position_type",)))
    with pytest.raises(ConfigError) as refused:
        ConfigTable(left=free).convert({spelling: "rotary", "theta": 500})
    assert refused.value.key == "theta"
    assert ConfigTable(left=free).convert({spelling: "rotary", "theta": "1e4"}).unknown == ()
