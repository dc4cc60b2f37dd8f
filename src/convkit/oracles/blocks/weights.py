"""The tensors that a block reads, by role."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

#: Keeps a state inside a layer, by the name of its point.
Leave = Callable[[str, "Tensor"], None]


@dataclass(frozen=True)
class Weights:
    """A model's tensors below a role, each read when a block asks for it.

    Attributes:
        part: the tensor of a role, ``[out, in]`` or ``[out]``.
        has: whether the model has this role.
        at: what stands before the roles that the block knows (``layers.3.``).
    """

    part: Callable[[str], Tensor]
    has: Callable[[str], bool]
    at: str = ""

    def within(self, at: str) -> Weights:
        """The tensors below ``at``."""
        return replace(self, at=f"{self.at}{at}")

    def __contains__(self, role: str) -> bool:
        return self.has(f"{self.at}{role}")

    def __getitem__(self, role: str) -> Tensor:
        return self.part(f"{self.at}{role}")

    def shift(self, role: str) -> Tensor | None:
        """The bias of a role, where there is one."""
        name = f"{role}.bias"
        return self[name] if name in self else None  # noqa: SIM401  (there is no ``get``)

    def linear(self, role: str, x: Tensor) -> Tensor:
        """``x @ weight.T``, and the bias where there is one."""
        from torch.nn import functional

        return functional.linear(x, self[f"{role}.weight"], self.shift(role))
