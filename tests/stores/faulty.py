"""A proxy on the loopback interface that passes requests on to a server, and does to some what clouds do."""

from __future__ import annotations

import http.client
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

#: what S3 and Google Cloud Storage answer: a status, a code and a message
_S3 = {
    "slow down": (503, "SlowDown", "Please reduce your request rate."),
    "error": (500, "InternalError", "We encountered an internal error. Please try again."),
    "expired": (403, "ExpiredToken", "The provided token has expired."),
}
_GOOGLE = {
    "slow down": (429, "rateLimitExceeded", "The rate of requests exceeds the limit."),
    "error": (503, "backendError", "Backend Error"),
    "expired": (401, "authError", "Invalid Credentials"),
    "forbidden": (403, "forbidden", "The account does not have storage.objects.get access."),
    "exists": (412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold."),
}
_XML = "<?xml version='1.0'?><Error><Code>{}</Code><Message>{}</Message></Error>"


@dataclass(frozen=True)
class Asked:
    """A request that passes: its method, path and query, range of bytes, and the key or token that it shows."""

    method: str
    path: str
    range: str
    signer: str

    @property
    def reads(self) -> bool:
        """Whether it reads bytes of an object."""
        about = "?" in self.path or self.path.startswith("/storage/v1/")
        return self.method == "GET" and (not about or "alt=media" in self.path)

    @property
    def name(self) -> str:
        """What it is about: its path without a query."""
        return unquote(self.path.partition("?")[0])

    @property
    def key(self) -> str:
        """The name in its bucket of the object that it is about."""
        if self.path.startswith("/upload/"):
            return parse_qs(urlsplit(self.path).query)["name"][0]
        google = re.match(r"/(?:download/)?storage/v1/b/[^/]+/o/(.*)", self.name)
        return google[1].removesuffix("/compose") if google else self.name.lstrip("/").partition("/")[2]

    @property
    def part(self) -> str | None:
        """The object and the number of the part that it sends, if it sends one."""
        if self.path.startswith("/upload/"):
            found = re.search(r"\.convkit-parts/(.*)/[0-9a-f]{32}/0*(\d+)$", self.key)
            return f"{found[1]} {found[2]}" if found else None
        number = re.search(r"[?&]partNumber=(\d+)", self.path)
        return f"{self.key} {number[1]}" if self.method == "PUT" and number else None

    @property
    def completes(self) -> bool:
        """Whether it makes an object of parts that were sent."""
        google = self.name.endswith("/compose") and ".convkit-parts/" not in self.key
        return self.method == "POST" and (google or bool(re.search(r"[?&]uploadId=", self.path)))


#: says what to do to a request; None to pass it on
Fault = Callable[[Asked], str | None]


@dataclass
class Proxy:
    """What passes through, and what is done to it."""

    upstream: str
    google: bool = False
    url: str = ""
    fault: Fault = lambda asked: None
    #: called before a request is passed on
    before: Callable[[Asked], object] = lambda asked: None
    asked: list[Asked] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    #: requests that are on their way
    passing: set[object] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def every(self, step: int, *faults: str) -> None:
        """Do these faults in turn, one to each ``step``-th request that reads bytes."""
        reads = 0

        def fault(asked: Asked) -> str | None:
            nonlocal reads
            if not asked.reads:
                return None
            reads += 1
            return faults[reads // step % len(faults)] if reads % step == 0 else None

        self.fault = fault


@contextmanager
def between(upstream: str, *, google: bool = False) -> Iterator[Proxy]:
    """A proxy in front of a server of S3, or of Google Cloud Storage."""
    proxy = Proxy(upstream, google)

    class Handler(_Handler):
        state = proxy

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections that end are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for the acknowledgement of its head
    state: ClassVar[Proxy]

    def _pass(self) -> None:
        self.state.passing.add(self)
        try:
            self._pass_on()
        finally:
            self.state.passing.discard(self)

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        signer = re.search(r"Credential=([^/]+)/|Bearer (.+)", self.headers.get("Authorization", ""))
        span, shown = self.headers.get("Range", ""), (signer[1] or signer[2]) if signer else ""
        asked = Asked(self.command, self.path, span, shown)
        with self.state.lock:
            self.state.asked.append(asked)
            fault = self.state.fault(asked)
            if fault:
                self.state.done.append(fault)
            self.state.before(asked)
        match fault:
            case "slow down" | "error" | "expired" | "forbidden" | "exists":
                self._refuse(*(_GOOGLE if self.state.google else _S3)[fault])
            case "reset":
                self._reset()
            case "lost":  # it is done, and nobody hears of it
                self._answer(body)
                self._reset()
            case "damage":
                middle = len(body) // 2
                self._forward(body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :], cut=False)
            case _:
                self._forward(body, cut=fault == "truncate")

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _pass  # noqa: N815 - the names that http.server calls

    def _refuse(self, status: int, code: str, message: str) -> None:
        said = {"error": {"code": status, "message": message, "errors": [{"reason": code, "message": message}]}}
        body = (json.dumps(said) if self.state.google else _XML.format(code, message)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if self.state.google else "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self) -> None:
        # no time to linger: the system sends RST
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _answer(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        """What the server answers."""
        connection = http.client.HTTPConnection(urlsplit(self.state.upstream).netloc, timeout=60)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        connection.endheaders(body or None)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer, data

    def _forward(self, body: bytes, *, cut: bool) -> None:
        answer, data = self._answer(body)
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        if "content-length" not in map(str.lower, dict(answer.getheaders())):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Silent."""
