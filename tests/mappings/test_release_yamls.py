"""Yamls from release to release against those recorded from the original, ModelZoo 2.10.0's converter.

Every edge of every recorded model, and some nine hundred yamls made up for it. All that differs is in
``release_yaml_deviations.py``, each with its reason; a line that no case needs any more fails the test too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from goldens import golden_dir
from modelzoo import real_classes
from release_yaml_deviations import DEVIATIONS, GONE, Deviation

from convkit.config.tree import MISSING, dig
from convkit.errors import ConfigError
from convkit.mappings import layouts
from convkit.mappings.cerebras.releases.yaml import KNOWN, yaml_table
from convkit.mappings.cerebras.releases.yamls.classes import MODELS, model_of
from convkit.mappings.cerebras.releases.yamls.document import Document
from convkit.mappings.cerebras.releases.yamls.schedules import CLASSES

#: recorded models that aren't called as our layout; the others are
LAYOUTS = {"codegen": "gptj", "falcon_7b": "falcon", "bert-sequence-classifier": "bert"}
#: names of the original's that convert nothing, and DPO's, which is another mapping
NOT_OURS = ("all", "dpo")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Case:
    model: str
    source: str
    target: str
    name: str
    given: dict[str, Any]
    theirs: dict[str, Any] | None

    @property
    def edge(self) -> str:
        return f"{self.source}>{self.target}"

    @property
    def table(self) -> Any:
        return yaml_table(LAYOUTS.get(self.model, self.model), _release(self.source), _release(self.target))

    def reasons(self, ours: str | dict[str, Any]) -> list[Deviation]:
        return [
            one
            for one in DEVIATIONS
            if fnmatchcase(self.edge, one.edges)
            and fnmatchcase(self.model, one.model)
            and fnmatchcase(self.name, one.case)
            and (one.ours == ours if isinstance(ours, str) or isinstance(one.ours, str) else _fields(one, ours))
        ]


def _release(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def _fields(reason: Deviation, ours: dict[str, Any]) -> set[str]:
    """The fields of which a reason says what we write."""
    assert isinstance(reason.ours, dict)
    return {
        path
        for path, value in ours.items()
        for pattern, said in reason.ours.items()
        if fnmatchcase(path, pattern) and (isinstance(value, said) if isinstance(said, type) else value == said)
    }


def _folder() -> Path:
    return golden_dir("cerebras_more.tar.xz", "upgrade/*/*.yaml", "upgrade/_special/config_cases") / "upgrade"


@cache
def _cases() -> tuple[Case, ...]:
    return (*_made_up(), *_whole(), *_of_checkpoints())


def _made_up() -> Iterator[Case]:
    for line in (_folder() / "_special" / "config_cases.jsonl").read_text().splitlines():
        case = json.loads(line)
        if case["model"] not in NOT_OURS:
            source, target = (case[end].removeprefix("cs-") for end in ("src", "tgt"))
            yield Case(case["model"], source, target, case["case"], case["input"], case.get("output"))


def _whole() -> Iterator[Case]:
    for path in sorted(_folder().glob("*/cs-*__cs-*/*.yaml")):
        model, edge = path.parent.parent.name, path.parent.name
        if model.startswith("_"):
            continue
        found = re.fullmatch(r"cs-([\d.]+)__cs-([\d.]+)(.*)", edge)
        assert found
        given = _read(path.parent.parent / "state" / f"cs-{found[1]}.yaml")
        if found[3] == "-nokeys":
            del given["model"]["pooler_nonlinearity"], given["model"]["mlm_nonlinearity"]
        yield Case(model, found[1], found[2], f"whole{found[3]}", given, _read(path))


def _of_checkpoints() -> Iterator[Case]:
    """The yamls of checkpoints that are particular in something."""
    for path in sorted(_folder().glob("_special/*/*_to_cs-*.yaml")):
        found = re.fullmatch(r"(cs-([\d.]+)-(.*))_to_cs-([\d.]+)", path.stem)
        assert found
        given = _read(_folder() / "_special" / "state" / f"{found[1]}.yaml")
        yield Case("gpt2", found[2], found[4], f"of a checkpoint: {found[3]}", given, _read(path))


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(path.read_text(), _LOADER)
    return found


def _difference(case: Case) -> str | dict[str, Any] | None:
    """What we do otherwise: our values of the fields that differ, by their paths."""
    try:
        ours = case.table.convert(case.given).config
    except ConfigError as error:
        assert error.remedy and error.key, error
        return None if case.theirs is None else "refuse"
    if case.theirs is None:
        return "accept"
    if ("trainer" in ours) != ("trainer" in case.theirs):
        return "form"
    paths = {*_paths(ours), *_paths(case.theirs)}
    mine, theirs = ({path: dig(one, path) for path in paths} for one in (ours, case.theirs))
    return {
        path.removeprefix("trainer.init.model.").removeprefix("model."): GONE if mine[path] is MISSING else mine[path]
        for path in paths
        if mine[path] != theirs[path]
    } or None


def _paths(config: dict[str, Any], at: str = "") -> Iterator[str]:
    for name, value in config.items():
        if isinstance(value, dict) and value:
            yield from _paths(value, f"{at}{name}.")
        else:
            yield f"{at}{name}"


@cache
def _differences() -> tuple[tuple[Case, str | dict[str, Any]], ...]:
    return tuple((case, found) for case in _cases() if (found := _difference(case)) is not None)


@pytest.mark.golden
def test_every_recorded_yaml() -> None:
    assert len(_cases()) > 1000
    unexplained = []
    for case, ours in _differences():
        reasons = case.reasons(ours)
        if isinstance(ours, str):
            left: Any = None if reasons else ours
        else:
            left = {path: ours[path] for path in ours.keys() - {p for one in reasons for p in _fields(one, ours)}}
        if left:
            unexplained.append((case.edge, case.model, case.name, left))
    assert not unexplained, "\n".join(map(str, unexplained))


@pytest.mark.golden
def test_every_deviation_is_needed() -> None:
    needed = {id(reason) for case, ours in _differences() for reason in case.reasons(ours)}
    assert [reason for reason in DEVIATIONS if id(reason) not in needed] == []


@pytest.mark.golden
def test_every_recorded_yaml_comes_back() -> None:
    """With the yaml that was converted: as it was. Alone: as one of its release that goes there and back unchanged."""
    wrong = []
    for case in _cases():
        table = case.table
        try:
            there = table.convert(case.given).config
            back = table.inverse().convert(there).config
        except ConfigError:
            continue
        again = table.inverse().convert(table.convert(back).config).config
        if again != back:
            wrong.append((case.edge, case.model, case.name, "again", _unlike(back, again)))
        table.inverse().respelled(back, case.given)
        if back != case.given:
            wrong.append((case.edge, case.model, case.name, "back", _unlike(case.given, back)))
    assert not wrong, "\n".join(map(str, wrong))


def _unlike(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    paths = {*_paths(one), *_paths(other)}
    return {path: (dig(one, path), dig(other, path)) for path in paths if dig(one, path) != dig(other, path)}


@pytest.mark.golden
def test_a_trainer_becomes_the_yaml_that_it_was_made_of() -> None:
    """From the trainers that the original makes of yamls of 2.2: back to these, which the original can't."""
    tried = 0
    for case in _cases():
        if case.edge != "2.2>2.3" or case.theirs is None or case.name in TRAINER_LOSES:
            continue
        back = case.table.inverse().convert(case.theirs).config
        assert _unlike(_canonical(case.given), _canonical(back)) == {}, case
        tried += 1
    assert tried > 60


#: recorded trainers that don't say all that the yaml did, or that 2.2 can't say
TRAINER_LOSES = {
    *("wandb", "load states list", "logging", "mbs None", "eeh", "extra top section", "extra runconfig key"),
    *(
        "gpt2 legacy model keys",
        "direct",
        "compression",
        "selective_grad",
        "whole",
        "bare",
        "trainer",
        "already trainer",
    ),
    *("adjust lr (mup)", "mup with initializer"),
}


def _canonical(config: dict[str, Any]) -> dict[str, Any]:
    """With the schedulers' names as classes have them, in a list only where there are several."""
    names = {name.lower().removesuffix("lr"): name for name in CLASSES}
    config = json.loads(json.dumps(config))
    rate = config.get("optimizer", {}).get("learning_rate")
    for one in rate if isinstance(rate, list) else [rate]:
        if isinstance(one, dict):
            one["scheduler"] = names[one["scheduler"].lower().removesuffix("lr")]
            one.pop("main_scheduler", None)
    return config


@pytest.mark.golden
def test_the_classes_of_2_10_take_what_an_upgrade_writes() -> None:
    """Of the whole recorded yamls; skipped without ModelZoo's source."""
    written: dict[str, list[dict[str, Any]]] = {}
    for case in _cases():
        if case.name.startswith("whole"):
            family = LAYOUTS.get(case.model, case.model)
            there = yaml_table(family, _release(case.source), (2, 10)).convert(case.given).config
            document = Document(there, family)
            model = model_of(document)
            assert model
            written.setdefault(model.config.name, []).append(document.model)
    with real_classes() as real:
        for name, sections in written.items():
            assert [problem for problem in real.against(name, sections) if problem] == []


def test_every_layout_has_its_classes() -> None:
    of_cerebras = {name.partition("/")[2] for name in layouts() if name.startswith("cerebras/") and "@" not in name}
    assert {name.removeprefix("dpo-") for name in of_cerebras} <= MODELS.keys()


def test_releases_follow_one_another() -> None:
    assert list(KNOWN) == sorted(KNOWN) and KNOWN[0] == (1, 6) and KNOWN[-1] == (2, 10)
