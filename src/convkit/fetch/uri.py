"""Parse the URIs of sources, and mask their secrets."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_QUERY_VALUE = re.compile(r"=[^&;]*")


def scheme_of(uri: str) -> str | None:
    """Return the scheme in lower case; None for a plain path.

    >>> scheme_of("S3://bucket/model"), scheme_of("C:/model")
    ('s3', None)
    """
    found = _SCHEME.match(uri)
    return found[1].lower() if found else None


def without_secrets(uri: str) -> str:
    """Mask a URI so that it can be printed and recorded: without user, password, query values and fragment.

    A token may have any name in a query, so every value is masked.

    >>> without_secrets("https://me:pw@host/m.bin?sig=abc&v=1#x")
    'https://host/m.bin?sig=***&v=***'
    """
    parts = urlsplit(uri)
    query = _QUERY_VALUE.sub("=***", parts.query) if "=" in parts.query else "***"
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return f"{shown}?{query}" if parts.query else shown
