"""A small network in the middle of its training, saved by flax, optax and Orbax's v0 API themselves.

``generated://orbax-v0`` names it: a ``CheckpointManager`` folder with a few steps, each with flax's ``TrainState`` and
optax's AdamW state, a random key, the config as JSON, and metrics.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from convkit.errors import UsageError
from convkit.extras import named_extras
from convkit.files.clock import said_s
from convkit.generate.generator import Generator
from convkit.generate.sizes import at_least_one
from convkit.state.orbax import step


@dataclass(frozen=True, kw_only=True)
class OrbaxTraining(Generator):
    """The options."""

    layers: int = 3
    inputs: int = 10
    hidden: int = 14
    outputs: int = 6
    steps: int = 2
    #: the prefix of step folders and the number of digits they are padded to; "" and 0 for neither
    prefix: str = ""
    digits: int = 0
    ocdbt: bool = True

    def __post_init__(self) -> None:
        at_least_one(self, "layers", "inputs", "hidden", "outputs", "steps")
        if self.digits < 0:
            raise UsageError(f"digits is {self.digits}", remedy="it must be at least 0")

    def write(self, folder: Path) -> None:
        """Train for some steps and save each.

        Raises:
            ConvkitError: flax, optax or Orbax isn't installed.
        """
        with named_extras():
            self._train(folder)
            self._say_the_same(folder)

    def _train(self, folder: Path) -> None:
        import jax
        import orbax.checkpoint as ocp

        options = ocp.CheckpointManagerOptions(
            step_prefix=self.prefix or None,
            step_format_fixed_length=self.digits or None,
            best_fn=lambda metrics: -metrics["loss"],
            enable_async_checkpointing=False,
        )
        state, trained = self._state()
        with ocp.CheckpointManager(
            folder.absolute(), options=options, metadata={"family": "orbax-v0", "seed": self.seed}
        ) as manager:
            for number in range(1, self.steps + 1):
                state, loss = trained(state)
                state = state.replace(step=number)  # as where flax counts by itself
                items = ocp.args.Composite(
                    state=ocp.args.PyTreeSave(state),
                    rng=ocp.args.JaxRandomKeySave(jax.random.key(self.seed + number)),
                    config=ocp.args.JsonSave(asdict(self)),
                )
                manager.save(number, args=items, metrics={"loss": float(loss)}, custom_metadata={"trained": number})

    def _say_the_same(self, folder: Path) -> None:
        """With SOURCE_DATE_EPOCH, let steps say that time, and no absolute path: Orbax doesn't look at it."""
        seconds = said_s()
        if seconds is None:
            return
        for file in folder.rglob(step.FILE):
            if found := step.read(file.parent):
                file.write_bytes(found.with_time(seconds * 1_000_000_000).dumps())
        for file in folder.rglob(step.COMMIT):
            file.write_bytes(step.committed(file.parent.relative_to(folder)))

    def _state(self) -> tuple[Any, Any]:
        """A train state, and the function that makes of one the next, with the loss."""
        import jax
        import jax.numpy as jnp
        import numpy as np
        import optax
        from flax.training.train_state import TrainState

        widths = [self.inputs, *[self.hidden] * (self.layers - 1), self.outputs]
        drawn = np.random.default_rng(self.seed)

        def normal(*shape: int) -> Any:
            return jnp.asarray(drawn.standard_normal(shape, np.float32))

        params = {
            f"layer_{i}": {"kernel": normal(rows, columns) / rows**0.5, "bias": jnp.zeros(columns)}
            for i, (rows, columns) in enumerate(itertools.pairwise(widths))
        }
        inputs, targets = normal(23, self.inputs), normal(23, self.outputs)

        def loss(params: Any) -> Any:
            x = inputs
            for name in params:
                x = jnp.tanh(x @ params[name]["kernel"] + params[name]["bias"])
            return ((x - targets) ** 2).mean()

        @jax.jit  # compiled whole: XLA takes as long for each operation by itself
        def trained(state: Any) -> Any:
            value, gradients = jax.value_and_grad(loss)(state.params)
            return state.apply_gradients(grads=gradients), value

        optimizer = optax.adamw(optax.cosine_decay_schedule(1e-3, 100), weight_decay=0.01)
        return TrainState.create(apply_fn=None, params=params, tx=optimizer), trained
