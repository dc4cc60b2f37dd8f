"""Send objects to Google Cloud Storage by fsspec's driver, each with its MD5, which the store compares.

A part is an object of its own, in a folder beside the target; when all are there, they are composed into one object, 32
at a time, and removed. (JSON API of Cloud Storage: ``objects.insert``, ``objects.compose``.)
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from convkit.errors import ConvkitError
from convkit.files.stores.driver import Driver
from convkit.files.stores.failures import MissingError, TransientError
from convkit.files.stores.sending import MADE_BY, THREADS, Said, Sending, all_of, md5

#: the end of the name of the folder, beside a target, in which parts lie
PARTS = ".convkit-parts"
#: objects that are composed into one at a time, as the store allows it
_SOURCES = 32
_TYPE = "application/octet-stream"


class _OtherError(ConvkitError):
    """Another version of the object is there than the request was on the condition of."""


class GcsSending(Sending):
    """Sends to the bucket of a driver. The name of an upload is a word of our own, which its parts have in their names.

    Args:
        driver: the bucket's driver.
        target: the path of the output; all that is sent lies in the folder of it.
    """

    version: ClassVar[str] = "generation"

    def __init__(self, driver: Driver, target: str) -> None:
        super().__init__(driver)
        self._parts = target + PARTS
        self._above = target.rpartition("/")[0]

    def put(self, path: str, data: bytes) -> str:
        """See :meth:`Sending.put`."""
        return self.tag(self._insert(path, path, data))

    def begin(self, path: str) -> str:
        """See :meth:`Sending.begin`."""
        return uuid.uuid4().hex

    def part(self, path: str, upload: str, number: int, data: bytes) -> Said:
        """See :meth:`Sending.part`."""
        return {self.version: self._insert(path, self._part(path, upload, number), data)[self.version]}

    def parts(self, path: str, upload: str) -> dict[int, Said] | None:
        """See :meth:`Sending.parts`."""
        if self._made_by(self._resource(path)) == upload:
            return None
        found = ((name.rpartition("/")[2], said) for name, said in self._listed(path, f"{self._folder(path)}/{upload}"))
        return {int(last): said for last, said in found if last.isdecimal()}

    def complete(self, path: str, upload: str, parts: Mapping[int, Said], size: int) -> str:
        """See :meth:`Sending.complete`."""
        lost: ConvkitError | None = None
        try:
            self._compose(path, upload, [(self._part(path, upload, at), parts[at]) for at in sorted(parts)])
        except (MissingError, _OtherError) as error:  # the answer to an earlier attempt was lost; or others write it
            lost = error
        if (tag := self.made(path, upload, size)) is None:
            raise self.gone(path) from lost
        self.abort(path, upload)
        return tag

    def made(self, path: str, upload: str, size: int) -> str | None:
        """See :meth:`Sending.made`."""
        found = self._resource(path)
        return self.tag(found) if self._made_by(found) == upload and int(found["size"]) == size else None

    def abort(self, path: str, upload: str) -> None:
        """See :meth:`Sending.abort`."""
        self.remove(name for name, _ in self._listed(path, f"{self._folder(path)}/{upload}"))

    def discard(self, path: str, keep: Collection[str] = ()) -> None:
        """See :meth:`Sending.discard`."""
        self.remove(name for name, _ in self._listed(path, self._folder(path)) if name.split("/")[-2] not in keep)

    def remove_one(self, path: str) -> None:
        """See :meth:`Sending.remove_one`."""
        try:
            self._ask(path, lambda store: store.call("DELETE", "b/{}/o/{}", *_split(path)))
        except MissingError:
            return

    def _folder(self, path: str) -> str:
        """In which the parts of an object lie."""
        return f"{self._parts}/{path.removeprefix(f'{self._above}/')}"

    def _part(self, path: str, upload: str, number: int) -> str:
        return f"{self._folder(path)}/{upload}/{number:05d}"

    def _insert(self, path: str, name: str, data: bytes) -> dict[str, Any]:
        """Make an object of bytes; what the store says of it. ``path`` is named in errors."""
        bucket, key = _split(name)
        said = {"contentType": _TYPE, "md5Hash": md5(data)}
        # a boundary that no tensor contains
        boundary = uuid.uuid4().hex
        head = f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(said)}"
        head += f"\r\n--{boundary}\r\nContent-Type: {_TYPE}\r\n\r\n"
        words: dict[str, Any] = {
            "headers": {"Content-Type": f"multipart/related; boundary={boundary}"},
            "name": key,
            "uploadType": "multipart",
            "data": b"".join((head.encode(), data, f"\r\n--{boundary}--\r\n".encode())),
        }

        def insert(store: Any) -> dict[str, Any]:
            url = store.base.replace("/storage/v1/", "/upload/storage/v1/") + "b/{}/o"
            answer: dict[str, Any] = store.call("POST", url, bucket, json_out=True, **words)
            if answer["md5Hash"] != said["md5Hash"]:
                raise TransientError("what arrived has another MD5 than what was sent")
            return answer

        return self._ask(path, insert)

    def _compose(self, path: str, upload: str, sources: Sequence[tuple[str, Said]]) -> None:
        """Make an object of its parts, which doesn't exist yet; of more than 32, others are made first."""
        with ThreadPoolExecutor(THREADS, "compose") as pool:
            height = 0
            while len(sources) > _SOURCES:
                height += 1
                groups = {
                    f"{self._folder(path)}/{upload}/joined-{height}-{at}": sources[at : at + _SOURCES]
                    for at in range(0, len(sources), _SOURCES)
                }
                sources = list(all_of(pool, self._joining(path, groups), groups).items())
        self._join(path, path, sources, {MADE_BY: upload}, ifGenerationMatch="0")

    def _joining(self, path: str, groups: Mapping[str, Sequence[tuple[str, Said]]]) -> Callable[[str], Said]:
        return lambda name: self._join(path, name, groups[name], {})

    def _join(
        self, path: str, name: str, sources: Sequence[tuple[str, Said]], metadata: Mapping[str, str], **condition: str
    ) -> Said:
        """Make an object of at most 32 others, each of the generation that was sent."""
        objects = [{"name": _split(source)[1], **said} for source, said in sources]
        body = {"sourceObjects": objects, "destination": {"contentType": _TYPE, "metadata": metadata}}

        def compose(store: Any) -> Said:
            try:
                url = "b/{}/o/{}/compose"
                answer = store.call("POST", url, *_split(name), json=body, json_out=True, **condition)
            except FileExistsError as error:
                raise _OtherError("is there already", path=self._driver.shown(path)) from error
            return {self.version: answer[self.version]}

        return self._ask(path, compose)

    def _resource(self, path: str) -> dict[str, Any]:
        """What the store says of an object; empty if it isn't there."""
        try:
            found: dict[str, Any] = self._ask(
                path, lambda store: store.call("GET", "b/{}/o/{}", *_split(path), json_out=True)
            )
        except MissingError:
            return {}
        return found

    def _listed(self, path: str, folder: str) -> Iterator[tuple[str, Said]]:
        """The objects below a folder. ``path`` is named in errors."""
        bucket, key = _split(folder)
        more: dict[str, str] = {}
        while True:
            page = self._ask(path, _lister(bucket, {"prefix": f"{key}/", **more}))
            for each in page.get("items", ()):
                yield f"{bucket}/{each['name']}", {self.version: each[self.version]}
            if "nextPageToken" not in page:
                return
            more = {"pageToken": page["nextPageToken"]}

    @staticmethod
    def _made_by(found: Mapping[str, Any]) -> str | None:
        """The upload that made an object."""
        word: str | None = found.get("metadata", {}).get(MADE_BY)
        return word


def _split(path: str) -> tuple[str, str]:
    """The bucket of a path, and the name in it."""
    bucket, _, key = path.partition("/")
    return bucket, key


def _lister(bucket: str, words: Mapping[str, str]) -> Callable[[Any], dict[str, Any]]:
    fields = "nextPageToken,items(name,generation)"

    def page(store: Any) -> dict[str, Any]:
        found: dict[str, Any] = store.call("GET", "b/{}/o", bucket, fields=fields, json_out=True, **words)
        return found

    return page
