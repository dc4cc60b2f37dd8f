"""Any tree survives v0 to v1 to v0 and v1 to v0 to v1, with the data unchanged or rewritten."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convkit.formats import open_checkpoint
from convkit.migrate.orbax.migrate import migrate
from convkit.migrate.orbax.request import Request

DTYPES = [
    *("bool", "int8", "uint8", "int16", "int32", "int64", "uint64", "float16", "float32", "float64", "complex64"),
    *("bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "int2"),
]
#: dots and slashes, which storage names are made of; not what leads out of a folder
KEYS = st.text(st.sampled_from("ab01./_ é-"), min_size=1, max_size=5).filter(
    lambda key: not {"", ".", ".."} & set(key.split("/"))
)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """A small array of any dtype that Orbax takes, down to no axis, with any bits."""
    name = draw(st.sampled_from(DTYPES))
    dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
    shape = draw(st.lists(st.integers(1, 3), max_size=3).map(tuple))
    numbers = np.random.default_rng(draw(st.integers(0, 2**32))).integers(0, 2, shape)
    return numbers.astype(dtype)


LEAVES = st.one_of(
    arrays(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=True),
    st.booleans(),
    st.text(max_size=4),
    st.none(),
    st.just({}),
    st.just([]),
    st.just(()),
)
TREES = st.dictionaries(
    KEYS,
    st.recursive(
        LEAVES,
        lambda inner: st.one_of(
            st.dictionaries(KEYS, inner, max_size=3),
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
        ),
        max_leaves=8,
    ),
    min_size=1,
    max_size=4,
)


def names(tree: Any, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The path of each leaf and empty node."""
    if isinstance(tree, dict | list | tuple) and tree:
        entries = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return [path for key, child in entries for path in names(child, (*prefix, str(key)))]
    return [prefix]


def distinct(tree: Any) -> bool:
    """Whether no storage name is another's, or a folder above it."""
    found = [".".join(path) for path in names(tree)]
    return len(set(found)) == len(found) and not any(
        other != name and other.startswith(f"{name}/") for name in found for other in found
    )


def content(path: Path) -> dict[str, Any]:
    with open_checkpoint(path) as opened:
        return {
            key: (leaf.spec, opened.read(key).tobytes()) if leaf.spec else repr(leaf.value)
            for key, leaf in opened.leaves.items()
        }


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def save(api: str, path: Path, tree: Any) -> None:
    if api == "v0":
        import orbax.checkpoint as ocp

        with ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save(path, tree)
    else:
        import orbax.checkpoint.experimental.v1 as ocp

        ocp.save(path, tree)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(tree=TREES.filter(distinct), api=st.sampled_from(["v0", "v1"]))
def test_any_tree(tree: Any, api: str) -> None:
    other = "v1" if api == "v0" else "v0"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        save(api, folder / "source", tree)
        migrate(folder / "source", folder / "there", Request(other), restored=False)
        migrate(folder / "there", folder / "back", Request(api), restored=False)
        assert files(folder / "back") == files(folder / "source")
        migrate(folder / "source", folder / "anew", Request(other, "rewrite"), restored=False)
        migrate(folder / "anew", folder / "again", Request(api, "rewrite"), restored=False)
        before = content(folder / "source")
        assert content(folder / "there") == content(folder / "anew") == content(folder / "again") == before
