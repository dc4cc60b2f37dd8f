"""What the calls of Orbax's v1 API answer: its rules, as functions of the files that lie there.

Sources: orbax-checkpoint 0.12.8, ``experimental/v1/_src``: ``layout/{registry,orbax_layout,orbax_v0_layout,
safetensors_layout}.py``, ``handlers/{resolution,registration,global_registration}.py``, ``deletion/metadata.py``,
``training/checkpointer.py``, ``metadata/loading.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from convkit.errors import ConvkitError
from convkit.formats.safetensors import DTYPES, SUFFIX, Safetensors
from convkit.orbax import folder, json_item
from convkit.orbax.calls import AUTO, Call, Target, Verb
from convkit.orbax.outcome import OrbaxError
from convkit.orbax.pytree import PyTree, Reader
from convkit.state.json_object import read_object
from convkit.state.orbax import step
from convkit.state.orbax.handlers import JSON, METRICS, PROTO, PYTREE, V0, V1

STATE = "state"
#: names that no item may have
_RESERVED = ("metrics", AUTO, step.DELETION)
#: handlers of the API by the names that handlers have on disk; a name of an item may have one, too
_KNOWN = {name: kind for names in (V1, V0) for kind, name in names.items() if kind in (JSON, PROTO, PYTREE)} | {
    V0[PYTREE].replace("standard", "pytree").replace("Standard", "PyTree"): PYTREE,
    V1[METRICS]: METRICS,
}
_BY_NAME = {STATE: PYTREE, "metrics": METRICS}
_INVALID = "InvalidLayoutError"
#: dtypes of safetensors that the API reads (``safetensors_layout.py``)
_SAFETENSORS = frozenset(DTYPES.values()) - {"float8_e8m0fnu", "float8_e4m3fnuz", "float8_e5m2fnuz", "complex64"}


def predict(call: Call, path: Path, devices: int = 1) -> Any:
    """What a call of the API returns.

    Raises:
        OrbaxError: it fails.
    """
    checkpoint = _Checkpoint(path, devices)
    match call.verb:
        case Verb.IS_CHECKPOINT:
            return checkpoint.is_checkpoint()
        case Verb.LOAD if call.safetensors:
            return checkpoint.load_safetensors()
        case Verb.LOAD:
            return checkpoint.load(call.name, call.target)
        case Verb.LOAD_ALL:
            return checkpoint.load_all(call.items, call.target)
        case Verb.METADATA:
            return checkpoint.metadata(call.name)
        case Verb.METADATA_ALL:
            return checkpoint.metadata_all()
        case _:
            found = folder.steps(path, call.names)
            if any(call.names):
                _check_times(found)
            return _latest(found, devices, call.name)


def first_pytree(path: Path, deleting: str | None = None) -> str | None:
    """The item that ``v1.load`` takes where none is named: ``state`` before all, then in alphabetical order."""
    names = folder.subfolders(path) if path.is_dir() else []
    for name in sorted(names, key=lambda name: (name != STATE, name)):
        if name != deleting and name not in _RESERVED and folder.has_tree(path / name):
            return name
    return None


@dataclass(frozen=True)
class _Checkpoint:
    path: Path
    devices: int

    def is_checkpoint(self) -> bool:
        """Either layout will do: the older one takes almost any folder."""
        for check in (self._check_v1, self._check_v0):
            try:
                check()
            except OrbaxError:
                continue
            return True
        return False

    def load(self, name: str | None, target: Target) -> Any:
        name = self._resolve(name)
        if name is not None:
            return self._load_item(name, target)
        named = folder.handlers(self.path)
        if isinstance(named, Mapping):
            raise OrbaxError(_INVALID, "its handlers are by item: an item is to be named")
        # the folder's own name counts as the item's
        return self._item(self.path, self._kind(self.path.name, named, target), target)

    def load_all(self, items: Mapping[str, str | None], target: Target) -> dict[str, Any]:
        self._check()
        self._check_not_direct()
        if self.deleting in items:
            self._refuse_deleted()
        available = [name for name in folder.subfolders(self.path) if name != self.deleting]
        wanted = dict(items) or {name: None for name in available if name not in _RESERVED}
        missing = [name for name in wanted if name not in available]
        if missing:
            raise OrbaxError("KeyError", f"no item {', '.join(missing)}; there are {', '.join(available) or 'none'}")
        targets = {name: target if asked else Target.STORED for name, asked in wanted.items()}
        kinds = {name: self._kind(name, self._handler(name), targets[name]) for name in wanted}
        if protos := [name for name, kind in kinds.items() if kind == PROTO]:
            raise OrbaxError("ValueError", f"item {protos[0]} needs the class of its message")
        loaded = {}
        for name, kind in kinds.items():
            try:
                loaded[name] = self._item(self.path / name, kind, targets[name])
            except OrbaxError as error:
                raise OrbaxError("NoEntryError", f"item {name} can't be loaded as {kind}") from error
        return loaded

    def metadata(self, name: str | None) -> Any:
        name = self._resolve(name)
        if name is None:
            if not self._is_direct():
                raise OrbaxError(_INVALID, "it has items: one is to be named")
            if self._kind(self.path.name, folder.handlers(self.path), Target.STORED) != PYTREE:
                return None
            return PyTree(self.path, self.devices).metadata()
        return self._metadata(name)

    def metadata_all(self) -> dict[str, Any]:
        self._check()
        self._check_not_direct()
        names = [name for name in folder.subfolders(self.path) if name not in (self.deleting, "metrics")]
        if reserved := [name for name in names if name in _RESERVED]:
            raise OrbaxError("ValueError", f"no item may be called {reserved[0]}")
        return {name: self._metadata(name) for name in names}

    def load_safetensors(self) -> dict[str, str]:
        """With ``checkpoint_layout`` set to safetensors; the item's name isn't looked at."""
        self._check_record()
        if self.path.is_dir():
            files = sorted(self.path.glob(f"*{SUFFIX}"))
        else:
            files = [self.path] if self.path.is_file() and self.path.suffix == SUFFIX else []
        if not files:
            raise OrbaxError(_INVALID, "no safetensors checkpoint") from OrbaxError(_INVALID, f"no {SUFFIX} file")
        loaded: dict[str, str] = {}
        for file in files:
            try:
                with Safetensors().open(file) as opened:
                    specs = {key: leaf.spec for key, leaf in opened.leaves.items() if leaf.spec}
            except ConvkitError as error:
                raise OrbaxError("ValueError", f"{file.name} {error.problem}") from None
            if twice := sorted(specs.keys() & loaded.keys()):
                raise OrbaxError("ValueError", f"{twice[0]} is in several files")
            if strange := [spec.dtype for spec in specs.values() if spec.dtype not in _SAFETENSORS]:
                raise OrbaxError("ValueError", f"dtype {strange[0]} isn't supported")
            loaded |= {key: f"np.ndarray {spec.dtype}{list(spec.shape)}" for key, spec in specs.items()}
        return loaded

    @cached_property
    def deleting(self) -> str | None:
        """The item that an unfinished deletion hides.

        Raises:
            OrbaxError: the record of the deletion contradicts the checkpoint.
        """
        if not (self.path / step.DELETION).exists():
            return None
        try:
            record = read_object(self.path / step.DELETION)
            now = read_object(self.path / step.FILE)
        except ConvkitError as error:
            raise OrbaxError("DeletionRecoveryError", error.problem) from None
        name, before, after = (record.get(k) for k in ("checkpointable_name", "original_metadata", "updated_metadata"))
        if not isinstance(name, str) or now not in (before, after):
            raise OrbaxError("DeletionRecoveryError", f"{step.DELETION} contradicts {step.FILE}")
        return name

    def _check_record(self) -> None:
        """That what is told of a deletion can be believed."""
        _ = self.deleting

    def _refuse_deleted(self) -> None:
        raise OrbaxError("DeletionInProgressError", f"item {self.deleting} is being deleted")

    @property
    def _is_v1(self) -> bool:
        return (self.path / step.INDICATOR).exists()

    def _check(self) -> None:
        """That a checkpoint lies there, in the layout that the indicator tells."""
        self._check_record()
        try:
            self._check_v1() if self._is_v1 else self._check_v0()
        except OrbaxError as error:
            raise OrbaxError(_INVALID, "no checkpoint is recognised") from error

    def _check_v1(self) -> None:
        with _as_layout("V1 checkpoint"):
            self._check_whole()
            for name in (step.FILE, step.INDICATOR):
                if not (self.path / name).exists():
                    raise OrbaxError("FileNotFoundError", f"{name} isn't there")

    def _check_v0(self) -> None:
        with _as_layout("V0 checkpoint"):
            self._check_whole()
            if folder.has_handlers(self.path.parent):
                raise OrbaxError(_INVALID, f"it lies in a checkpoint: {self.path.parent.name} is to be loaded")
            if not folder.has_handlers(self.path) and not folder.has_tree(self.path):
                below = [name for name in folder.subfolders(self.path) if folder.has_handlers(self.path / name)]
                if below:
                    raise OrbaxError(_INVALID, f"it is a root: {', '.join(sorted(below))} are to be loaded")

    def _check_whole(self) -> None:
        if not self.path.exists():
            raise OrbaxError("FileNotFoundError", "nothing lies there")
        if not self.path.is_dir():
            raise OrbaxError("NotADirectoryError", "it is a file")
        if folder.is_unfinished(self.path):
            raise OrbaxError("ValueError", "it is an unfinished save")

    def _resolve(self, name: str | None) -> str | None:
        """The item to load: itself, or for :data:`AUTO` the first that is a pytree, ``state`` before all."""
        self._check()
        if name != AUTO:
            if name is not None and name == self.deleting:
                self._refuse_deleted()
            self._check_item(name)
            return name
        if (found := first_pytree(self.path, self.deleting)) is not None:
            return found
        if not self._is_v1 and folder.has_tree(self.path):
            return None
        raise OrbaxError(_INVALID, "no item is a pytree with its metadata")

    def _check_item(self, name: str | None) -> None:
        with _as_layout(f"{'V1' if self._is_v1 else 'V0'} pytree"):
            if name is None and self._is_v1:
                raise OrbaxError("ValueError", "a v1 checkpoint has items: one is to be named")
            if not folder.has_tree(self.path / name if name else self.path):
                there = [n for n in folder.subfolders(self.path) if folder.has_tree(self.path / n)]
                if not self._is_v1 and folder.has_tree(self.path):
                    hint = "the folder itself is one: checkpointable_name=None"
                else:
                    hint = f"pytrees are {', '.join(sorted(there))}" if there else "there is none"
                raise OrbaxError("FileNotFoundError", f"no pytree's metadata lies there; {hint}")

    def _is_direct(self) -> bool:
        return isinstance(folder.handlers(self.path), str) or folder.has_tree(self.path)

    def _check_not_direct(self) -> None:
        if not self._is_v1 and self._is_direct():
            raise OrbaxError(_INVALID, "it has no items: v1.load is the call for it")

    def _handler(self, name: str) -> str | None:
        named = folder.handlers(self.path)
        return named.get(name) if isinstance(named, Mapping) else None

    def _kind(self, name: str, handler: str | Mapping[str, str] | None, target: Target) -> str:
        """Of which kind an item is taken to be: by its target, its name, its handler; else a pytree."""
        if target is not Target.STORED:  # of the API's handlers only that of pytrees takes one
            return PYTREE
        if name in _BY_NAME:
            return _BY_NAME[name]
        return _KNOWN.get(str(handler).replace(".v0._src.", "._src."), PYTREE)

    def _load_item(self, name: str, target: Target) -> Any:
        return self._item(self.path / name, self._kind(name, self._handler(name), target), target)

    def _item(self, path: Path, kind: str, target: Target) -> Any:
        match kind:
            case "proto":
                raise OrbaxError("ValueError", "the class of its message is to be given")
            case "json":
                return json_item.load(path, "data.json", "metadata")
            case "metrics":
                return json_item.load(path, "metrics", "data.json", "metadata")
            case _:
                return PyTree(path, self.devices).load(Reader.V1, target)

    def _metadata(self, name: str) -> Any:
        """What is said of an item: None, without an error, where its metadata can't be read."""
        if self._kind(name, self._handler(name), Target.STORED) != PYTREE:
            return None
        try:
            return PyTree(self.path / name, self.devices).metadata()
        except OrbaxError:
            return None


@contextmanager
def _as_layout(what: str) -> Iterator[None]:
    """Wraps an error as the layouts do."""
    try:
        yield
    except OrbaxError as error:
        raise OrbaxError(_INVALID, f"not a {what}") from error


def _check_times(found: Mapping[int, Path]) -> None:
    """With a format of its own, ``training.Checkpointer`` asks each step for the time at which it was complete."""
    for path in found.values():
        if folder.commit_time(path) is None:
            raise OrbaxError("AttributeError", f"step {path.name} doesn't say when it was complete")


def _latest(found: Mapping[int, Path], devices: int, name: str | None) -> Any:
    """What ``training.Checkpointer`` with these steps loads of the latest: an item, or all."""
    for path in found.values():
        json_item.check(path / "metrics", "metrics")
    if not found:
        raise OrbaxError("StepNotFoundError", "no folder has a step's name")
    checkpoint = _Checkpoint(found[max(found)], devices)
    return checkpoint.load_all({name: None}, Target.STORED)[name] if name else checkpoint.load_all({}, Target.STORED)
