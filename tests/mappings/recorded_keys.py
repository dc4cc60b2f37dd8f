"""All keys that the original converter met, against which every family's rules are checked."""

from __future__ import annotations

import re
from pathlib import Path

from keys_only import carried, claimants
from recorded import BUFFERS, Recorded, arrays, cerebras

from convkit.mapping import Mapping, inverse
from convkit.mappings import find_mapping
from convkit.plan import Plan, make_plan, open_source

_MATCHED = re.compile(r"Matched (\S+) -> (\S+) action: (\S+)")


def mapping_of(family: str) -> Mapping:
    """From Hugging Face to Cerebras."""
    return find_mapping(f"hf/{family}", cerebras(family))


def check_inverse(family: str) -> None:
    """Inverting twice changes nothing."""
    mapping = mapping_of(family)
    assert inverse(inverse(mapping)) == mapping
    assert inverse(mapping) != mapping


def check_keys(case: Recorded) -> None:
    """Every key of a recorded checkpoint, source or result, is claimed by exactly one rule."""
    there, back = mapping_of(case.family), inverse(mapping_of(case.family))
    for file in ("model.safetensors", "pytorch_model.bin"):
        if (case.hf / file).exists():
            plan = _plan(case.hf / file, cerebras(case.family))
            for key in plan.source_leaves:
                assert len(claimants(there, plan.names, key)) == 1, key
    for key in arrays(case.to_hf / "flat.npz"):
        assert len(claimants(there, plan.names, key)) == 1, key
    for key in arrays(case.to_cerebras / "flat.npz"):
        assert len(claimants(back, plan.names, key)) == 1, key


def check_pairs(case: Recorded) -> None:
    """What the original's log says went where, goes there."""
    there = carried(_plan(case.hf / "pytorch_model.bin", cerebras(case.family)))
    mdl = case.mdl()
    assert mdl is not None
    back = carried(_plan(mdl, f"hf/{case.family}"))
    for folder, pairs, before, after in ((case.to_cerebras, there, "", "model."), (case.to_hf, back, "model.", "")):
        matched = [found for found in map(_MATCHED.match, _log(folder)) if found and "." in found[1]]
        assert len(matched) > 20
        for source, target, action in (found.groups() for found in matched):
            if action != "None" and not target.endswith(BUFFERS):
                assert (before + source, after + target) in pairs


def _log(folder: Path) -> list[str]:
    return (folder / "mapping.txt").read_text().splitlines()


def _plan(source: Path, to: str) -> Plan:
    with open_source(source) as opened:
        return make_plan(opened, to)
