"""Orbax's metadata is written back unchanged, and every kind of folder is recognised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from goldens import golden_dir
from hypothesis import given
from hypothesis import strategies as st

from convkit.errors import ConvkitError
from convkit.state.orbax import arrays, handlers, root, step, tree
from convkit.state.orbax.layout import DIRECT, FLAX, ITEM, ROOT, STEP, recognise

#: name of a case in the corpus -> its kind and, for a root, the kind of its steps
_CASES = {
    "direct_": (DIRECT, None),
    "sharded_v1": (STEP, None),
    "sharded_": (DIRECT, None),
    "standard_": (DIRECT, None),
    "composite": (STEP, None),
    "v1_save": (STEP, None),
    "v1_checkpointer": (ROOT, STEP),
    "manager_": (ROOT, STEP),
    "flax_orbax_": (ROOT, DIRECT),
    "flax_msgpack_": (ROOT, FLAX),
}


def _corpus() -> list[Path]:
    return sorted(golden_dir("orbax/old_releases.tar.gz").glob("*/*/ckpt"))


@pytest.mark.golden
def test_every_checkpoint_of_the_old_releases_is_recognised() -> None:
    corpus = [path for path in _corpus() if not path.parent.name.startswith("tmp_")]
    assert len(corpus) > 200
    for path in corpus:
        case = path.parent.name
        kind, below = next(expected for name, expected in _CASES.items() if case.startswith(name))
        found = recognise(path)
        assert found.kind == kind, path
        assert found.api == ("v1" if "v1" in case else "v0"), path
        if below:
            assert {recognise(entry).kind for entry in found.steps} == {below}, path


@pytest.mark.golden
def test_items_are_told_by_their_handlers_and_without_them_by_their_files() -> None:
    corpus = golden_dir("orbax/old_releases.tar.gz")
    expected = {"params": handlers.PYTREE, "state": handlers.PYTREE, "meta": handlers.JSON, "metrics": handlers.METRICS}
    for release in ("0.2.7", "0.5.9", "0.9.1", "0.11.5", "0.12.0"):
        found = recognise(recognise(corpus / release / "manager_legacy" / "ckpt").steps[0])
        assert {name: item.kind for name, item in found.items.items()} == expected
    found = recognise(corpus / "0.12.0" / "composite" / "ckpt")
    assert {item.kind for item in found.items.values()} == {
        handlers.PYTREE,
        handlers.JSON,
        handlers.ARRAY,
        handlers.RANDOM_KEY,
    }


@pytest.mark.golden
def test_a_folder_of_a_step_is_an_item() -> None:
    found = recognise(golden_dir("orbax/old_releases.tar.gz") / "0.12.0" / "v1_checkpointer" / "ckpt" / "2" / "state")
    assert (found.kind, found.api, list(found.items)) == (ITEM, "v1", [""])


@pytest.mark.golden
def test_metadata_files_are_written_as_they_were_read() -> None:
    count = 0
    for path in _corpus():
        for file in path.rglob(tree.FILE):
            found = tree.read(file.parent)
            assert found is not None
            assert json.loads(found.dumps()) == json.loads(file.read_bytes()), file
            count += 1
        for file in path.rglob(step.FILE):
            metadata = step.read(file.parent)
            assert metadata is not None
            assert json.loads(metadata.dumps()) == json.loads(file.read_bytes()), file
        for file in path.rglob("process_0"):
            if file.parent.name == arrays.ARRAYS_FOLDER:
                entries = arrays.read_array_metadatas(file.parent.parent)
                assert json.loads(arrays.dump_array_metadatas(entries)) == json.loads(file.read_bytes()), file
    assert count > 100


def test_shardings_are_read_with_plain_and_with_base64_names(tmp_path: Path) -> None:
    texts = {"a.b": arrays.single_device(), "w": '{"sharding_type": "NamedSharding"}'}
    (tmp_path / arrays.SHARDING_FILE).write_bytes(arrays.dump_shardings(texts))
    assert arrays.read_shardings(tmp_path) == texts
    (tmp_path / arrays.SHARDING_FILE).write_text(json.dumps({"a.b": ""}))
    assert arrays.read_shardings(tmp_path) == {"a.b": ""}
    # JSON pointers of 0.4.1: "/" nests; a name that isn't ASCII, and one that might be base64
    old = {"c": {"d": ""}, "p.é": "", "Zm9v": texts["w"]}
    (tmp_path / arrays.SHARDING_FILE).write_text(json.dumps(old))
    assert arrays.read_shardings(tmp_path) == {"c/d": "", "p.é": "", "Zm9v": texts["w"]}
    (tmp_path / arrays.SHARDING_FILE).write_text(json.dumps({"a": {"b": 1}}))
    with pytest.raises(ConvkitError, match="holds something other than text"):
        arrays.read_shardings(tmp_path)


def test_two_leaves_with_one_storage_name_are_refused(tmp_path: Path) -> None:
    nodes = (
        tree.node([("a.b", tree.DICT)], tree.NDARRAY),
        tree.node([("a", tree.DICT), ("b", tree.DICT)], tree.NDARRAY),
    )
    (tmp_path / tree.FILE).write_bytes(tree.Tree(nodes).dumps())
    with pytest.raises(ConvkitError, match="storage name of two leaves"):
        tree.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not valid JSON"),
        ("[]", "doesn't hold a JSON object"),
        ("{}", "has no tree_metadata"),
        ('{"tree_metadata": {"x": 1}}', "isn't an entry"),
    ],
)
def test_damaged_trees_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / tree.FILE).write_text(text)
    with pytest.raises(ConvkitError, match=problem):
        tree.read(tmp_path)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    cases = {
        "empty": "the folder is empty",
        "x.orbax-checkpoint-tmp-123": "an unfinished save",
        "foreign": "nothing that Orbax wrote",
        "around": "only an unfinished save",
        "absent": "no such file",
    }
    for name in cases:
        if name != "absent":
            (tmp_path / name).mkdir()
    (tmp_path / "foreign" / "readme").write_text("x")
    (tmp_path / "around" / "5.orbax-checkpoint-tmp").mkdir()
    for name, problem in cases.items():
        with pytest.raises(ConvkitError, match=problem):
            recognise(tmp_path / name)


@given(st.integers(0, 10**12), st.sampled_from(["", "step", "a_b", "1"]), st.integers(0, 14))
def test_step_names_come_back(number: int, prefix: str, width: int) -> None:
    name = str(root.StepName(number, prefix, width))
    found = root.parse_step(name)
    assert found is not None
    assert (found.step, found.prefix, str(found)) == (number, prefix, name)
    assert root.common_format([name]) is not None


def test_the_steps_of_a_root_have_one_format_or_none() -> None:
    assert root.common_format(["step_0005", "step_0123", "step_12345"]) == ("step", 4)
    assert root.common_format(["5", "10"]) == ("", 0)
    assert root.common_format(["5", "step_10"]) is None
    assert root.common_format(["005", "10"]) is None
