"""JSON in checkpoints and beside them, read within limits: a small text can stand for far more memory than it takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

#: most bytes of a text: as for the header of safetensors, the longest JSON in checkpoints, in its reference
#: implementation
BYTES_LIMIT = 100_000_000
#: most commas and brackets of a text: 260 000 tensors of safetensors, three times as many as the largest models have.
#: Each stands for at most one value more, of 70 to 100 bytes
VALUES_LIMIT = 1 << 21


class OverLimitError(ValueError):
    """A text is longer than what is read, or stands for more values."""


def over_bytes(number: int) -> OverLimitError:
    """The error of a text of so many bytes."""
    return OverLimitError(f"it has {number} bytes, over {BYTES_LIMIT}, the most that are read")


def values_in(text: bytes | str) -> int:
    """Its commas and brackets, thus at least as many as its values, apart from itself."""
    if isinstance(text, str):
        return sum(map(text.count, ",[{"))
    return sum(map(text.count, (b",", b"[", b"{")))


def loads(
    text: bytes | str,
    *,
    object_hook: Callable[[dict[str, Any]], Any] | None = None,
    object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
    halves: bool = False,
) -> Any:
    """What a JSON text says; see :func:`json.loads` for the hooks.

    Args:
        text: the text.
        object_hook: makes a value of an object.
        object_pairs_hook: makes one of its pairs.
        halves: allow escaped halves of a surrogate pair, which stand for the bytes of a file's name that isn't Unicode.

    Raises:
        ValueError: it isn't JSON, isn't Unicode, is nested too deeply, or is over :data:`BYTES_LIMIT` or
            :data:`VALUES_LIMIT` (:class:`OverLimitError`).
    """
    if len(text) > BYTES_LIMIT:
        raise over_bytes(len(text))
    whole = text if isinstance(text, str) else text.decode(json.detect_encoding(text))
    values = values_in(whole)
    if values > VALUES_LIMIT:
        raise OverLimitError(f"it holds {values} values, over {VALUES_LIMIT}, the most that are read")
    try:
        found = json.loads(whole, object_hook=object_hook, object_pairs_hook=object_pairs_hook)
        if not halves and ("\\ud" in whole or "\\uD" in whole):  # half of a pair can neither be printed nor written
            json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return found
