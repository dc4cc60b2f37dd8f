"""Find what Orbax gets wrong about a checkpoint without an error or reports misleadingly, with remedies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from convkit.orbax.check import folder
from convkit.orbax.check.calls import CALLS, Call, Verb, spelled
from convkit.orbax.check.outcome import Outcome
from convkit.orbax.check.tree_findings import of_tree
from convkit.state.orbax import handlers, layout, root, step
from convkit.state.orbax.layout import Found, Item

_MIGRATE = "convkit orbax migrate"


@dataclass(frozen=True, slots=True)
class Finding:
    """A fact that users should know. ``where`` is a path below the checkpoint, "" for the checkpoint itself."""

    where: str
    what: str
    remedy: str


def of_checkpoint(found: Found, devices: int = 1) -> list[Finding]:
    """Findings on a step, a direct checkpoint or an item."""
    findings = [*_unfinished(found.path), *_hidden(found.path), *_items(found)]
    for name, item in sorted(found.pytrees.items()):
        if item.path.is_dir():
            findings += [Finding(name, what, remedy) for what, remedy in of_tree(item.path, devices)]
    return findings


def of_root(found: Found, steps: Mapping[Path, Found], devices: int = 1) -> list[Finding]:
    """Findings on a root and its steps; a finding that several steps share is given once."""
    findings = [*_unfinished(found.path), *_names(found)]
    shared: dict[Finding, list[str]] = defaultdict(list)
    for path, checkpoint in steps.items():
        for finding in of_checkpoint(checkpoint, devices):
            shared[finding].append(path.name)
    for finding, names in shared.items():
        below = f"{names[0]}..{names[-1]}" if len(names) > 1 else names[0]
        where = f"{below}/{finding.where}" if finding.where else below
        findings.append(Finding(where, finding.what, finding.remedy))
    return findings


def of_calls(calls: Sequence[Call], outcomes: Sequence[Outcome]) -> list[Finding]:
    """Findings on calls that succeed without loading anything."""
    findings = []
    by_text = dict(zip((call.text for call in calls), outcomes, strict=True))
    for call, outcome in zip(calls, outcomes, strict=True):
        if call.verb in (Verb.LOAD_ALL, Verb.COMPOSITE) and outcome.ok and not outcome.value:
            findings.append(Finding("", f"{call.text} returns nothing, without an error", "treat it as a failure"))
        if call.verb is Verb.METADATA and outcome.ok and outcome.value is None:
            what = f"{call.text} returns None, without an error: it can't read the item's metadata"
            findings.append(Finding("", what, "treat it as a failure"))
    loading = [by_text[call.text] for call in CALLS if call.verb is Verb.LOAD and not call.safetensors]
    if by_text[CALLS[0].text].value is True and not any(outcome.ok for outcome in loading):
        what = f"{CALLS[0].text} says True, but v1.load loads nothing of it"
        findings.append(Finding("", what, "don't detect checkpoints by it"))
    return findings


def _unfinished(path: Path) -> Iterator[Finding]:
    if not path.is_dir():
        return
    for entry in sorted(path.iterdir()):
        if any(mark in entry.name for mark in layout.UNFINISHED):
            yield Finding(entry.name, "is an unfinished save", "remove it, once no program writes it")


def _hidden(path: Path) -> Iterator[Finding]:
    hidden = step.deleted_item(path)
    if hidden:
        what = "its deletion began and didn't finish: v1 refuses it, and v0 may load the rest"
        yield Finding(hidden, what, f"v1.delete(p, checkpointable_name={hidden!r}) ends it")


def v1_loads(item: Item) -> bool:
    """Whether v1 loads an item of a checkpoint given only its name."""
    undeclared = item.kind == handlers.JSON and item.handler is None
    return item.kind not in (handlers.RANDOM_KEY, handlers.PROTO, handlers.METRICS, handlers.UNKNOWN) and not undeclared


def _items(found: Found) -> Iterator[Finding]:
    unreadable = [item.name for item in found.items.values() if not v1_loads(item) and item.kind != handlers.METRICS]
    for name, item in sorted(found.items.items()):
        match item.kind:
            case handlers.RANDOM_KEY:
                yield Finding(name, "is a random key's item: v1 has no handler for it", f"{_MIGRATE} --to v1")
            case handlers.ARRAY:
                what = f"is an ArraySave item: v1 loads a dict, {{'{layout.AGGREGATE}': array}}"
                yield Finding(name, what, f"{_MIGRATE} --to v1")
            case handlers.PROTO:
                yield Finding(name, "is a message: the call needs its class", f"dict({name}=MessageClass)")
            case handlers.JSON if item.handler is None:
                yield Finding(name, "no metadata says that it is JSON: v1 reads it as a pytree", f"{_MIGRATE} --to v1")
            case handlers.JSON if item.file and item.file.name == "data.json":
                what = "is data.json, which v0 doesn't look for"
                yield Finding(name, what, "JsonCheckpointHandler(filename='data.json')")
            case _:
                pass
    if unreadable and len(found.items) > len(unreadable):
        what = f"{', '.join(unreadable)}: v1.load_checkpointables(p) fails for all items because of it"
        yield Finding("", what, "ask for the others by name")


def _names(found: Found) -> Iterator[Finding]:
    default = set(folder.steps(found.path).values())
    lost = [path for path in found.steps if path not in default and path.is_dir()]
    groups: dict[str, list[str]] = defaultdict(list)
    for path in lost:
        name = root.parse_step(path.name)
        groups[name.prefix if name else ""].append(path.name)
    for names in groups.values():
        form = root.common_format(names)
        what = f"{len(names)} steps ({_some(names)}) aren't found by their names"
        shown = spelled(form)["f"] if form else "no single format finds them: v1.path.step.composite_name_format"
        yield Finding("", what, f"step_name_format={shown}" if form else shown)


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} .. {names[-1]}"
