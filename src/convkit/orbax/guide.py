"""List the methods of v1's ``training.Checkpointer`` that replace those of v0's ``CheckpointManager``.

The table is checked against the installed classes each time; ``documented`` is what the migration guide of the Orbax
project says (``docs/guides/checkpoint/v1/orbax_v0_to_v1_migration.ipynb``, August 2026). Imports Orbax where it is
asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from types import ModuleType
from typing import Any

from convkit.extras import named_extras


@dataclass(frozen=True, slots=True)
class Row:
    """A method of v0, its counterparts as ``Class.attribute`` of v1, and those that the guide names."""

    method: str
    counterparts: tuple[str, ...]
    note: str = ""
    documented: tuple[str, ...] | None = None


#: what the guide says about a method without a counterpart
UNSUPPORTED, COMING = ("unsupported",), ("coming soon",)

TABLE = (
    Row("directory", ("Checkpointer.directory",)),
    Row("all_steps", ("Checkpointer.checkpoints",), "a list with step, metrics and commit time of each"),
    Row("latest_step", ("Checkpointer.latest",), "an entry of checkpoints or None; its .step is the number"),
    Row(
        "best_step",
        ("CheckpointMetadata.metrics",),
        "max(checkpointer.checkpoints, key=lambda c: c.metrics[...]).step",
        ("checkpoints.metrics.best_step",),
    ),
    Row("reload", ("Checkpointer.reload",)),
    Row("reached_preemption", (), "a PreemptionCheckpointingPolicy saves by itself", UNSUPPORTED),
    Row("should_save", ("Checkpointer.should_save",)),
    Row(
        "save",
        (
            "Checkpointer.save",
            "Checkpointer.save_checkpointables",
            "Checkpointer.save_async",
            "Checkpointer.save_checkpointables_async",
        ),
        "one pytree, or several items; metrics are always written",
    ),
    Row(
        "restore",
        (
            "Checkpointer.load",
            "Checkpointer.load_checkpointables",
            "Checkpointer.load_async",
            "Checkpointer.load_checkpointables_async",
        ),
        "load takes the item state (in the official guide: pytree) unless checkpointable_name says another",
    ),
    Row(
        "item_metadata",
        ("Checkpointer.metadata", "Checkpointer.checkpointables_metadata"),
        "a Python bool in the tree makes the first fail and the second say None",
    ),
    Row("metrics", ("CheckpointMetadata.metrics",), "of metadata(step), or of an entry of checkpoints"),
    Row(
        "metadata",
        ("Checkpointer.metadata", "Checkpointer.checkpointables_metadata", "Checkpointer.root_metadata"),
        "root_metadata() for metadata()",
    ),
    Row("delete", ("Checkpointer.delete", "Checkpointer.delete_async"), "", COMING),
    Row("wait_until_finished", ("AsyncResponse.result", "Checkpointer.wait"), "", ("AsyncResponse.result",)),
    Row("check_for_errors", ("AsyncResponse.result",), "raises what went wrong"),
    Row("is_saving_in_progress", ("Checkpointer.is_saving_in_progress",)),
    Row("close", ("Checkpointer.close",)),
)


def guide() -> dict[str, Any]:
    """Check the table against the installed classes: ``release``, ``rows``, and methods missing from the table.

    Raises:
        ConvkitError: Orbax isn't installed.
    """
    with named_extras():
        import orbax.checkpoint as v0
        from orbax.checkpoint.experimental import v1
    there = _public(v0.CheckpointManager)
    known = {row.method for row in TABLE}
    named = {name.partition(".")[2] for row in TABLE for name in row.counterparts if name.startswith("Checkpointer.")}
    return {
        "release": version("orbax-checkpoint"),
        "rows": [_checked(row, v1, row.method in there) for row in TABLE],
        "unknown": sorted(there - known),
        "only_v1": sorted(_public(v1.training.Checkpointer) - named),
    }


def _checked(row: Row, v1: ModuleType, there: bool) -> dict[str, Any]:
    counterparts = {name: _state(v1, name) for name in row.counterparts}
    documented = row.counterparts if row.documented is None else row.documented
    outdated: tuple[str, ...]
    if documented in (UNSUPPORTED, COMING):
        outdated = documented if _THERE in counterparts.values() else ()
    else:
        outdated = tuple(name for name in documented if _state(v1, name) != _THERE)
    return {
        "method": row.method,
        "installed": there,
        "counterparts": counterparts,
        "note": row.note,
        "guide": list(documented),
        "guide_outdated": list(outdated),
    }


_THERE, _ABSENT, _STUB = "there", "absent", "raises NotImplementedError"


def _state(v1: ModuleType, name: str) -> str:
    """Whether the installed release has an attribute that is more than a stub."""
    owner, _, attribute = name.partition(".")
    classes = {
        "Checkpointer": v1.training.Checkpointer,
        "CheckpointMetadata": v1.training.CheckpointMetadata,
        "AsyncResponse": v1.AsyncResponse,
        # an entry of Checkpointer.checkpoints, which is a list
        "checkpoints": list,
    }
    found: Any = classes[owner]
    for part in attribute.split("."):
        if not hasattr(found, part) and part not in getattr(found, "__dataclass_fields__", {}):
            return _ABSENT
        found = getattr(found, part, None)
    if owner == "Checkpointer" and callable(found):
        try:
            found(None)  # without an object, it can only raise an error
        except NotImplementedError:
            return _STUB
        except (TypeError, AttributeError):
            pass
    return _THERE


def _public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}
