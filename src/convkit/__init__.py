"""convkit: converts model checkpoints between frameworks and proves each conversion right.

The Python interface is the modules themselves; the ones a caller needs first:

- :func:`convkit.formats.open_checkpoint` opens a checkpoint without reading a tensor,
- :func:`convkit.plan.make_plan` decides the fate of every leaf,
- :func:`convkit.execute.convert` carries a plan out,
- :mod:`convkit.verify` judges the result.

Importing this package imports nothing heavy, and next to nothing: what an interrupt meets here it shows as a trace.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as in `typing`, which takes ten milliseconds
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__version__ = "0.1.0"

#: Import paths of before, for one release, and the module that each is now.
_MOVED = {
    "convkit.chain": "convkit.execute.chain",
    "convkit.digests": "convkit.checkpoint.digests",
    "convkit.keys": "convkit.mapping.keys",
    "convkit.ops": "convkit.mapping.ops",
    "convkit.pack": "convkit.mapping.components",
    "convkit.source": "convkit.plan.source",
    "convkit.tensors": "convkit.checkpoint.tensors",
    "convkit.verify.compare": "convkit.verify.diff",
}


class _Moved:
    """A finder and loader: imports a module by its path of before: the same module, with a warning."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _MOVED:
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(fullname, self)  # type: ignore[arg-type]  # has what import asks of a loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        import warnings
        from importlib import import_module

        now = _MOVED[spec.name]
        warnings.warn(f"{spec.name} is now {now}", DeprecationWarning, stacklevel=2)
        module = import_module(now)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:  # the import gave it the spec of the former path
            module.__spec__ = module.__spec__.loader_state


sys.meta_path.append(_Moved())
