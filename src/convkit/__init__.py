"""convkit: converts model checkpoints between frameworks and proves each conversion right.

The Python interface is the modules themselves; the ones a caller needs first:

- :func:`convkit.formats.open_checkpoint` opens a checkpoint without reading a tensor,
- :func:`convkit.plan.make_plan` decides the fate of every leaf,
- :func:`convkit.execute.convert` carries a plan out,
- :mod:`convkit.verify` judges the result.

Importing this package imports nothing heavy.
"""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
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


class _Moved(MetaPathFinder, Loader):
    """Imports a module by its path of before: the same module, with a warning."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in _MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        now = _MOVED[spec.name]
        warnings.warn(f"{spec.name} is now {now}", DeprecationWarning, stacklevel=2)
        module = import_module(now)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:  # the import gave it the spec of the former path
            module.__spec__ = module.__spec__.loader_state


sys.meta_path.append(_Moved())
