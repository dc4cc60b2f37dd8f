"""The tree spec of ``.mdl`` files before format 0.5: a pickle, interpreted opcode by opcode, never executed.

dill wrote torch's ``TreeSpec`` objects (torch 1.13 to 2.0, ``torch/utils/_pytree.py``: ``type``, ``context``,
``children_specs``). Release 1.7 replaced some dicts by a ``TensorScalarDict``, a class that no later release has; it is
read as a dict, as in cerebras-pytorch 2.10, ``storage/_legacy/checkpoint_reader.py``. A name that isn't in the tables
below is an error, see :mod:`convkit.state.pickle_machine`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from msgspec import Struct, field

from convkit.errors import ConvkitError
from convkit.state.budget import DISTRUST, Budget
from convkit.state.cerebras.treespec import DICTS, LEAF, Tree
from convkit.state.pickle_machine import DATA, Name, PickleMachine

#: most levels of a spec, against one that holds itself; how many nodes it may have, see :mod:`convkit.state.budget`
_DEPTH_LIMIT = 64
_KEY_BITS = 1 << 12

_STAND_IN = "cerebras_pytorch.utils.tensor_scalar_dict.TensorScalarDict"
_SPECS = ("torch.utils._pytree.TreeSpec", "torch.utils._pytree.LeafSpec")
#: class -> the container's name in the JSON form
_CONTAINERS = {
    _STAND_IN: "builtins.dict",
    **{
        f"{module}.{name}": f"builtins.{name}"
        for module in ("builtins", "__builtin__")
        for name in ("dict", "list", "tuple", "set")
    },
    "collections.OrderedDict": "collections.OrderedDict",
}
#: dill's way to name a built-in type (dill 0.3, ``_dill.py``)
_LOAD_TYPE = "dill._dill._load_type"
_DILL_TYPES = {
    **{name: name for name in ("dict", "list", "tuple", "set")},
    **{"DictType": "dict", "ListType": "list", "TupleType": "tuple", "SetType": "set"},
}


class _Spec(Struct):
    """A ``TreeSpec`` or ``LeafSpec`` that is being built."""

    state: dict[str, Any] = field(default_factory=dict)


def loads(pickle: bytes) -> tuple[Tree, tuple[str, ...]]:
    """The structure, and the names of the dicts that were a ``TensorScalarDict``.

    Raises:
        ConvkitError: the pickle names anything but tree specs and containers, or is corrupt.
    """
    try:
        root = _Machine().run(pickle)
        stand_ins: list[str] = []
        tree = _Nodes(stand_ins).tree(root, ())
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ConvkitError(f"its pickled tree spec is corrupt: {error}", remedy="fetch the file again") from error
    return tree, tuple(stand_ins)


class _Machine(PickleMachine):
    """Builds tree specs, and refuses all other names."""

    opcodes = DATA | {"NEWOBJ", "REDUCE", "BUILD"}
    keys = (str,)
    names = frozenset({*_SPECS, *_CONTAINERS, _LOAD_TYPE})
    subject, never = "its pickled tree spec", "no tree spec holds"

    def refusal(self, problem: str) -> ConvkitError:
        """See :meth:`PickleMachine.refusal`."""
        return ConvkitError(problem, remedy="don't trust this checkpoint: no Cerebras release writes that")

    def _newobj(self) -> None:
        args, made = self._stack.pop(), self._stack.pop()
        if not isinstance(made, Name) or made.name not in _SPECS or args != ():
            raise self.refusal(
                f"{self.subject} makes {made.name if isinstance(made, Name) else 'something that is not a class'}"
            )
        self._stack.append(_Spec())

    def _reduce(self) -> None:
        match self._stack.pop(), self._stack.pop():
            case (str(name),), Name(called) if called == _LOAD_TYPE and name in _DILL_TYPES:
                self._stack.append(Name(f"builtins.{_DILL_TYPES[name]}"))
            case args, called:
                what = called.name if isinstance(called, Name) else "something that is not a function"
                of = f" of {str(args)[:80]}" if what == _LOAD_TYPE else ""
                raise self.refusal(f"{self.subject} calls {what}{of}")

    def _build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if not isinstance(target, _Spec) or not isinstance(state, dict):
            raise self.refusal(f"{self.subject} sets the state of something that isn't a tree spec")
        target.state = state


class _Nodes:
    """Turns the pickle's objects into a tree. One object may be the child of many."""

    def __init__(self, stand_ins: list[str]) -> None:
        self._stand_ins = stand_ins
        self._budget = Budget()

    def tree(self, spec: Any, path: tuple[str, ...]) -> Tree:
        """The tree below a spec."""
        if len(path) > _DEPTH_LIMIT:
            problem = f"its tree spec has over {_DEPTH_LIMIT} levels, the most that are read"
            raise ConvkitError(problem, remedy=DISTRUST)
        self._budget.take(".".join(path))
        if not isinstance(spec, _Spec):
            raise ValueError(f"a {type(spec).__name__} in place of a tree spec")
        named, children = spec.state["type"], spec.state["children_specs"]
        if named is None:
            return LEAF
        if not isinstance(named, Name) or named.name not in _CONTAINERS or not isinstance(children, list):
            raise ValueError("a tree spec that isn't of a container")
        if named.name == _STAND_IN:
            self._stand_ins.append(".".join(path))
        kind = _CONTAINERS[named.name]
        context = json.dumps(list(self._keys(spec.state["context"], len(children))) if kind in DICTS else None)
        names = json.loads(context) or range(len(children))
        nodes = tuple(self.tree(child, (*path, str(name))) for name, child in zip(names, children, strict=True))
        return Tree(kind, context, nodes)

    def _keys(self, keys: Any, count: int) -> Iterator[Any]:
        if not isinstance(keys, list) or len(keys) != count:
            raise ValueError(f"a dict of {count} children has a different number of keys")
        for key in keys:
            # the types that JSON, and so every later release, can hold
            if not isinstance(key, str | int | float | None) or (isinstance(key, int) and key.bit_length() > _KEY_BITS):
                raise ValueError(f"a dict has a key of type {type(key).__name__}")
            yield key
