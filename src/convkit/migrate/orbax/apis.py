"""The calls of Orbax's two APIs by which a user restores what was migrated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convkit.migrate.orbax.items import STATE
from convkit.state.orbax import handlers
from convkit.state.orbax.root import StepName


class V0:
    """The calls of the v0 API."""

    name = "v0"

    def plain(self, path: Path, item: str, kind: str) -> Any:
        """An item, or the checkpoint itself where it has no name."""
        import orbax.checkpoint as ocp

        if kind == handlers.PYTREE:
            return ocp.PyTreeCheckpointer().restore(path / item)
        if kind == handlers.ARRAY:
            return self._item(path, item, ocp.args.ArrayRestore())
        numpy = (path / item / "np_random_key").is_dir()
        return self._item(path, item, ocp.args.NumpyRandomKeyRestore() if numpy else ocp.args.JaxRandomKeyRestore())

    def partly(self, path: Path, item: str, abstract: Any) -> Any:
        """Those leaves of an item that aren't placeholders."""
        import orbax.checkpoint as ocp

        arguments = ocp.checkpoint_utils.construct_restore_args(abstract)
        return ocp.PyTreeCheckpointer().restore(
            path / item, args=ocp.args.PyTreeRestore(item=abstract, restore_args=arguments)
        )

    def json(self, path: Path, item: str) -> Any:
        """A JSON item."""
        import orbax.checkpoint as ocp

        return self._item(path, item, ocp.args.JsonRestore())

    def _item(self, path: Path, item: str, arguments: Any) -> Any:
        import orbax.checkpoint as ocp

        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            return checkpointer.restore(path, args=ocp.args.Composite(**{item: arguments}))[item]

    def everything(self, path: Path) -> Mapping[str, Any] | None:
        """All items, as nothing but the checkpoint's own metadata say; None where v0 has no such call."""
        import orbax.checkpoint as ocp

        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            return dict(checkpointer.restore(path).items())

    def custom_metadata(self, path: Path) -> Mapping[str, Any]:
        """What the user stored with a checkpoint."""
        import orbax.checkpoint as ocp

        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            return checkpointer.metadata(path).custom_metadata or {}

    def steps(self, root: Path, prefix: str, width: int) -> tuple[dict[int, Any], Mapping[str, Any]]:
        """The steps of a root with their metrics, and what the user stored with the root."""
        import orbax.checkpoint as ocp

        options = ocp.CheckpointManagerOptions(
            step_prefix=prefix or None, step_format_fixed_length=width or None, read_only=True, create=False
        )
        with ocp.CheckpointManager(root, options=options) as manager:
            kept = {
                step: (root / str(StepName(step, prefix, width)) / "metrics").is_dir() for step in manager.all_steps()
            }
            metrics = {step: manager.metrics(step) if there else None for step, there in kept.items()}
            return metrics, manager.metadata().custom_metadata or {}


class V1:
    """The calls of the v1 API."""

    name = "v1"

    def plain(self, path: Path, item: str, kind: str) -> Any:
        """An item, which is a pytree there; by its name where the API doesn't prefer it to all others."""
        import orbax.checkpoint.experimental.v1 as ocp

        return ocp.load(path) if item == STATE else ocp.load(path, checkpointable_name=item)

    def partly(self, path: Path, item: str, abstract: Any) -> Any:
        """Those leaves of an item that aren't placeholders."""
        import orbax.checkpoint.experimental.v1 as ocp

        return ocp.load(path, abstract, checkpointable_name=item)

    def json(self, path: Path, item: str) -> Any:
        """A JSON item."""
        import orbax.checkpoint.experimental.v1 as ocp

        return ocp.load_checkpointables(path, {item: None})[item]

    def everything(self, path: Path) -> Mapping[str, Any] | None:
        """All items, as nothing but the checkpoint's own metadata say."""
        import orbax.checkpoint.experimental.v1 as ocp

        return ocp.load_checkpointables(path)

    def custom_metadata(self, path: Path) -> Mapping[str, Any]:
        """What the user stored with a checkpoint."""
        import orbax.checkpoint.experimental.v1 as ocp

        return ocp.checkpointables_metadata(path).custom_metadata or {}

    def steps(self, root: Path, prefix: str, width: int) -> tuple[dict[int, Any], Mapping[str, Any]]:
        """The steps of a root with their metrics, and what the user stored with the root."""
        import orbax.checkpoint.experimental.v1 as ocp

        form = ocp.path.step.standard_name_format(step_prefix=prefix or None, step_format_fixed_length=width or None)
        with ocp.training.Checkpointer(root, step_name_format=form) as checkpointer:
            metrics = {found.step: found.metrics for found in checkpointer.checkpoints}
            return metrics, checkpointer.root_metadata().custom_metadata or {}


API: Mapping[str, V0 | V1] = {"v0": V0(), "v1": V1()}
