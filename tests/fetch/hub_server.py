"""A model hub on the loopback interface, with the parts of its API that reading one repository needs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from file_server import listening


@contextmanager
def hub(repository: str, files: dict[str, bytes]) -> Iterator[str]:
    """The endpoint of a hub that has one repository."""

    class Handler(_Handler):
        repo = repository
        content = files

    with listening(Handler) as url:
        yield url


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    repo: ClassVar[str]
    content: ClassVar[dict[str, bytes]]

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith(f"/api/models/{self.repo}/tree/"):
            self._json([self._info(name) for name in self.content])
        elif path.startswith(f"/api/models/{self.repo}"):
            self._json({"id": self.repo, "sha": "0" * 40, "siblings": [], "private": False})
        elif found := re.fullmatch(f"/{self.repo}/resolve/[^/]+/(.*)", path):
            self._file(self.content[found[1]])
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _info(self, name: str) -> dict[str, Any]:
        body = self.content[name]
        return {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}

    def _file(self, body: bytes) -> None:
        headers = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": "0" * 40}
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
