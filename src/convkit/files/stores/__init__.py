"""Stores: checkpoints that are read by ranges where they lie, behind a URI, without a local copy.

:func:`place` makes of ``s3://bucket/model`` a :class:`~convkit.files.stores.path.StorePath`, which readers use as any
other path. What looks a store up, lists it and reads ranges is a :class:`~convkit.files.stores.store.Store`: fsspec's
drivers (:mod:`.objects`) or a web server (:mod:`.web`). Bytes of tensors come through a bounded cache (:mod:`.blocks`).
"""

from __future__ import annotations

from pathlib import Path

from convkit.files.uri import scheme_of

#: schemes that name no store: what they name lies on this machine, or is made
_HERE = (None, "file", "package", "generated")


def place(text: str) -> Path:
    """What an argument names: something in a store for a URI, else a plain path. Nothing is looked up yet.

    Raises:
        UsageError: the URI is malformed, or of a scheme that isn't known.
    """
    if scheme_of(text) in _HERE:
        return Path(text)
    from convkit.files.stores.path import opened

    return opened(text)
