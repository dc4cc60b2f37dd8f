"""`convkit --version` shows the commit: a clone's own, or what the build wrote; unknown is said, and so are changes."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import convkit
from convkit.cli import main

ROOT = Path(__file__).parent.parent
GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false")


def git(clone: Path, *words: str) -> str:
    return subprocess.run([*GIT, *words], cwd=clone, capture_output=True, text=True, check=True).stdout.strip()


def described(package: Path) -> str:
    text: str = runpy.run_path(str(package / "version.py"))["described"]()
    return text


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of the files that say what is built, and of two modules."""
    root = tmp_path_factory.mktemp("clone")
    for name in ("setup.py", "pyproject.toml", "README.md", ".gitattributes", ".gitignore"):
        shutil.copy(ROOT / name, root)
    package = root / "src" / "convkit"
    package.mkdir(parents=True)
    for name in ("__init__.py", "version.py", "commit.txt"):
        shutil.copy(ROOT / "src" / "convkit" / name, package)
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    return root


def test_a_clone_an_archive_and_a_build_know_their_commit(clone: Path, tmp_path: Path) -> None:
    commit = git(clone, "rev-parse", "HEAD")
    package = clone / "src" / "convkit"
    assert described(package) == f"{convkit.__version__} (commit {commit})"

    built = tmp_path / "lib"
    build = [sys.executable, "setup.py", "-q", "build_py", f"--build-lib={built}"]
    subprocess.run(build, cwd=clone, capture_output=True, check=True)
    assert described(built / "convkit") == f"{convkit.__version__} (commit {commit})"

    (tmp_path / "archive").mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=clone, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(tmp_path / "archive")], input=archive, check=True)
    assert described(tmp_path / "archive" / "src" / "convkit") == f"{convkit.__version__} (commit {commit})"

    shutil.copytree(package, tmp_path / "other" / "src" / "convkit")  # into a repository of something else
    git(tmp_path / "other", "init", "-q")
    assert described(tmp_path / "other" / "src" / "convkit") == f"{convkit.__version__} (commit unknown)"

    (clone / "README.md").write_text("as a table of checkpoints that a user has edited")
    assert described(package) == f"{convkit.__version__} (commit {commit})"

    (package / "new.py").write_text("")
    changed = f"(commit {commit}, with changes that aren't committed)"
    assert described(package) == f"{convkit.__version__} {changed}"


def test_a_clone_without_git_is_unknown(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert described(clone / "src" / "convkit").endswith("(commit unknown)")


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"convkit {convkit.__version__} (commit ")
