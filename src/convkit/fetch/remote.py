"""Fetch files and folders from remote stores: ``s3://``, ``gs://``, ``hf://`` and the other schemes of fsspec."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from convkit.fetch.source import Call, Files
from convkit.fetch.staging import Version
from convkit.fetch.transfer import Opened, download
from convkit.files.stores.driver import Driver
from convkit.files.stores.failures import MissingError, retrying
from convkit.files.stores.objects import Objects

#: bytes per request: large, because stores have a high latency and a high bandwidth
CHUNK = 16 << 20


class Remote(Files):
    """A file or a folder in a store for which fsspec has a driver."""

    resumable = True

    def __init__(self, uri: str) -> None:
        self._driver = Driver(uri)
        self.uri = self._driver.uri
        parts = urlsplit(uri)
        self.masked = self.uri != uri and bool(parts.query or parts.fragment)
        self.name = parts.path.rstrip("/").rpartition("/")[2]

    def listing(self, call: Call) -> list[str] | None:
        """See :meth:`Files.listing`."""
        _, root = self._driver.opened()
        Objects(self._driver.given, root).check_finished(root)
        return retrying(self._paths, self.uri, call.retries)

    def size(self, path: str) -> int | None:
        """See :meth:`Files.size`."""
        store, _ = self._driver.opened()
        try:
            size = store.info(f"{self._folder}/{path}")["size"]
        except Exception:  # drivers raise what they like; it is said when the file is fetched
            return None
        return size if isinstance(size, int) else None

    def bring(self, path: str, target: Path, call: Call) -> None:
        """See :meth:`Files.bring`."""
        store, root = self._driver.opened()
        is_root = self._folder != root and path == self.name
        full = root if is_root else f"{self._folder}/{path}"

        @contextmanager
        def open_at(offset: int, version: Version | None) -> Iterator[Opened]:
            with self._driver.one_line(full):
                now = Version(store.ukey(full), store.info(full)["size"])
                file = store.open(full, "rb", block_size=CHUNK, cache_type="none")
            start = offset if now == version else 0
            with file:
                file.seek(start)
                yield Opened(now, start, self._chunks(file, full))

        download(open_at, path, self._driver.shown(full), target, call)

    @cached_property
    def _folder(self) -> str:
        """The folder itself, or the folder that holds the file."""
        store, root = self._driver.opened()
        with self._driver.one_line(root):
            return root if store.info(root)["type"] == "directory" else root.rpartition("/")[0]

    def _paths(self) -> list[str] | None:
        store, root = self._driver.opened()
        if self._folder != root:
            return None
        with self._driver.one_line(root):
            found = store.find(root, detail=True)
        # object stores mark empty folders by empty files whose names end with a slash
        names = [name for name, info in found.items() if info["type"] == "file" and not name.endswith("/")]
        if not names:
            raise MissingError("the folder holds no file", path=self.uri, remedy="check the URI")
        return sorted(name.removeprefix(f"{root}/") for name in names)

    def _chunks(self, file: IO[bytes], full: str) -> Iterator[bytes]:
        while True:
            with self._driver.one_line(full):
                chunk = file.read(CHUNK)
            if not chunk:
                return
            yield chunk
