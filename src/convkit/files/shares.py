"""Where the parts of a check leave what each has found, beside the target, until they are joined."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from pathlib import Path
from typing import Any

from convkit.errors import UsageError
from convkit.files.document import as_json, read_json
from convkit.files.part import Part

_NAME = re.compile(r"part-(\d+)-of-(\d+)\.json")

#: what it means that only this differs
_OTHERWISE = {
    "settings": "was made with other settings",
    "versions": "was made with other versions of the frameworks",
}


class Shares:
    """The documents of the parts of one check of a target.

    Args:
        target: the checkpoint.
        check: the name of the check.
        about: what is checked, down to the files; JSON values. Parts about something else count for nothing.
    """

    def __init__(self, target: Path, check: str, about: dict[str, Any]) -> None:
        self.target, self.check, self.about = target, check, as_json(about)
        self.folder = target.with_name(f".{target.name}.convkit-{check}")

    def keep(self, part: Part, document: dict[str, Any]) -> None:
        """Keep what a part has found, and forget what parts have found about something else."""
        self.folder.mkdir(exist_ok=True)
        for other in self._there():
            if read_json(self._path(other)).get("about") != self.about:
                self._path(other).unlink(missing_ok=True)
        path = self._path(part)
        partial = path.with_name(f"{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
        partial.write_text(json.dumps(as_json({"about": self.about, **document})), encoding="utf-8")
        partial.replace(path)

    def join(self) -> list[dict[str, Any]]:
        """What all parts have found, in their order.

        Raises:
            UsageError: a part is missing, or is about something else.
        """
        there = self._there()
        counts = sorted({part.count for part in there})
        again = f"make it: convkit {self.check} SRC DST --part"
        if not there:
            raise UsageError(f"no part of its {self.check} was made", path=self.target, remedy=f"{again} 1/N")
        if len(counts) > 1:
            listed = " and ".join(map(str, counts))
            remedy = f"remove {self.folder}, and start over"
            raise UsageError(f"there are parts of {listed}", path=self.target, remedy=remedy)
        (count,) = counts
        missing = [n for n in range(1, count + 1) if Part(n, count) not in there]
        if missing:
            listed = ", ".join(map(str, missing))
            problem = f"of the {count} parts of its {self.check} some are missing: {listed}"
            raise UsageError(problem, path=self.target, remedy=f"{again} {missing[0]}/{count}")
        found = [read_json(self._path(part)) for part in sorted(there)]
        for part, document in zip(sorted(there), found, strict=True):
            if why := self._against(document.get("about")):
                problem = f"part {part} of its {self.check} {why}"
                raise UsageError(problem, path=self.target, remedy=f"{again} {part}")
        return found

    def _against(self, about: Any) -> str:
        """How a part isn't about the same, after its name; empty if it is."""
        if about == self.about:
            return ""
        other = about if isinstance(about, dict) else {}
        different = {name for name in self.about if other.get(name) != self.about[name]}
        return _OTHERWISE.get("".join(different), "is about another output, source or convkit")

    def remove(self) -> None:
        """Forget all parts."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _there(self) -> list[Part]:
        names = [_NAME.fullmatch(path.name) for path in self.folder.glob("part-*.json")]
        return [Part(int(found[1]), int(found[2])) for found in names if found]

    def _path(self, part: Part) -> Path:
        return self.folder / f"part-{part.number}-of-{part.count}.json"
