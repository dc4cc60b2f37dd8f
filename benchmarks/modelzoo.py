"""ModelZoo's converter as its users run it: ``modelzoo.py SOURCE WORDS...``.

SOURCE is the folder ``src`` of a checkout of ModelZoo; Python is that of the environment of ``make test-interop``. The
native module of cerebras.pytorch, which conversions don't call, is replaced (tests/interop/stand_in.py), for it is
built for another torch. Nothing of convkit is imported.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Run the converter's command."""
    source = sys.argv.pop(1)
    # this folder, which Python puts first, has modules named like packages
    sys.path[0] = str(HERE.parent / "tests/interop")
    import stand_in

    stand_in.install()
    sys.path[0] = source
    from cerebras.modelzoo.tools.convert_checkpoint import CheckpointConverterCLI

    CheckpointConverterCLI()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
