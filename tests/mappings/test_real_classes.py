"""ModelZoo 2.10's own config classes have the fields of our tables, and take every config that we write.

Skipped without their source, which ``CONVKIT_MODELZOO`` names; the tables that are compared with it are committed.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from config_deviations import MODELS, PACKED
from goldens import golden_dir
from modelzoo import Classes, real_classes
from recorded import family as family_of
from test_classes import _tables

from convkit.config import ConfigTable
from convkit.config.classes import ABSENT, REQUIRED, ConfigClass, chosen, every
from convkit.config.tree import dig
from convkit.errors import ConfigError
from convkit.generate import generate
from convkit.mapping import Mapping
from convkit.mappings import all_mappings
from convkit.mappings.cerebras import classes
from convkit.plan import make_plan, open_source

CURRENT = ((2, 9), (2, 10))
#: fields whose default in our tables is another, and why
OTHER_DEFAULTS = {
    "max_position_embeddings": "a validator demands it where there are positions: our table requires it",
    "lr_adjustment_groups": "groups of a BERT's own weights, for training",
}
HERE = Path(__file__).parent.parent.parent
ROWS, KNOWN = HERE / ".test" / "config_families" / "checkpoints.tsv", HERE / "workflow" / "known.json"


@pytest.fixture(scope="module")
def real() -> Iterator[Classes]:
    with real_classes() as found:
        yield found


def is_real(table: ConfigClass | None) -> bool:
    """Whether ModelZoo has the class: some tables say what only its converter writes."""
    return table is not None and "ModelZoo" in table.source and "models/" in table.source


TO_CEREBRAS = [
    mapping
    for mapping in all_mappings()
    if mapping.left.name.startswith("hf/") and any(map(is_real, every(mapping.config.right)))
]
TABLES = [table for table in _tables(classes) if is_real(table)]


def name_of(table: ConfigClass) -> str:
    """``DPOModelConfig of a LlamaModelConfig`` is one class."""
    return table.name.partition(" ")[0]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_table_has_the_fields_and_defaults_of_its_class(table: ConfigClass, real: Classes) -> None:
    fields = real.fields(name_of(table))
    names = {spelling: name for name, field in fields.items() for spelling in (name, field["alias"]) if spelling}
    ours = {name: field for name, field in table.fields.items() if field.in_release(())}
    spelled = {spelling for name, field in ours.items() for spelling in (name, *field.also)}
    assert {spelling.partition(".")[0] for spelling in spelled} == names.keys()
    own = {name: field for name, field in ours.items() if "." not in name}  # not in a class of its own
    stated = {name: field.default for name, field in own.items() if name not in OTHER_DEFAULTS}
    # what follows from other fields is null in the class, and computed when it is checked
    nothing = {name for name, value in stated.items() if value in (REQUIRED, ABSENT) or callable(value)}
    stated |= dict.fromkeys(nothing)
    assert stated == {name: fields[names[name]].get("default") for name in stated}


def sections_of(mapping: Mapping) -> dict[str, dict[str, str]]:
    """What we write of every recorded config of a family, by the class; each section with a case that it is of."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    folder = golden_dir("cerebras_more.tar.xz", "config/") / "config"
    for model, facts in MODELS.items():
        (left, _), parts = PACKED.get(model, ((f"hf/{family_of(model)}", ""), ()))
        if left == mapping.left.name and (path := folder / f"{model}.jsonl").is_file():
            for case in map(json.loads, filter(str.strip, path.read_text().splitlines())):
                if case["dir"] == "hf->cs":
                    given = dict(zip(parts, case["input"], strict=True)) if parts else case["input"]
                    for name, section in written(mapping.config, given, facts):
                        found[name].setdefault(json.dumps(section, sort_keys=True), f"{model}: {case['case']}")
    return found


def written(table: ConfigTable, config: dict[str, Any], facts: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The classes and sections for the current releases; nothing if we refuse the config."""
    for release in CURRENT:
        try:
            converted = table.convert(config, facts, release)
        except ConfigError:
            continue
        cls = chosen(table.right, converted.names)
        if cls is not None and is_real(cls):
            yield name_of(cls), dig(converted.config, table.written_at)


@pytest.mark.golden
@pytest.mark.parametrize("mapping", TO_CEREBRAS, ids=lambda mapping: mapping.name)
def test_the_class_takes_what_we_write_of_recorded_configs(mapping: Mapping, real: Classes) -> None:
    for name, sections in sections_of(mapping).items():
        problems = real.against(name, [json.loads(section) for section in sections])
        refused = {case: problem for case, problem in zip(sections.values(), problems, strict=True) if problem}
        assert not refused


def generated() -> Iterator[tuple[str, str]]:
    """The URIs and targets of the campaign of all families, as far as ModelZoo has the class."""
    known = {mapping.right.name for mapping in TO_CEREBRAS}
    with ROWS.open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["source"].startswith("generated://") and row["to"] in known:
                yield row["source"], row["to"]


@pytest.mark.parametrize(("uri", "to"), list(generated()))
def test_the_class_takes_what_we_write_of_a_generated_model(uri: str, to: str, real: Classes, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    generate(uri, tmp_path / "model")
    with open_source(tmp_path / "model") as source:
        plan = make_plan(source, to)
    table = next(mapping for mapping in TO_CEREBRAS if mapping.right.name == to).config
    cls = chosen(table.right, plan.names)
    assert cls is not None and is_real(cls)
    assert real.against(name_of(cls), [dig(plan.target_config, table.written_at)]) == [[]]


def test_it_notices_what_is_wrong(real: Classes) -> None:
    sections = [{"name": "falcon"}, {"name": "falcon", "rotary_dim": 64, "norm_first": True}, {"name": "llama"}]
    taken, unknown, other = real.against("FalconModelConfig", [{"rotary_dim": 64} | one for one in sections])
    assert taken == [] and "norm_first" in unknown[0] and "name" in other[0]


def test_every_family_that_can_be_generated_is_asked() -> None:
    asked = {uri.partition("://")[2].partition("?")[0] for uri, _ in generated()}
    leads = {mapping.left.name for mapping in TO_CEREBRAS}
    known = json.loads(KNOWN.read_text())["generated"]
    assert asked == {name for name, family in known.items() if family.get("layout") in leads}
