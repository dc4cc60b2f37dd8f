"""YAML, read within limits: a short text can stand for a value that no memory holds, or that holds itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml

#: most values that a text stands for when its aliases are written out, as they are in JSON: ten times as many as the
#: largest text without aliases holds
VALUES_LIMIT = 1 << 20
#: most levels of nesting: below Python's own limit, which a walk over the value would meet
DEPTH_LIMIT = 100
#: most characters of a number: those of base 60, ``1:30:00``, take quadratic time
NUMBER_LIMIT = 400
_DATE, _TEXT = "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"
#: what JSON can't say
_OTHER = ("tag:yaml.org,2002:binary", "tag:yaml.org,2002:set")
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def loads(text: str) -> Any:
    """What a YAML text says, of plain data only: what JSON can say. Dates, and keys of any kind, are texts.

    Raises:
        ValueError: it isn't YAML, a value holds itself, or it is over :data:`VALUES_LIMIT` or :data:`DEPTH_LIMIT`.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _Size().of(node, 0)
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"a value isn't of the kind that its tag says: {error}") from None
    finally:
        loader.dispose()


class _Size:
    """The number of values below a node, each alias counted as what it stands for. Nodes are shared by their aliases,
    so each is walked once.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int]] = {}
        self._above: set[int] = set()

    def of(self, node: yaml.Node, depth: int) -> tuple[int, int]:
        """The number of values of the node, itself included, and its levels.

        Raises:
            ValueError: see :func:`loads`.
        """
        place = f"line {node.start_mark.line + 1}"
        if id(node) in self._above:
            raise ValueError(f"{place}: a value holds itself")
        if id(node) not in self._known:
            if depth > DEPTH_LIMIT:
                raise ValueError(f"{place}: it is nested more than {DEPTH_LIMIT} deep, the most that is read")
            if node.tag == _DATE:
                node.tag = _TEXT
            if node.tag in _OTHER:
                raise ValueError(f"{place}: !!{node.tag.rpartition(':')[2]} is nothing that JSON can say")
            if node.tag in _NUMBERS and len(node.value) > NUMBER_LIMIT:
                raise ValueError(f"{place}: a number has over {NUMBER_LIMIT} characters, the most that are read")
            self._above.add(id(node))
            below = [self.of(child, depth + 1) for child in _children(node)]
            self._above.discard(id(node))
            self._known[id(node)] = 1 + sum(size for size, _ in below), 1 + max((deep for _, deep in below), default=0)
        size, levels = self._known[id(node)]
        if size > VALUES_LIMIT:
            raise ValueError(f"{place}: it stands for over {VALUES_LIMIT} values, the most that are read")
        if depth + levels > DEPTH_LIMIT:
            raise ValueError(f"{place}: it is nested more than {DEPTH_LIMIT} deep, the most that is read")
        return size, levels


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node.value, str):
        return []
    for item in node.value:
        if isinstance(item, tuple) and isinstance(item[0].value, str) and item[0].tag != _MERGE:
            item[0].tag = _TEXT
    return [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
