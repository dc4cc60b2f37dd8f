"""Who made a document: which convkit, on which host, called by which command."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from msgspec import UNSET, Struct, UnsetType

import convkit
from convkit.files.uri import hide_secrets
from convkit.version import commit

_COMMAND: ContextVar[str | UnsetType] = ContextVar("command", default=UNSET)


class Maker(Struct, frozen=True, kw_only=True):
    """Release, commit, host and command. There is no command line where convkit was called from Python."""

    convkit: str
    commit: str
    host: str
    command_line: str | UnsetType = UNSET


def maker() -> Maker:
    """Who runs now."""
    return Maker(convkit=convkit.__version__, commit=commit(), host=os.uname().nodename, command_line=_COMMAND.get())


@contextmanager
def called_as(words: Sequence[str]) -> Iterator[None]:
    """Say by which command the documents are made that are written meanwhile; credentials in it are masked."""
    command = shlex.join(hide_secrets(word) for word in words)
    token = _COMMAND.set(command.encode("utf-8", "backslashreplace").decode("utf-8"))  # arguments may be any bytes
    try:
        yield
    finally:
        _COMMAND.reset(token)
