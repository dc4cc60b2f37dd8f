"""Configs convert by a table, declared once and read both ways, like the tensors.

:class:`ConfigTable` holds rows between two classes. A :class:`ConfigClass` says once what a framework's config class
has: the fields, what they may hold (:class:`Kind`), their defaults and spellings by release.
"""

from convkit.config.answer import Answer, Deviation
from convkit.config.classes import (
    ABSENT,
    EVERY_VALUE,
    ITS_DEFAULT,
    OF_CLASS,
    REQUIRED,
    Classes,
    ClassField,
    ConfigClass,
    Release,
    free,
)
from convkit.config.conversion import Converted
from convkit.config.rows import (
    Constant,
    Coupled,
    Field,
    Flag,
    Name,
    Rest,
    Row,
    Written,
)
from convkit.config.table import ConfigTable
from convkit.config.values import (
    AMOUNT,
    ANYTHING,
    COUNT,
    FLAG,
    LIST,
    NUMBER,
    POSITIVE,
    RATE,
    SECTION,
    TEXT,
    WHOLE,
    Kind,
)
from convkit.errors import ConfigError

__all__ = [
    "ABSENT",
    "AMOUNT",
    "ANYTHING",
    "COUNT",
    "EVERY_VALUE",
    "FLAG",
    "ITS_DEFAULT",
    "LIST",
    "NUMBER",
    "OF_CLASS",
    "POSITIVE",
    "RATE",
    "REQUIRED",
    "SECTION",
    "TEXT",
    "WHOLE",
    "Answer",
    "ClassField",
    "Classes",
    "ConfigClass",
    "ConfigError",
    "ConfigTable",
    "Constant",
    "Converted",
    "Coupled",
    "Deviation",
    "Field",
    "Flag",
    "Kind",
    "Name",
    "Release",
    "Rest",
    "Row",
    "Written",
    "free",
]
