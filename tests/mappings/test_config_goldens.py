"""Configs against some two thousand conversions recorded from the original, ModelZoo 2.10.0's converter.

Rule: every value that the original writes, we write; we may write more. Where the original refuses, we
refuse. All that differs is in ``DEVIATIONS``, each with its reason; a line that no case needs any more
fails the test too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import pytest
from config_deviations import DEVIATIONS, LEFT_OUT, MODELS, PACKED, RECORDED, Deviation
from config_deviations.dpo import POLICIES
from goldens import golden_dir
from mappings.test_llava import flat
from recorded import cerebras, with_ours
from recorded import family as family_of

from convkit.config import ConfigTable
from convkit.errors import ConfigError
from convkit.mappings import find_mapping

pytestmark = pytest.mark.golden


@dataclass(frozen=True)
class Difference:
    model: str
    case: str
    release: str
    ours: str | dict[str, Any]
    theirs: Any
    #: the model that DPO trains
    policy: str = ""

    def reasons(self) -> list[Deviation]:
        """The deviations that apply."""
        return [
            deviation
            for model in filter(None, (self.model, self.policy))
            for deviation in DEVIATIONS[model]
            if fnmatchcase(model, deviation.model)
            and fnmatchcase(self.case, deviation.case)
            and fnmatchcase(self.release, deviation.releases)
            and self._has(deviation.ours)
        ]

    def _has(self, ours: str | dict[str, Any]) -> bool:
        if isinstance(ours, str) or isinstance(self.ours, str):
            return self.ours == ours
        return all(key in self.ours and self.ours[key] == value for key, value in ours.items())

    def explained(self) -> bool:
        """Whether they explain all of it."""
        reasons = self.reasons()
        if isinstance(self.ours, str):
            return bool(reasons)
        return self.ours.keys() == {key for reason in reasons for key in reason.ours}


@pytest.mark.parametrize("model", MODELS)
def test_every_recorded_conversion(model: str) -> None:
    unexplained = [found for found in _differences(model) if not found.explained()]
    assert not unexplained, "\n".join(map(str, unexplained))


def test_every_deviation_is_needed() -> None:
    needed = {id(reason) for model in MODELS for found in _differences(model) for reason in found.reasons()}
    declared = {id(deviation): deviation for own in DEVIATIONS.values() for deviation in own}
    assert [deviation for one, deviation in declared.items() if one not in needed] == []


@cache
def _differences(model: str) -> tuple[Difference, ...]:
    path = golden_dir("cerebras_more.tar.xz", "config/") / "config" / f"{model}.jsonl"
    cases = [json.loads(line) for line in path.read_text().splitlines() if line]
    assert cases
    if model != "dpo":
        return tuple(found for case in cases for found in _compare(model, case))
    return tuple(
        replace(found, model=model, policy=policy)
        for case in cases
        if (policy := case["case"].partition("/")[0]) in POLICIES and policy in MODELS
        for found in _compare(policy, case, model)
    )


def _compare(model: str, case: dict[str, Any], trained: str = "") -> Iterator[Difference]:
    family = family_of(model)
    layout = cerebras(family).replace("/", f"/{trained}-") if trained else cerebras(family)
    way, parts = PACKED.get(model, ((f"hf/{family}", layout), ()))
    table = find_mapping(*way).config
    if parts:  # the recorded configs of transformers' side are those of the parts, one after another
        apart = [key for key in ("input", "output", "back") if isinstance(case.get(key), list)]
        case = case | {key: dict(zip(parts, case[key], strict=True)) for key in apart}
    facts = MODELS[model]
    back_facts = {name: value for name, value in facts.items() if name not in ("qa", "hf")}
    back_facts["headless"] = model.endswith("headless")
    name = case["case"].partition("/")[2]
    if case["dir"] == "hf->cs":
        release = case["tgt"].removesuffix("-dpo")
        theirs = case["output"]["model"] if "output" in case else None
        ours = _run(table, case["input"], facts, release)
        ours = ours if isinstance(ours, str) else RECORDED[model](ours)
        yield from _difference(model, name, release, theirs, ours)
        if "back" in case:
            ours = _run(table.inverse(), case["output"], back_facts, release)
            yield from _difference(model, f"back: {name}", release, case["back"], ours)
    else:
        release = case["src"].removesuffix("-dpo")
        ours = _run(table.inverse(), case["input"], back_facts, release)
        yield from _difference(model, name, release, case.get("output"), ours)


def _run(table: ConfigTable, config: dict[str, Any], facts: dict[str, Any], release: str) -> dict[str, Any] | str:
    parsed = tuple(int(part) for part in release.removeprefix("cs-").split("."))
    try:
        out = table.convert(config, facts, parsed).config
    except ConfigError as error:
        assert error.remedy, error
        return str(error)
    return out if table.reverse else out["model"]


def _difference(
    model: str, case: str, release: str, theirs: dict[str, Any] | None, ours: dict[str, Any] | str
) -> Iterator[Difference]:
    if isinstance(ours, str):
        if theirs is not None:
            yield Difference(model, case, release, "refuse", ours)
        return
    if theirs is None:
        yield Difference(model, case, release, "accept", None)
        return
    if model in PACKED:
        theirs, ours = (dict(flat(one)) for one in (theirs, ours))
    told = {key: value for key, value in theirs.items() if key.rpartition(".")[2] not in LEFT_OUT[model]}
    told = with_ours(told)
    wrong = [key for key, value in told.items() if key not in ours or not _same(value, ours[key])]
    if wrong:
        found = {(key.rpartition(".")[2] if model in PACKED else key): ours.get(key) for key in wrong}
        yield Difference(model, case, release, found, told)


def _same(one: Any, other: Any) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)
