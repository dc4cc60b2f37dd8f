"""The release of each mapping of a plan, and the mappings between releases that stand beside those that are asked for.

A layout's mapping to another framework exists for some releases. From the others, and to them, its checkpoints come by
the mapping between releases (:func:`convkit.mappings.upgrade`), in the same pass.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from convkit.config.classes import Release
from convkit.config.tree import MISSING, dig
from convkit.errors import UsageError
from convkit.mapping import Layout, Mapping, split_name
from convkit.mapping.layout import parse_release
from convkit.mappings import check_release, releases_of, upgrade
from convkit.plan.earlier import layouts_before, release_before
from convkit.plan.source import Source

#: a training checkpoint's own record of what wrote it, the last one of the latest
_WRITTEN_BY = re.compile(r"__metadata__\.(\d+)\.version")
#: what every file of ours says that it is of, whatever is in it
_OURS = "2.10.0"
#: what only the yamls of a release and of those after it have -> that release
_YAML_SINCE: tuple[tuple[str, Release], ...] = (("trainer", (2, 3)),)


class Leg(Struct, frozen=True):
    """A mapping, and the release of the side that has releases: of the right one, if both have."""

    mapping: Mapping
    release: Release


class Journey(Struct, frozen=True):
    """What is known of the releases of a conversion.

    Attributes:
        source: the checkpoint; None where only its config is converted.
        asked: the release that is asked for; of the source, if only that has releases. Empty if none is.
        said: the source's release, if the user says it.
        restore: whether the receipt beside the source counts.
    """

    source: Source | None
    asked: Release
    said: Release
    restore: bool

    def legs(self, links: Sequence[Mapping]) -> list[Leg]:
        """The mappings to take, each with its release, where ``links`` lead from layout to layout.

        Raises:
            UsageError: a release isn't supported; nothing shows the source's release, which is needed.
        """
        start, end = links[0].left, links[-1].right
        if self.asked and not any(releases_of(one) for link in links for one in (link.left, link.right)):
            name = " <-> ".join([start.name, *(link.right.name for link in links)])
            raise UsageError(f"{name} is the same in every release", remedy="leave out --release")
        if len(links) == 1 and start.name == end.name:
            return [self._within(links[0])]
        found = [self._leg(link, first=link is links[0], towards=end) for link in links]
        return [*self._before(start, end, found[0]), *found, *self._after(end, found[-1])]

    def _within(self, same: Mapping) -> Leg:
        """From one release of a layout to another; only another format, if no release is named."""
        layout = same.left
        if not self.asked and not self.said:
            return Leg(same, release_of(same, ()))
        asked = self.asked or releases_of(layout)[-1]
        check_release(layout, asked)
        said = self.said if self.source is None else source_release(self.source, layout, self.said)
        return Leg(upgrade(layout.name, said, asked), asked)

    def _leg(self, link: Mapping, *, first: bool, towards: Layout) -> Leg:
        """A mapping to another layout, at the release that is wanted, or at the nearest one that it has."""
        right = bool(releases_of(link.right))
        wanted = self.asked if right or not first else self._of_source(link.left, towards) or self.asked
        layout = link.right if right else link.left
        if not wanted or not layout.releases:
            return Leg(link, release_of(link, ()))
        check_release(layout, wanted)
        if wanted in layout.releases:
            return Leg(link, wanted)
        return Leg(link, (not right and self._came_from(layout)) or layout.releases[0])

    def _before(self, start: Layout, end: Layout, first: Leg) -> list[Leg]:
        release = self._of_source(start, end)
        if not release or release == first.release:
            return []
        return [Leg(upgrade(start.name, release, first.release), first.release)]

    def _after(self, end: Layout, last: Leg) -> list[Leg]:
        if not self.asked or not releases_of(end) or self.asked == last.release:
            return []
        return [Leg(upgrade(end.name, last.release, self.asked), self.asked)]

    def _of_source(self, start: Layout, end: Layout) -> Release:
        """The release of a source whose layout has releases, as far as it matters; empty if it doesn't."""
        if not releases_of(start):
            return ()
        said = self.said or (() if releases_of(end) else self.asked)
        if said:
            check_release(start, said)
            return said
        shown = (shown_release(self.source, restore=self.restore) or _written_by(self.source)) if self.source else ()
        # of the releases that the mapping has, the user says it
        return shown if shown in releases_of(start) and shown not in start.releases else ()

    def _came_from(self, layout: Layout) -> Release:
        """The release that the source had before it was brought to an older one."""
        before = layouts_before(self.source) if self.source and self.restore else []
        known = [release for own, release in map(split_name, before) if own == layout.name]
        return next((release for release in reversed(known) if release in layout.releases), ())


def release_of(mapping: Mapping, release: Release) -> Release:
    """The release of a mapping's layouts that is asked for, or the current one; empty if they have none.

    Raises:
        UsageError: its layouts don't have that release.
    """
    known = mapping.right.releases or mapping.left.releases
    if known and release and release not in known:
        first, last, shown = (".".join(map(str, numbers)) for numbers in (known[0], known[-1], release))
        raise UsageError(f"release {shown} isn't supported", remedy=f"releases {first} ... {last}")
    return (release or known[-1]) if known else ()


def source_release(source: Source, layout: Layout, said: Release = ()) -> Release:
    """The release of a source of a layout: as the user says, or as the checkpoint shows it.

    Raises:
        UsageError: nothing shows it, or the layout hasn't had it.
    """
    found = said or shown_release(source) or _only(source, layout)
    if not found:
        problem = "neither the checkpoint nor a receipt beside it says which release it is of"
        raise UsageError(problem, path=source.path, remedy="say it: --from-release 2.9")
    check_release(layout, found)
    return found


def shown_release(source: Source, *, restore: bool = True) -> Release:
    """The release that a checkpoint's own record, or the receipt of its conversion, says; empty if neither does."""
    leaves = source.checkpoint.leaves
    written = {int(match[1]): leaves[key].value for key in leaves if (match := _WRITTEN_BY.fullmatch(key))}
    said = str(written[max(written)]) if written else (release_before(source) if restore else None)
    found = re.match(r"\d+\.\d+", said or "")
    return parse_release(found[0]) if found else ()


def _only(source: Source, layout: Layout) -> Release:
    """The release that the file's format is of, or the only one whose yamls look like the source's."""
    left = _possible(source, layout)
    return _written_by(source) or (left[0] if len(left) == 1 else ())


def _written_by(source: Source) -> Release:
    """The release that the file's format is of; empty if the file doesn't say it, as ours don't."""
    wrote = str(source.checkpoint.metadata.get("cstorch_version") or _OURS)
    found = None if wrote == _OURS else re.match(r"\d+\.\d+", wrote)
    return parse_release(found[0]) if found else ()


def _possible(source: Source, layout: Layout) -> list[Release]:
    """The releases of a layout whose yamls may look like the source's."""
    config, known = source.config or {}, releases_of(layout)
    since = max((release for field, release in _YAML_SINCE if dig(config, field) is not MISSING), default=())
    return [release for release in known if release >= since]


def or_older(remedy: str | None, source: Source, start: Layout, said: Release) -> str | None:
    """What to do about a source that doesn't fit its layout; it may be of a release that nothing shows."""
    older = [one for one in _possible(source, start) if one not in start.releases] if releases_of(start) else []
    if not older or said or "@" in start.name or shown_release(source) or _written_by(source):
        return remedy
    *others, last = (".".join(map(str, one)) for one in older)
    names = f"{', '.join(others)} or {last}" if others else last
    more = f"if it is of a release before {'.'.join(map(str, start.releases[0]))}, say it: --from-release {names}"
    return f"{remedy}; {more}" if remedy else more
