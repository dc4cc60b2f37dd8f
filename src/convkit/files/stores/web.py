"""Web servers (``http://``, ``https://``), read by ranges; they have no folders.

User and password may be in the URI or in ``~/.netrc``. A query (a signature) is sent with every request. What a server
says of an object's version is its strong ETag, else its Last-Modified date (RFC 9110, sections 13.1.5 and 14).
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

from convkit.errors import ConvkitError, UsageError
from convkit.files.stores.failures import RETRIES, DeniedError, MissingError, TransientError, retrying
from convkit.files.stores.store import Object, Store, changed
from convkit.files.uri import without_secrets

if TYPE_CHECKING:
    import requests

#: seconds to connect, and to wait for the next bytes
TIMEOUT = (15.0, 60.0)

_TOTAL = re.compile(r"bytes (?:\d+-\d+|\*)/(\d+)")


class Web(Store):
    """The server of a URI, and the file that the URI names: ``host/path`` is its path."""

    def __init__(self, uri: str) -> None:
        super().__init__()
        self._url = uri
        parts = urlsplit(uri)
        if not parts.path.strip("/") or not parts.hostname or parts.port == 0:
            raise UsageError(
                "isn't a file", path=without_secrets(uri), remedy="give a file, or the index of a sharded checkpoint"
            )
        self._file = within(uri)
        self._found: dict[str, Object | None] = {}

    def shown(self, path: str) -> str:
        """See :meth:`Store.shown`."""
        return without_secrets(self._at(path))

    def look(self, path: str) -> Object | None:
        """See :meth:`Store.look`."""
        if f"{self._file}/".startswith(f"{path}/") and path != self._file:
            return None  # above the file
        if path not in self._found:
            self._found[path] = retrying(lambda: self._ask(path), self.shown(path), RETRIES)
        found = self._found[path]
        if found is None:
            raise MissingError("the server doesn't have this file", path=self.shown(path), remedy="check the URI")
        return found

    def names(self, path: str) -> list[str]:
        """None: the web has no folders."""
        return []

    def forget(self) -> None:
        """See :meth:`Store.forget`."""
        self._found.clear()

    def request(self, path: str, start: int, stop: int, expected: Object) -> bytes:
        """See :meth:`Store.request`."""
        import requests

        tag = expected.tag.partition(" ")[2]
        with self._get(path, {"Range": f"bytes={start}-{stop - 1}", "If-Range": tag}) as response:
            if response.status_code in (404, 410):
                raise MissingError("the server doesn't have this file", path=self.shown(path))
            if response.status_code != 206 or _version(response) not in (None, expected.tag):
                raise changed(self.shown(path))
            try:
                return response.content
            except requests.RequestException as error:
                raise TransientError(f"the connection broke: {cause(error)}") from error

    def _ask(self, path: str) -> Object | None:
        """What the server says of a file, in answer to a request of its first byte; None if it has none.

        Raises:
            ConvkitError: it can't be read by ranges, or the server doesn't say which version it is.
        """
        with self._get(path, {"Range": "bytes=0-0"}) as response:
            status = response.status_code
            if status in (404, 410):
                return None
            if status == 200 and response.headers.get("Content-Length") != "0":
                raise ConvkitError(
                    "the server answers no requests of ranges",
                    path=self.shown(path),
                    remedy="fetch it first: convkit fetch, or fetch = local in the table",
                )
            if (tag := _version(response)) is None:
                raise ConvkitError(
                    "the server says no ETag and no date: nobody would see that it changes while it is read",
                    path=self.shown(path),
                    remedy="fetch it first: convkit fetch, or fetch = local in the table",
                )
            total = _TOTAL.fullmatch(response.headers.get("Content-Range", ""))
            return Object(int(total[1]) if total else 0, tag)

    def _get(self, path: str, headers: dict[str, str]) -> requests.Response:
        import requests

        url = self._at(path)
        headers = {"Accept-Encoding": "identity", **headers}
        try:
            response = self._session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
        except (requests.ConnectionError, requests.Timeout) as error:
            raise TransientError(f"{urlsplit(url).hostname} can't be reached: {cause(error)}") from error
        except (requests.RequestException, UnicodeError) as error:
            raise ConvkitError(cause(error), path=self.shown(path), remedy="check the URI") from error
        status = response.status_code
        if status in (408, 429) or status >= 500:
            response.close()
            raise TransientError(f"the server answered HTTP {status}")
        if status in (401, 403):
            response.close()
            raise DeniedError(
                f"access denied (HTTP {status})", path=self.shown(path), remedy="put user and password in ~/.netrc"
            )
        if status not in (200, 206, 404, 410, 416):
            response.close()
            raise ConvkitError(f"the server answered HTTP {status}", path=self.shown(path), remedy="check the URI")
        return response

    @cached_property
    def _session(self) -> requests.Session:
        import requests

        return requests.Session()

    def _at(self, path: str) -> str:
        """The URL of a path, with the secrets of the URI that was given."""
        if path == self._file:
            return self._url
        return urlunsplit(urlsplit(self._url)._replace(path="/" + quote(path.partition("/")[2])))


def within(uri: str) -> str:
    """The path of a URI's file within its store: its host, without a user, and its path."""
    parts = urlsplit(uri)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def beside(url: str, name: str) -> str:
    """The URL of a file beside another one."""
    parts = urlsplit(url)
    folder = parts.path.rpartition("/")[0]
    return urlunsplit(parts._replace(path=f"{folder}/{quote(name)}"))


def tag_of(response: requests.Response) -> str | None:
    """The validator for ``If-Range``: a strong entity tag, else a date."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def cause(error: BaseException) -> str:
    """Describe the root cause of an error, without the URL and its secrets."""
    words = type(error).__name__
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            words = found.strerror
        found = found.__cause__ or found.__context__
    return words


def _version(response: requests.Response) -> str | None:
    tag = tag_of(response)
    return None if tag is None else f"{'ETag' if tag.startswith(chr(34)) else 'Last-Modified'} {tag}"
