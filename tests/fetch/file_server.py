"""A web server on the loopback interface, with any faults that a test needs."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar


@dataclass
class FileServer:
    """What is served, and how."""

    files: dict[str, bytes]
    #: answer Range requests (RFC 9110, section 14)
    ranges: bool = True
    #: look at If-Range before answering a Range
    if_range: bool = True
    #: headers that distinguish versions
    validators: Callable[[bytes], dict[str, str]] = lambda body: {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}
    #: answer HEAD requests
    heads: bool = True
    #: how the end of the body is marked: length, chunked, close
    ending: str = "length"
    #: further headers of every answer
    headers: dict[str, str] = field(default_factory=dict)
    #: one a request, in order: ("status", HTTP status to answer instead), ("drop", bytes after which to hang up),
    #: or anything else for a good answer
    faults: list[tuple[str, int]] = field(default_factory=list)
    #: called before the body is sent
    before: Callable[[], object] = lambda: None
    #: path and headers of every request
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    def asked(self, header: str) -> list[str | None]:
        """That header of every request."""
        return [headers.get(header) for _, headers in self.requests]


@contextmanager
def serving(files: dict[str, bytes] | FileServer) -> Iterator[FileServer]:
    served = files if isinstance(files, FileServer) else FileServer(files)

    class Handler(_Handler):
        server_state = served

    with listening(Handler) as url:
        served.url = url
        yield served


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server that runs in a thread."""
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_state: ClassVar[FileServer]

    def do_GET(self) -> None:
        state = self.server_state
        state.requests.append((self.path, dict(self.headers)))
        fault, amount = state.faults.pop(0) if state.faults else ("", 0)
        body = state.files.get(self.path.partition("?")[0])
        if fault == "status" or body is None:
            self._head(amount or 404, {"Content-Length": "0"})
            return
        status, headers, part = self._answer(body)
        state.before()
        self._head(status, headers | state.validators(body) | state.headers)
        if state.ending == "chunked" and status == 200:
            self.wfile.write(b"%x\r\n" % len(part))
            part += b"\r\n0\r\n\r\n"
        self.wfile.write(part[:amount] if fault == "drop" else part)
        self.close_connection = fault == "drop" or state.ending == "close"

    def do_HEAD(self) -> None:
        body = self.server_state.files.get(self.path.partition("?")[0])
        found = body is not None and self.server_state.heads
        self._head(200 if found else 405, {"Content-Length": str(len(body or b"")) if found else "0"})

    def _answer(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        state = self.server_state
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in (None, *state.validators(body).values())
        if asked and state.ranges and (same or not state.if_range):
            start = int(asked[1])
            if start >= len(body):
                return 416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"}, b""
            part = body[start : int(asked[2]) + 1 if asked[2] else None]
            span = f"bytes {start}-{start + len(part) - 1}/{len(body)}"
            return 206, {"Content-Range": span, "Content-Length": str(len(part))}, part
        endings = {"length": {"Content-Length": str(len(body))}, "chunked": {"Transfer-Encoding": "chunked"}}
        return 200, endings.get(state.ending, {}), body

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Be silent."""
