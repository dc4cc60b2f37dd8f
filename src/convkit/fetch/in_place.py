"""Leave a large source on this machine where it lies, and record what it is: :func:`convkit.fetch.fetch`, ``in_place``.

Whoever reads it by its record (:func:`recorded`) learns whether it is still the one that was recorded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from convkit.errors import ConvkitError
from convkit.fetch.local import Local
from convkit.fetch.record import FetchRecord, changes, load
from convkit.fetch.source import Call
from convkit.files.config_file import find_config
from convkit.files.unchanged import State, state_of

#: bytes of a source's files, in all, that are copied although the source could be read where it lies: so few cost
#: little, and what is copied stays
COPIED_UP_TO = 64 << 20


def is_large(local: Local, call: Call) -> bool:
    """Whether a source is read where it lies.

    Raises:
        ConvkitError: it can't be fetched.
    """
    local.listing(call)
    states = (state_of(file) for file in local.files().values())
    return sum(state.size for state in states if state) > COPIED_UP_TO


def recorded(path: Path) -> tuple[Path, dict[Path, State]]:
    """Where the checkpoint of a record lies, and the state of each of its files, which are those that were recorded.

    Raises:
        ConvkitError: the file isn't a record, or a file of the checkpoint was changed since; it is named.
    """
    record = load(path)
    place = _place(record, path)
    states: dict[Path, State] = {}
    for file, how in changes(record, place, states):
        raise ConvkitError(
            f"{how} since it was fetched",
            path=file,
            remedy=f"restore it; or remove {path}, and fetch again",
        )
    return place, states


def _place(record: FetchRecord, path: Path) -> Path:
    """Where the checkpoint of the record at ``path`` lies: a copy lies beside its record, wherever that was moved."""
    if not path.name.endswith(".fetch.json"):
        # records of schema 1 don't name the copy that the workflow made: by the ending of the source's name
        scheme, _, rest = record.uri.rpartition("://")
        suffix = PurePosixPath(urlsplit(rest).path if scheme else rest).suffix
        name = Path(record.path).name if record.path else f"source{suffix}"
    else:
        name = path.name.removesuffix(".fetch.json")
    return record.place(path.parent / name)


def seen(local: Local) -> str:
    """What changes when a local source does: a digest of paths, sizes, times and inodes of its files; none is read.

    The config beside a file counts, as it is read where the file is read in place.

    Raises:
        ConvkitError: it can't be fetched.
    """
    config = None if local.path.is_dir() else find_config(local.path)
    files = local.files() | ({f"../{config.name}": config} if config else {})
    known = [(path, *_said(state_of(file))) for path, file in files.items()]
    return hashlib.sha256(json.dumps(sorted(known)).encode()).hexdigest()


def _said(state: State | None) -> Sequence[int]:
    return (state.size, state.mtime_ns, state.inode) if state else ()
