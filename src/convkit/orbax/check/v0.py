"""Predict the answers of calls of Orbax's v0 API: its rules, as functions of the checkpoint's files.

Sources: orbax-checkpoint 0.12.8, ``_src/checkpointers/checkpointer.py``, ``_src/handlers/*.py``,
``checkpoint_manager.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from convkit.orbax.check import folder, json_item
from convkit.orbax.check.calls import PYTREE, STANDARD, Call, Target, Verb
from convkit.orbax.check.outcome import OrbaxError
from convkit.orbax.check.pytree import Reader, Trees
from convkit.orbax.check.stored import Store
from convkit.state.orbax import layout

#: the modules that hold the handlers of the API
_MODULE = "orbax.checkpoint._src.handlers."
DEFAULT, METRICS = "default", "metrics"
_METRICS_HANDLER = "JsonCheckpointHandler(filename='metrics')"
#: errors for which metadata(p) returns None
_SWALLOWED = ("FileNotFoundError", "NotImplementedError", "ValueError", "JSONDecodeError", "TypeError")
_KEY, _NUMPY_KEY = "jax_random_key", "np_random_key"


def predict(call: Call, path: Path, trees: Trees) -> Any:
    """Predict the value that a call of the API returns.

    Raises:
        OrbaxError: the call fails.
    """
    if call.verb is Verb.MANAGER:
        return _manager(folder.steps(path, call.names), call.items, trees)
    path = path / call.below if call.below else path
    if call.target is Target.NUMPY:
        _check_described(path, trees)
    if not path.exists():
        raise OrbaxError("FileNotFoundError", "nothing lies there")
    if not folder.is_whole(path):
        raise OrbaxError("ValueError", "it isn't a folder, or is an unfinished save")
    match call.verb:
        case Verb.COMPOSITE:
            return _composite(path, call.items, trees)
        case Verb.STANDARD:
            return trees(path).load(Reader.STANDARD, call.target)
        case _:
            return trees(path).load(Reader.PYTREE, call.target)


def _check_described(path: Path, trees: Trees) -> None:
    """Check that ``metadata(p).item_metadata.tree`` exists, from which ``restore_args`` are made."""
    if path.is_file():
        raise OrbaxError("NotADirectoryError", "it is a file")
    if path.exists():
        folder.handlers(path)
    try:
        trees(path).check_metadata()
    except OrbaxError as error:
        if error.kind not in _SWALLOWED:
            raise
        raise OrbaxError("AttributeError", f"metadata(p) has no tree: {error}") from None


def _composite(path: Path, asked: Mapping[str, str | None], trees: Trees, *, manager: bool = False) -> dict[str, Any]:
    """The requested items by their requested handlers; without a request, all items by their handlers on disk."""
    there = folder.subfolders(path)
    handlers = {name: str(handler) for name, handler in asked.items()}
    if not handlers:
        for name in there:
            handlers[name] = _METRICS_HANDLER if manager and name == METRICS else _on_disk(path, name)
    for name in handlers:
        if name not in there:
            raise OrbaxError("KeyError", f"no item {name}; there are {', '.join(there) or 'none'}")
    return {name: _HANDLERS[handlers[name]](path / name, trees) for name in sorted(handlers)}


def _on_disk(path: Path, name: str) -> str:
    """Find the handler of an item that the checkpoint records.

    Raises:
        OrbaxError: it doesn't record a handler that the API has.
    """
    named = folder.handlers(path)
    if isinstance(named, str):
        raise OrbaxError("ValueError", "a checkpoint without items")
    handler = (named or {}).get(name)
    known = str(handler).replace(".v0._src.", "._src.").removeprefix(_MODULE).rpartition(".")[2]
    if not str(handler).startswith("orbax.checkpoint.") or ".experimental." in str(handler) or known not in _HANDLERS:
        cause = OrbaxError("KeyError", f"no handler {handler}")
        raise OrbaxError("ValueError", f"item {name} is there, but no v0 handler is known for it") from cause
    if known == "ProtoCheckpointHandler":
        cause = OrbaxError("TypeError", "ProtoRestoreArgs has no default")
        raise OrbaxError("ValueError", f"item {name} needs the class of its message") from cause
    return known


def _pytree(reader: Reader) -> Callable[[Path, Trees], Any]:
    return lambda path, trees: trees(path).load(reader)


def _json(path: Path, trees: Trees) -> Any:
    return json_item.load(path, "metadata")


def _metrics(path: Path, trees: Trees) -> Any:
    return json_item.load(path, METRICS)


def _array(path: Path, trees: Trees) -> Any:
    if folder.has_tree(path):
        return trees(path).load(Reader.BASE)[layout.AGGREGATE]
    return _lone_array(path, layout.AGGREGATE)


def _lone_array(path: Path, name: str) -> str:
    """Treat an array without metadata beside it as numpy's."""
    spec = Store(path, ocdbt=(path / layout.MANIFEST).is_file(), version3=False).open(name).spec
    return f"np.ndarray {spec.dtype}{list(spec.shape)}"


def _jax_key(path: Path, trees: Trees) -> Any:
    loaded = _composite(path, {_KEY: "ArrayCheckpointHandler", f"{_KEY}_metadata": "JsonCheckpointHandler"}, trees)
    shape = str(loaded[_KEY]).partition("[")[2]
    noted = json_item.read(path / f"{_KEY}_metadata" / "metadata")
    if not isinstance(noted, dict) or "typed" not in noted:
        raise OrbaxError("KeyError", "typed")
    typed = noted["typed"]
    # the algorithm isn't stored, so it is jax's default
    return f"jax.Array key<threefry2x32>[{shape.rpartition(',')[0]}]" if typed else loaded[_KEY]


def _numpy_key(path: Path, trees: Trees) -> Any:
    items = {_NUMPY_KEY: "PyTreeCheckpointHandler", f"{_NUMPY_KEY}_metadata": "JsonCheckpointHandler"}
    return _composite(path, items, trees)[_NUMPY_KEY]


#: the rule of each handler, by the name of the handler or of a call's arguments
_HANDLERS: dict[str, Callable[[Path, Trees], Any]] = {
    "PyTreeCheckpointHandler": _pytree(Reader.PYTREE),
    "StandardCheckpointHandler": _pytree(Reader.STANDARD),
    PYTREE: _pytree(Reader.PYTREE),
    STANDARD: _pytree(Reader.STANDARD),
    "JsonCheckpointHandler": _json,
    # a manager finds its own metrics
    _METRICS_HANDLER: _metrics,
    "ArrayCheckpointHandler": _array,
    "JaxRandomKeyCheckpointHandler": _jax_key,
    "NumpyRandomKeyCheckpointHandler": _numpy_key,
    "ProtoCheckpointHandler": _json,
}


def _manager(found: Mapping[int, Path], asked: Mapping[str, str | None], trees: Trees) -> Any:
    """Predict what ``CheckpointManager`` restores from the latest step: items, or the value of one unnamed item."""
    for path in found.values():
        json_item.check(path / METRICS, METRICS)
    if not found:
        raise OrbaxError("FileNotFoundError", "no folder has a step's name")
    latest = found[max(found)]
    single = (latest / DEFAULT).exists()
    if single and asked and "" not in asked:
        raise OrbaxError("ValueError", f"a root of one unnamed item, {DEFAULT}: arguments by item are refused")
    if not single and "" in asked:
        raise OrbaxError("ValueError", "a root of several items: arguments by item are needed")
    loaded = _composite(latest, {name or DEFAULT: handler for name, handler in asked.items()}, trees, manager=True)
    return loaded[DEFAULT] if single else loaded
