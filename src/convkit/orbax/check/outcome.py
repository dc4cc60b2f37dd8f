"""The answer of an Orbax call: a value, or an error with its causes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: the result of a call that returns
OK = "OK"


class OrbaxError(Exception):
    """An error that Orbax would raise: the name of its class, and the reason in convkit's words."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a call: :data:`OK` and a value, or the error's class and its causes.

    ``value`` describes what the call returns: a tree of dicts and lists with a leaf's kind, dtype and shape at its
    leaves, such as ``jax.Array int32[8]``. ``causes`` gives class and reason of the
    error, then of each error that caused it.
    """

    result: str
    value: Any = None
    causes: tuple[tuple[str, str], ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the call returns."""
        return self.result == OK


def outcome(call: Callable[[], Any]) -> Outcome:
    """Run a rule and return its answer: its value, or the error that it raises."""
    try:
        return Outcome(OK, call())
    except OrbaxError as error:
        causes = []
        cause: BaseException | None = error
        while isinstance(cause, OrbaxError):
            causes.append((cause.kind, str(cause)))
            cause = cause.__cause__
        return Outcome(error.kind, causes=tuple(causes))
