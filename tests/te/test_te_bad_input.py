"""T5X and Pax checkpoints that are broken or contradict the command: one clear line, nothing left behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from engine.disk import everything_below
from te_runs import unpacked

from convkit.cli import main

NAMES = {"t5x": "t5x_adamw", "pax": "pax_norepeat", "repeat": "pax_repeat"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def source(kind: str) -> Path:
    """A copy of a genuine checkpoint, to be broken: the folder that holds the leaves, below the current one."""
    step = next(iter(sorted((unpacked("sources") / NAMES[kind]).iterdir())))
    shutil.copytree(step / "state" if kind != "t5x" else step, "source")
    return Path("source")


def refused(capfd: pytest.CaptureFixture[str], *command: str, code: int = 3) -> str:
    """The one line with which a command ends that leaves nothing behind."""
    before = everything_below(Path())
    capfd.readouterr()
    assert main(list(command)) == code
    said = capfd.readouterr().err.splitlines()
    lines = [line for line in said if not line.startswith("convkit: warning")]
    assert len(lines) == 1, said
    assert "Traceback" not in lines[0]
    assert everything_below(Path()) == before
    return lines[0]


def te(kind: str, *flags: str) -> tuple[str, ...]:
    fw = "t5x" if kind == "t5x" else "pax"
    return ("te", "--input-path=source", "--output-path=out", f"--fw={fw}", "--direction=fw2te", *flags)


@pytest.mark.golden
@pytest.mark.parametrize(
    ("flag", "why"),
    [
        ("--num-of-layer=3", "has 2 encoder, 2 decoder layers, not 3"),
        ("--num-of-head=5", "5 heads"),
        ("--head-dim=7", "heads of 7"),
        ("--mlp-intermediate-dim=16", "says mlp = 10"),
        ("--embed-dim=9", "says embed = 12"),
    ],
)
def test_wrong_sizes(flag: str, why: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source("t5x")
    assert why in refused(capfd, *te("t5x", "--t5x-fuse-qkv", flag))


@pytest.mark.golden
def test_wrong_heads_of_keys(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source("t5x")
    assert "as many heads of keys and values as of queries, not 3" in refused(capfd, *te("t5x", "--num-gqa-groups=3"))


def test_grouped_keys_in_one_kernel(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    main(["fetch", "generated://pax?layers=1&heads=4&kv_heads=2", "source"])
    assert "--te-qkv-layout kv_packed" in refused(capfd, *te("pax", "--te-qkv-layout=qkv_packed"))


def without(part: str, folder: Path, *, but: str = "nothing") -> None:
    for leaf in [leaf for leaf in folder.iterdir() if part in leaf.name and but not in leaf.name]:
        shutil.rmtree(leaf)


MISSING: list[tuple[str, Callable[[Path], None], str]] = [
    ("t5x", lambda folder: without(".encoder.layers_1.", folder), "its folder is missing, as are"),
    ("t5x", lambda folder: without("target.encoder.layers_0.attention.key", folder), "its folder is missing"),
    ("pax", lambda folder: without(".x_layers_0.", folder), "x_layers_0"),
    ("pax", lambda folder: without("mdl_vars.params.lm.transformer.x_layers_1.", folder), "x_layers_1"),
    ("pax", lambda folder: without("x_layers_1.self_attention.post.w", folder), "post.w"),
    ("pax", lambda folder: without(".m.params.lm.transformer.x_layers_1.self_attention.combined", folder), "combined"),
    (
        "repeat",
        lambda folder: without("mdl_vars.params.lm.transformer.repeat.sub", folder),
        "the names of its leaves don't show a known layout",
    ),
]


@pytest.mark.golden
@pytest.mark.parametrize(("kind", "damage", "why"), MISSING)
def test_missing_layers(
    kind: str, damage: Callable[[Path], None], why: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    damage(source(kind))
    assert why in refused(capfd, *te(kind))


@pytest.mark.golden
def test_missing_layers_of_which_nothing_tells(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without T5X's msgpack: a gap in the numbers."""
    folder = source("t5x")
    (folder / "checkpoint").unlink()
    without(".decoder.layers_0.", folder)
    assert "decoder.layers_" in refused(capfd, *te("t5x"))


class TestAnotherLayout:
    @pytest.mark.golden
    def test_te_given_as_t5x(self, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
        shutil.copytree(unpacked("golden") / "t5x" / "fused__fw2te" / "dst", "source")
        line = refused(capfd, *te("t5x", "--t5x-fuse-qkv"), code=2)
        assert "is te/t5-fused" in line and "--direction te2fw" in line
        convert = ("convert", "source", "out", "--from", "t5x/t5", "--to", "te/t5-fused")
        assert "isn't a t5x/t5 checkpoint: its leaves are those of te/t5-fused" in refused(capfd, *convert)

    @pytest.mark.golden
    @pytest.mark.parametrize(("kind", "fw"), [("t5x", "pax"), ("pax", "t5x")])
    def test_of_the_other_framework(self, kind: str, fw: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
        source(kind)
        command = ("te", "--input-path=source", "--output-path=out", f"--fw={fw}", "--direction=fw2te")
        assert f"--fw says {fw} (--fw {kind})" in refused(capfd, *command, code=2)

    @pytest.mark.golden
    def test_mixed_trees(self, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
        folder = source("pax")
        other = unpacked("golden") / "pax" / "norepeat__fw2te" / "dst"
        for leaf in other.glob("*.x_layers_1.*"):
            shutil.copytree(leaf, folder / leaf.name, dirs_exist_ok=True)
        line = refused(capfd, *te("pax"))
        assert "mixes the leaves of" in line and "pax/lm" in line and "te/pax" in line

    @pytest.mark.golden
    def test_stacked_and_not(self, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
        folder = source("repeat")
        other = next(iter((unpacked("sources") / "pax_norepeat").iterdir())) / "state"
        for leaf in other.glob("mdl_vars*.x_layers_1.*"):
            shutil.copytree(leaf, folder / leaf.name)
        assert "mixes the leaves of" in refused(capfd, *te("repeat"))


def damaged(chunk: Path, how: str) -> None:
    data = bytearray(chunk.read_bytes())
    middle = len(data) // 2
    if how == "cut":
        data = data[:middle]
    elif how == "empty":
        data = bytearray()
    elif how == "flipped":
        data[middle] ^= 0xFF
    else:
        data[: len(data)] = b"\xff" * len(data)
    chunk.write_bytes(data)


#: a leaf that is fused, and one that is copied with its files
CHUNKS = [
    ("t5x", "target.encoder.layers_0.attention.key.kernel"),
    ("t5x", "target.token_embedder.embedding"),
    ("pax", "mdl_vars.params.lm.transformer.x_layers_0.self_attention.combined_qkv.w"),
    ("pax", "mdl_vars.params.lm.softmax.logits_ffn.linear.w"),
]


#: gzip has a checksum; zstd as tensorstore writes it has none, so that not every flipped bit can be seen
DAMAGES = {"t5x": ["cut", "empty", "flipped", "overwritten"], "pax": ["cut", "empty", "overwritten"]}


@pytest.mark.golden
@pytest.mark.parametrize(("kind", "key", "how"), [(kind, key, how) for kind, key in CHUNKS for how in DAMAGES[kind]])
def test_corrupt_chunks(kind: str, key: str, how: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = source(kind)
    damaged(next((folder / key).glob("0*")), how)
    assert key in refused(capfd, *te(kind, *(["--t5x-fuse-qkv"] if kind == "t5x" else [])))


@pytest.mark.golden
def test_a_missing_chunk(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    next((source("pax") / CHUNKS[2][1]).glob("0*")).unlink()
    assert "is missing" in refused(capfd, *te("pax"))


@pytest.mark.golden
@pytest.mark.parametrize("kind", ["t5x", "pax"])
def test_a_corrupt_description(kind: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = source(kind)
    if kind == "t5x":
        (folder / "checkpoint").write_bytes((folder / "checkpoint").read_bytes()[:-100])
    else:
        (folder / CHUNKS[2][1] / ".zarray").write_text("{")
    refused(capfd, *te(kind))


@pytest.mark.golden
@pytest.mark.parametrize("kind", ["t5x", "pax"])
def test_an_output_that_exists(kind: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source(kind)
    (here / "out").mkdir()
    (here / "out" / "kept").write_text("kept")
    assert "out: exists" in refused(capfd, *te(kind), code=2)
    assert "didn't write" in refused(capfd, *te(kind, "--overwrite"), code=2)
    assert "is the source" in refused(capfd, *te(kind, "--overwrite")[:2], "--output-path=source", *te(kind)[3:],
                                      "--overwrite", code=2)  # fmt: skip


@pytest.mark.golden
def test_an_output_within_the_source(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source("pax")
    command = ["--input-path=source", "--output-path=source/out", "--fw=pax", "--direction=fw2te"]
    assert "lies inside the source" in refused(capfd, "te", *command, code=2)


@pytest.mark.parametrize("kind", ["t5x", "pax"])
def test_an_input_that_is_not_there(kind: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "no such file or folder" in refused(capfd, *te(kind))
