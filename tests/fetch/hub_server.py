"""A stand-in for the model hub on the loopback interface, with the parts of its API that reading one repository needs.

No package brings such a server. Written after huggingface_hub's requests and the Hub's documentation of its endpoints.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from file_server import listening


@dataclass
class Hub:
    """A hub with one repository, whose branch ``main`` is at a commit."""

    repository: str
    #: the files at each commit
    commits: dict[str, dict[str, bytes]]
    main: str
    #: a token without which the repository is gated; None for a public one
    token: str | None = None
    #: where large files lie, if not here: a server that gives the same files for ``/<sha1 of the content>``
    elsewhere: str = ""
    url: str = ""

    def at(self, revision: str) -> str | None:
        """The commit of a revision."""
        return self.main if revision == "main" else revision if revision in self.commits else None


#: files of so many bytes are large
LARGE = 10_000


@contextmanager
def hub(repository: str, files: dict[str, bytes]) -> Iterator[str]:
    """The endpoint of a hub that has one repository of one commit."""
    with running(Hub(repository, {"0" * 40: files}, "0" * 40)) as url:
        yield url


@contextmanager
def running(served: Hub) -> Iterator[str]:
    """The endpoint of a hub; the large files lie there, too."""

    class Handler(_Handler):
        state = served

    with listening(Handler) as served.url:
        yield served.url


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    state: ClassVar[Hub]

    def do_GET(self) -> None:
        hub, path = self.state, unquote(urlsplit(self.path).path)
        large = {hashlib.sha1(body).hexdigest(): body for files in hub.commits.values() for body in files.values()}
        found = re.fullmatch(f"/(?:api/models/)?{hub.repository}(?:/(tree|revision|resolve)/([^/]+)(?:/(.*))?)?", path)
        if path[1:] in large:
            self._file(large[path[1:]], {})
        elif found is None:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._send(403 if "Authorization" in self.headers else 401, b"", {"X-Error-Code": "GatedRepo"})
        elif (commit := hub.at(found[2] or "main")) is None:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif found[1] == "tree":
            self._json([self._info(name, body) for name, body in hub.commits[commit].items()])
        elif found[1] != "resolve":
            self._json({"id": hub.repository, "sha": commit, "siblings": [], "private": False})
        elif (body := hub.commits[commit].get(found[3])) is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        elif hub.elsewhere and len(body) > LARGE:
            self._send(302, b"", {"Location": f"{hub.elsewhere}/{hashlib.sha1(body).hexdigest()}"})
        else:
            self._file(body, {"X-Repo-Commit": commit})

    def _info(self, name: str, body: bytes) -> dict[str, Any]:
        return {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}

    def _file(self, body: bytes, more: dict[str, str]) -> None:
        headers = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', **more}
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if span is None:
            self._send(200, body, headers)
            return
        start, stop = int(span[1]), int(span[2] or len(body)) + 1
        part = body[start:stop]
        self._send(206, part, headers | {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(body)}"})

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Be silent."""
