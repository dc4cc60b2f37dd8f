"""Make the calls of the table in the installed Orbax, inside the worker. Imports jax and Orbax."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as v0
from orbax.checkpoint.experimental import v1

from convkit.checkpoint.tensors import value_dtype
from convkit.orbax.check.calls import AUTO, Call, Target, Verb
from convkit.orbax.check.outcome import OK, OrbaxError
from convkit.orbax.check.pytree import PyTree
from convkit.orbax.check.v1_layout import first_pytree
from convkit.state.orbax.nested import nested
from convkit.state.orbax.root import StepName
from convkit.state.orbax.step import deleted_item
from convkit.state.orbax.tree import ARRAY, SCALAR, STRING, Node


def keep_64_bits(keep: bool) -> None:
    """Set whether jax keeps 64 bits; by default it cuts them to 32."""
    jax.config.update("jax_enable_x64", keep)


def answers(request: Mapping[str, Any], make: Maker) -> Iterator[dict[str, Any]]:
    """Answer each of the request's ``calls`` for the checkpoint at ``path``."""
    for entry in request["calls"]:
        yield answer(Call.from_json(entry), Path(request["path"]), make)


def answer(call: Call, path: Path, make: Maker) -> dict[str, Any]:
    """Make the call: return its result, a description of the value, and class and message of errors and causes."""
    try:
        target = abstract(path / _folder(call, path), call.target) if call.verb in _WITH_TARGET else None
        value = make(call, path, target)
        value = value if call.verb is Verb.IS_CHECKPOINT else described(value)
    except Exception as error:
        causes = []
        cause: BaseException | None = error
        while cause is not None:
            causes.append((type(cause).__name__, str(cause)))
            cause = cause.__cause__
        return {"result": type(error).__name__, "value": None, "causes": causes}
    return {"result": OK, "value": value, "causes": []}


@dataclass(frozen=True)
class Maker:
    """Makes calls. Managers, which make folders, are given a folder of links in ``scratch``."""

    scratch: Path

    def __call__(self, call: Call | Mapping[str, Any], path: Path, target: Any = None) -> Any:
        """Make a call, which may be given as JSON, and return its value.

        ``target`` is the tree to restore, where the call takes one: shape and dtype of each leaf, ``...`` for those
        that aren't wanted.
        """
        call = call if isinstance(call, Call) else Call.from_json(call)
        return (self._v1 if call.api == "v1" else self._v0)(call, path, target)

    def _v1(self, call: Call, path: Path, target: Any) -> Any:
        match call.verb:
            case Verb.IS_CHECKPOINT:
                return v1.is_orbax_checkpoint(path)
            case Verb.LOAD:
                layout = v1.options.CheckpointLayout.SAFETENSORS if call.safetensors else None
                with v1.Context(checkpoint_layout=layout):
                    return v1.load(path, target, checkpointable_name=call.name)
            case Verb.LOAD_ALL:
                items = {
                    name: abstract(path / name, call.target) if kind else None for name, kind in call.items.items()
                }
                return v1.load_checkpointables(path, items or None)
            case Verb.METADATA:
                return v1.metadata(path, checkpointable_name=call.name).metadata
            case Verb.METADATA_ALL:
                return v1.checkpointables_metadata(path).metadata
            case Verb.CUSTOM_V1:
                return v1.checkpointables_metadata(path).custom_metadata or {}
        names = v1.path.step.standard_name_format(**_names(call)) if any(call.names) else None
        if call.verb is Verb.STEPS_V1:
            with v1.training.Checkpointer(path, step_name_format=names) as checkpointer:
                metrics = {found.step: found.metrics for found in checkpointer.checkpoints}
                return metrics, checkpointer.root_metadata().custom_metadata or {}
        with v1.training.Checkpointer(_links(path, self.scratch), step_name_format=names) as checkpointer:
            if call.name is None:
                return checkpointer.load_checkpointables()
            return checkpointer.load(checkpointable_name=call.name)

    def _v0(self, call: Call, path: Path, target: Any) -> Any:
        below = path / call.below
        match call.verb:
            case Verb.MANAGER:
                options = v0.CheckpointManagerOptions(**_names(call))
                with v0.CheckpointManager(_links(path, self.scratch), options=options) as manager:
                    args = _args(call.items)
                    named = v0.args.Composite(**args) if args else None
                    return manager.restore(manager.latest_step(), args=args.get("", named))
            case Verb.COMPOSITE:
                with v0.Checkpointer(v0.CompositeCheckpointHandler()) as checkpointer:
                    return checkpointer.restore(path, args=v0.args.Composite(**_args(call.items)))
            case Verb.CUSTOM_V0:
                with v0.Checkpointer(v0.CompositeCheckpointHandler()) as checkpointer:
                    return checkpointer.metadata(path).custom_metadata or {}
            case Verb.STEPS_V0:
                return _steps_v0(call, path)
            case Verb.STANDARD:
                with v0.StandardCheckpointer() as checkpointer:
                    return checkpointer.restore(below, target)
        with v0.PyTreeCheckpointer() as checkpointer:
            if target is not None:
                given = v0.checkpoint_utils.construct_restore_args(target)
                return checkpointer.restore(below, args=v0.args.PyTreeRestore(item=target, restore_args=given))
            if call.target is Target.STORED:
                return checkpointer.restore(below)
            tree = checkpointer.metadata(below).item_metadata.tree
            as_numpy = jax.tree.map(_numpy_args, tree)
            return checkpointer.restore(below, args=v0.args.PyTreeRestore(restore_args=as_numpy))


#: calls of one item that take a tree
_WITH_TARGET = (Verb.LOAD, Verb.STANDARD)


def _folder(call: Call, path: Path) -> str:
    """The folder below the checkpoint that holds the tree for a call's target."""
    if call.verb is Verb.STANDARD:
        return call.below
    return (first_pytree(path, deleted_item(path)) if call.name == AUTO else call.name) or ""


def _steps_v0(call: Call, root: Path) -> tuple[dict[int, Any], Any]:
    """The steps that a manager finds, with their metrics, and the root's custom metadata."""
    options = v0.CheckpointManagerOptions(**_names(call), read_only=True, create=False)
    with v0.CheckpointManager(root, options=options) as manager:
        kept = {step: (root / str(StepName(step, *call.names)) / "metrics").is_dir() for step in manager.all_steps()}
        metrics = {step: manager.metrics(step) if there else None for step, there in kept.items()}
        return metrics, manager.metadata().custom_metadata or {}


def _numpy_args(leaf: Any) -> Any:
    if type(leaf) is v0.metadata.ArrayMetadata:
        return v0.RestoreArgs(restore_type=np.ndarray)
    return v0.RestoreArgs()


def _names(call: Call) -> dict[str, Any]:
    prefix, length = call.names
    return {"step_prefix": prefix or None, "step_format_fixed_length": length or None}


def _args(items: Mapping[str, str | None]) -> dict[str, Any]:
    return {name: getattr(v0.args, str(handler))() for name, handler in items.items()}


def _links(path: Path, scratch: Path) -> Path:
    """Make a copy of the folder ``path``, with links from the second level on."""
    if not path.is_dir():
        return path if path.exists() else scratch / "nothing" / path.name
    copy = scratch / "root" / path.name
    if not copy.exists():
        copy.mkdir(parents=True)
        for entry in path.iterdir():
            if entry.is_dir():
                (copy / entry.name).mkdir()
                for inner in entry.iterdir():
                    (copy / entry.name / inner.name).symlink_to(inner)
            else:
                (copy / entry.name).symlink_to(entry)
    return copy


def abstract(folder: Path, target: Target) -> Any:
    """The tree stored in a folder, as a target: without its values.

    None if no tree is needed; a single array if no tree is stored.
    """
    if target is Target.STORED:
        return None
    item = PyTree(folder)
    # without metadata about which arrays were jax's and on which devices they were
    unknown = jax.ShapeDtypeStruct((1,), np.float32)
    try:
        if item.tree and item.tree.nodes:
            return nested((node.elements, _abstract_leaf(item, node, target)) for node in item.tree.nodes)
        return nested((node.elements, unknown) for node, _ in item.aggregate) or {"x": unknown}
    except OrbaxError:
        return {"x": unknown}


def _abstract_leaf(item: PyTree, node: Node, target: Target) -> Any:
    if node.empty:
        return {"Dict": {}, "List": [], "Tuple": ()}.get(node.value_type)
    if node.value_type == STRING:
        return "text"
    try:
        spec = item.array(node).spec
    except OrbaxError:
        return np.zeros(1)
    dtype, shape = value_dtype(spec.dtype), spec.shape
    if node.value_type == SCALAR:
        return dtype.type(0).item()
    if node.value_type != ARRAY or target is Target.NUMPY:
        return np.broadcast_to(np.zeros((), dtype), shape)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    try:
        algorithm = item.key_algorithms.get(node.name)
    except OrbaxError:
        algorithm = None
    if algorithm:
        key = jax.eval_shape(lambda: jax.random.key(0, impl=algorithm))
        return jax.ShapeDtypeStruct(shape[:-1], key.dtype, sharding=device)
    return jax.ShapeDtypeStruct(shape, dtype, sharding=device)


def described(value: Any) -> Any:
    """Describe the value's structure, with the kinds of its leaves."""
    if isinstance(value, jax.Array):
        if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
            return f"jax.Array key<{jax.random.key_impl(value)}>{list(value.shape)}"
        return f"jax.Array {value.dtype}{list(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"np.ndarray {value.dtype}{list(value.shape)}"
    if isinstance(value, Mapping) or hasattr(value, "items"):
        return {str(name): described(part) for name, part in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return [described(part) for part in value]
    if hasattr(value, "shape") and hasattr(value, "dtype"):  # from the calls for metadata
        kind = "jax.Array" if type(value).__name__ == "ArrayMetadata" else "np.ndarray"
        return f"{kind} {value.dtype}{list(value.shape)}"
    return None if value is None else type(value).__name__
