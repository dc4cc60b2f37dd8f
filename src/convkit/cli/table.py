"""``convkit table``: a campaign's table of the checkpoints that lie in folders."""

from __future__ import annotations

import argparse
import csv
import io
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from convkit.cli.output import emit, script
from convkit.errors import ConvkitError, UsageError
from convkit.files.uri import scheme_of
from convkit.formats import detect_format
from convkit.plan import Options, Source, make_plan, open_source
from convkit.plan.detect import detect_layout
from convkit.plan.encoded import check_adapter_beside
from convkit.plan.route import check_stop, framework_of, layout_at

COLUMNS = ("id", "source", "from", "to", "options")
#: endings of files that are, or may hold, checkpoints
_WEIGHTS = (".mdl", ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".hdf5", ".msgpack", ".gguf", ".npz")
#: the ending of a checkpoint that is one file among others in a folder
_ONE_FILE = ".mdl"
#: names that rows of a campaign can't have
_TAKEN = {"logs", "benchmarks", "report.html", "summary.json", "verdict.txt", "checkpoints.tsv"}
#: what a cell of the table can't hold
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")

Row = dict[str, str]


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "folders", metavar="FOLDER", type=Path, nargs="+", help="a folder in which checkpoints lie, or a checkpoint"
    )
    parser.add_argument(
        "--to",
        metavar="FRAMEWORK",
        required=True,
        help="what to convert into: a framework, such as cerebras, or a layout",
    )


def run(args: argparse.Namespace) -> int:
    """Print the table; what can't be converted is a comment in it."""
    check_stop(args.to)
    rows: list[Row] = []
    refused: list[dict[str, str]] = []
    for folder in args.folders:
        if not folder.exists():
            raise UsageError("there is no such folder", path=folder, remedy="check the path")
        for path, problem in _checkpoints(folder, set()):
            try:
                if problem is not None:
                    raise problem
                rows.append(_row(path, args.to, {row["id"] for row in rows}))
            except (ConvkitError, OSError) as error:
                refused.append({"path": str(path), "problem": _about(path, error)})
    if not rows and not refused:
        raise ConvkitError("holds no checkpoint", path=args.folders[0], remedy="name a folder that holds some")
    if args.json:
        emit({"schema": "convkit.table/1", "rows": rows, "refused": refused})
    else:
        script(_text(rows, refused))
    return 0


def _checkpoints(path: Path, seen: set[Path]) -> Iterator[tuple[Path, ConvkitError | OSError | None]]:
    """The checkpoints at and below a path in the order of their names; for what isn't one but looks like it, why."""
    if path.resolve() in seen:
        return
    seen.add(path.resolve())
    try:
        detect_format(path)
        yield path, None
        return
    except (ConvkitError, OSError) as error:
        if not path.is_dir():
            yield path, error
            return
        problem = error
    try:
        entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        yield path, error
        return
    files = [entry for entry in entries if entry.is_file() and entry.suffix.lower() in _WEIGHTS]
    alone = [file for file in files if file.suffix.lower() == _ONE_FILE]
    if len(files) > len(alone):  # parts of something that isn't whole, or of another format
        yield path, problem
    for entry in (*alone, *(entry for entry in entries if entry.is_dir())):
        yield from _checkpoints(entry, seen)


def _row(path: Path, to: str, taken: set[str]) -> Row:
    """The row of a checkpoint, whose conversion is planned for that.

    Raises:
        ConvkitError: it can't be converted.
    """
    with open_source(path) as source:
        check_adapter_beside(source)
        layout = detect_layout(source, to=to)[0].name
        if to in (layout, framework_of(layout)):
            raise ConvkitError(f"is {layout} already")
        target = layout_at(layout, to)
        make_plan(source, target, layout, Options())
        options = _options(source)
    return {"id": _id(path, taken), "source": _cell(path), "from": layout, "to": target, "options": options}


def _options(source: Source) -> str:
    """The config beside a file, which isn't fetched with it; a file that is read where it lies finds it by itself."""
    if source.path.is_dir() or source.config_path is None:
        return ""
    return f"--config {shlex.quote(str(source.config_path))}"


def _cell(path: Path) -> str:
    """A path as the column ``source`` may have it.

    Raises:
        ConvkitError: it can't.
    """
    text = str(path)
    if text.startswith(("-", "~", " ", "row:")):
        text = f"./{text}"
    if _CONTROL.search(text) or scheme_of(text) or text.endswith(" "):
        raise ConvkitError("has a name that a table can't hold", path=path, remedy="rename it")
    return text


def _id(path: Path, taken: set[str]) -> str:
    """A name for a row: that of the checkpoint, with its folders' names before it if it is taken."""
    parts = [part for part in path.absolute().with_suffix(path.suffix.removesuffix(_ONE_FILE)).parts if part != "/"]
    names = ["-".join(parts[start:]) for start in range(len(parts) - 1, -1, -1)]
    clean = [re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-._") or "checkpoint" for name in names]
    free = (name for name in clean if name not in taken | _TAKEN)
    return next(free, None) or next(
        f"{clean[0]}-{n}" for n in range(2, len(taken) + 3) if f"{clean[0]}-{n}" not in taken
    )


def _about(path: Path, error: ConvkitError | OSError) -> str:
    """An error in one line, without the path where that is the checkpoint's own."""
    said = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return " ".join(said.removeprefix(f"{path}: ").split())


def _text(rows: Sequence[Row], refused: Sequence[dict[str, Any]]) -> str:
    """The table, after what can't be converted."""
    text = io.StringIO()
    text.write(f"# {len(rows)} of {len(rows) + len(refused)} checkpoints can be converted\n")
    for one in refused:
        text.write(f"# {_CONTROL.sub('?', one['path'])}: {one['problem']}\n")
    used = [name for name in COLUMNS if name != "options" or any(row["options"] for row in rows)]
    writer = csv.DictWriter(text, used, delimiter="\t", lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().removesuffix("\n")
