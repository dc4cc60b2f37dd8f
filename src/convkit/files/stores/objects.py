"""Object stores (``s3://``, ``gs://``, ``hf://``, and others that fsspec knows), listed once and read by ranges.

A folder is listed whole, with everything below it, when it is first looked at: a thousand objects a request. Ranges are
asked for on the condition that the object has the tag that it had (S3's ``If-Match``, Google's ``generation``), where
the driver can say it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from convkit.errors import ConvkitError, UsageError
from convkit.files.stores import hub
from convkit.files.stores.driver import Driver
from convkit.files.stores.failures import RETRIES, DeniedError, MissingError, retrying
from convkit.files.stores.gcs import PARTS, GcsSending
from convkit.files.stores.s3 import S3Sending
from convkit.files.stores.sending import Sending
from convkit.files.stores.store import Object, Store
from convkit.files.uri import scheme_of, without_secrets

#: what a driver may say of an object that changes with its content, in the order of preference
_TAGS = ("generation", "ETag", "etag", "blob_id")
_TIMES = ("LastModified", "mtime", "updated", "last_modified", "created")
_S3 = ("s3", "s3a")
_GOOGLE = ("gs", "gcs")
#: the end of the name of the mark beside what a run is still writing
UNFINISHED = ".convkit-unfinished"
#: how tensorstore tries again
_AGAIN = {"max_retries": 6, "initial_delay": "500ms", "max_delay": "8s"}


class Objects(Store):
    """The store of a URI. Folders are listed recursively only from ``top`` on, the path that the URI names."""

    def __init__(self, uri: str, top: str) -> None:
        super().__init__()
        self._driver = Driver(uri, once=True)
        self._scheme = str(scheme_of(uri))
        self._top = top
        self._lock = threading.RLock()
        self._found: dict[str, Object | None] = {}
        self._missing: set[str] = set()
        self._folders: dict[str, set[str]] = {}
        self._readers: dict[str, Callable[[int, int], bytes]] = {}

    def shown(self, path: str) -> str:
        """See :meth:`Store.shown`."""
        return self._driver.shown(path)

    def look(self, path: str) -> Object | None:
        """See :meth:`Store.look`."""
        with self._lock:
            if path not in self._found and path not in self._missing:
                self._find(path)
            if path not in self._found:
                self._missing.add(path)
                raise MissingError("no such file or folder", path=self.shown(path), remedy="check the URI")
            return self._found[path]

    def names(self, path: str) -> list[str]:
        """See :meth:`Store.names`."""
        with self._lock:
            if path not in self._folders:
                self._list(path, deep=False)
            return sorted(self._folders[path])

    def forget(self) -> None:
        """See :meth:`Store.forget`."""
        with self._lock:
            self._found.clear()
            self._missing.clear()
            self._folders.clear()
            self._driver.opened()[0].invalidate_cache()

    def renew(self) -> None:
        """See :meth:`Store.renew`."""
        self._driver.renew()
        self._readers.clear()

    def request(self, path: str, start: int, stop: int, expected: Object) -> bytes:
        """See :meth:`Store.request`."""
        with self._driver.one_line(path):
            reader = self._readers.get(path) or self._readers.setdefault(path, self._reader(path, expected))
            return bytes(reader(start, stop))

    def kvstore(self, path: str) -> Mapping[str, Any]:
        """See :meth:`Store.kvstore`."""
        if self._scheme in _GOOGLE:
            return _gcs(path, self.shown(path))
        if self._scheme not in _S3:
            return super().kvstore(path)
        return _s3(self._driver.opened()[0], path, self.shown(path))

    def sending(self) -> Sending:
        """See :meth:`Store.sending`."""
        if self._scheme in _GOOGLE:
            return GcsSending(self._driver, self._top)
        return S3Sending(self._driver) if self._scheme in _S3 else super().sending()

    def check_finished(self, path: str) -> None:
        """See :meth:`Store.check_finished`."""
        while self._scheme in (*_S3, *_GOOGLE) and "/" in path:
            if path.endswith(PARTS) or self._marked(path):
                raise ConvkitError(
                    "isn't finished: a run that writes it is under way or was killed, and its receipt hasn't come",
                    path=self.shown(path),
                    remedy="wait for that run, or convert again",
                )
            path = path.rpartition("/")[0]

    def _marked(self, path: str) -> bool:
        """Whether the mark lies beside a path; who may not look above a folder of a bucket may still read it."""
        with suppress(MissingError, DeniedError):
            self.look(path + UNFINISHED)
            return True
        return False

    def _reader(self, path: str, expected: Object) -> Callable[[int, int], bytes]:
        """Reads ranges of an object: by an opened file's own requests, which say which version they expect."""
        store = self._driver.opened()[0]
        if self._scheme in _GOOGLE:  # gcsfs's opened files don't say it
            return partial(store.cat_file, path, generation=expected.tag.removeprefix("generation "))
        if self._scheme == "hf":
            return hub.reader(store, path)
        cache = getattr(store.open(path, "rb", cache_type="none"), "cache", None)
        return getattr(cache, "fetcher", None) or partial(store.cat_file, path)

    def _find(self, path: str) -> None:
        """Look a path up, and list it if it is the folder that the URI names."""
        store = self._driver.opened()[0]
        if path.startswith(f"{self._top}/"):
            if self._top not in self._folders:
                self._list(self._top, deep=True)
            return  # all that is there is listed

        def info() -> dict[str, Any] | None:
            try:
                with self._driver.one_line(path):
                    found: dict[str, Any] = store.info(path)
                    return found
            except MissingError:
                return None

        if (found := retrying(info, self.shown(path), RETRIES)) is None:
            return
        if found["type"] != "directory":
            self._found[path] = self._object(path, found)
        elif path == self._top:
            self._found[path] = None
            self._list(path, deep=True)
        else:
            self._found[path] = None

    def _list(self, folder: str, *, deep: bool) -> None:
        """List a folder, and all folders below it if ``deep``."""
        store = self._driver.opened()[0]

        def find() -> dict[str, dict[str, Any]]:
            with self._driver.one_line(folder):
                listed = store.find(folder, detail=True, withdirs=not deep, **({} if deep else {"maxdepth": 1}))
                return {name.strip("/"): info for name, info in listed.items()}

        self._folders[folder] = set()
        if not deep:
            self._found[folder] = None
        for name, info in retrying(find, self.shown(folder), RETRIES).items():
            # object stores mark empty folders by empty files whose names end with a slash
            if name == folder or info["name"].endswith("/"):
                continue
            self._found[name] = None if info["type"] == "directory" else self._object(name, info)
            inner = name
            while inner != folder:
                inner, _, last = inner.rpartition("/")
                self._folders.setdefault(inner, set()).add(last)
                self._found.setdefault(inner, None)

    def _object(self, path: str, info: Mapping[str, Any]) -> Object:
        name = next((name for name in _TAGS if info.get(name)), None)
        tag = f"{name} {info[name]}" if name else f"fingerprint {self._driver.opened()[0].ukey(path)}"
        time = next((info[name] for name in _TIMES if info.get(name)), None)
        return Object(int(info["size"] or 0), tag, _second(time))


def _second(time: Any) -> int:
    """The second of a time, as a driver gives it; 0 if it says none."""
    try:
        if isinstance(time, str):
            time = datetime.fromisoformat(time)
        return int(time.timestamp()) if isinstance(time, datetime) else int(time)
    except (TypeError, ValueError):
        return 0


def _gcs(path: str, shown: str) -> dict[str, Any]:
    """tensorstore's spec of a folder in Google Cloud Storage; it finds credentials itself.

    Raises:
        UsageError: an emulator is named to fsspec's driver only: arrays would come from elsewhere.
    """
    emulator = os.environ.get("STORAGE_EMULATOR_HOST", "")
    if emulator and "TENSORSTORE_GCS_HTTP_URL" not in os.environ:
        raise UsageError(
            "its arrays are read by tensorstore, which doesn't go by STORAGE_EMULATOR_HOST",
            path=shown,
            remedy="set TENSORSTORE_GCS_HTTP_URL to the URL of that server, too",
        )
    bucket, _, key = path.partition("/")
    return {"driver": "gcs", "bucket": bucket, "path": f"{key}/", "gcs_request_retries": _AGAIN}


def _s3(store: Any, path: str, shown: str) -> dict[str, Any]:
    """tensorstore's spec of a folder in S3: the endpoint that fsspec's driver uses, and credentials as it finds them.

    Raises:
        UsageError: the credentials stand in fsspec's configuration, or in the URI, where tensorstore finds none.
    """
    bucket, _, key = path.partition("/")
    if store.key or store.secret or store.token:
        raise UsageError(
            "its arrays are read by tensorstore, which takes no credentials of a URI or of fsspec's configuration",
            path=shown,
            remedy="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile: AWS_PROFILE",
        )
    store.connect()
    endpoint = str(store.s3.meta.endpoint_url)
    spec: dict[str, Any] = {"driver": "s3", "bucket": bucket, "path": f"{key}/", "s3_request_retries": _AGAIN}
    if not (urlsplit(endpoint).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn")):
        spec |= {"endpoint": without_secrets(endpoint), "aws_region": store.s3.meta.region_name or "us-east-1"}
    if store.anon:
        spec["aws_credentials"] = {"type": "anonymous"}
    elif "AWS_ACCESS_KEY_ID" in os.environ:
        spec["aws_credentials"] = {"type": "environment"}
    return spec
