"""What a build adds to the declarations of pyproject.toml: the commit that it was made from."""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

sys.path.insert(0, str(Path(__file__).parent / "src"))

from convkit.version import BUILT, commit


def write_commit(package: Path) -> None:
    """Write the commit into the package that is built; it may be a hard link to the source."""
    (package / BUILT.name).unlink(missing_ok=True)
    (package / BUILT.name).write_text(f"{commit()}\n", encoding="ascii")


class BuildPy(build_py):
    """Builds the package with its commit; an editable one asks git when it runs."""

    def run(self) -> None:
        """See :class:`setuptools.Command`."""
        super().run()
        if not self.editable_mode:
            write_commit(Path(self.build_lib) / "convkit")


class Sdist(sdist):
    """Packs the sources with their commit."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """See :class:`setuptools.command.sdist.sdist`."""
        super().make_release_tree(base_dir, files)
        write_commit(Path(base_dir) / "src" / "convkit")


setup(cmdclass={"build_py": BuildPy, "sdist": Sdist})
