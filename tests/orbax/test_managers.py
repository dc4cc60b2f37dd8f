"""The checkpoint managers of both APIs find and restore steps that we wrote; omitted files are named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from restored import described
from test_writing import rewrite

from convkit.formats import open_checkpoint

Layout = Callable[[str], Path]


@pytest.mark.parametrize("api", ["orbax-v0", "orbax-v1"])
def test_steps_in_a_root(layout: Layout, tmp_path: Path, api: str) -> None:
    import orbax.checkpoint as ocp
    import orbax.checkpoint.experimental.v1 as ocp1

    for step, name in [(3, "v1_checkpointer_root/0"), (20, "v1_checkpointer_root/1234")]:
        rewrite(layout(name), tmp_path / "root" / str(step), api)
    with ocp1.training.Checkpointer(tmp_path / "root") as checkpointer:
        assert [found.step for found in checkpointer.checkpoints] == [3, 20]
        assert checkpointer.latest
        assert checkpointer.latest.metrics == {"loss": 1 / 1235}
        expected = described(checkpointer.load(3))
    with ocp.CheckpointManager(tmp_path / "root") as manager:
        assert manager.all_steps() == [3, 20]
        restored = manager.restore(3, args=ocp.args.Composite(state=ocp.args.StandardRestore()))
        assert described(restored["state"]) == expected
        assert manager.metrics(20) == {"loss": 1 / 1235}
        if api == "orbax-v0":
            assert described(manager.restore(3)["state"]) == expected


def test_items_that_are_not_carried_are_named(layout: Layout, tmp_path: Path) -> None:
    """Somebody's own handler's, and a JSON item whose file has another name."""
    path = tmp_path / "step"
    shutil.copytree(layout("v0_composite_checkpointer"), path)
    (path / "meta" / "metadata").rename(path / "meta" / "of_my_own.json")
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.metadata["companions"] == ["meta"]
    with open_checkpoint(rewrite(path, tmp_path / "target", "orbax-v0")) as checkpoint:
        assert "meta" not in checkpoint.metadata["orbax"]["items"]
