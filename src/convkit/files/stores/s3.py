"""Send objects to S3 by fsspec's driver, each part with its MD5, which the store compares with what arrived."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from convkit.files.stores.failures import MissingError
from convkit.files.stores.sending import MADE_BY, Said, Sending, md5


class S3Sending(Sending):
    """Sends to the bucket of a driver. The name of an upload is a word of our own, and S3's name of it."""

    version: ClassVar[str] = "ETag"

    def put(self, path: str, data: bytes) -> str:
        """See :meth:`Sending.put`."""
        return self.tag(self._call("put_object", path, Body=data, ContentMD5=md5(data)))

    def begin(self, path: str) -> str:
        """See :meth:`Sending.begin`."""
        word = uuid.uuid4().hex
        return f"{word} {self._call('create_multipart_upload', path, Metadata={MADE_BY: word})['UploadId']}"

    def part(self, path: str, upload: str, number: int, data: bytes) -> Said:
        """See :meth:`Sending.part`."""
        words: dict[str, Any] = {"PartNumber": number, "Body": data, "ContentMD5": md5(data)}
        try:
            return _said(self._call("upload_part", path, UploadId=_id(upload), **words))
        except MissingError as error:
            raise self.gone(path) from error

    def parts(self, path: str, upload: str) -> dict[int, Said] | None:
        """See :meth:`Sending.parts`."""
        found: dict[int, Said] = {}
        more: dict[str, Any] = {}
        while True:
            try:
                listed = self._call("list_parts", path, UploadId=_id(upload), **more)
            except MissingError:
                return None
            found |= {each["PartNumber"]: _said(each) for each in listed.get("Parts", ())}
            if not listed.get("IsTruncated"):
                return found
            more = {"PartNumberMarker": listed["NextPartNumberMarker"]}

    def complete(self, path: str, upload: str, parts: Mapping[int, Said], size: int) -> str:
        """See :meth:`Sending.complete`."""
        whole = {"Parts": [{"PartNumber": number, **parts[number]} for number in sorted(parts)]}
        lost: MissingError | None = None
        try:
            self._call("complete_multipart_upload", path, UploadId=_id(upload), MultipartUpload=whole)
        except MissingError as error:  # it was completed, and the answer was lost; or somebody has discarded it
            lost = error
        # its answer has an ETag, too, but not the one under which Ceph lists the object
        if (tag := self.made(path, upload, size)) is None:
            raise self.gone(path) from lost
        return tag

    def made(self, path: str, upload: str, size: int) -> str | None:
        """See :meth:`Sending.made`."""
        try:
            found = self._call("head_object", path)
        except MissingError:
            return None
        word = found.get("Metadata", {}).get(MADE_BY)
        same = found["ContentLength"] == size and word == upload.partition(" ")[0]
        return self.tag(found) if same else None

    def abort(self, path: str, upload: str) -> None:
        """See :meth:`Sending.abort`."""
        try:
            self._call("abort_multipart_upload", path, UploadId=_id(upload))
        except MissingError:
            return

    def discard(self, path: str, keep: Collection[str] = ()) -> None:
        """See :meth:`Sending.discard`."""
        bucket, _, key = path.partition("/")
        kept = {_id(upload) for upload in keep}
        more: dict[str, Any] = {}
        while True:
            found = self._call("list_multipart_uploads", path, keyed=False, Prefix=key, **more)
            for each in found.get("Uploads", ()):
                if f"{each['Key']}/".startswith(f"{key}/") and each["UploadId"] not in kept:
                    self.abort(f"{bucket}/{each['Key']}", f" {each['UploadId']}")
            if not found.get("IsTruncated"):
                return
            more = {"KeyMarker": found["NextKeyMarker"], "UploadIdMarker": found["NextUploadIdMarker"]}

    def remove_one(self, path: str) -> None:
        """See :meth:`Sending.remove_one`."""
        self._call("delete_object", path)

    def _call(self, method: str, path: str, *, keyed: bool = True, **words: Any) -> dict[str, Any]:
        """A request about an object, or about its bucket."""
        bucket, _, key = path.partition("/")
        about = {"Bucket": bucket, "Key": key} if keyed else {"Bucket": bucket}

        def ask(store: Any) -> dict[str, Any]:
            answer: dict[str, Any] = store.call_s3(method, **about, **words)
            return answer

        return self._ask(path, ask)


def _id(upload: str) -> str:
    return upload.partition(" ")[2]


def _said(answer: Mapping[str, Any]) -> Said:
    """The ETag, and a checksum that was sent with a part, which is said again at the end."""
    sums = {name: value for name, value in answer.items() if name.startswith("Checksum") and name[8:].isupper()}
    return {"ETag": answer["ETag"], **sums}
