"""The tree spec of ``.mdl`` files before format 0.5: a pickle, interpreted opcode by opcode, never executed.

dill wrote torch's ``TreeSpec`` objects (torch 1.13 to 2.0, ``torch/utils/_pytree.py``: ``type``, ``context``,
``children_specs``). Release 1.7 put a ``TensorScalarDict`` in the place of some dicts, a class that no later
release has: cerebras-pytorch 2.10, ``storage/_legacy/checkpoint_reader.py``, takes it for a dict, and so does
this. Nothing is imported or called for a name; one that isn't in the tables below ends the reading.
"""

from __future__ import annotations

import json
import pickletools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from convkit.errors import ConvkitError
from convkit.state.treespec import DICTS, LEAF, Tree

#: Bounds far beyond any state, at which specs end that say little and mean a lot.
_DEPTH_LIMIT = 64
_NODE_LIMIT = 1 << 20
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
#: dill's way to name a type that Python has always had (dill 0.3, ``_dill.py``)
_LOAD_TYPE = "dill._dill._load_type"
_DILL_TYPES = {
    **{name: name for name in ("dict", "list", "tuple", "set")},
    **{"DictType": "dict", "ListType": "list", "TupleType": "tuple", "SetType": "set"},
}

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS, _STEPS = (
    frozenset(names.split())
    for names in (
        "BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8",
        "MARK EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS "
        "STACK_GLOBAL NEWOBJ REDUCE BUILD",
    )
)


@dataclass(frozen=True, slots=True)
class _Name:
    """Something that the pickle names."""

    name: str


@dataclass(slots=True)
class _Spec:
    """A ``TreeSpec`` or ``LeafSpec`` in the making."""

    state: dict[str, Any] = field(default_factory=dict)


def loads(pickle: bytes) -> tuple[Tree, tuple[str, ...]]:
    """The structure, and the names of the dicts that were a ``TensorScalarDict``.

    Raises:
        ConvkitError: the pickle names anything but tree specs and containers, or is corrupt.
    """
    try:
        root = _Interpreter().run(pickle)
        stand_ins: list[str] = []
        tree = _Nodes(stand_ins).tree(root, ())
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ConvkitError(f"its pickled tree spec is corrupt: {error}", remedy="fetch the file again") from error
    return tree, tuple(stand_ins)


class _Interpreter:
    """The stack machine of pickle, without the power to run anything."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, pickle: bytes) -> Any:
        """Follow the opcodes up to STOP."""
        stack, memo = self._stack, self._memo
        decode: Any = pickletools.genops  # typed for files only, with arguments that may always be None
        for opcode, arg, _ in decode(pickle):
            name = opcode.name
            if name in _LITERALS:
                stack.append(arg)
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            elif name in ("BINPUT", "LONG_BINPUT"):
                memo[arg] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                stack.append(memo[arg])
            elif name == "GLOBAL":
                self._name(arg.replace(" ", "."))
            elif name in _STEPS:
                getattr(self, f"_{name.lower()}")()
            elif name == "STOP":
                return stack.pop()
            elif name not in ("PROTO", "FRAME"):
                raise _refusal(f"uses {name}")
        raise ValueError("it has no end")

    # One method an opcode, by its name in pickletools.

    def _mark(self) -> None:
        self._marks.append(len(self._stack))

    def _empty_dict(self) -> None:
        self._stack.append({})

    def _empty_list(self) -> None:
        self._stack.append([])

    def _empty_tuple(self) -> None:
        self._stack.append(())

    def _tuple(self) -> None:
        self._stack.append(tuple(self._since_mark()))

    def _tuple1(self) -> None:
        self._stack[-1:] = [tuple(self._stack[-1:])]

    def _tuple2(self) -> None:
        self._stack[-2:] = [tuple(self._stack[-2:])]

    def _tuple3(self) -> None:
        self._stack[-3:] = [tuple(self._stack[-3:])]

    def _append(self) -> None:
        self._extend([self._stack.pop()])

    def _appends(self) -> None:
        self._extend(self._since_mark())

    def _setitem(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def _setitems(self) -> None:
        self._set(self._since_mark())

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._name(f"{module}.{name}" if isinstance(name, str) and isinstance(module, str) else "an unnamed object")

    def _newobj(self) -> None:
        args, made = self._stack.pop(), self._stack.pop()
        if not isinstance(made, _Name) or made.name not in _SPECS or args != ():
            raise _refusal(f"makes {made.name if isinstance(made, _Name) else 'what is no class'}")
        self._stack.append(_Spec())

    def _reduce(self) -> None:
        match self._stack.pop(), self._stack.pop():
            case (str(name),), _Name(called) if called == _LOAD_TYPE and name in _DILL_TYPES:
                self._stack.append(_Name(f"builtins.{_DILL_TYPES[name]}"))
            case args, called:
                what = called.name if isinstance(called, _Name) else "what is no function"
                raise _refusal(f"calls {what} of {str(args)[:80]}" if what == _LOAD_TYPE else f"calls {what}")

    def _build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if not isinstance(target, _Spec) or not isinstance(state, dict):
            raise _refusal("sets the state of what is no tree spec")
        target.state = state

    def _name(self, name: str) -> None:
        if name not in (*_SPECS, *_CONTAINERS, _LOAD_TYPE):
            raise _refusal(f"would run {name[:200]}")
        self._stack.append(_Name(name))

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise ValueError("it appends to what is no list")
        self._stack[-1].extend(items)

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise ValueError("it sets an item of what is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str):
                raise ValueError("it has a field without a name")
            target[key] = value


class _Nodes:
    """From the pickle's objects to a tree. One object may be the child of many."""

    def __init__(self, stand_ins: list[str]) -> None:
        self._stand_ins = stand_ins
        self._count = 0

    def tree(self, spec: Any, path: tuple[str, ...]) -> Tree:
        """The tree below a spec."""
        self._count += 1
        if len(path) > _DEPTH_LIMIT or self._count > _NODE_LIMIT:
            raise ConvkitError(
                f"its tree spec has over {_DEPTH_LIMIT} levels, or over {_NODE_LIMIT} nodes",
                remedy="don't trust this checkpoint",
            )
        if not isinstance(spec, _Spec):
            raise ValueError(f"a {type(spec).__name__} stands for a tree spec")
        named, children = spec.state["type"], spec.state["children_specs"]
        if named is None:
            return LEAF
        if not isinstance(named, _Name) or named.name not in _CONTAINERS or not isinstance(children, list):
            raise ValueError("a tree spec of no container")
        if named.name == _STAND_IN:
            self._stand_ins.append(".".join(path))
        kind = _CONTAINERS[named.name]
        context = json.dumps(list(self._keys(spec.state["context"], len(children))) if kind in DICTS else None)
        names = json.loads(context) or range(len(children))
        nodes = tuple(self.tree(child, (*path, str(name))) for name, child in zip(names, children, strict=True))
        return Tree(kind, context, nodes)

    def _keys(self, keys: Any, count: int) -> Iterator[Any]:
        if not isinstance(keys, list) or len(keys) != count:
            raise ValueError(f"a dict of {count} children has other keys")
        for key in keys:
            # what JSON, and so every later release, can hold
            if not isinstance(key, str | int | float | None) or (isinstance(key, int) and key.bit_length() > _KEY_BITS):
                raise ValueError(f"a dict has a key of type {type(key).__name__}")
            yield key


def _refusal(problem: str) -> ConvkitError:
    return ConvkitError(
        f"its pickled tree spec {problem}", remedy="don't trust this checkpoint: no Cerebras release writes that"
    )
