"""What ``make dist`` built, as users have it: the files, and each extra alone in a fresh environment.

Nothing here sees the clone's package: commands run in an environment that was made from the wheel, elsewhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import rmtree, unpack_archive
from threading import Thread

import numpy as np
import pytest
from recorded import HERE
from test_extras import NEEDED

import convkit
from convkit.extras import EXTRA_OF

pytestmark = [pytest.mark.dist, pytest.mark.slow]

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAME = f"convkit_checkpoints-{convkit.__version__}"
WHEEL = ROOT / "dist" / f"{NAME}-py3-none-any.whl"
SDIST = ROOT / "dist" / f"{NAME}.tar.gz"
MODEL = str(HERE / "llama_gqa" / "hf")
LAYOUT = "--to cerebras/llama --format safetensors"
#: what the sdist holds: these folders, and these files beside them
FOLDERS = ("src/", "workflow/", "profiles/", "config/", "docs/")
BESIDE = {
    ".snakemake-workflow-catalog.yml",
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "SECURITY.md",
    "Snakefile",
    "constraints.txt",
    "environment.yml",
    "pyproject.toml",
    "setup.py",
}
#: what setuptools adds to it
GENERATED = {"PKG-INFO", "setup.cfg"}
EGG_INFO = "src/convkit_checkpoints.egg-info/"


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def tracked() -> set[str]:
    """The files that git tracks; those of a folder that is a link under its name too."""
    found = set(git("ls-files", "-z").split("\0")[:-1])
    for name in [name for name in found if (ROOT / name).is_symlink() and (ROOT / name).is_dir()]:
        target = os.path.relpath((ROOT / name).resolve(), ROOT)
        found |= {name + other.removeprefix(target) for other in found if other.startswith(f"{target}/")}
        found.remove(name)
    return found


def commit() -> str:
    """What a build writes: the commit, and whether the package has changed since."""
    changed = git("status", "--porcelain", "--", "src")
    return git("rev-parse", "HEAD").strip() + ("-dirty" if changed else "")


def test_the_sdist_holds_package_workflow_and_documents_and_nothing_else() -> None:
    with tarfile.open(SDIST) as packed:
        files = {entry.name.removeprefix(f"{NAME}/") for entry in packed if not entry.isdir()}
        written = packed.extractfile(f"{NAME}/src/convkit/commit.txt")
        assert written is not None
        assert written.read().decode().strip() == commit()
    files = {name for name in files if not name.startswith(EGG_INFO)} - GENERATED
    assert files == {name for name in tracked() if name.startswith(FOLDERS)} | BESIDE


def test_the_wheel_holds_the_whole_package_and_nothing_else() -> None:
    with zipfile.ZipFile(WHEEL) as packed:
        files = {name for name in packed.namelist() if not name.startswith(f"{NAME}.dist-info/")}
        assert packed.read("convkit/commit.txt").decode().strip() == commit()
        assert packed.read(f"{NAME}.dist-info/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert files == {name.removeprefix("src/") for name in tracked() if name.startswith("src/convkit/")}


def test_what_the_wheel_declares() -> None:
    with zipfile.ZipFile(WHEEL) as packed:
        declared: Message = Parser().parsestr(packed.read(f"{NAME}.dist-info/METADATA").decode())
    assert declared["Version"] == convkit.__version__
    assert declared["Requires-Python"] == PROJECT["requires-python"]
    assert set(declared.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    assert "Typing :: Typed" in declared.get_all("Classifier", [])


@dataclass(frozen=True)
class Environment:
    """A virtual environment with convkit in it, and a folder to work in."""

    root: Path

    def run(self, command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command of words without spaces, with nothing in its environment but what is given."""
        home = {"PATH": f"{self.root / 'bin'}:/usr/bin:/bin", "HOME": str(self.root / "home"), "OMP_NUM_THREADS": "1"}
        folder = self.root / "work"
        folder.mkdir(exist_ok=True)
        return subprocess.run(
            command.split(), cwd=folder, env=home | variables, capture_output=True, text=True, check=False
        )

    def done(self, command: str, **variables: str) -> str:
        """Run a command that must succeed, and return what it prints."""
        done = self.run(command, **variables)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def install(self, what: str) -> None:
        """Install from the package index, in the versions that the project pins."""
        pip = [sys.executable, "-m", "pip", "--python", str(self.root / "bin" / "python")]
        command = [*pip, "install", "--quiet", "--no-compile", "--disable-pip-version-check", what]
        variables = os.environ | {"PIP_CONSTRAINT": str(ROOT / "constraints.txt")}
        variables.pop("PYTHONPATH", None)  # a package that is found there counts as installed
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[..., Environment]]:
    """Makes an environment with the wheel and some extras, which is removed after the test."""

    def make(*extras: str) -> Environment:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
        environment = Environment(tmp_path / "env")
        if "torch" in extras:  # first, so that its build is the requested one
            environment.install("torch==2.13.0")
        environment.install(f"{WHEEL}[{','.join(extras)}]" if extras else str(WHEEL))
        return environment

    yield make
    rmtree(tmp_path, ignore_errors=True)


def test_without_extras(made: Callable[..., Environment]) -> None:
    plain = made()
    assert plain.done("convkit --version") == f"convkit {convkit.__version__} (commit {shown_commit()})\n"
    assert "cerebras-h5" in plain.done("convkit list formats")
    plain.done(f"convkit convert {MODEL} converted {LAYOUT}")
    for command in (f"roundtrip {MODEL} converted", "verify converted", "report converted --no-fail"):
        plain.done(f"convkit {command}")
    np.savez(plain.root / "work" / "ids.npz", input_ids=np.array([[1, 2, 3]]))
    for module, command in NEEDED:
        refused = plain.run(f"convkit {command}")
        assert refused.returncode == 3, command
        (line,) = refused.stderr.splitlines()
        extra = line.rpartition("convkit-checkpoints[")[2].removesuffix("]')")
        assert extra in EXTRA_OF.values(), line
        # where a command needs several packages, the first that is missing names its extra
        assert line.endswith(f"isn't installed (pip install 'convkit-checkpoints[{extra}]')"), (module, line)


def shown_commit() -> str:
    """The commit as ``--version`` shows it."""
    return commit().replace("-dirty", ", with changes that aren't committed")


def test_torch_proves_and_with_the_workflow_a_campaign_from_another_folder(made: Callable[..., Environment]) -> None:
    torch = made("torch")
    torch.done("convkit prove generated://llama?layers=1 llama.mdl --to cerebras/llama")
    torch.install(f"{WHEEL}[workflow]")
    unpack_archive(SDIST, torch.root)
    write_campaign(torch.root / "work")
    torch.done(f"snakemake --cores 2 --snakefile {torch.root / NAME / 'workflow/Snakefile'}")
    summary = json.loads((torch.root / "work/results/summary.json").read_text())
    assert [(row["id"], row["verdict"]) for row in summary["rows"]] == [("llama", "yes")]
    assert (torch.root / "work/results/report.html").is_file()


def write_campaign(folder: Path, checks: str = "") -> None:
    """A table of one row, in a folder that holds nothing else."""
    (folder / "config").mkdir(parents=True)
    (folder / "config/config.yaml").write_text("checkpoints: config/checkpoints.tsv\nresults: results\n")
    rows = ("id\tsource\tto\tformat\tchecks", f"llama\t{MODEL}\tcerebras/llama\tsafetensors\t{checks}")
    (folder / "config/checkpoints.tsv").write_text("\n".join(rows) + "\n")


def test_workflow_alone_converts_and_checks_round_trips(made: Callable[..., Environment]) -> None:
    workflow = made("workflow")
    unpack_archive(SDIST, workflow.root)
    write_campaign(workflow.root / "work", checks="roundtrip")
    done = workflow.run(f"snakemake --cores 2 --snakefile {workflow.root / NAME / 'workflow/Snakefile'}")
    assert done.returncode == 1, done.stderr[-4000:]  # a check that was left out isn't a proof
    results = workflow.root / "work/results"
    assert json.loads((results / "llama/roundtrip.json").read_text())["state"] == "yes"
    assert json.loads((results / "summary.json").read_text())["rows"][0]["left_out"] == ["equivalence"]


def test_jax_converts_t5x_there_and_back(made: Callable[..., Environment]) -> None:
    jax = made("jax")
    jax.done("convkit fetch generated://t5x t5x")
    jax.done("convkit convert t5x te --to te/t5-fused --format t5x")
    jax.done("convkit roundtrip t5x te")
    jax.done("convkit verify te")


def test_orbax_migrates_and_restores(made: Callable[..., Environment]) -> None:
    orbax = made("orbax")
    orbax.done("convkit fetch generated://orbax-v0 trained")
    orbax.done("convkit orbax migrate trained/2 migrated --to v1")
    orbax.done("convkit equivalence trained/2 migrated")  # restored by the real Orbax
    orbax.done("convkit orbax check migrated --run")
    orbax.done("convkit orbax guide")


def test_audit_signs_and_verifies(made: Callable[..., Environment]) -> None:
    audit = made("audit")
    audit.done(f"convkit convert {MODEL} converted {LAYOUT}")
    verdict = audit.done(f"convkit roundtrip {MODEL} converted --json")
    (audit.root / "work/converted.roundtrip.json").write_text(verdict)
    (audit.root / "work/policy.yaml").write_text("schema: convkit.policy/1\nchecks: [roundtrip]\n")
    audit.done("convkit audit keygen k.pem")
    audit.done("convkit audit sign converted --key k.pem --responsible somebody")
    audit.done("convkit audit verify converted --public-key k.pub.pem --policy policy.yaml")


def test_testing_brings_the_laws(made: Callable[..., Environment]) -> None:
    testing = made("testing")
    program = testing.root / "laws.py"
    program.write_text(
        "from pathlib import Path\n"
        "from random import Random\n"
        "from tempfile import TemporaryDirectory\n"
        "from hypothesis import given, settings\n"
        "from convkit.formats import get_format\n"
        "from convkit.testing.formats import LAWS, holdable\n"
        "from convkit.testing.samples import samples\n"
        "format = get_format('safetensors')\n"
        "@settings(max_examples=3, deadline=None, database=None)\n"
        "@given(sample=samples())\n"
        "def obeys(sample):\n"
        "    with TemporaryDirectory() as folder:\n"
        "        LAWS[0](format, Path(folder), holdable(format, sample), Random(0))\n"
        "obeys()\n"
    )
    testing.done(f"python {program}")


class _Nothing(BaseHTTPRequestHandler):
    """A store that has nothing."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.send_header("X-Error-Code", "RepoNotFound")  # in the words of the model hub
        self.end_headers()

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@pytest.mark.parametrize("scheme", ["hf", "s3", "gs"])
def test_a_store_is_asked_by_its_driver(scheme: str, made: Callable[..., Environment]) -> None:
    store = made(scheme)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Nothing)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    done = store.run(
        f"convkit fetch {scheme}://org/model model --retries 0",
        HF_ENDPOINT=url,
        GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT="false",  # it would ask by gRPC, and wait for a minute
        AWS_ENDPOINT_URL=url,
        AWS_ACCESS_KEY_ID="somebody",
        AWS_SECRET_ACCESS_KEY="hunter2",
        FSSPEC_GS=json.dumps({"token": "anon", "endpoint_url": url}),
    )
    server.shutdown()
    assert done.returncode == 3
    assert f"{scheme}://org/model: no such file or folder" in done.stderr.splitlines()[-1]
