"""A file that is cut short, replaced or removed after it was opened is one clear line, and never a signal."""

from __future__ import annotations
