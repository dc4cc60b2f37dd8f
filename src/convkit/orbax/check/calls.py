"""The table of the calls in Orbax's two APIs that load a checkpoint or describe it.

The table is what ``convkit orbax check`` shows; :class:`Restoring` picks the calls by which a migrated checkpoint is
restored. ``p`` is the checkpoint's path; ``abs`` and ``abstract`` stand for the stored tree itself, each array with the
sharding of one device, ``abstract np`` for the same with numpy arrays only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any


class Verb(StrEnum):
    """The function or method that is called."""

    IS_CHECKPOINT = "v1.is_orbax_checkpoint"
    LOAD = "v1.load"
    LOAD_ALL = "v1.load_checkpointables"
    METADATA = "v1.metadata"
    METADATA_ALL = "v1.checkpointables_metadata"
    CHECKPOINTER = "v1.training.Checkpointer.load"
    STANDARD = "v0 StandardCheckpointer.restore"
    PYTREE = "v0 PyTreeCheckpointer.restore"
    COMPOSITE = "v0 CompositeCheckpointHandler.restore"
    MANAGER = "v0 CheckpointManager.restore"
    CUSTOM_V0 = "v0 CompositeCheckpointHandler.metadata().custom_metadata"
    CUSTOM_V1 = "v1.checkpointables_metadata().custom_metadata"
    STEPS_V0 = "v0 CheckpointManager.metrics"
    STEPS_V1 = "v1.training.Checkpointer.checkpoints"


class Target(StrEnum):
    """The tree that a call is given: none, the tree with today's devices, or the tree with numpy arrays."""

    STORED = "stored"
    HERE = "here"
    NUMPY = "numpy"


#: the item that ``v1.load`` finds by itself
AUTO = "AUTO"


#: prefix and fixed length of steps' names; "" and 0 for none
StepNames = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Call:
    """One call.

    ``name`` is the item that ``LOAD`` and ``METADATA`` ask for, :data:`AUTO`, or None for a checkpoint without items;
    for ``CHECKPOINTER`` None means all items. ``below`` is the folder under ``p`` that a v0 checkpointer is given.
    ``items`` are those that a call for several asks for, and how: the name of v0's arguments, or for v1 :data:`TREE`
    or None. ``names`` gives a manager the prefix and the length of its steps' names.
    """

    text: str
    verb: Verb
    name: str | None = AUTO
    target: Target = Target.STORED
    below: str = ""
    items: Mapping[str, str | None] = field(default_factory=dict)
    safetensors: bool = False
    names: StepNames = ("", 0)

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> Call:
        """Make a call again from the result of :meth:`to_json`."""
        kinds = {"verb": Verb(found["verb"]), "target": Target(found["target"]), "names": tuple(found["names"])}
        return Call(**{**found, **kinds})

    def to_json(self) -> dict[str, Any]:
        """Write the call as JSON, for another process."""
        return {part.name: getattr(self, part.name) for part in fields(self)} | {"items": dict(self.items)}

    @property
    def api(self) -> str:
        """``v0`` or ``v1``."""
        return self.verb.value[:2]


TREE, STANDARD, PYTREE = "tree", "StandardRestore", "PyTreeRestore"

CALLS = (
    Call("v1.is_orbax_checkpoint(p)", Verb.IS_CHECKPOINT),
    Call("v1.load(p)", Verb.LOAD),
    Call("v1.load(p, checkpointable_name='state')", Verb.LOAD, "state"),
    Call("v1.load(p, checkpointable_name='pytree')", Verb.LOAD, "pytree"),
    Call("v1.load(p, checkpointable_name=None)", Verb.LOAD, None),
    Call("v1.load(p, abstract)", Verb.LOAD, AUTO, Target.HERE),
    Call("v1.load(p, abstract, checkpointable_name='state')", Verb.LOAD, "state", Target.HERE),
    Call("v1.load(p, abstract, checkpointable_name=None)", Verb.LOAD, None, Target.HERE),
    Call("v1.load(p, abstract np)", Verb.LOAD, AUTO, Target.NUMPY),
    Call("v1.load(p, abstract np, checkpointable_name=None)", Verb.LOAD, None, Target.NUMPY),
    Call("v1.load_pytree(p) [deprecated]", Verb.LOAD),
    Call("v1.load_checkpointables(p)", Verb.LOAD_ALL),
    Call(
        "v1.load_checkpointables(p, dict(state=abs))",
        Verb.LOAD_ALL,
        target=Target.HERE,
        items={"state": TREE},
    ),
    Call(
        "v1.load_checkpointables(p, dict(state=abs, my_json_data=None))",
        Verb.LOAD_ALL,
        target=Target.HERE,
        items={"state": TREE, "my_json_data": None},
    ),
    Call(
        "v1.load_checkpointables(p, dict(state=abs, pytree=abs))",
        Verb.LOAD_ALL,
        target=Target.HERE,
        items={"state": TREE, "pytree": TREE},
    ),
    Call("v1.metadata(p)", Verb.METADATA),
    Call("v1.metadata(p, checkpointable_name=None)", Verb.METADATA, None),
    Call("v1.checkpointables_metadata(p)", Verb.METADATA_ALL),
    Call("v1.load(p) with layout=SAFETENSORS", Verb.LOAD, safetensors=True),
    Call("v1.load(p, checkpointable_name=None) layout=SAFETENSORS", Verb.LOAD, None, safetensors=True),
    Call("v1.training.Checkpointer(p).load() (latest)", Verb.CHECKPOINTER, "state"),
    Call("v0 StandardCheckpointer().restore(p)", Verb.STANDARD),
    Call("v0 StandardCheckpointer().restore(p, abs)", Verb.STANDARD, target=Target.HERE),
    Call("v0 PyTreeCheckpointer().restore(p)", Verb.PYTREE),
    Call("v0 PyTreeCheckpointer().restore(p, restore_args=np)", Verb.PYTREE, target=Target.NUMPY),
    Call("v0 PyTreeCheckpointer().restore(p / 'state')", Verb.PYTREE, below="state"),
    Call("v0 Checkpointer(Composite).restore(p)", Verb.COMPOSITE),
    Call(
        "v0 Checkpointer(Composite).restore(p, state=StandardRestore())",
        Verb.COMPOSITE,
        items={"state": STANDARD},
    ),
    Call("v0 CheckpointManager(p).restore(latest)", Verb.MANAGER),
    Call(
        "v0 CheckpointManager(p).restore(latest, Composite(state=StandardRestore()))",
        Verb.MANAGER,
        items={"state": STANDARD},
    ),
)


def of_items(pytrees: Iterable[str], readable: Iterable[str] = ()) -> tuple[Call, ...]:
    """List the table, its calls for each pytree item, and the call that loads all items that v1 can load at once."""
    named = ", ".join(f"{name}=None" for name in readable)
    some = Call(f"v1.load_checkpointables(p, dict({named}))", Verb.LOAD_ALL, items=dict.fromkeys(readable))
    return (*CALLS, *[some] * bool(named), *(call for name in pytrees if name for call in _of_item(name)))


def of_root(pytrees: Iterable[str], names: StepNames | None) -> tuple[Call, ...]:
    """List the table, and its calls for the pytree items of a root's steps and for the names of its steps."""
    every = Call("v1.training.Checkpointer(p).load_checkpointables()", Verb.CHECKPOINTER, None)
    calls = (*CALLS, every, *(call for name in pytrees if name for call in _of_root(name)))
    if names is None or names == ("", 0):
        return calls
    managers = [call for call in calls if call.verb in _MANAGERS]
    return calls + tuple(
        replace(call, text=call.text.replace("(p)", f"(p, {_MANAGERS[call.verb]})", 1), names=names)
        for call in managers
    )


#: placeholders for the names of steps in a call's text: see :func:`spelled`
_MANAGERS = {Verb.CHECKPOINTER: "step_name_format=f", Verb.MANAGER: "options=o"}


def spelled(names: StepNames) -> dict[str, str]:
    """Spell out ``f`` and ``o`` in the calls of a root whose steps have such names."""
    prefix, length = names
    options = ", ".join(
        [f"step_prefix={prefix!r}"] * bool(prefix) + [f"step_format_fixed_length={length}"] * bool(length)
    )
    return {
        "f": f"v1.path.step.standard_name_format({options})",
        "o": f"v0.CheckpointManagerOptions({options})",
    }


def _of_item(name: str) -> Iterable[Call]:
    item = repr(name)
    known = {call.text for call in CALLS}
    calls = (
        Call(f"v1.load(p, checkpointable_name={item})", Verb.LOAD, name),
        Call(f"v1.load(p, abstract, checkpointable_name={item})", Verb.LOAD, name, Target.HERE),
        Call(f"v1.load(p, abstract np, checkpointable_name={item})", Verb.LOAD, name, Target.NUMPY),
        Call(f"v0 PyTreeCheckpointer().restore(p / {item})", Verb.PYTREE, below=name),
        Call(f"v0 PyTreeCheckpointer().restore(p / {item}, restore_args=np)", Verb.PYTREE, None, Target.NUMPY, name),
        Call(f"v0 StandardCheckpointer().restore(p / {item})", Verb.STANDARD, below=name),
    )
    return (call for call in calls if call.text not in known)


def _of_root(name: str) -> Iterable[Call]:
    if name != "state":
        yield Call(f"v1.training.Checkpointer(p).load(checkpointable_name={name!r})", Verb.CHECKPOINTER, name)
    # the one item of a root without named items
    if name == "default":
        for handler in (STANDARD, PYTREE):
            yield Call(f"v0 CheckpointManager(p).restore(latest, {handler}())", Verb.MANAGER, items={"": handler})
        return
    for handler in (STANDARD, PYTREE):
        if (name, handler) != ("state", STANDARD):
            text = f"v0 CheckpointManager(p).restore(latest, Composite({name}={handler}()))"
            yield Call(text, Verb.MANAGER, items={name: handler})


@dataclass(frozen=True)
class Restoring:
    """The calls by which a user restores a checkpoint with one API, ``v0`` or ``v1``."""

    api: str

    def item(self, name: str, arguments: str = "") -> Call:
        """The call that restores one item, "" for a checkpoint without items.

        ``arguments`` is the name of v0's arguments where the item isn't a pytree; v1 needs none.
        """
        if self.api == "v1":
            auto = name == "state"  # v1 prefers it to all others
            return Call(Verb.LOAD.value, Verb.LOAD, AUTO if auto else name)
        if arguments:
            return Call(Verb.COMPOSITE.value, Verb.COMPOSITE, items={name: arguments})
        return Call(Verb.PYTREE.value, Verb.PYTREE, below=name)

    def leaves(self, name: str) -> Call:
        """The call that restores some leaves of a pytree item, if it is given a tree of them."""
        return Call(Verb.LOAD.value, Verb.LOAD, name) if self.api == "v1" else self.item(name)

    def json(self, name: str) -> Call:
        """The call that restores a JSON item, among the items that it returns."""
        if self.api == "v1":
            return Call(Verb.LOAD_ALL.value, Verb.LOAD_ALL, items={name: None})
        return Call(Verb.COMPOSITE.value, Verb.COMPOSITE, items={name: "JsonRestore"})

    def all_items(self) -> Call:
        """The call that restores all items that the checkpoint's own metadata name."""
        verb = Verb.LOAD_ALL if self.api == "v1" else Verb.COMPOSITE
        return Call(verb.value, verb)

    def custom_metadata(self) -> Call:
        """The call that returns the custom metadata of a checkpoint."""
        verb = Verb.CUSTOM_V1 if self.api == "v1" else Verb.CUSTOM_V0
        return Call(verb.value, verb)

    def steps(self, names: StepNames) -> Call:
        """The call that returns a root's steps with their metrics, and the root's custom metadata."""
        verb = Verb.STEPS_V1 if self.api == "v1" else Verb.STEPS_V0
        return Call(verb.value, verb, names=names)
