"""Stores: checkpoints that are read by ranges where they lie, behind a URI, without a local copy.

:func:`place` makes of ``s3://bucket/model`` a :class:`~convkit.files.stores.path.StorePath`, which readers use as any
other path. What looks a store up, lists it and reads ranges is a :class:`~convkit.files.stores.store.Store`: fsspec's
drivers (:mod:`.objects`) or a web server (:mod:`.web`). Bytes of tensors come through a bounded cache (:mod:`.blocks`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from convkit.checkpoint.source_files import Ranged
from convkit.errors import UsageError
from convkit.files.uri import scheme_of, without_secrets

if TYPE_CHECKING:
    from convkit.files.stores.path import StorePath

#: schemes that name no store: what they name lies on this machine, or is made
_HERE = (None, "file", "package", "generated")
#: schemes of stores that are written to
_WRITTEN = ("s3", "gs")


def place(text: str) -> Path:
    """What an argument names: something in a store for a URI, else a plain path.

    Nothing is looked up yet, except the commit of a branch of the Hugging Face Hub: it counts from here on.

    Raises:
        UsageError: the URI is malformed, or of a scheme that isn't known.
        ConvkitError: the Hub doesn't say the commit.
    """
    if scheme_of(text) in _HERE:
        return Path(text)
    from convkit.files.stores.path import opened

    return opened(text)


def in_store(path: Any) -> TypeGuard[StorePath]:
    """Whether a path leads into a store; nothing of stores is imported for one that doesn't."""
    return isinstance(path, Ranged)


def target_place(text: str) -> Path:
    """What an argument names as the place of an output: as :func:`place`, in a store that can be written to.

    Raises:
        UsageError: it can't, or the URI is malformed.
    """
    if scheme_of(text) not in (*_HERE, *_WRITTEN):
        raise UsageError(
            f"outputs aren't written to {scheme_of(text)}://",
            path=without_secrets(text),
            remedy="write to a folder, or to s3:// or gs://, and copy it there",
        )
    found = place(text)
    if in_store(found) and "/" not in found.inside:
        raise UsageError("is a whole bucket", path=str(found), remedy=f"write {scheme_of(text)}://bucket/name")
    return found


def path_here(text: str) -> Path:
    """What an argument names on this machine.

    Raises:
        UsageError: it is a URI of a store.
    """
    if scheme_of(text) not in _HERE:
        raise UsageError("is in a store", path=without_secrets(text), remedy="name a file or folder of this machine")
    return Path(text)
