"""Find the mappings that lead from a layout to another layout, into a framework, or through other layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from convkit.errors import UsageError
from convkit.mapping import Chain, Mapping
from convkit.mappings import ends, find_mapping, get_layout, layouts


def find_route(
    here: str, to: str, through: Iterable[str] = (), before: Callable[[], Iterable[str]] = tuple
) -> Mapping | Chain:
    """Find the mapping from the layout ``here`` to ``to``, or the chain of mappings that passes ``through`` others.

    Each stop is a layout (``hf/llama``) or a framework (``hf``), the part of a layout's name before the slash. Where
    several layouts of a framework can be reached, the checkpoint goes back to the one that it had: on the way, or
    ``before``, which is asked only then. A layout that only its own name means isn't one of several.

    Raises:
        UsageError: an unknown layout, two layouts that no mapping joins, or an ambiguous framework.
    """
    links: list[Mapping] = []
    had = [here]
    for stop in (*through, to):
        links.append(find_mapping(here, layout_at(here, stop, lambda: (*had, *before()))))
        here = links[-1].right.name
        had.append(here)
    return links[0] if len(links) == 1 else Chain(tuple(links))


def layout_at(here: str, stop: str, before: Callable[[], Iterable[str]] = tuple) -> str:
    """Resolve ``stop`` to a layout, for a checkpoint of layout ``here`` that had other layouts ``before``.

    Raises:
        UsageError: an unknown layout or framework, or a framework into which not exactly one mapping leads.
    """
    if stop in layouts():
        return stop
    check_stop(stop)
    reached = [name for joined in ends() if here in joined for name in joined if name != here]
    there = [name for name in reached if framework_of(name) == stop]
    found = [name for name in there if not get_layout(name).by_name]
    if len(there) > 1 or there != found:
        had = set(before())
        found = [name for name in there if name in had] or found
    if len(found) == 1:
        return found[0]
    if there:
        problem = f"{len(found)} mappings lead" if found else "no mapping leads"
        raise UsageError(f"{problem} from {here} into {stop}", remedy=f"say which: {', '.join(found or there)}")
    frameworks = ", ".join(dict.fromkeys(map(framework_of, reached))) or "none"
    raise UsageError(f"no mapping leads from {here} into {stop}", remedy=f"frameworks that it reaches: {frameworks}")


def check_stop(stop: str) -> None:
    """Refuse a stop that is neither a layout nor a framework.

    Raises:
        UsageError: the name is unknown; lists the known names.
    """
    if not layouts_of(stop):
        get_layout(stop)


def layouts_of(stop: str) -> list[str]:
    """List the layouts that ``stop`` may mean: one, all of a framework, or none."""
    return [name for name in layouts() if stop in (name, framework_of(name))]


def framework_of(layout: str) -> str:
    """Return the framework of a layout: ``hf`` for ``hf/llama``."""
    return layout.partition("/")[0]
