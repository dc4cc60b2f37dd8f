"""The real cerebras.pytorch as a server: one JSON request a line on stdin, one JSON answer a line on stdout.

``{"load": path}`` loads a checkpoint, ``{"save": path, "state": name}`` saves one of :data:`STATES`;
both answer with a description of the state: the tree spec, and each leaf's value, tensors as hex bytes.
Runs in an environment of its own, see ``setup.sh``; convkit isn't there.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections import OrderedDict
from typing import Any

import stand_in

stand_in.install()

import cerebras.pytorch as cstorch  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from cerebras.appliance.data.dtypes import bf16  # noqa: E402
from cerebras.appliance.storage.serializers import DeferredObject  # noqa: E402
from cerebras.pytorch.storage.serializers import DeferredFullTensor, use_external_link  # noqa: E402
from torch.utils import _pytree as pytree  # noqa: E402

DTYPES = ["bool", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
DTYPES += ["float16", "bfloat16", "float32", "float64"]


def tensor(dtype: str, *shape: int, seed: int = 0) -> torch.Tensor:
    """Random bits, booleans 0 or 1."""
    width = torch.empty(0, dtype=getattr(torch, dtype)).element_size()
    raw = np.random.default_rng(seed).integers(0, 2 if dtype == "bool" else 256, (*shape, width), np.uint8)
    return torch.from_numpy(raw.reshape(-1)).view(getattr(torch, dtype)).reshape(shape)


def dtypes() -> dict:
    """Every dtype that can be saved, in three shapes."""
    return {
        "model": {f"{dtype}.{len(s)}": tensor(dtype, *s) for dtype in DTYPES for s in [(), (7,), (0, 3), (5, 3, 2)]}
    }


def nested() -> dict:
    """A training state: containers of all kinds, ties, values."""
    weight = tensor("float32", 6, 4)
    return {
        "model": OrderedDict(w=weight, tied=weight, b=weight[0], **{"name/with.slash": tensor("float32", 2)}),
        "optimizer": {
            "state": {0: {"step": torch.tensor(7), "exp_avg": tensor("float32", 6, 4, seed=1)}, "p1": {"m": None}},
            "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0, 1], "empty": [], "none": {}, "t": ()}],
        },
        "global_step": 10,
        "big": 2**70,
        "negative": -(2**70),
        "numbers": [1e-320, -0.0, 1.7976931348623157e308, float("inf"), float("-inf"), float("nan"), True, False],
        "text": ["", "héllo", "line\nbreak", "quote\"'", "\u2028", "\0"],
        "set": {3},
        "object": 1 + 2j,
        "array": np.arange(6, dtype=np.int16).reshape(2, 3),
        "array_bf16": np.arange(6, dtype=np.int16).astype(bf16),
    }


def full() -> dict:
    """Tensors that are one value all over."""
    sizes = torch.Size([2, 3])
    return {
        f"{name}": DeferredFullTensor(sizes, getattr(torch, name), value)
        for name, value in [("float32", 0.1), ("bfloat16", 0.1), ("int64", -3), ("bool", True), ("float16", 0)]
    }


def large() -> dict:
    """Several chunks along several axes; compressible and not."""
    return {"noise": tensor("bfloat16", 700, 900), "zeros": torch.zeros(300, 40, 50), "long": tensor("int64", 70000)}


STATES = {state.__name__: state for state in (dtypes, nested, full, large)}


def describe(state: Any) -> dict[str, Any]:
    """The tree spec, and each leaf by name."""
    leaves, spec = pytree.tree_flatten(state)
    names = [".".join(path) for path in cstorch.utils.nest.recurse_spec(spec)]
    owners: dict[int, str] = {}
    for name, leaf in zip(names, leaves, strict=True):
        if isinstance(leaf, torch.Tensor):
            owners.setdefault(id(leaf), name)
    return {
        "spec": pytree.treespec_dumps(spec),
        "leaves": {
            name: {"same_as": owners[id(leaf)]} if owners.get(id(leaf), name) != name else describe_leaf(leaf)
            for name, leaf in zip(names, leaves, strict=True)
        },
    }


def describe_leaf(leaf: Any) -> dict[str, Any]:
    if isinstance(leaf, torch.Tensor):
        # torch can't view an empty bfloat16 tensor as bytes
        bits = leaf.reshape(-1).view(torch.uint8).numpy().tobytes() if leaf.numel() else b""
        return {"torch": str(leaf.dtype), "shape": list(leaf.shape), "bits": bits.hex()}
    if isinstance(leaf, DeferredObject):
        leaf = leaf.value
    if isinstance(leaf, np.ndarray):
        special = "bfloat16" if leaf.dtype.metadata else leaf.dtype.name
        return {"numpy": special, "shape": list(leaf.shape), "bits": leaf.tobytes().hex()}
    return {"value": repr(leaf)}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    if "save" in request:
        state = STATES[request["state"]]()
        cstorch.save(state, request["save"])
        return describe(state)
    if "link" in request:
        with use_external_link(True):
            cstorch.save(cstorch.load(request["load"]), request["link"])
        return {}
    return describe(cstorch.load(request["load"], map_location="cpu"))


def main() -> None:
    """Answer until stdin ends; whatever the library prints goes to stderr."""
    warnings.simplefilter("ignore")
    out, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=out, flush=True)


main()
