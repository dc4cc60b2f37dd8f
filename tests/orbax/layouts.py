"""Checkpoints that the installed Orbax writes with both of its APIs, in every layout, with their contents.

``write(("v0_manager_root",), folder)`` writes one; :data:`MATRIX` names the paths of the recorded compatibility
matrix, each a layout or a folder below one. Layouts that need several devices or 64 bits are written together, in a
process of their own: ``python layouts.py FOLDER v0_sharded v1_sharded``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

Writer = Callable[[Path], None]

#: the 25 of the recorded matrix; ``nope`` is a path where nothing lies
MATRIX = (
    "v0_manager_root",
    "v0_manager_root/1234",
    "v0_manager_root/1234/state",
    "v0_manager_single_default/0",
    "v0_manager_prefix_fixed/step_00001234",
    "v0_composite_checkpointer",
    "v0_direct_standard",
    "v0_direct_pytree",
    "v0_direct_noocdbt_zarr2",
    "v0_direct_ocdbt_zarr3",
    "v0_direct_noocdbt_zarr3",
    "v0_legacy_msgpack_only",
    "v1_save",
    "v1_save_pytree",
    "v1_checkpointables",
    "v1_checkpointables_nostate",
    "v1_save_noocdbt",
    "v1_save_zarr2",
    "v1_save_zarr3_noocdbt",
    "v1_checkpointer_root",
    "v1_checkpointer_root/0",
    "v1_save/state",
    "safetensors_dir",
    "safetensors_dir/model.safetensors",
    "nope",
)
#: devices of the layouts that lie on several
DEVICES = 4
STEPS = (0, 1234)
METRICS = {"loss": 0.25}
CUSTOM = {"made": "by a test"}


class Moments(NamedTuple):
    mu: Any
    nu: Any


def tree() -> dict[str, Any]:
    """One array of jax's and one of numpy's."""
    import jax.numpy as jnp
    import numpy as np

    return {"a": jnp.arange(8, dtype=jnp.int32), "b": {"c": np.arange(6, dtype=np.float32).reshape(2, 3)}}


def leaves() -> dict[str, Any]:
    """Every kind of leaf and node that both APIs save."""
    import jax.numpy as jnp
    import ml_dtypes
    import numpy as np

    narrow = ("bfloat16", "int4", "int2", "float8_e4m3fn", "float8_e5m2", "float8_e4m3b11fnuz", "float4_e2m1fn")
    return {
        "int": 7,
        "large": 1 << 40,
        "float": 0.1,
        "bool": True,
        "text": "naïve",
        "none": None,
        "empty": {"dict": {}, "list": [], "tuple": ()},
        "list": [jnp.zeros((2, 2)), np.arange(3)],
        "tuple": (np.float32([1]), {"deep": jnp.ones(2)}),
        "moments": Moments(mu=jnp.ones(3), nu=np.zeros(3, np.float32)),
        "zero_dim": {"jax": jnp.float32(1.5), "numpy": np.array(3, np.int64)},
        "a.dot": np.arange(2),
        "a/slash": np.arange(3),
        "": np.arange(4),
        "1": np.arange(5),
        "special": np.array([np.nan, -0.0, np.inf], np.float64),
        "wide": {name: np.arange(4).astype(name) for name in ("int64", "uint64", "float64", "complex64", "bool")},
        "narrow": {name: np.ones(3, getattr(ml_dtypes, name)) for name in narrow},
    }


def random_keys() -> dict[str, Any]:
    import jax

    return {
        "typed": jax.random.key(42),
        "batch": jax.random.split(jax.random.key(1), 3),
        "rbg": jax.random.key(3, impl="rbg"),
        "raw": jax.random.PRNGKey(2),
    }


def wide() -> dict[str, Any]:
    """64-bit jax arrays, which need a setting for the whole process."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    return {"int": jnp.array([1 << 40]), "float": jnp.arange(3) / 3}


def sharded() -> dict[str, Any]:
    """On all devices there are: a mesh of two by half of them, or of one by one."""
    import jax
    import jax.numpy as jnp

    rows = 2 if jax.device_count() > 1 else 1
    mesh = jax.make_mesh((rows, jax.device_count() // rows), ("x", "y"))
    spec = jax.sharding.PartitionSpec
    put = jax.device_put
    rule = jax.sharding.NamedSharding
    grid = jnp.arange(32, dtype=jnp.float32).reshape(8, 4)
    return {
        "both": put(grid, rule(mesh, spec("x", "y"))),
        "rows": put(grid, rule(mesh, spec("x", None))),
        "whole": put(grid, rule(mesh, spec())),
    }


def large() -> dict[str, Any]:
    """Arrays that are too large for the database's index: their bytes lie in data files. They don't compress."""
    import jax.numpy as jnp

    return {name: jnp.asarray(values) for name, values in large_numpy().items()}


def large_numpy() -> dict[str, Any]:
    import numpy as np

    values = np.random.default_rng(0).standard_normal((2, 4096), np.float32)
    return {"one": values[0], "two": values[1]}


def same_names() -> dict[str, Any]:
    """Two leaves with one storage name: Orbax keeps one of them."""
    import numpy as np

    return {"a.b": np.ones(2), "a": {"b": np.zeros(2)}}


def _v0_direct(make: Callable[[], Any], **options: Any) -> Writer:
    def write(folder: Path) -> None:
        import orbax.checkpoint as ocp

        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**options)) as checkpointer:
            checkpointer.save(folder, args=ocp.args.PyTreeSave(make()))

    return write


def _v0_standard(folder: Path) -> None:
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, tree(), custom_metadata=CUSTOM)


def _v0_rich(folder: Path) -> None:
    from orbax.checkpoint._src.metadata.tree import PyTreeMetadataOptions

    _v0_direct(leaves, pytree_metadata_options=PyTreeMetadataOptions(support_rich_types=True))(folder)


def _v0_composite(items: Callable[[], dict[str, Any]]) -> Writer:
    def write(folder: Path) -> None:
        import orbax.checkpoint as ocp

        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            checkpointer.save(folder, args=ocp.args.Composite(**items()), custom_metadata=CUSTOM)

    return write


def _random_key_and_array() -> dict[str, Any]:
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    return {
        "state": ocp.args.StandardSave(tree()),
        "meta": ocp.args.JsonSave({"k": [1, 2]}),
        "rng": ocp.args.JaxRandomKeySave(jax.random.key(42)),
        "arr": ocp.args.ArraySave(np.arange(5, dtype=np.float64)),
    }


def _every_item() -> dict[str, Any]:
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    return {
        "state": ocp.args.PyTreeSave(leaves(), custom_metadata={"of": "the item"}),
        "keys": ocp.args.PyTreeSave(random_keys()),
        "json": ocp.args.JsonSave({"deep": [1, 2.5, None, {"text": "ü"}]}),
        "proto": ocp.args.ProtoSave(_message()),
        "typed": ocp.args.JaxRandomKeySave(jax.random.key(42)),
        "raw": ocp.args.JaxRandomKeySave(jax.random.PRNGKey(1)),
        "numpy": ocp.args.NumpyRandomKeySave(np.random.RandomState(7).get_state()),
        "array": ocp.args.ArraySave(np.arange(5, dtype=np.float64)),
    }


def _message() -> Any:
    from google.protobuf.struct_pb2 import Struct

    message = Struct()
    message.update({"layers": 2, "name": "tiny"})
    return message


def _v0_manager(items: Callable[[], Any], *, metrics: bool = False, **options: Any) -> Writer:
    """A root; with ``metrics`` it keeps them, and metadata of its own."""

    def write(folder: Path) -> None:
        import orbax.checkpoint as ocp

        if metrics:
            options["best_fn"] = lambda found: found["loss"]
        with ocp.CheckpointManager(
            folder, options=ocp.CheckpointManagerOptions(**options), metadata=CUSTOM if metrics else None
        ) as manager:
            for step in STEPS:
                told = {"metrics": {"loss": 1 / (step + 1)}, "custom_metadata": CUSTOM} if metrics else {}
                manager.save(step, args=items(), **told)

    return write


def _v0_items() -> Any:
    import orbax.checkpoint as ocp

    return ocp.args.Composite(
        state=ocp.args.StandardSave(tree()),
        pytree=ocp.args.StandardSave(tree()),
        my_json_data=ocp.args.JsonSave({"x": 1}),
    )


def _v0_default() -> Any:
    import orbax.checkpoint as ocp

    return ocp.args.StandardSave(tree())


def _msgpack(folder: Path) -> None:
    """What releases before 0.5.23 wrote of ``SaveArgs(aggregate=True)``: today's Orbax reads it, and can't write it."""
    import jax
    from orbax.checkpoint import msgpack_utils

    folder.mkdir(parents=True)
    (folder / "checkpoint").write_bytes(msgpack_utils.msgpack_serialize(jax.device_get(tree())))


def _v1_save(make: Callable[[], Any], **saving: bool) -> Writer:
    def write(folder: Path) -> None:
        import orbax.checkpoint.experimental.v1 as ocp

        with ocp.Context(array_options=ocp.options.ArrayOptions(saving=ocp.options.ArrayOptions.Saving(**saving))):
            ocp.save(folder, make(), custom_metadata=CUSTOM)

    return write


def _v1_save_pytree(folder: Path) -> None:
    import orbax.checkpoint.experimental.v1 as ocp

    ocp.save_pytree(folder, tree())


def _v1_checkpointables(items: Callable[[], dict[str, Any]], json: tuple[str, ...] = ()) -> Writer:
    """``json`` are the items for which the JSON handler is registered: without that, a dict is saved as a pytree."""

    def write(folder: Path) -> None:
        import orbax.checkpoint.experimental.v1 as ocp

        registry = ocp.handlers.local_registry()
        for name in json:
            registry.add(ocp.handlers.JsonHandler, checkpointable_name=name)
        with ocp.Context(checkpointables_options=ocp.options.CheckpointablesOptions(registry=registry)):
            ocp.save_checkpointables(folder, items(), custom_metadata=CUSTOM)

    return write


def _v1_every_item() -> dict[str, Any]:
    return {"state": leaves() | {"key": random_keys()}, "json": {"deep": [1, 2.5, None]}, "proto": _message()}


def _v1_checkpointer(folder: Path, **name_format: Any) -> None:
    import orbax.checkpoint.experimental.v1 as ocp

    options = {"step_name_format": ocp.path.step.standard_name_format(**name_format)} if name_format else {}
    with ocp.training.Checkpointer(folder, custom_metadata=CUSTOM, **options) as checkpointer:
        for step in STEPS:
            checkpointer.save(step, tree(), metrics={"loss": 1 / (step + 1)}, custom_metadata=CUSTOM)


def _v1_prefixed(folder: Path) -> None:
    _v1_checkpointer(folder, step_prefix="step", step_format_fixed_length=8)


def _safetensors(folder: Path) -> None:
    import ml_dtypes
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    arrays = {"b.c": tree()["b"]["c"], "a": np.arange(8, dtype=np.int32), "e": np.ones(3, ml_dtypes.bfloat16)}
    save_file(arrays, folder / "model.safetensors", metadata={"format": "np"})


def _one_array() -> Any:
    import numpy as np

    return np.arange(6, dtype=np.int16)


WRITERS: dict[str, Writer] = {
    # of the recorded matrix
    "v0_manager_root": _v0_manager(_v0_items),
    "v0_manager_single_default": _v0_manager(_v0_default),
    "v0_manager_prefix_fixed": _v0_manager(_v0_default, step_prefix="step", step_format_fixed_length=8),
    "v0_composite_checkpointer": _v0_composite(_random_key_and_array),
    "v0_direct_standard": _v0_standard,
    "v0_direct_pytree": _v0_direct(tree),
    "v0_direct_noocdbt_zarr2": _v0_direct(tree, use_ocdbt=False),
    "v0_direct_ocdbt_zarr3": _v0_direct(tree, use_zarr3=True),
    "v0_direct_noocdbt_zarr3": _v0_direct(tree, use_ocdbt=False, use_zarr3=True),
    "v0_legacy_msgpack_only": _msgpack,
    "v1_save": _v1_save(tree),
    "v1_save_pytree": _v1_save_pytree,
    "v1_checkpointables": _v1_checkpointables(lambda: {"state": tree(), "pytree": tree(), "my_json_data": {"x": 1}}),
    "v1_checkpointables_nostate": _v1_checkpointables(lambda: {"params": tree(), "aaa": tree()}),
    "v1_save_noocdbt": _v1_save(tree, use_ocdbt=False),
    "v1_save_zarr2": _v1_save(tree, use_zarr3=False),
    "v1_save_zarr3_noocdbt": _v1_save(tree, use_zarr3=True, use_ocdbt=False),
    "v1_checkpointer_root": _v1_checkpointer,
    "safetensors_dir": _safetensors,
    # roots with all that a root can hold
    "v0_manager_metrics": _v0_manager(_v0_items, metrics=True),
    "v0_manager_metrics_prefix": _v0_manager(
        _v0_default, metrics=True, step_prefix="my_run", step_format_fixed_length=6
    ),
    "v1_checkpointer_prefix": _v1_prefixed,
    # every kind of item
    "v0_items": _v0_composite(_every_item),
    "v1_items": _v1_checkpointables(_v1_every_item, json=("json",)),
    # every kind of leaf, in each way of storing
    "v0_leaves": _v0_direct(leaves),
    "v0_leaves_zarr3": _v0_direct(leaves, use_zarr3=True),
    "v0_leaves_folders": _v0_direct(leaves, use_ocdbt=False),
    "v0_leaves_folders_zarr3": _v0_direct(leaves, use_ocdbt=False, use_zarr3=True),
    "v0_rich_types": _v0_rich,
    "v1_leaves": _v1_save(leaves),
    "v1_leaves_zarr2": _v1_save(leaves, use_zarr3=False),
    "v1_leaves_folders": _v1_save(leaves, use_ocdbt=False),
    "v0_random_keys": _v0_direct(random_keys),
    "v1_random_keys": _v1_save(random_keys),
    "v0_one_array": _v0_direct(_one_array),
    "v1_one_array": _v1_save(_one_array),
    "v0_large": _v0_direct(large),
    "v1_large": _v1_save(large),
    "v1_large_numpy": _v1_save(large_numpy),
    "v0_same_names": _v0_direct(same_names),
    "v1_same_names": _v1_save(same_names),
    "v0_wide": _v0_direct(wide),
    "v1_wide": _v1_save(wide),
    "v0_sharded": _v0_direct(sharded),
    "v0_sharded_folders": _v0_direct(sharded, use_ocdbt=False),
    "v1_sharded": _v1_save(sharded),
}
_ON_SEVERAL_DEVICES = ("v0_sharded", "v0_sharded_folders", "v1_sharded")
_OF_64_BITS = ("v0_wide", "v1_wide")


def written_with(name: str) -> tuple[str, ...]:
    """The layouts that are written together with one, itself among them."""
    return next((group for group in (_ON_SEVERAL_DEVICES, _OF_64_BITS) if name in group), (name,))


def write(names: tuple[str, ...], folder: Path) -> None:
    """Write layouts that are written together, each below ``folder`` under its name."""
    if names in (_ON_SEVERAL_DEVICES, _OF_64_BITS):
        count = DEVICES if names == _ON_SEVERAL_DEVICES else 1
        flags = f"--xla_force_host_platform_device_count={count}"
        environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        subprocess.run([sys.executable, __file__, folder, *names], env=environment, check=True, capture_output=True)
    else:
        _write(names, folder)


def _write(names: Iterable[str], folder: Path) -> None:
    for name in names:
        WRITERS[name](folder / name)


if __name__ == "__main__":
    _write(sys.argv[2:], Path(sys.argv[1]))
