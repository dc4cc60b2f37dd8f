"""A composition of one's own: two encoders in folders, and a projector, become one checkpoint and come back."""

from __future__ import annotations

from pathlib import Path
from random import Random

from convkit.checkpoint import Leaf, TensorSpec, WriteOptions
from convkit.config import ConfigTable, Field
from convkit.execute import convert
from convkit.formats import get_format, open_checkpoint
from convkit.mapping import Component, Layout, Mapping, Rule, inverse, pack
from convkit.plan import make_plan, open_source
from convkit.testing import Sample, bits, check_equal, write

APART = Layout("mine/apart", "two folders", "folders", "config.json")
WHOLE = Layout("mine/whole", "one file", "safetensors", "config.json")
ENCODER = Mapping(
    APART, WHOLE, (Rule("w", "W", "o d -> d o", o="width"),), config=ConfigTable((Field("width", "size", "width"),))
)
BOTH = pack(
    APART,
    WHOLE,
    {"image_encoder": ENCODER, "text_encoder": Component(ENCODER, right="words.", right_section="words")},
    ConfigTable((Field("text_encoder.projector", "projector", "out"),)),
    rules=(Rule("text_encoder.proj", "projector.weight", "p d -> p d", p="out", d="image_encoder.width"),),
)


def test_it_goes_there_and_back(tmp_path: Path) -> None:
    shapes = {"image_encoder.w": (3, 2), "text_encoder.w": (5, 4), "text_encoder.proj": (5, 3)}
    leaves = tuple(Leaf(key, TensorSpec(shape, "float32")) for key, shape in shapes.items())
    sample = Sample(leaves, {leaf.key: bits(leaf.spec, 0) for leaf in leaves if leaf.spec})
    config = {"image_encoder": {"width": 3}, "text_encoder": {"width": 5, "projector": 5}}
    write(get_format("folders"), tmp_path / "apart", sample, Random(0), options=WriteOptions(config=config))
    for here, there, mapping in (("apart", "whole", BOTH), ("whole", "back", inverse(BOTH))):
        with open_source(tmp_path / here) as source:
            convert(source, make_plan(source, mapping), tmp_path / there)
    with open_checkpoint(tmp_path / "whole") as whole:
        assert set(whole.leaves) == {"image_encoder.W", "words.W", "projector.weight"}
    with open_checkpoint(tmp_path / "back") as back:
        check_equal(back, sample)
        assert back.config == config
