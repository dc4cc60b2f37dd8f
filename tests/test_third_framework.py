"""An unknown framework: its package only has to bring a format, two layouts and a mapping.

The package is installed for the test as any other would be, by its entry points.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from convkit.cli import main
from convkit.mappings import look_again

PACKAGE = """
import json
import numpy as np
from convkit.checkpoint import Checkpoint, Format, Leaf, TensorSpec, Writer
from convkit.checkpoint.tensors import carrier
from convkit.config import ConfigTable, Field
from convkit.mapping import Layout, LeftBehind, Mapping, Rule


class Opened(Checkpoint):
    def __init__(self, path):
        self.path, self.format, self.metadata = path, "abacus", {}
        self._found = json.loads(path.read_text())
        self.leaves = {
            key: Leaf(key, TensorSpec(tuple(entry["shape"]), entry["dtype"])) if "shape" in entry
            else Leaf(key, value=entry["value"])
            for key, entry in self._found.items()
        }

    def read(self, key, start=0, stop=None):
        entry = self._found[key]
        return np.frombuffer(bytes.fromhex(entry["data"]), carrier(entry["dtype"]))[start:stop]


class Writing(Writer):
    def __init__(self, path, leaves):
        self.path = path
        self.leaves = leaves
        self.data = {leaf.key: np.empty(leaf.spec.size, leaf.spec.dtype) for leaf in leaves if leaf.spec}

    def write(self, key, start, data):
        self.data[key][start:start + data.size] = data.view(self.data[key].dtype)

    def finish(self, key): pass

    def commit(self):
        document = {}
        for leaf in self.leaves:
            document[leaf.key] = {"value": leaf.value} if leaf.spec is None else {
                "shape": leaf.spec.shape, "dtype": leaf.spec.dtype, "data": self.data[leaf.key].tobytes().hex()}
        self.path.write_text(json.dumps(document))

    def close(self): pass


class Abacus(Format):
    name, folder, summary = "abacus", False, "beads in hexadecimal"

    def detect(self, path):
        return "it ends in .abacus" if path.suffix == ".abacus" else None

    def open(self, path):
        return Opened(path)

    def create(self, path, leaves, options, *, resume=False):
        return Writing(path, leaves)


FORMAT = Abacus()
PLAIN = Layout("plain/model", "a model", "safetensors", "plain.json", signature=({"kind": "plain"},),
               companions=("legend.txt",))
BEADS = Layout("beads/model", "the same on an abacus", "abacus", "beads.yaml", releases=((1, 0), (3, 5)),
               signature=({"rack.kind": "beads"},), config_at=("rack", "shop.rack"))
MAPPING = Mapping(
    PLAIN, BEADS,
    (Rule("layer.{i}.kernel", "rod.{i}", "a b -> b a"), LeftBehind("left", "note", "an abacus has no place for it")),
    ConfigTable((Field("kind", "kind", values=(("plain", "beads"),)), Field("layers", "rods", "layers")),
                right_at=("rack", "shop.rack")),
    axes={"i": "layers"},
)
"""
ENTRY_POINTS = """
[convkit.formats]
abacus = abacus_for_convkit:FORMAT
[convkit.mappings]
abacus = abacus_for_convkit:MAPPING
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkpoint of the framework's other side, and its package installed."""
    site = tmp_path / "site"
    metadata = site / "abacus_for_convkit-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "abacus_for_convkit.py").write_text(PACKAGE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: abacus-for-convkit\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(site))
    look_again()
    folder = tmp_path / "plain"
    folder.mkdir()
    random = np.random.default_rng(0)
    save_file(
        {f"layer.{i}.kernel": random.standard_normal((3, 5)).astype("float32") for i in range(2)}
        | {"note": np.arange(4, dtype="int8")},
        folder / "model.safetensors",
    )
    (folder / "plain.json").write_text(json.dumps({"kind": "plain", "layers": 2, "author": "unknown"}))
    (folder / "legend.txt").write_text("beads count from the left")
    yield folder
    look_again()


def test_plan_convert_prove_and_back(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, back = tmp_path / "made.abacus", tmp_path / "back"
    assert main(["plan", str(source), "--to", "beads", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["target"]["layout"], plan["target"]["format"], plan["release"]) == ("beads/model", "abacus", "3.5")
    assert main(["convert", str(source), str(made), "--to", "beads"]) == 0
    assert (tmp_path / "made.yaml").is_file()
    assert (tmp_path / "made.abacus.companions" / "legend.txt").is_file()
    assert main(["roundtrip", str(source), str(made)]) == 0
    assert main(["verify", str(made)]) == 0
    assert main(["convert", str(made), str(back), "--to", "plain"]) == 0
    assert main(["verify", str(back)]) == 0
    assert main(["roundtrip", str(made), str(back)]) == 0
    assert (back / "legend.txt").is_file()
    found, expected = (load_file(folder / "model.safetensors") for folder in (back, source))
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[key], expected[key]) for key in expected)
    assert json.loads((back / "plain.json").read_text()) == json.loads((source / "plain.json").read_text())


def test_its_training_config_and_releases(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "made.abacus"
    assert main(["convert", str(source), str(made), "--to", "beads/model", "--release", "1.0"]) == 0
    (tmp_path / "made.yaml").write_text("shop: {rack: {kind: beads, rods: 2}}\n")
    assert main(["inspect", str(made), "--json"]) == 0
    document = capsys.readouterr().out
    assert json.loads(document[document.index("{") :])["layout"] == "beads/model"
    assert main(["verify", str(made)]) == 1  # its config was changed
    assert main(["plan", str(source), "--to", "beads", "--release", "2.0"]) == 2
    assert "releases 1.0 ... 3.5" in capsys.readouterr().err


def test_through_it(source: Path, tmp_path: Path) -> None:
    """There and back in one go: what the abacus has no place for is kept, too."""
    made, back = tmp_path / "made", tmp_path / "back"
    assert main(["convert", str(source), str(made), "--through", "beads", "--to", "plain"]) == 0
    assert main(["roundtrip", str(source), str(made)]) == 0
    assert main(["verify", str(made)]) == 0
    assert main(["convert", str(made), str(back), "--through", "beads", "--to", "plain"]) == 0
    assert load_file(back / "model.safetensors").keys() == load_file(source / "model.safetensors").keys()


def test_a_changed_bead_is_seen(source: Path, tmp_path: Path) -> None:
    made = tmp_path / "made.abacus"
    assert main(["convert", str(source), str(made), "--to", "beads"]) == 0
    document = json.loads(made.read_text())
    document["rod.1"]["data"] = "00" + document["rod.1"]["data"][2:]
    made.write_text(json.dumps(document))
    assert main(["roundtrip", str(source), str(made)]) == 1
    assert main(["verify", str(made)]) == 1
