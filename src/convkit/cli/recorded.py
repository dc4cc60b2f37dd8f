"""A source that is named by the record of its fetch: ``results/llama/fetch.json``, ``llama.fetch.json``."""

from __future__ import annotations

import argparse
from pathlib import Path

#: the arguments that name what a command reads
_SOURCES = ("source", "path", "checkpoint_path", "old_checkpoint")


def look_up(args: argparse.Namespace) -> None:
    """Put the place of the checkpoint where the arguments name the record of its fetch.

    ``args.watch`` then knows its files, which are those that were recorded; it is None where no record is named.

    Raises:
        ConvkitError: the record can't be read, or the checkpoint was changed since; the file is named.
    """
    args.watch = None
    for name in _SOURCES:
        path = getattr(args, name, None)
        if isinstance(path, Path) and f".{path.name}".endswith(".fetch.json") and path.is_file():
            from convkit.fetch import recorded
            from convkit.fetch.streamed import is_stream, recorded_in_store
            from convkit.files.unchanged import Watch

            if is_stream(path):
                setattr(args, name, recorded_in_store(path))
                continue
            place, states = recorded(path)
            setattr(args, name, place)
            args.watch = Watch(place, states)
