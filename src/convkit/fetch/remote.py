"""Fetch files and folders from remote stores: ``s3://``, ``gs://``, ``hf://`` and the other schemes of fsspec.

Credentials, endpoints and other options come from the environment variables and configuration files of the
store's own driver, and from fsspec's configuration (``FSSPEC_S3='{"anon": true}'``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from convkit.errors import ConvkitError, UsageError
from convkit.extras import install
from convkit.fetch.source import Call, Files, MissingError
from convkit.fetch.staging import Version
from convkit.fetch.transfer import Opened, TransientError, download, retrying
from convkit.files.uri import hide_secrets_of, scheme_of, without_secrets

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

#: the modules behind the schemes that people use most; fsspec knows the others
DRIVERS = {"s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub"}

#: bytes per request: large, because stores have a high latency and a high bandwidth
CHUNK = 16 << 20


class Remote(Files):
    """A file or a folder in a store for which fsspec has a driver."""

    resumable = True

    def __init__(self, uri: str) -> None:
        import fsspec

        if scheme_of(uri) not in fsspec.available_protocols():
            raise UsageError(
                f"unknown scheme {scheme_of(uri)}://",
                remedy="use file, package, generated, http, https, s3, gs, hf, or a scheme of fsspec",
            )
        self._given = uri
        self.uri = without_secrets(uri)
        parts = urlsplit(uri)
        self.masked = self.uri != uri and bool(parts.query or parts.fragment)
        self.name = parts.path.rstrip("/").rpartition("/")[2]

    def listing(self, call: Call) -> list[str] | None:
        """See :meth:`Files.listing`."""
        return retrying(self._paths, self.uri, call.retries)

    def size(self, path: str) -> int | None:
        """See :meth:`Files.size`."""
        store, _ = self._store
        try:
            size = store.info(f"{self._folder}/{path}")["size"]
        except Exception:  # drivers raise what they like; it is said when the file is fetched
            return None
        return size if isinstance(size, int) else None

    def bring(self, path: str, target: Path, call: Call) -> None:
        """See :meth:`Files.bring`."""
        store, root = self._store
        is_root = self._folder != root and path == self.name
        full = root if is_root else f"{self._folder}/{path}"

        @contextmanager
        def open_at(offset: int, version: Version | None) -> Iterator[Opened]:
            with self._one_line(full):
                now = Version(store.ukey(full), store.info(full)["size"])
                file = store.open(full, "rb", block_size=CHUNK, cache_type="none")
            start = offset if now == version else 0
            with file:
                file.seek(start)
                yield Opened(now, start, self._chunks(file, full))

        download(open_at, path, self._shown(full), target, call)

    @cached_property
    def _store(self) -> tuple[AbstractFileSystem, str]:
        """The driver, and its path to our file or folder."""
        from fsspec.core import url_to_fs

        try:
            # a cached driver object would list the store as it was at an earlier call
            store, root = url_to_fs(self._given, skip_instance_cache=True)
        except ImportError as error:
            driver = DRIVERS.get(str(scheme_of(self._given)))
            raise ConvkitError(
                "the driver isn't installed",
                path=self.uri,
                remedy=install(driver) if driver else hide_secrets_of(self._given, f"{error}"),
            ) from error
        except Exception as error:  # some drivers ask their server at once
            raise ConvkitError(self._words(error), path=self.uri, remedy="check the URI") from error
        return store, root.rstrip("/")

    @cached_property
    def _folder(self) -> str:
        """The folder itself, or the folder that holds the file."""
        store, root = self._store
        with self._one_line(root):
            return root if store.info(root)["type"] == "directory" else root.rpartition("/")[0]

    def _paths(self) -> list[str] | None:
        store, root = self._store
        if self._folder != root:
            return None
        with self._one_line(root):
            found = store.find(root, detail=True)
        # object stores mark empty folders by empty files whose names end with a slash
        names = [name for name, info in found.items() if info["type"] == "file" and not name.endswith("/")]
        if not names:
            raise MissingError("the folder holds no file", path=self.uri, remedy="check the URI")
        return sorted(name.removeprefix(f"{root}/") for name in names)

    def _chunks(self, file: IO[bytes], full: str) -> Iterator[bytes]:
        while True:
            with self._one_line(full):
                chunk = file.read(CHUNK)
            if not chunk:
                return
            yield chunk

    def _shown(self, full: str) -> str:
        return hide_secrets_of(self._given, f"{scheme_of(self._given)}://{full}")

    @contextmanager
    def _one_line(self, full: str) -> Iterator[None]:
        """Turn errors of a driver (and of botocore or aiohttp) into our own, in one line."""
        try:
            yield
        except FileNotFoundError as error:
            raise MissingError("no such file or folder", path=self._shown(full), remedy="check the URI") from error
        except PermissionError as error:
            raise ConvkitError("access denied", path=self._shown(full), remedy="check its credentials") from error
        except Exception as error:
            raise TransientError(self._words(error)) from error

    def _words(self, error: Exception) -> str:
        """What a driver says, in one line without our secrets."""
        first = str(error).strip().partition("\n")[0]
        return hide_secrets_of(self._given, f"{type(error).__name__}: {first}")
