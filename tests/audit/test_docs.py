"""What ``docs/how-to/audit.md`` lets an outsider type works, on a machine without convkit and without any package."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from audit.made import keys, outputs
from convkit.audit.findings import Kind
from convkit.audit.policy import Policy

TEXT = (Path(__file__).parents[2] / "docs" / "how-to" / "audit.md").read_text(encoding="utf-8")


def block(language: str, beginning: str) -> str:
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    return next(one for one in blocks if one.startswith(beginning))


@pytest.mark.skipif(not all(map(shutil.which, ("openssl", "sha256sum", "bash"))), reason="needs openssl and sha256sum")
def test_openssl_and_python_alone(tmp_path: Path) -> None:
    out = Path(shutil.copytree(outputs(), tmp_path / "out"))
    shutil.copy(keys() / "p256.pub.pem", out / "k.pub.pem")
    (out / "unpack.py").write_text(block("python", "# unpack.py"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')  # no package at all
    (tmp_path / "bin" / "python3").chmod(0o755)
    commands = block("sh", "python3 unpack.py")

    def typed() -> subprocess.CompletedProcess[str]:
        script = f"set -e -o pipefail\nexport PATH={tmp_path}/bin:$PATH\n{commands}"
        return subprocess.run(["bash", "-c", script], cwd=out, capture_output=True, text=True, check=False)

    done = typed()
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Verified OK") == 3
    assert "m.mdl: OK" in done.stdout
    assert '"result": "PASSED"' in done.stdout
    with (out / "m.mdl").open("ab") as file:
        file.write(b"x")
    assert typed().returncode != 0


def test_the_digest_of_a_leaf() -> None:
    from convkit.checkpoint.digests import digest_array

    names: dict[str, object] = {}
    exec(block("python", "import hashlib"), names)
    import numpy as np

    data = np.arange(300_000, dtype=np.int64)
    assert names["leaf_digest"](data.tobytes()) == digest_array("sha256", data)  # type: ignore[operator]


def test_every_kind_of_problem_and_every_field_of_a_policy_is_named() -> None:
    named = set(re.findall(r"`([a-z ]+)`", TEXT))
    assert {*get_args(Kind)} <= named
    fields = {field.name for field in msgspec.structs.fields(Policy)} - {"schema"}
    assert fields <= set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))


def test_the_policy_that_is_shown_is_one(tmp_path: Path) -> None:
    from convkit.audit.policy import read_policy

    (tmp_path / "policy.yaml").write_text(block("yaml", "schema: convkit.policy/1"))
    assert read_policy(tmp_path / "policy.yaml").signatures == 2
