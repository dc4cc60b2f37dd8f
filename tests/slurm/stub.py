"""Plays the convkit command on the nodes, in place of the real one, and as the seeds of the rows' sources ask.

One of seed=20 takes 1.1 GB to convert for three seconds. One of seed=30 converts once the file ``go`` is there.
All others, and what it prints, are those of ``fake_convkit``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

HUNGER = 1100 << 20

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    import fake_convkit

    if sys.argv[1] == "convert":
        seed = Path(sys.argv[2]).with_name("seed").read_text()
        if seed == "seed=20":
            taken = b"x" * HUNGER
            time.sleep(3)
        if seed == "seed=30":
            Path("started").touch()
            while not Path("go").exists():
                time.sleep(0.1)
        print(f"converted as {seed}", file=sys.stderr)
    raise SystemExit(fake_convkit.play())
