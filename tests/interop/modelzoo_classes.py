"""Answers for the config classes of ModelZoo, in a process of its own: modelzoo_classes.py FOLDER

FOLDER is ``src`` of a checkout of ModelZoo; what its classes import and isn't installed is replaced by nothing. Each
line of the input names a class, as JSON, and may have ``sections`` of yamls; the answer has the fields of the class
with their spellings and defaults, and what the class says against each section.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

#: parts of ModelZoo and its library that no config class needs
LEFT_OUT = ("cerebras.pytorch", "cerebras.appliance", "cerebras.modelzoo.data", "cerebras.modelzoo.trainer",
            "cerebras.modelzoo.losses")  # fmt: skip


class _Meta(type):
    """Whatever is asked of a class that is nothing is nothing; as a decorator it changes nothing."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing

    def __call__(cls, *args: Any, **options: Any) -> Any:
        return args[0] if len(args) == 1 and isinstance(args[0], type | FunctionType) else Nothing

    def __or__(cls, other: Any) -> Any:
        return object

    __ror__ = __or__

    def __iter__(cls) -> Any:
        return iter(())


class Nothing(metaclass=_Meta):
    """Stands for what isn't there: a class, a function, a module's attribute."""

    def __class_getitem__(cls, item: Any) -> Any:
        return cls

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.any_schema()


class _Empty(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing


class _Finder(MetaPathFinder, Loader):
    """Finds an empty module: always, or only of what is left out."""

    def __init__(self, names: tuple[str, ...] = ()) -> None:
        self.names = names

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        wanted = any(name == one or name.startswith(f"{one}.") for one in self.names)
        last = not self.names and name.partition(".")[0] not in {*sys.stdlib_module_names, *_INSTALLED}
        return ModuleSpec(name, self, is_package=True) if wanted or last else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = _Empty(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module: ModuleType) -> None:
        pass


#: what is there: a part of it that isn't must fail as it does elsewhere
_INSTALLED = ("torch", "pydantic", "numpy", "yaml", "transformers", "typing_extensions")


@cache
def found(source: Path, name: str) -> Any:
    """The class of that name in ModelZoo's models."""
    for path in sorted((source / "cerebras" / "modelzoo" / "models").rglob("*.py")):
        if f"\nclass {name}(" in path.read_text():
            return getattr(import_module(".".join(path.relative_to(source).with_suffix("").parts)), name)
    raise LookupError(f"ModelZoo has no class {name}")


def against(cls: Any, section: dict[str, Any]) -> list[str]:
    """What a class says against a section; nothing if it takes it."""
    try:
        cls(**section)
    except Exception as error:  # its validators raise what they like
        listed = getattr(error, "errors", None)
        if listed is None:
            return [f"{type(error).__name__}: {error}"]
        return [f"{'.'.join(map(str, one['loc']))}: {one['msg']} ({one.get('input')!r})"[:300] for one in listed()]
    return []


def fields(cls: Any) -> dict[str, Any]:
    """Each field by its name: its alias, and its default."""
    return {name: {"alias": field.alias, **_default(field)} for name, field in cls.model_fields.items()}


def _default(field: Any) -> dict[str, Any]:
    if field.is_required():
        return {}
    value = field.get_default(call_default_factory=True)
    if hasattr(value, "model_dump"):  # of a class of its own: what it says beside its own defaults
        value = value.model_dump(exclude_defaults=True)
    return {"default": value if isinstance(value, bool | int | float | str | list | dict | None) else str(value)}


def main() -> None:
    """Answer line by line."""
    source, told = Path(sys.argv[1]), sys.stdout
    sys.stdout = sys.stderr  # for whatever is printed on import
    sys.path.insert(0, str(source))
    sys.meta_path.insert(0, _Finder(LEFT_OUT))
    sys.meta_path.append(_Finder())
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            cls = found(source, asked["class"])
            said = {"fields": fields(cls), "against": [against(cls, one) for one in asked.get("sections", ())]}
        except Exception as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), file=told, flush=True)


if __name__ == "__main__":
    main()
