"""Fetch one file from ``http://`` or ``https://``, resumed with Range requests.

A partial file is continued only by ``If-Range`` with the strong ETag (else the Last-Modified date) of the first
response (RFC 9110, sections 13.1.5 and 14). User and password may be in the URI or in ``~/.netrc``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from convkit.errors import ConvkitError, UsageError
from convkit.fetch.source import Call, Files
from convkit.fetch.staging import Version
from convkit.fetch.transfer import Opened, download
from convkit.files.stores.failures import MissingError, TransientError
from convkit.files.stores.web import TIMEOUT, beside, cause, tag_of
from convkit.files.uri import without_secrets

if TYPE_CHECKING:
    import requests

#: bytes read at once: the most that a broken connection loses
CHUNK = 1 << 16

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class Http(Files):
    """A file on a web server."""

    resumable = True

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        self._url = uri
        self.uri = without_secrets(uri)
        self.masked = bool(parts.query)
        self.name = unquote(parts.path.rpartition("/")[2])
        if not self.name or not parts.hostname or parts.port == 0:  # asking for a malformed port raises ValueError
            raise UsageError("isn't a file", path=self.uri, remedy="give a file, or the index of a sharded checkpoint")

    def listing(self, call: Call) -> list[str] | None:
        """Always None, for one file: the web has no folders."""
        return None

    def size(self, path: str) -> int | None:
        """See :meth:`Files.size`."""
        import requests

        try:
            url, headers = beside(self._url, path), {"Accept-Encoding": "identity"}
            response = self._session.head(url, headers=headers, timeout=TIMEOUT, allow_redirects=True)
        except (requests.RequestException, UnicodeError):  # said when the file is fetched
            return None
        length = response.headers.get("Content-Length", "")
        return int(length) if response.status_code == 200 and length.isdecimal() else None

    def bring(self, path: str, target: Path, call: Call) -> None:
        """See :meth:`Files.bring`."""
        url = self._url if path == self.name else beside(self._url, path)

        @contextmanager
        def open_at(offset: int, version: Version | None) -> Iterator[Opened]:
            with self._get(url, offset, version) as response:
                yield _opened(response, offset, version)

        download(open_at, path, without_secrets(url), target, call)

    @cached_property
    def _session(self) -> requests.Session:
        import requests

        return requests.Session()

    def _get(self, url: str, offset: int, version: Version | None) -> requests.Response:
        """Request the rest of the file if it still has that ``version``, else the whole file."""
        import requests

        headers = {"Accept-Encoding": "identity"}
        if version and version.tag:
            headers |= {"Range": f"bytes={offset}-", "If-Range": version.tag}
        try:
            response = self._session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
        except (requests.ConnectionError, requests.Timeout) as error:
            raise TransientError(f"{urlsplit(url).hostname} can't be reached: {cause(error)}") from error
        except (requests.RequestException, UnicodeError) as error:
            raise ConvkitError(cause(error), path=without_secrets(url), remedy="check the URI") from error
        if version and response.status_code in (206, 416) and not _continues(response, offset, version):
            response.close()
            return self._get(url, 0, None)
        return response


def _continues(response: requests.Response, offset: int, version: Version) -> bool:
    """Whether a partial response has the same version and starts where we stopped.

    This is checked here too, because some servers respect Range and ignore If-Range.
    """
    tag = tag_of(response)
    if tag is not None and tag != version.tag:
        return False
    if response.status_code == 416:  # we hold all of it, or more
        return response.headers.get("Content-Range") == f"bytes */{offset}" and version.size == offset
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return found is not None and int(found[1]) == offset and found[2] in ("*", str(version.size))


def _opened(response: requests.Response, offset: int, version: Version | None) -> Opened:
    url = without_secrets(response.url)
    status = response.status_code
    if version and status in (206, 416) and "Range" in response.request.headers:
        return Opened(version, offset, _chunks(response) if status == 206 else iter(()))
    if status in (404, 410):
        raise MissingError(f"the server doesn't have this file (HTTP {status})", path=url, remedy="check the URI")
    if status in (401, 403):
        raise ConvkitError(f"access denied (HTTP {status})", path=url, remedy="put user and password in ~/.netrc")
    if status in (408, 429) or status >= 500:
        raise TransientError(f"the server answered HTTP {status}")
    if status != 200:
        raise ConvkitError(f"the server answered HTTP {status}", path=url, remedy="check the URI")
    length = response.headers.get("Content-Length")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise ConvkitError("the server sends the file compressed, despite the request", path=url)
    if length is None and response.headers.get("Transfer-Encoding") != "chunked":
        raise ConvkitError(
            "the server doesn't say how long the file is: a broken connection would look like its end", path=url
        )
    return Opened(Version(tag_of(response), int(length) if length else None), 0, _chunks(response))


def _chunks(response: requests.Response) -> Iterator[bytes]:
    import requests

    try:
        yield from response.iter_content(CHUNK)
    except requests.RequestException as error:
        raise TransientError(f"the connection broke: {cause(error)}") from error
