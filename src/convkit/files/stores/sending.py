"""Send files to S3: large ones in parts, several at a time, and each request again if it fails for now.

An object appears whole or not at all: parts that were sent of one that wasn't completed are in nobody's way, and are
discarded (:meth:`Sending.discard_parts`). Of each file, only the parts that are on their way lie in memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from convkit.files.stores.driver import Driver
from convkit.files.stores.failures import RETRIES, DeniedError, MissingError, TransientError, retrying

#: bytes of a part, unless there would be too many
PART = 16 << 20
#: S3 takes no more parts of an object
_PARTS = 10_000
#: requests at a time
THREADS = 8

T = TypeVar("T")


class Sending:
    """Sends to the bucket of a driver. Paths begin with the bucket's name. Thread-safe."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._answered = False

    def put(self, path: str, data: bytes) -> str:
        """Make an object of a few bytes; returns its ETag.

        Raises:
            ConvkitError: it can't be made.
        """
        return str(self._call("put_object", path, Body=data)["ETag"])

    def send(self, files: Mapping[str, Path]) -> dict[str, str]:
        """Make an object of each file; returns their ETags, by path.

        Raises:
            ConvkitError: one can't be made. Those that were made stay.
        """
        with ThreadPoolExecutor(THREADS, "send") as pool:
            small = {path: file for path, file in files.items() if file.stat().st_size <= PART}
            tags = self._all(pool, lambda path: self.put(path, small[path].read_bytes()), small)
            for path in files:
                if path not in small:
                    tags[path] = self._in_parts(pool, path, files[path])
        return tags

    def remove(self, paths: Iterable[str]) -> None:
        """Remove objects, those that are there.

        Raises:
            ConvkitError: one can't be removed.
        """
        with ThreadPoolExecutor(THREADS, "remove") as pool:
            self._all(pool, lambda path: self._call("delete_object", path), paths)

    def discard_parts(self, path: str) -> None:
        """Discard what runs that were killed had sent of objects at a path and below it.

        Raises:
            ConvkitError: the store refuses it.
        """
        key = path.partition("/")[2]
        more: dict[str, Any] = {}
        while True:
            found = self._call("list_multipart_uploads", path, keyed=False, Prefix=key, **more)
            for each in found.get("Uploads", ()):
                if f"{each['Key']}/".startswith(f"{key}/"):
                    with contextlib.suppress(MissingError):
                        bucket = path.partition("/")[0]
                        self._call("abort_multipart_upload", f"{bucket}/{each['Key']}", UploadId=each["UploadId"])
            if not found.get("IsTruncated"):
                return
            more = {"KeyMarker": found["NextKeyMarker"], "UploadIdMarker": found["NextUploadIdMarker"]}

    def _in_parts(self, pool: ThreadPoolExecutor, path: str, file: Path) -> str:
        size = file.stat().st_size
        step = max(PART, -(-size // _PARTS))
        upload = {"UploadId": self._call("create_multipart_upload", path)["UploadId"]}

        def part(number: int) -> dict[str, Any]:
            with file.open("rb", buffering=0) as opened:
                opened.seek((number - 1) * step)
                data = opened.read(step)
            sent = self._call("upload_part", path, PartNumber=number, Body=data, **upload)
            # a checksum that was sent with a part is said again at the end
            sums = {name: value for name, value in sent.items() if name.startswith("Checksum") and name[8:].isupper()}
            return {"PartNumber": number, "ETag": sent["ETag"], **sums}

        try:
            parts = self._all(pool, part, range(1, -(-size // step) + 1))
            whole = {"Parts": [*parts.values()]}
            self._call("complete_multipart_upload", path, MultipartUpload=whole, **upload)
        except BaseException:
            with contextlib.suppress(Exception):
                self._call("abort_multipart_upload", path, **upload)
            raise
        # its answer has an ETag, too, but not the one under which Ceph lists the object
        return str(self._call("head_object", path)["ETag"])

    def _all(self, pool: ThreadPoolExecutor, work: Callable[[Any], T], items: Iterable[Any]) -> dict[Any, T]:
        """Do it for each; after the first error those that haven't begun are left out."""
        futures = {item: pool.submit(work, item) for item in items}
        try:
            return {item: future.result() for item, future in futures.items()}
        except BaseException:
            for future in futures.values():
                future.cancel()
            raise

    def _call(self, method: str, path: str, *, keyed: bool = True, **words: Any) -> dict[str, Any]:
        """A request about an object, or about its bucket."""
        bucket, _, key = path.partition("/")
        about = {"Bucket": bucket, "Key": key} if keyed else {"Bucket": bucket}

        def attempt() -> dict[str, Any]:
            try:
                with self._driver.one_line(path):
                    answer: dict[str, Any] = self._driver.opened()[0].call_s3(method, **about, **words)
            except DeniedError as error:
                if not self._answered:
                    raise
                self._driver.renew()
                raise TransientError("access denied now, and not before: the credentials may have expired") from error
            self._answered = True
            return answer

        return retrying(attempt, self._driver.shown(path), RETRIES)
