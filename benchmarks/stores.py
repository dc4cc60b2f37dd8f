"""A checkpoint in S3, read where it lies and copied: ``python -m benchmarks.stores s3://BUCKET/PREFIX [--gib 1]``.

The server and its credentials come from the environment (``AWS_ENDPOINT_URL``). A checkpoint of random float32 in
leaves of 16 MiB is put there. ``convkit inspect --digest`` reads every byte by ranges and digests every leaf; the
reference copies the same object to the disk by the same client, s3fs. Both are timed as whole processes, twice in
turn; the second pair counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.processes import timed

LEAF = 16 << 20
PUT = """
import json, sys, numpy as np, s3fs
leaf, count = int(sys.argv[2]), int(sys.argv[3])
ends = [[i * leaf, (i + 1) * leaf] for i in range(count)]
entries = {f"w{i:05d}": {"dtype": "F32", "shape": [leaf // 4], "data_offsets": end} for i, end in enumerate(ends)}
head = json.dumps(entries).encode()
head += b" " * (-len(head) % 8)
with s3fs.S3FileSystem().open(sys.argv[1], "wb", block_size=64 << 20) as file:
    file.write(len(head).to_bytes(8, "little") + head)
    for i in range(count):
        file.write(np.random.default_rng(i).bytes(leaf))
"""
COPY = "import sys, s3fs; s3fs.S3FileSystem().get(sys.argv[1], sys.argv[2])"


def main() -> None:
    """Measure, and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("uri", metavar="s3://BUCKET/PREFIX")
    parser.add_argument("--gib", type=float, default=1)
    args = parser.parse_args()
    weights, count = f"{args.uri}/model.safetensors", max(1, int(args.gib * (1 << 30) / LEAF))
    subprocess.run([sys.executable, "-c", PUT, weights, str(LEAF), str(count)], check=True)
    with tempfile.TemporaryDirectory() as folder:
        out, copy = Path(folder, "out"), Path(folder, "copy")
        for _ in range(2):
            streamed = timed([sys.executable, "-m", "convkit", "inspect", args.uri, "--digest", "--json"], out)
            copy.unlink(missing_ok=True)
            copied = timed([sys.executable, "-c", COPY, weights, str(copy)], out)
    found = {name: vars(run) | {"mib": run.anonymous >> 20} for name, run in (("read", streamed), ("copy", copied))}
    print(json.dumps({"gib": args.gib, **found}, indent=2, default=str))


if __name__ == "__main__":
    main()
