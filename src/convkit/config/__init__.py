"""Configs convert by a table, declared once and read both ways, like the tensors."""

from convkit.config.rows import (
    ABSENT,
    REQUIRED,
    Constant,
    Coupled,
    Field,
    Flag,
    Name,
    Refused,
    Rejected,
    Release,
    Row,
    Written,
)
from convkit.config.table import ConfigTable, Converted
from convkit.errors import ConfigError

__all__ = [
    "ABSENT",
    "REQUIRED",
    "ConfigError",
    "ConfigTable",
    "Constant",
    "Converted",
    "Coupled",
    "Field",
    "Flag",
    "Name",
    "Refused",
    "Rejected",
    "Release",
    "Row",
    "Written",
]
