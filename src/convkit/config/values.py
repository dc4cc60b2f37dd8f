"""What a field may hold, and how the spellings that people's files use for it are read.

A number may come as text (``'16'``) or in a form that YAML 1.1 takes for text (``1e-5``, ``1e6``), an integer as
``64.0``. Each is read as the number where that is exact. What can't be a value of the field is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True)
class Kind:
    """A type of values. ``least`` and ``most`` bound numbers (inclusive); ``null`` says that None is a value."""

    what: Literal["whole number", "number", "boolean", "text", "section", "list", "anything"]
    least: float | None = None
    most: float | None = None
    null: bool = False

    @property
    def or_null(self) -> Kind:
        """The same kind, with None as a value."""
        return replace(self, null=True)

    def read(self, value: Any) -> Any:
        """The value that a config's spelling stands for.

        Raises:
            ValueError: it stands for no value of this kind; the message says why.
        """
        raise NotImplementedError


#: a size: 1, 2, ...
COUNT = Kind("whole number", least=1)
WHOLE = Kind("whole number")
#: finite
NUMBER = Kind("number")
#: a probability, such as a dropout rate
RATE = Kind("number", least=0, most=1)
FLAG = Kind("boolean")
TEXT = Kind("text")
SECTION = Kind("section")
LIST = Kind("list")
ANYTHING = Kind("anything", null=True)
