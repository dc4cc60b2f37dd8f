"""Sources: the files and folders that URIs name.

A scheme subclasses :class:`Files` and implements two methods: one lists the files, one fetches a file. The
index of a sharded checkpoint (``model.safetensors.index.json``, ``pytorch_model.bin.index.json``) becomes a
folder: the index, its shards, and ``config.json`` if the source has one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from unicodedata import category

from convkit.checkpoint import json_text
from convkit.errors import ConvkitError
from convkit.fetch.record import FetchedFile
from convkit.fetch.staging import Parts
from convkit.files.stores.failures import MissingError

#: called with the bytes done so far, the bytes in all (None: not known), and which part of the work this is
Progress = Callable[[int, int | None, str], None]


class Arrivals:
    """Adds up the bytes of a source's files that have arrived, and reports the sum."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        #: of each file, as far as is known
        self._sizes: dict[str, int | None] = {}
        self._here: dict[str, int] = {}
        self._done = self._total = 0
        #: files of no known size
        self._unknown = 0

    def expect(self, paths: Iterable[str], size: Callable[[str], int | None]) -> None:
        """Expect these files; ``size`` finds the bytes of one before it is fetched, or None."""
        if self._progress is not None:
            for path in paths:
                self._expect(path, size(path))

    def __call__(self, path: str, here: int, size: int | None) -> None:
        """Report how many bytes of a file have arrived, and its size (None: not known)."""
        if self._progress is None:
            return
        self._done += here - self._here.get(path, 0)
        self._here[path] = here
        self._expect(path, size)
        self._progress(self._done, None if self._unknown else self._total, path)

    def _expect(self, path: str, size: int | None) -> None:
        before = self._sizes.get(path, 0)
        self._total += (size or 0) - (before or 0)
        self._unknown += (size is None) - (before is None)
        self._sizes[path] = size


@dataclass(frozen=True, slots=True)
class Call:
    """One call of fetch: where the bytes go, how often it retries, and what counts the bytes.

    ``link`` allows a hard link to a file on this machine.
    """

    parts: Parts
    retries: int
    progress: Arrivals
    link: bool = False


class Source(ABC):
    """The file or folder behind one URI."""

    #: the URI without credentials, for messages and records
    uri: str
    #: whether ``uri`` hides a part of the given URI (a query), so that it doesn't identify the content
    masked: bool = False
    #: whether to keep the bytes that an interrupted call left in the staging folder
    resumable: bool = False

    @abstractmethod
    def fill(self, call: Call) -> None:
        """Fetch the whole file or folder to ``call.parts.payload``, continuing partial files there.

        Raises:
            ConvkitError: the source can't be read, or lists a path outside its folder.
        """

    def stale(self, files: Sequence[FetchedFile]) -> bool:
        """Whether the source differs from the recorded files, as far as is known without the network."""
        return False


class Files(Source):
    """A source whose files are fetched one by one."""

    #: name of the file, or of the folder
    name: str

    @abstractmethod
    def listing(self, call: Call) -> list[str] | None:
        """Paths below the folder, with ``/``; None when the source is one file."""

    @abstractmethod
    def bring(self, path: str, target: Path, call: Call) -> None:
        """Fetch the file at ``path`` to ``target``; ``path`` is below the source folder or beside the source file.

        Raises:
            MissingError: the file doesn't exist.
        """

    @abstractmethod
    def size(self, path: str) -> int | None:
        """The bytes of the file at ``path``; None where that isn't known before it is fetched. Never raises."""

    def fill(self, call: Call) -> None:
        """See :meth:`Source.fill`."""
        payload = call.parts.payload
        paths = self.listing(call)
        if paths is None and not is_index(self.name):
            self.bring(self.name, payload, call)
            return
        if paths is None:
            paths = self._indexed(payload, call)
        else:
            check_paths(paths, self.uri)
            call.progress.expect(paths, self.size)
            for path in paths:
                self.bring(path, _below(payload, path), call)
        _prune(payload, paths)

    def _indexed(self, payload: Path, call: Call) -> list[str]:
        index = _below(payload, self.name)
        self.bring(self.name, index, call)
        shards = shards_in(index, self.uri)
        call.progress.expect(shards, self.size)
        for shard in shards:
            self.bring(shard, _below(payload, shard), call)
        try:
            self.bring("config.json", _below(payload, "config.json"), call)
        except MissingError:
            return [self.name, *shards]
        return [self.name, *shards, "config.json"]


def is_index(name: str) -> bool:
    """Whether a file is named like an index of shards."""
    return name.endswith((".safetensors.index.json", ".bin.index.json"))


def shards_in(index: Path, uri: str) -> list[str]:
    """The shards that an index names.

    Raises:
        ConvkitError: it isn't an index, or names what isn't a plain path.
    """
    try:
        shards = sorted(set(json_text.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConvkitError(
            "is named like an index of shards but isn't one", path=uri, remedy="it needs a weight_map"
        ) from error
    check_paths(shards, uri)
    return shards


def check_paths(paths: Iterable[object], uri: str) -> None:
    """Refuse a listing that would write outside its folder, or twice to the same path.

    Raises:
        ConvkitError: names the source and the path.
    """
    seen = set(paths)
    for path in seen:
        if not isinstance(path, str) or not _is_plain(path):
            raise ConvkitError(
                f"lists {path!r}, which isn't a plain path below the folder",
                path=uri,
                remedy="nothing was written; don't trust this source",
            )
        if clash := seen.intersection(str(parent) for parent in PurePosixPath(path).parents):
            raise ConvkitError(
                f"lists {clash.pop()!r} as a file and as a folder", path=uri, remedy="rename one of the two"
            )


def _is_plain(path: str) -> bool:
    # control characters and invalid Unicode would also make the lines of a folder's digest ambiguous
    strange = any(category(character) in ("Cc", "Cs") for character in path)
    return not strange and "\\" not in path and not {"", ".", ".."}.intersection(path.split("/"))


def _below(payload: Path, path: str) -> Path:
    target = payload / path
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _prune(payload: Path, paths: list[str]) -> None:
    """Remove files that an interrupted call fetched and the source no longer lists."""
    keep = {payload / path for path in paths}
    for path in list(payload.rglob("*")):
        if path.is_file() and path not in keep:
            path.unlink()
