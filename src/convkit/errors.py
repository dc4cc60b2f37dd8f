"""The one way in which convkit says no: one line that names the file, the key and the remedy."""

from __future__ import annotations

import os

__all__ = ["ConfigError", "ContradictionError", "ConvkitError", "IncompleteError", "PlanError", "UsageError"]


class ConvkitError(Exception):
    """Input that can't be read, isn't supported, or a plan that isn't total (exit code 3).

    ``str(error)`` is one line: ``path: key: problem (remedy)``, with the parts that are known.
    """

    exit_code = 3

    def __init__(
        self,
        problem: str,
        *,
        path: str | os.PathLike[str] | None = None,
        key: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.problem = problem
        self.path = os.fspath(path) if path is not None else None
        self.key = key
        self.remedy = remedy
        parts = [part for part in (self.path, key, problem) if part]
        text = ": ".join(parts) + (f" ({remedy})" if remedy else "")
        super().__init__(" ".join(text.split()))


class UsageError(ConvkitError):
    """The command was called wrongly (exit code 2)."""

    exit_code = 2


class ConfigError(ConvkitError):
    """A config that can't be expressed on the other side, or contradicts the layout."""


class PlanError(ConvkitError):
    """A plan that isn't total, or a checkpoint that contradicts its config."""


class ContradictionError(PlanError):
    """A field of a config contradicts the tensors beside it; ``key`` is the field."""


class IncompleteError(PlanError):
    """A leaf isn't there though something else says that it must be; ``key`` is the leaf."""
