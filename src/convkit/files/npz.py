"""Read and write ``.npz`` files: numpy's archives of named arrays. Nothing is unpickled."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from convkit.errors import ConvkitError

if TYPE_CHECKING:
    import numpy as np

#: the bytes of one float32
_WIDTH = 4


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name.

    Raises:
        ConvkitError: it isn't a ``.npz``, or one of its arrays can't be read.
    """
    import numpy as np

    remedy = "write it with numpy.savez"
    try:
        opened = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ConvkitError("isn't a .npz file", path=path, remedy=remedy) from error
    if not isinstance(opened, np.lib.npyio.NpzFile):
        raise ConvkitError("is a single array, not a .npz file", path=path, remedy=remedy)
    found: dict[str, np.ndarray] = {}
    with opened:
        for name in opened.files:
            try:
                array = opened[name]
            except (ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
                if "allow_pickle" in str(error):
                    problem = "holds Python objects, which convkit doesn't unpickle"
                    raise ConvkitError(problem, path=path, key=name, remedy="write numbers") from error
                raise ConvkitError("can't be read", path=path, key=name, remedy=remedy) from error
            if not isinstance(array, np.ndarray):
                raise ConvkitError("isn't an array", path=path, key=name, remedy=remedy)
            found[name] = array
    return found


class ArrayFiles:
    """Float32 arrays that are written a few columns at a time, each to a file of its own, then joined in a ``.npz``.

    Args:
        folder: where the files lie until then; it is empty.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        #: the arrays so far, with their shapes
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._starts: dict[str, int] = {}

    def put(self, name: str, shape: tuple[int, ...], start: int, values: np.ndarray) -> None:
        """Write the columns (the last axis) from ``start`` on of an array of this shape.

        Raises:
            OSError: the disk can't take them.
        """
        import numpy as np

        path = self._folder / f"{name}.npy"
        if name not in self.shapes:
            with path.open("wb") as file:
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                self._starts[name] = file.tell()
            self.shapes[name] = shape
        rows = np.ascontiguousarray(values, dtype="<f4").reshape(-1, values.shape[-1])
        with path.open("r+b") as file:
            for n, row in enumerate(rows):
                file.seek(self._starts[name] + _WIDTH * (n * shape[-1] + start))
                file.write(row.data)

    def join(self, path: Path) -> None:
        """Make the ``.npz`` of all arrays: the same bytes for the same numbers. Their own files are removed.

        Raises:
            OSError: the disk can't take it.
        """
        with zipfile.ZipFile(path, "w") as archive:
            for name in self.shapes:
                own = self._folder / f"{name}.npy"
                with own.open("rb") as file, archive.open(zipfile.ZipInfo(own.name), "w", force_zip64=True) as entry:
                    shutil.copyfileobj(file, entry)
                own.unlink()
