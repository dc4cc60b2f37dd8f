"""Send the files of a staged output part by part while they are written, and give the room of what was sent back.

A file of known size is an upload, cut into parts of equal size. Once all bytes of a part are final it is sent, and the
elements in it go from the disk; headers stay, so that what is staged can still be opened. Nothing is seen in the store
until the uploads are completed, when everything is made.

``uploads.jsonl`` in the staging folder says which upload is that of which file, and what the store said of each part
that it has: a later run sends only what isn't there.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from convkit.checkpoint.digests import BlockDigests, combine
from convkit.checkpoint.outlet import Outlet
from convkit.checkpoint.source_files import Span
from convkit.errors import ConvkitError
from convkit.files.holes import can_punch, hollow, punch
from convkit.files.staging import StaleError, complete_lines
from convkit.files.stores.ranges import Ranges
from convkit.files.stores.sending import THREADS, Said, Sending, all_of, step_of

UPLOADS = "uploads.jsonl"
#: parts that are on their way or wait for it; who writes more waits
_WAITING = 2 * THREADS
#: bytes that an output needs of the disk, if it needs no more: what is on its way, what threads are filling, headers
SPOOL = 1 << 30


@dataclass
class _Upload:
    """A file, and what was sent of it; ``said`` is by the number of a part, counted from 1, with a digest of it."""

    path: Path
    size: int
    step: int
    name: str = ""
    said: dict[int, tuple[str, Said]] = field(default_factory=dict)
    #: of a file that was taken whole
    digest: str | None = None
    taken: bool = False
    #: the tag of the object, once it is completed
    tag: str | None = None
    descriptor: int | None = None
    final: Ranges = field(default_factory=Ranges)
    frames: Ranges = field(default_factory=Ranges)
    queued: set[int] = field(default_factory=set)
    #: parts that this run has sent, or found to be there
    done: set[int] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def count(self) -> int:
        """The number of parts."""
        return -(-self.size // self.step)

    def bounds(self, number: int) -> tuple[int, int]:
        """The bytes of a part."""
        return (number - 1) * self.step, min(self.size, number * self.step)

    def touched(self, start: int, stop: int) -> range:
        """The parts in which bytes lie."""
        return range(start // self.step + 1, (stop - 1) // self.step + 2)

    def close(self) -> None:
        """Close the file."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


class Outgoing(Outlet):
    """Sends what lies in a folder.

    Args:
        out: the folder.
        sending: sends to the store.
        top: the path in the store that stands for the folder.
        algorithm: of the digests of files that are taken whole.
    """

    def __init__(self, out: Path, sending: Sending, top: str, algorithm: str) -> None:
        self._out, self._sending, self._top, self._algorithm = out, sending, top, algorithm
        self._journal = out.with_name(UPLOADS)
        self._lock = threading.RLock()
        self._uploads: dict[str, _Upload] = {}
        self._pool = ThreadPoolExecutor(THREADS, "send")
        self._slots = threading.BoundedSemaphore(_WAITING)
        self._pending: list[Future[None]] = []
        self._error: BaseException | None = None
        self._closed = False
        #: whether the disk gives back parts of files
        self.frees = can_punch(out.parent)

    # --- what writers tell -------------------------------------------------------------------------------

    def data(self, path: Path, start: int, stop: int) -> None:
        """See :meth:`Outlet.data`."""
        self._take(self._upload(path), start, stop)

    def frame(self, path: Path, start: int, stop: int) -> None:
        """See :meth:`Outlet.frame`."""
        upload = self._upload(path)
        with self._lock:
            upload.frames.add(start, stop)
        self._take(upload, start, stop)

    def whole(self, path: Path) -> None:
        """See :meth:`Outlet.whole`. Who makes a file of the same name anew, makes the same bytes."""
        if not path.stat().st_size:
            return  # it is sent at the end
        with self._lock:
            upload = self._upload(path)
            taken, upload.taken = upload.taken, True
            if taken:
                if upload.descriptor is None or not os.path.samestat(os.fstat(upload.descriptor), path.stat()):
                    with path.open("r+b") as file:
                        hollow(file.fileno())
                return
        digest = self._digest(upload)
        if upload.digest is None:
            upload.digest = digest
            self._record(upload, digest=digest, bytes=upload.size)
        elif upload.digest != digest:
            raise StaleError(f"{path.name}: what a killed run had written has changed since")
        self._take(upload, 0, upload.size)

    def holds(self, span: Span) -> bool:
        """See :meth:`Outlet.holds`."""
        upload = self._uploads.get(self._name(span.path))
        if upload is None:
            return False
        touched = upload.touched(span.start, max(span.start + 1, span.start + span.size))
        return upload.tag is not None or all(number in upload.said for number in touched)

    @property
    def digests(self) -> Mapping[Path, str]:
        """See :attr:`Outlet.digests`."""
        return {self._out / name: upload.digest for name, upload in self._uploads.items() if upload.digest}

    # --- what the staging does with it -------------------------------------------------------------------

    @property
    def failed(self) -> bool:
        """Whether something couldn't be sent."""
        return self._error is not None

    def hollow(self, path: Path) -> bool:
        """Whether a file was taken whole at a path in the folder or below it, so that it can't be opened there."""
        return any(file == path or path in file.parents for file in self.digests)

    def wait(self) -> None:
        """Wait until all that was taken is sent.

        Raises:
            ConvkitError: something couldn't be, or a file was taken only in part.
        """
        for future in self._pending:
            future.result()
        self._check()
        for path, upload in self._there():
            if upload.tag is None and len(upload.said) < upload.count:
                raise ConvkitError("wasn't sent in full", path=path, remedy="report this")

    def names(self) -> list[str]:
        """The store's names of the uploads that aren't completed."""
        return [upload.name for _, upload in self._there() if upload.tag is None]

    def made(self) -> dict[str, str]:
        """The tags of the objects that are completed, by their paths in the store."""
        return {self._remote(path): upload.tag for path, upload in self._there() if upload.tag is not None}

    def complete(self) -> None:
        """Make the objects; :meth:`made` has their tags then."""
        left = {path: upload for path, upload in self._there() if upload.tag is None}

        def one(path: Path) -> None:
            upload = left[path]
            parts = {number: said for number, (_, said) in upload.said.items()}
            upload.tag = self._sending.complete(self._remote(path), upload.name, parts, upload.size)
            self._record(upload, made=upload.tag)

        all_of(self._pool, one, left)

    def close(self) -> None:
        """Stop sending."""
        self._closed = True
        self._pool.shutdown(cancel_futures=True)
        for upload in self._uploads.values():
            upload.close()

    def abandon(self) -> None:
        """Discard in the store what wasn't completed, as far as it lets us."""
        for name, upload in self._uploads.items():
            if upload.name and upload.tag is None:
                with contextlib.suppress(Exception):
                    self._sending.abort(f"{self._top}/{name}", upload.name)

    # --- how it is sent ----------------------------------------------------------------------------------

    def _upload(self, path: Path) -> _Upload:
        with self._lock:
            upload = self._uploads.get(self._name(path))
            if upload is None:
                size = path.stat().st_size
                upload = self._uploads[self._name(path)] = _Upload(path, size, step_of(size))
            if upload.descriptor is None and not upload.taken:
                upload.descriptor = os.open(path, os.O_RDWR)
            return upload

    def _take(self, upload: _Upload, start: int, stop: int) -> None:
        if start == stop:
            return
        with self._lock:
            upload.final.add(start, stop)
            ready = [
                number
                for number in upload.touched(start, stop)
                if number not in upload.queued and upload.final.covers(*upload.bounds(number))
            ]
            upload.queued |= set(ready)
        for number in ready:
            self._check()
            self._slots.acquire()
            with self._lock:
                self._pending = [future for future in self._pending if not future.done()]
                self._pending.append(self._pool.submit(self._send, upload, number))

    def _send(self, upload: _Upload, number: int) -> None:
        try:
            self._check()
            data = self._read(upload, number)
            digest = xxhash.xxh3_128_hexdigest(data)
            if number not in upload.said or upload.said[number][0] != digest:
                with upload.lock:
                    if not upload.name:
                        upload.name = self._sending.begin(self._remote(upload.path))
                        self._record(upload, begun=upload.name, bytes=upload.size, step=upload.step)
                said = self._sending.part(self._remote(upload.path), upload.name, number, data)
                self._record(upload, part=number, digest_of_part=digest, said=said)
                upload.said[number] = digest, said
            self._free(upload, number)
        except BaseException as error:
            self._error = self._error or error
            raise
        finally:
            self._slots.release()

    def _free(self, upload: _Upload, number: int) -> None:
        """Give back the room of a part; of a file that was taken whole, once all of it is sent."""
        with upload.lock:
            assert upload.descriptor is not None
            upload.done.add(number)
            if upload.digest is None:
                with self._lock:
                    gaps = list(upload.frames.gaps(*upload.bounds(number)))
                for gap in gaps:
                    punch(upload.descriptor, *gap)
            elif len(upload.done) == upload.count:
                hollow(upload.descriptor)
                upload.close()

    def _read(self, upload: _Upload, number: int) -> bytes:
        """The bytes of a part."""
        assert upload.descriptor is not None
        start, stop = upload.bounds(number)
        return os.pread(upload.descriptor, stop - start, start)

    def _digest(self, upload: _Upload) -> str:
        """The digest of a file, as :func:`~convkit.checkpoint.digests.digest_file` has it."""
        import numpy as np

        digests = BlockDigests(self._algorithm)
        for number in range(1, upload.count + 1):
            digests.update(np.frombuffer(self._read(upload, number), "uint8"))
        return combine(self._algorithm, digests.blocks())

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._closed:
            raise ConvkitError("the run has ended")

    def _name(self, path: Path) -> str:
        return path.relative_to(self._out).as_posix()

    def _remote(self, path: Path) -> str:
        return f"{self._top}/{self._name(path)}"

    def _there(self) -> Iterator[tuple[Path, _Upload]]:
        """The files that are still there: what a writer has removed isn't a part of the output."""
        paths = ((self._out / name, upload) for name, upload in list(self._uploads.items()))
        return ((path, upload) for path, upload in paths if path.is_file())

    # --- after a kill ------------------------------------------------------------------------------------

    def _record(self, upload: _Upload, **said: Any) -> None:
        with self._lock, self._journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"file": self._name(upload.path), **said}) + "\n")

    def resume(self) -> None:
        """Go on where the run ended that wrote the journal.

        Raises:
            StaleError: the store has no longer what that run sent, or what is here has changed since.
        """
        with contextlib.suppress(FileNotFoundError):
            for entry in complete_lines(self._journal):
                self._recall(entry)
        all_of(self._pool, self._compare, self._uploads)
        for path, upload in list(self._there()):
            if upload.digest and not upload.taken:
                self.whole(path)

    def _recall(self, entry: dict[str, Any]) -> None:
        """Take over an entry of the journal."""
        upload = self._uploads.get(entry["file"])
        anew = upload is None or ("begun" in entry and upload.name) or entry.get("digest") not in (None, upload.digest)
        if upload is None or anew:
            digest = upload.digest if upload else None
            size = entry["bytes"]
            upload = _Upload(self._out / entry["file"], size, entry.get("step", step_of(size)), digest=digest)
            self._uploads[entry["file"]] = upload
        upload.name = entry.get("begun", upload.name)
        upload.digest = entry.get("digest", upload.digest)
        upload.tag = entry.get("made", upload.tag)
        if "part" in entry:
            upload.said[entry["part"]] = entry["digest_of_part"], entry["said"]

    def _compare(self, name: str) -> None:
        """Compare what the journal says of an upload with what the store says.

        Raises:
            StaleError: the store has something else.
        """
        upload, path = self._uploads[name], f"{self._top}/{name}"
        if not upload.name:
            return
        there = self._sending.parts(path, upload.name)
        if there is None:
            upload.tag = self._sending.made(path, upload.name, upload.size)
            there = {number: said for number, (_, said) in upload.said.items()} if upload.tag else {}
        for number, (_, said) in upload.said.items():
            if number not in there or self._sending.tag(there[number]) != self._sending.tag(said):
                raise StaleError(f"{name}: the store no longer has what a killed run had sent")
        upload.taken = upload.digest is not None and len(upload.said) == upload.count
