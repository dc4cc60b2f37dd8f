"""Predict the answers of calls of Orbax's v1 API: its rules, as functions of the checkpoint's files.

Sources: orbax-checkpoint 0.12.8, ``experimental/v1/_src``: ``layout/{registry,orbax_layout,orbax_v0_layout,
safetensors_layout}.py``, ``handlers/{resolution,registration,global_registration}.py``, ``deletion/metadata.py``,
``training/checkpointer.py``, ``metadata/loading.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convkit.errors import ConvkitError
from convkit.formats.safetensors import DTYPES, SUFFIX, Safetensors
from convkit.orbax.check import folder, json_item
from convkit.orbax.check.calls import Call, Target, Verb
from convkit.orbax.check.outcome import OrbaxError
from convkit.orbax.check.pytree import Reader, Trees
from convkit.orbax.check.v1_layout import INVALID, RESERVED, STATE, Layout
from convkit.state.orbax.handlers import JSON, METRICS, PROTO, PYTREE, V0, V1

#: handlers of the API by their names on disk; some names of items also have a handler
_KNOWN = {name: kind for names in (V1, V0) for kind, name in names.items() if kind in (JSON, PROTO, PYTREE)} | {
    V0[PYTREE].replace("standard", "pytree").replace("Standard", "PyTree"): PYTREE,
    V1[METRICS]: METRICS,
}
_BY_NAME = {STATE: PYTREE, "metrics": METRICS}
#: dtypes of safetensors that the API reads (``safetensors_layout.py``)
_SAFETENSORS = frozenset(DTYPES.values()) - {"float8_e8m0fnu", "float8_e4m3fnuz", "float8_e5m2fnuz", "complex64"}


def predict(call: Call, path: Path, trees: Trees) -> Any:
    """Predict the value that a call of the API returns.

    Raises:
        OrbaxError: the call fails.
    """
    checkpoint = _Checkpoint(path, trees)
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
            return _latest(found, trees, call.name)


@dataclass(frozen=True)
class _Checkpoint(Layout):
    trees: Trees

    def load(self, name: str | None, target: Target) -> Any:
        name = self.resolve(name)
        if name is not None:
            return self._load_item(name, target)
        named = folder.handlers(self.path)
        if isinstance(named, Mapping):
            raise OrbaxError(INVALID, "its handlers are by item: name an item")
        # the folder's own name counts as the item's
        return self._item(self.path, self._kind(self.path.name, named, target), target)

    def load_all(self, items: Mapping[str, str | None], target: Target) -> dict[str, Any]:
        self.check()
        self.check_not_direct()
        if self.deleting in items:
            self.refuse_deleted()
        available = [name for name in folder.subfolders(self.path) if name != self.deleting]
        wanted = dict(items) or {name: None for name in available if name not in RESERVED}
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
        name = self.resolve(name)
        if name is None:
            if not self.is_direct():
                raise OrbaxError(INVALID, "it has items: name one")
            if self._kind(self.path.name, folder.handlers(self.path), Target.STORED) != PYTREE:
                return None
            return self.trees(self.path).metadata()
        return self._metadata(name)

    def metadata_all(self) -> dict[str, Any]:
        self.check()
        self.check_not_direct()
        names = [name for name in folder.subfolders(self.path) if name not in (self.deleting, "metrics")]
        if reserved := [name for name in names if name in RESERVED]:
            raise OrbaxError("ValueError", f"no item may be called {reserved[0]}")
        return {name: self._metadata(name) for name in names}

    def load_safetensors(self) -> dict[str, str]:
        """Load with ``checkpoint_layout`` set to safetensors; the item's name doesn't matter."""
        self.check_record()
        if self.path.is_dir():
            files = sorted(self.path.glob(f"*{SUFFIX}"))
        else:
            files = [self.path] if self.path.is_file() and self.path.suffix == SUFFIX else []
        if not files:
            raise OrbaxError(INVALID, "not a safetensors checkpoint") from OrbaxError(INVALID, f"no {SUFFIX} file")
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

    def _handler(self, name: str) -> str | None:
        named = folder.handlers(self.path)
        return named.get(name) if isinstance(named, Mapping) else None

    def _kind(self, name: str, handler: str | Mapping[str, str] | None, target: Target) -> str:
        """The kind of item that v1 assumes: by its target, its name or its handler; else a pytree."""
        if target is not Target.STORED:  # only the handler of pytrees takes a target
            return PYTREE
        if name in _BY_NAME:
            return _BY_NAME[name]
        return _KNOWN.get(str(handler).replace(".v0._src.", "._src."), PYTREE)

    def _load_item(self, name: str, target: Target) -> Any:
        return self._item(self.path / name, self._kind(name, self._handler(name), target), target)

    def _item(self, path: Path, kind: str, target: Target) -> Any:
        match kind:
            case "proto":
                raise OrbaxError("ValueError", "the call needs the class of its message")
            case "json":
                return json_item.load(path, "data.json", "metadata")
            case "metrics":
                return json_item.load(path, "metrics", "data.json", "metadata")
            case _:
                return self.trees(path).load(Reader.V1, target)

    def _metadata(self, name: str) -> Any:
        """The metadata of an item; None, without an error, if it can't be read."""
        if self._kind(name, self._handler(name), Target.STORED) != PYTREE:
            return None
        try:
            return self.trees(self.path / name).metadata()
        except OrbaxError:
            return None


def _check_times(found: Mapping[int, Path]) -> None:
    """Check that each step has a commit time, which ``training.Checkpointer`` reads if it has a name format."""
    for path in found.values():
        if folder.commit_time(path) is None:
            raise OrbaxError("AttributeError", f"step {path.name} doesn't say when it was complete")


def _latest(found: Mapping[int, Path], trees: Trees, name: str | None) -> Any:
    """Predict what ``training.Checkpointer`` loads from the latest of these steps: an item, or all."""
    for path in found.values():
        json_item.check(path / "metrics", "metrics")
    if not found:
        raise OrbaxError("StepNotFoundError", "no folder has a step's name")
    checkpoint = _Checkpoint(found[max(found)], trees)
    return checkpoint.load_all({name: None}, Target.STORED)[name] if name else checkpoint.load_all({}, Target.STORED)
