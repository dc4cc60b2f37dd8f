"""The bytes of an OCDBT database that convkit writes itself, by what tensorstore makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import tensorstore
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.formats.arrays import ocdbt_tree
from convkit.formats.arrays.ocdbt import database
from convkit.formats.arrays.ocdbt_entries import database_time, read_entries
from convkit.formats.arrays.ocdbt_node import Entry
from convkit.formats.arrays.ocdbt_tree import Shared, SharedPlaces, write_database

NOON = 1_700_000_000 * 10**9


def write(top: Path, values: Mapping[bytes, bytes], inline: int) -> None:
    """A database of these values; those of more bytes than ``inline`` lie in shared files."""
    shared = Shared(top, top / "shared")
    for key in sorted(values):
        if len(values[key]) > inline:
            shared.add(values[key])
    places = SharedPlaces(shared.complete())
    entries: list[Entry] = [
        (key, places.next(len(values[key])) if len(values[key]) > inline else values[key]) for key in sorted(values)
    ]
    write_database(top, top, iter(entries), NOON)


def opened(top: Path) -> tensorstore.KvStore:
    return tensorstore.KvStore.open(database(top), context=tensorstore.Context()).result()


def heights(top: Path) -> int:
    dump = tensorstore.ocdbt.dump(tensorstore.KvStore.open(f"file://{top}/").result()).result()
    return int(dump["versions"][-1]["root_height"])


#: keys that share beginnings, have any bytes, and are long
KEYS = st.one_of(
    st.binary(max_size=5),
    st.text("ab/.", max_size=30).map(str.encode),
    st.integers(0, 400).map(lambda number: b"params.layers." + b"x" * number),
)


@settings(max_examples=60, deadline=None)
@given(
    values=st.dictionaries(KEYS, st.binary(max_size=40) | st.integers(0, 3000).map(bytes), max_size=60),
    node=st.integers(1, 3000),
    inline=st.sampled_from([0, 10, 1024]),
)
def test_tensorstore_finds_what_was_put_in(
    values: dict[bytes, bytes], node: int, inline: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of any keys, in a tree of any height."""
    top = tmp_path_factory.mktemp("database")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ocdbt_tree, "NODE_BYTES", node)
        patch.setattr(ocdbt_tree, "FILE_BYTES", 5000)
        write(top, values, inline)
    store = opened(top)
    assert sorted(store.list().result()) == sorted(values)
    for key, value in values.items():
        assert store[key] == value
    for key in (b"", b"a", b"params.layers.", b"\xff\xff"):
        assert (store.read(key).result().state == "value") == (key in values)
    middle = tensorstore.KvStore.KeyRange(b"a", b"b")
    assert sorted(store.list(middle).result()) == sorted(key for key in values if b"a" <= key < b"b")
    assert database_time(top) == NOON
    # what isn't there can be added
    store[b"another"] = b"value"
    assert sorted(opened(top).list().result()) == sorted({*values, b"another"})


def test_its_statistics_are_tensorstores(tmp_path: Path) -> None:
    values = {b"a": b"x", b"ab": bytes(2000), b"b": b""}
    write(tmp_path, values, 1024)
    dump = tensorstore.ocdbt.dump(tensorstore.KvStore.open(f"file://{tmp_path}/").result()).result()
    (version,) = dump["versions"]
    (tree,) = (path for path in (tmp_path / "d").iterdir() if path.stat().st_size != 2000)
    assert version["root"]["statistics"] == {
        "num_keys": 3,
        "num_tree_bytes": tree.stat().st_size,
        "num_indirect_value_bytes": 2000,
    }
    config = {key: value for key, value in dump["config"].items() if key != "uuid"}
    assert config == {
        "compression": {"id": "zstd"},
        "max_decoded_node_bytes": 100_000_000,
        "max_inline_value_bytes": 1024,
        "version_tree_arity_log2": 4,
    }


@pytest.mark.parametrize("file", ["manifest.ocdbt", "node"])
def test_a_flipped_bit_is_found(file: str, tmp_path: Path) -> None:
    """By the checksums that tensorstore compares."""
    write(tmp_path, {b"key": b"value"}, 1024)
    path = tmp_path / file if file != "node" else next((tmp_path / "d").iterdir())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="CRC-32C"):
        opened(tmp_path).list().result()


def test_a_tree_of_three_levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of very many arrays; by our reader, too."""
    monkeypatch.setattr(ocdbt_tree, "NODE_BYTES", 4000)
    values = {f"params.layer_{number}/c/{part}".encode(): b"%d" % number for number in range(5000) for part in "01"}
    write(tmp_path, values, 1024)
    assert heights(tmp_path) == 2
    assert {key.encode(): entry.inline for key, entry in read_entries(tmp_path).items()} == values
    assert opened(tmp_path)[b"params.layer_77/c/1"] == b"77"


def test_long_keys_make_the_tree_no_higher_than_it_must_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that one key fills has two entries all the same, or no level would be shorter than the one below."""
    monkeypatch.setattr(ocdbt_tree, "NODE_BYTES", 1)
    values = {b"%04d" % number + b"k" * 65_000: b"" for number in range(20)}
    write(tmp_path, values, 1024)
    assert heights(tmp_path) == 5
    assert sorted(opened(tmp_path).list().result()) == sorted(values)
