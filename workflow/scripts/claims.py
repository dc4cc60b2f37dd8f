"""The table of claims: finds all mistakes that can be found before a source is fetched.

Snakemake's process needs nothing of convkit for this: what a cell may name is in ``known.json``.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

import jsonschema
from convkit_cells import BEYOND, CellError, Row, asked_for, near, size

Known = dict[str, Any]
#: options of a conversion that the config gives for all rows
OF_THE_CONFIG = ("--threads", "--digest")
#: options of a conversion that its plan doesn't have
ONLY_TO_CONVERT = ("--shard-size",)
#: options of a repair that the workflow gives
OF_THE_WORKFLOW = ("--old_checkpoint", "--output_file", "--fixed_checkpoint_path")
#: the ending of outputs that are one file
_ONE_FILE = ".mdl"
_PLAIN = {"int": r"[+-]?\d+", "bool": "true|false", "float": r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?"}


def origin(row: Mapping[str, str]) -> str | None:
    """The id of the row whose output this row starts from; None where the source is fetched."""
    return row["source"].removeprefix("row:") if row["source"].startswith("row:") else None


def kind_of(row: Mapping[str, str], known: Known) -> str:
    """The kind of work that a row asks for."""
    return "repair" if row["to"] in known["repairs"] else "conversion" if row["to"] else "migration"


def local_path(source: str) -> str:
    """The path of a source on this machine; empty for others."""
    scheme = source.partition("://")[0].lower() if "://" in source else ""
    return unquote(urlsplit(source).path) if scheme == "file" else "" if scheme or source.startswith("row:") else source


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        found = re.search(r"unrecognized arguments: (--?[\w-]+)", message)
        raise CellError(message + (near(found[1], self._option_string_actions) if found else ""))


class Table:
    """A table of claims, whose rows are checked by what is known.

    Args:
        known: what cells may name.
        schema: of a row.
        here: whether a file is there, or was before its row was carried out.
        results: the campaign's folder.
    """

    def __init__(
        self, known: Known, schema: dict[str, Any], here: Callable[[str, str], bool], results: str = "results"
    ) -> None:
        self.known, self.here, self.results = known, here, results
        self.rows: dict[str, Row] = {}
        self._made: dict[str, str | None] = {}
        self._schema = jsonschema.Draft202012Validator(schema)
        self._columns = schema["properties"]

    def add(self, row: Row) -> Iterator[tuple[str, str]]:
        """Add a row, and yield its mistakes: the column, and what is wrong."""
        wrong = dict(self._of_form(row))
        yield from wrong.items()
        # a name that was meant for a repair's has other options than a conversion's
        unclear = {"to"} if near(row["to"], self.known["repairs"]) else set()
        needed = {"target": {"to", "format"}, "options": unclear, "checks": unclear}
        for column in ("id", "source", "from", "to", "format", "target", "fetch", "keep", "options", "checks"):
            if wrong.keys() & {column, *needed.get(column, ())}:
                continue
            try:
                getattr(self, f"_check_{column}")(row)
            except CellError as mistake:
                wrong[column] = str(mistake)
                yield column, str(mistake)
        if not wrong.keys() & {"source", "from", "to", "format", "options"}:
            yield from self._of_route(row)
        self.rows.setdefault(row["id"], row)

    def _of_form(self, row: Row) -> Iterator[tuple[str, str]]:
        if BEYOND in row:
            yield BEYOND, f"{row[BEYOND]!r} has no column"
        for mistake in self._schema.iter_errors({name: cell for name, cell in row.items() if name != BEYOND}):
            column = str(mistake.absolute_path[0])
            shown = row[column].partition("://")[0] + "://***" if "://" in row[column] else row[column]
            yield column, f"{shown!r} is not {self._columns[column]['description']}"

    def _check_id(self, row: Row) -> None:
        if row["id"] in self.rows:
            raise CellError(f"{row['id']!r} is taken by an earlier row")

    def _check_source(self, row: Row) -> None:
        source, before = row["source"], origin(row)
        scheme = source.partition("://")[0].lower() if "://" in source else ""
        if before is not None:
            if before not in self.rows:
                raise CellError(f"{source!r} names no earlier row{near(before, self.rows)}")
        elif scheme == "generated":
            self._check_generated(source)
        elif scheme in ("", "file"):
            path = local_path(source)
            if not self.here(row["id"], path):
                tilde = "; ~ isn't replaced: write the whole path" if path.startswith("~") else ""
                raise CellError(f"there is no {path if scheme == '' else 'such file or folder'}{tilde}")
        elif scheme not in self.known["schemes"]:
            import fsspec  # it has drivers of other packages too

            if scheme not in (drivers := fsspec.available_protocols()):
                raise CellError(f"no driver fetches the scheme {scheme!r}{near(scheme, drivers)}")

    def _check_generated(self, uri: str) -> None:
        parts, families = urlsplit(uri), self.known["generated"]
        name = parts.netloc + parts.path.rstrip("/")
        if name not in families or parts.fragment:
            raise CellError(f"no family is called {name!r}{near(name, families)} (families: {', '.join(families)})")
        options, seen = families[name]["options"], set()
        for option, value in parse_qsl(parts.query, keep_blank_values=True):
            if option not in options or option in seen:
                problem = "is given twice" if option in seen else f"isn't an option of {name}{near(option, options)}"
                raise CellError(f"{option!r} {problem} (options: {', '.join(options)})")
            seen.add(option)
            kind = options[option]
            if isinstance(kind, list) and value not in kind:
                raise CellError(f"{option} can't be {value!r} (choices: {', '.join(kind)})")
            form = r"\d+[KMGT]B" if option == "shard_size" else _PLAIN.get(str(kind), ".*")
            if not isinstance(kind, list) and not re.fullmatch(form, value, re.IGNORECASE):
                raise CellError(f"{option} can't be {value!r} (it is of type {kind})")

    def _check_from(self, row: Row) -> None:
        if row["from"]:
            self._layout(row["from"])

    def _check_to(self, row: Row) -> None:
        if not row["to"] and row["format"] not in self.known["migrations"]:
            raise CellError(f"names no layout (only formats {' and '.join(self.known['migrations'])} need none)")
        if row["to"] and row["to"] not in self.known["repairs"]:
            self._stop(row["to"])
            self.is_one_file(row)

    def _check_format(self, row: Row) -> None:
        if row["format"]:
            self._format(row["format"])

    def _check_target(self, row: Row) -> None:
        if not row["target"]:
            return
        if self.is_one_file(row) != row["target"].endswith(_ONE_FILE):
            kind = "file, whose name ends with" if self.is_one_file(row) else "folder, whose name doesn't end with"
            raise CellError(f"{row['target']!r}: the output is a {kind} {_ONE_FILE}")
        target = Path(row["target"]).resolve()
        paths = {f"row {other['id']}'s target": other["target"] for other in self.rows.values()}
        rows = (*self.rows.values(), row)
        paths |= {f"row {other['id']}'s source": local_path(other["source"]) for other in rows}
        for name, path in {**paths, "the results": self.results}.items():
            there = Path(path).resolve()
            if path and (target.is_relative_to(there) or there.is_relative_to(target)):
                raise CellError(f"{row['target']!r} is, holds or lies in {name} ({path})")

    def _check_fetch(self, row: Row) -> None:
        if row["fetch"] != "stream":
            return
        scheme = row["source"].partition("://")[0].lower() if "://" in row["source"] else ""
        if scheme in ("", "file", "package", "generated"):
            raise CellError("only a source in a store is streamed: s3, gs, hf, http or https")
        if row["sha256"]:
            raise CellError("a streamed source has no sha256: leave it out, or say local")
        if row["keep"] == "no":
            raise CellError("a streamed source isn't kept anyway: leave out keep = no")

    def _check_keep(self, row: Row) -> None:
        if row["keep"] == "no" and origin(row) is not None:
            raise CellError(f"{row['source']!r} isn't fetched: another row's output stays")

    def _check_options(self, row: Row) -> None:
        asked = self.asked(row)
        if kind_of(row, self.known) == "migration":
            for flag in self.known["conversion_only"]:
                if getattr(asked, {"--from": "from_"}.get(flag, flag.strip("-").replace("-", "_")), None):
                    raise CellError(f"{flag} without a layout in column to (name one, or leave it out)")

    def _check_checks(self, row: Row) -> None:
        self.checks_of(row)

    def _layout(self, name: str) -> None:
        layouts = self.known["layouts"]
        if name not in layouts:
            raise CellError(f"no layout is called {name!r}{near(name, layouts)} (layouts: {', '.join(layouts)})")

    def _format(self, name: str) -> None:
        formats = self.known["formats"]
        if name not in formats:
            raise CellError(f"no format is called {name!r}{near(name, formats)} (formats: {', '.join(formats)})")

    def _meant(self, stop: str) -> list[str]:
        return [name for name in self.known["layouts"] if stop in (name, name.partition("/")[0])]

    def _stop(self, name: str) -> None:
        if not self._meant(name):
            self._layout(name)

    def is_one_file(self, row: Row) -> bool:
        """Whether a row's output is a file instead of a folder.

        Raises:
            CellError: ``to`` is a framework with layouts of both kinds.
        """
        if kind_of(row, self.known) == "repair":
            return True
        own = [self.known["layouts"][name]["format"] for name in self._meant(row["to"])]
        formats = [row["format"]] if row["format"] in self.known["formats"] else own
        folders = {self.known["formats"][name]["folder"] for name in formats}
        if len(folders) > 1:
            raise CellError(f"may be a file or a folder: {row['to']} has layouts of both kinds (name the layout)")
        return folders == {False}

    def asked(self, row: Row) -> argparse.Namespace:
        """What a row's options say."""
        kind = kind_of(row, self.known)
        options = self.known["options"]
        if kind == "repair":
            own = [
                one | {"required": one["required"] and one["flags"][-1] not in OF_THE_WORKFLOW}
                for one in options[row["to"]]
            ]
        else:
            only = [one for one in options["convert"] if one["flags"][-1] in ONLY_TO_CONVERT]
            own = options["plan"] + only
        return self._parsed(own, self._words(row), row["id"])

    def _words(self, row: Row) -> list[str]:
        try:
            words = shlex.split(row["options"])
        except ValueError as error:
            raise CellError(f"{row['options']!r}: {error}") from None
        if "" in words:  # Snakemake doesn't quote an empty word
            raise CellError(f"{row['options']!r}: holds an empty word")
        if kind_of(row, self.known) != "repair":
            for word in words:
                if word.partition("=")[0] in OF_THE_CONFIG:
                    raise CellError(f"{word}: config.yaml gives it for all rows")
        return words

    def words_for(self, row: Row, *, plan: bool) -> list[str]:
        """A row's options as words for the command that plans it, or for the one that carries it out."""
        words = self._words(row)
        if not plan or kind_of(row, self.known) == "repair" or self.asked(row).shard_size is None:
            return words
        only = argparse.ArgumentParser(add_help=False)
        for flag in ONLY_TO_CONVERT:
            only.add_argument(flag)
        return only.parse_known_args(words)[1]

    def _parsed(self, options: list[dict[str, Any]], words: list[str], id: str) -> argparse.Namespace:
        parser = _Parser(add_help=False)
        for flags in (["--json"], ["-q", "--quiet"], ["-v", "--verbose"]):
            parser.add_argument(*flags, action="store_true")
        for option in options:
            more: dict[str, Any] = {"action": option["action"], "required": option["required"]}
            if option["flags"] == ["--from"]:
                more["dest"] = "from_"
            if not option["action"].startswith("store_"):
                more |= {"choices": option["choices"], "metavar": option["takes"]}
                more["type"] = lambda text, option=option: self._value(option, text, id)
            parser.add_argument(*option["flags"], **more)
        return parser.parse_args(words)

    def _value(self, option: dict[str, Any], text: str, id: str) -> str:
        """A value of an option, if it can be one."""
        takes, name = option["takes"], option["flags"][-1]
        least = option["least"]
        if least is not None and not (text.strip().isdecimal() and int(text) >= least):
            raise CellError(f"argument {name}: {text!r} isn't a whole number from {least} on")
        if option["whole"] and not re.fullmatch(_PLAIN["int"], text.strip()):
            raise CellError(f"argument {name}: invalid int value: {text!r}")
        if takes == "SIZE":
            size(text)
        if takes == "A:B" and text.count(":") != 1:
            raise CellError(f"argument {name}: {text!r} isn't the first and the last stage, as A:B")
        if takes == "LAYOUT":
            self._stop(text)
        if takes == "FORMAT":
            self._format(text)
        if takes == "R" and not re.fullmatch(r"(cs-)?\d+(\.\d+)*", text):
            raise CellError(f"{text!r} isn't a release (write it as 2.9)")
        if takes == "DTYPE" and text.strip().lower().rpartition(".")[2].replace("-", "_") not in self.known["dtypes"]:
            dtypes = self.known["dtypes"]
            raise CellError(f"{text!r} isn't a floating-point dtype{near(text, dtypes)} (dtypes: {', '.join(dtypes)})")
        if takes in ("NAME=N", "NAME=CHOICE") and not all(text.partition("=")[:2]):
            raise CellError(f"{name} {text} (write NAME=VALUE)")
        if takes == "NAME=N" and not (text.partition("=")[2].isdecimal() and int(text.partition("=")[2]) > 0):
            raise CellError(f"{name} {text} (a size is a number above 0)")
        if takes in ("FILE", "DIR") and not self.here(id, text):
            raise CellError(f"{name}: there is no {text}")
        return text

    def _of_route(self, row: Row) -> Iterator[tuple[str, str]]:
        """Whether mappings lead from the source's layout, as far as it is known, to the layout that is asked for."""
        if kind_of(row, self.known) != "conversion":
            return
        asked = self.asked(row)
        here = row["from"] or asked.from_ or self._layout_before(row)
        links: list[list[str]] = []
        for stop in (*(asked.through or ()), asked.to or row["to"]):
            joined = [pair for pair in self._pairs() if here in (None, pair[0]) and pair[1] in self._meant(stop)]
            if not joined and not links and not (row["from"] or asked.from_):  # the target says what it is
                alike = self._alike(here)
                joined = [pair for pair in self._pairs() if pair[0] in alike and pair[1] in self._meant(stop)]
            if stop not in self.known["layouts"]:
                joined = [pair for pair in joined if pair[1] in self._layouts_had(row) or not self._by_name(pair[1])]
            if here == stop:  # only the format is another
                joined = [(here, here)]
            if not joined and here is not None:
                reached = ", ".join(sorted({right.partition("/")[0] for left, right in self._pairs() if left == here}))
                if stop in self.known["layouts"]:
                    yield "to", f"there is no mapping between {here} and {stop} (see convkit list mappings)"
                else:
                    yield (
                        "to",
                        f"no mapping leads from {here} into {stop} (frameworks that it reaches: {reached})",
                    )
                return
            if here is not None and len(joined) > 1 and not self._layouts_had(row) & {right for _, right in joined}:
                names = ", ".join(right for _, right in joined)
                yield "to", f"{len(joined)} mappings lead from {here} into {stop} (say which: {names})"
                return
            links.append([release for pair in joined for release in self._releases(*pair)])
            here = joined[0][1] if len({right for _, right in joined}) == 1 else None
        self._made.setdefault(row["id"], here)
        yield from self._of_release(asked.release, links)

    def _of_release(self, release: str | None, links: list[list[str]]) -> Iterator[tuple[str, str]]:
        if not release:
            return
        number = tuple(map(int, release.removeprefix("cs-").split(".")))
        if not any(links):
            yield "options", "--release: the layouts are the same in every release (leave it out)"
        for known in filter(None, links):
            if number not in [tuple(map(int, one.split("."))) for one in known]:
                shown = ".".join(map(str, number))
                yield "options", f"release {shown} isn't supported (releases {known[0]} ... {known[-1]})"
                return

    def _by_name(self, layout: str) -> bool:
        """Whether the name of a framework doesn't mean this layout of it."""
        return "by_name" in self.known["layouts"][layout]

    def _alike(self, layout: str | None) -> list[str]:
        """The layouts for which a checkpoint of this one is taken if they are asked for."""
        return self.known["layouts"].get(layout, {}).get("alike", [])

    def _pairs(self) -> list[tuple[str, str]]:
        return [pair for left, right in self.known["mappings"] for pair in ((left, right), (right, left))]

    def _releases(self, left: str, right: str) -> list[str]:
        layouts = self.known["layouts"]
        return layouts[right]["releases"] or layouts[left]["releases"]

    def _layout_before(self, row: Row) -> str | None:
        """The layout of a row's source, where the table shows it."""
        if (before := origin(row)) is not None:
            return self._made.get(before)
        uri = urlsplit(row["source"]) if row["source"].startswith("generated://") else None
        layout: str | None = self.known["generated"][uri.netloc]["layout"] if uri else None
        return layout

    def _layouts_had(self, row: Row) -> set[str]:
        """The layouts that a row's source may have had, any if it isn't generated: an output goes back to its own."""
        before = self.rows.get(origin(row) or "")
        if before is not None:
            found = self._layout_before(before)
            here = {before["from"]} if before["from"] else {found or "", *self._alike(found)}
            return here | self._layouts_had(before)
        return set() if row["source"].startswith("generated://") else set(self.known["layouts"])

    def checks_of(self, row: Row) -> dict[str, dict[str, str]]:
        """The checks that are made of a row's output, each with the options that the row gives to its command."""
        kind = kind_of(row, self.known)
        allowed = self.known["checks"][kind]
        asked = asked_for(row["checks"])
        for check, given in asked.items():
            if check not in allowed:
                if row["checks"].strip():
                    raise CellError(f"{check!r} isn't a check of a {kind} (it takes {', '.join(allowed)})")
                continue
            for option, value in given.items():
                self._check_option(check, allowed[check], option, value, row["id"])
        return {check: given for check, given in asked.items() if check in allowed}

    def _check_option(self, check: str, allowed: list[str], option: str, value: str, id: str) -> None:
        word = f"{check}:{option}={value}"
        if option not in allowed:
            remedy = f"allowed are {', '.join(allowed)}" if allowed else f"write {check} alone"
            raise CellError(f"{word!r}: {check} takes no option {option} here{near(option, allowed)} ({remedy})")
        try:
            self._parsed(self.known["options"][check], [f"--{option}={value}"], id)
        except CellError as mistake:
            raise CellError(f"{word!r}: {mistake}") from None
