"""Parse the URIs of sources, and mask their secrets: the user, the password, and every value of a query.

A token may have any name in a query, so every value is masked. The options of ``generated://`` aren't masked: they
say which model is made.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import unquote

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
#: a URI inside a text, without what ends the sentence or the quotation around it
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*?(?=[:;,.)\]}'\"]*(?:\s|$))")
_SUFFIX = re.compile(r"\.[A-Za-z0-9_]{1,20}")
_QUERY_PART = re.compile(r"[^&;]+")
#: a host, perhaps with a port; else it may be a password that should have been percent-encoded
_HOST = re.compile(r"(\[[^\]@]*\]|[^:@]*)(:\d*)?")
#: the shortest secret that is looked for in other programs' words: shorter ones are there by chance
_SHORTEST = 3


def scheme_of(uri: str) -> str | None:
    """Return the scheme in lower case; None for a plain path.

    >>> scheme_of("S3://bucket/model"), scheme_of("C:/model")
    ('s3', None)
    """
    found = _SCHEME.match(uri)
    return found[1].lower() if found else None


def suffix_of(uri: str) -> str:
    """The ending of the name of what a URI or a path leads to; nothing where it has none, or one that no format has.

    >>> suffix_of("https://host/m.mdl?v=1.2"), suffix_of("hf://org/model-2.5b-chat@v1"), suffix_of("m.bin")
    ('.mdl', '', '.bin')
    """
    path = _parts(uri)[1] if scheme_of(uri) else uri
    suffix = PurePosixPath(path).suffix
    return suffix if _SUFFIX.fullmatch(suffix) else ""


def without_secrets(uri: str) -> str:
    """Mask a URI so that it can be printed and recorded: without user, password, query values and fragment.

    A plain path is returned as it is.

    >>> without_secrets("https://me:pw@host/m.bin?sig=abc&v=1#x")
    'https://host/m.bin?sig=***&v=***'
    """
    scheme = scheme_of(uri)
    if scheme in (None, "generated"):
        return uri
    authority, path, query, fragment = _parts(uri)
    host = authority.rpartition("@")[2]
    if scheme == "hf" and ":" not in authority:
        host = authority  # the @ names a revision, not a user
    shown = f"{uri.partition('://')[0]}://"
    if not _HOST.fullmatch(host.rpartition("@")[2]) or "@" in query + fragment:
        return f"{shown}***"
    masked = _QUERY_PART.sub(lambda part: f"{part[0].partition('=')[0]}=***" if "=" in part[0] else "***", query)
    return f"{shown}{host}{path}?{masked}" if query else f"{shown}{host}{path}"


def hide_secrets(text: str) -> str:
    """Mask every URI in a text.

    >>> hide_secrets("https://me:pw@host/m?sig=abc: access denied")
    'https://host/m?sig=***: access denied'
    """
    return _URI.sub(lambda found: without_secrets(found[0]), text)


def hide_secrets_of(uri: str, text: str) -> str:
    """Mask every URI in a text, and the secrets of one wherever else another program put them.

    >>> hide_secrets_of("s3://me:passw@bucket/m", "invalid bucket name me:passw@bucket")
    'invalid bucket name ***@bucket'
    """
    authority, _, query, _ = _parts(uri) if scheme_of(uri) not in (None, "generated") else ("", "", "", "")
    user = authority.rpartition("@")[0]
    values = [value if sign else name for name, sign, value in (p.partition("=") for p in _QUERY_PART.findall(query))]
    parts = [*user.split(":"), *values]
    secrets = {user} | {form for part in parts for form in (part, unquote(part)) if len(form) >= _SHORTEST}
    hidden = hide_secrets(text)
    for secret in sorted(secrets - {""}, key=len, reverse=True):
        hidden = hidden.replace(secret, "***")
    return hidden


def _parts(uri: str) -> tuple[str, str, str, str]:
    """Authority, path, query and fragment of a URI: unlike urllib, for any text, without changing a character."""
    rest, _, fragment = uri.partition("://")[2].partition("#")
    before, _, query = rest.partition("?")
    authority, slash, path = before.partition("/")
    return authority, slash + path, query, fragment
