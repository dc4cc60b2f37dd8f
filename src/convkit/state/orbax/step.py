"""``_CHECKPOINT_METADATA``: which handlers wrote a checkpoint's items, when, and what the user added.

Source: orbax-checkpoint 0.12.8 ``_src/metadata/step_metadata_serialization.py``. Every field is optional: 0.5.23 wrote
only the two times, 0.11.5 named ``custom_metadata`` ``custom``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convkit.errors import ConvkitError
from convkit.state.json_object import read_object

FILE = "_CHECKPOINT_METADATA"
#: marks a checkpoint of the v1 API; empty
INDICATOR = "orbax.checkpoint"
#: marks a save as complete; its text holds the path at that time
COMMIT = "commit_success.txt"
#: v1's record of an item that is being deleted, and counts as gone
DELETION = "_CHECKPOINT_DELETION"

_TIMES = ("init_timestamp_nsecs", "commit_timestamp_nsecs")
_HANDLERS, _CUSTOM, _OLD_CUSTOM = "item_handlers", "custom_metadata", "custom"


@dataclass(frozen=True, slots=True)
class StepMetadata:
    """The file's object, unknown fields included, in its order."""

    fields: Mapping[str, Any]

    @property
    def handlers(self) -> dict[str, str] | str | None:
        """The handler of each item; or the one of a checkpoint without items; None if the file doesn't say."""
        return self.fields.get(_HANDLERS)

    @property
    def times(self) -> set[int]:
        """When it was begun and completed, in nanoseconds since 1970."""
        found = {self.fields.get(name) for name in _TIMES}
        return {one for one in found if isinstance(one, int)}

    @property
    def custom_metadata(self) -> dict[str, Any]:
        """What the user stored with the checkpoint."""
        return self.fields.get(_CUSTOM) or self.fields.get(_OLD_CUSTOM) or {}

    def with_handlers(self, handlers: Mapping[str, str] | str) -> StepMetadata:
        """A copy with other handlers, which come first."""
        return StepMetadata({_HANDLERS: handlers, **{k: v for k, v in self.fields.items() if k != _HANDLERS}})

    def with_time(self, nanoseconds: int) -> StepMetadata:
        """A copy that was begun and completed at another time."""
        return StepMetadata({**self.fields, **dict.fromkeys(_TIMES, nanoseconds)})

    @staticmethod
    def new(handlers: Mapping[str, str] | str, earlier: Mapping[str, Any], started: int, finished: int) -> StepMetadata:
        """All fields that Orbax 0.12 writes, with values of ``earlier`` where it has them; times in nanoseconds."""
        fresh = {"metrics": {}, "performance_metrics": {}, "init_timestamp_nsecs": started}
        fields = {**fresh, "commit_timestamp_nsecs": finished, _CUSTOM: earlier.get(_OLD_CUSTOM) or {}, **earlier}
        fields.pop(_OLD_CUSTOM, None)
        return StepMetadata(fields).with_handlers(handlers)

    def dumps(self) -> bytes:
        """The text of the file."""
        return json.dumps(dict(self.fields)).encode()


def committed(path: Path) -> bytes:
    """The text of :data:`COMMIT` in a folder of this path."""
    return f"Checkpoint commit was successful to {path}".encode()


def read(folder: Path) -> StepMetadata | None:
    """The metadata of a checkpoint; None if it has none.

    Raises:
        ConvkitError: not what Orbax writes.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    found = read_object(path)
    handlers = found.get(_HANDLERS)
    entries = handlers.values() if isinstance(handlers, dict) else [handlers]
    if not all(entry is None or isinstance(entry, str) for entry in entries):
        raise ConvkitError("names no handlers", path=path, key=_HANDLERS, remedy="fetch the file again")
    if isinstance(handlers, dict):
        found[_HANDLERS] = {name: typestr for name, typestr in handlers.items() if typestr}
    return StepMetadata(found)


def deleted_item(folder: Path) -> str | None:
    """The item hidden by an unfinished v1 deletion, if any."""
    path = folder / DELETION
    return read_object(path).get("checkpointable_name") if path.is_file() else None
