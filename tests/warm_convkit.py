"""What the convkit command imports and builds as it inspects, converts and proves generated models; for :mod:`warm`."""

from __future__ import annotations

from importlib import import_module
from pkgutil import walk_packages

import convkit
from convkit.formats import get_format, names
from convkit.mappings import all_mappings
from convkit.version import commit

for module in walk_packages(convkit.__path__, "convkit."):
    if not module.name.endswith("__main__"):
        import_module(module.name)
for name in ("h5py", "numpy.random", "torch", "transformers.models.llama.modeling_llama"):
    import_module(name)
for name in names():
    get_format(name)
all_mappings()
commit()
