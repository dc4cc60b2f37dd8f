"""The tensors of the stage that runs: held from their first use on, changed or seen in part for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from convkit.oracles.tensors import CPU, OnDemand
from convkit.oracles.windows import Rows, Window, copied

if TYPE_CHECKING:
    from torch import Tensor

#: key -> how its tensor is made
Edits = Mapping[str, Callable[[], "Tensor"]]


class StageTensors(OnDemand):
    """Tensors of another mapping, each read at its first use and held on ``device`` until :meth:`release`.

    For a while, some keys can give other tensors (:meth:`changed`), or parts of theirs (:meth:`windowed`). A window
    counts wherever its tensor is read: a function that makes a changed tensor sees the same part, and gives it.
    """

    def __init__(self, below: OnDemand, device: str = CPU) -> None:
        self._below, self._device = below, device
        self._held: dict[tuple[str, Window | None], Tensor] = {}
        self._windows: Mapping[str, Window] = {}
        self._changes: tuple[Edits, ...] = ()

    def __getitem__(self, key: str) -> Tensor:
        for i, edits in reversed([*enumerate(self._changes)]):
            if key in edits:
                with self._seeing(self._changes[:i]):
                    return edits[key]()
        return self.held(key)

    def held(self, key: str) -> Tensor:
        """The tensor as it was read, or the window's part of it. What is written to it stays until it's released."""
        window = self._windows.get(key)
        found = self._held.get((key, window))
        if found is None:
            found = self._below[key] if window is None else self._below.part(key, window)
            found = self._held[key, window] = found.to(self._device)
        return found

    def holding(self) -> Iterator[tuple[str, Window | None, Tensor]]:
        """What is held: its key, the window that it was read through, and the tensor."""
        return ((key, window, tensor) for (key, window), tensor in self._held.items())

    def release(self) -> None:
        """Let go of all tensors."""
        self._held.clear()

    def changed(self, edits: Edits) -> AbstractContextManager[None]:
        """These keys are made by these functions for a while, anew at each access.

        What a function reads is without its own change. Changes within others come before them, and read them.
        """
        return self._seeing((*self._changes, dict(edits)))

    @contextmanager
    def windowed(self, windows: Mapping[str, Window]) -> Iterator[None]:
        """Only a part of these tensors is read and given for a while; their :meth:`shape` stays that of the whole."""
        outer = self._windows
        self._windows = {**outer, **windows}
        try:
            yield
        finally:
            self._windows = outer

    def window(self, key: str) -> Window | None:
        """See :meth:`OnDemand.window`."""
        return self._windows.get(key)

    def part(self, key: str, window: Window) -> Tensor:
        """See :meth:`OnDemand.part`; the part is held too, and made of the changes' parts."""
        with self.windowed({key: window}):
            return self[key]

    def copy(self, key: str) -> Tensor:
        """See :meth:`OnDemand.copy`: of a table, the rows that are seen."""
        window = self._windows.get(key)
        if isinstance(window, Rows) and self._device == CPU:
            return copied(self[key], window)
        return self[key].clone()

    @contextmanager
    def _seeing(self, changes: tuple[Edits, ...]) -> Iterator[None]:
        outer = self._changes
        self._changes = changes
        try:
            yield
        finally:
            self._changes = outer

    def __iter__(self) -> Iterator[str]:
        return iter(self._below)

    def __len__(self) -> int:
        return len(self._below)

    def __contains__(self, key: object) -> bool:
        return key in self._below

    @property
    def device(self) -> str:
        """See :attr:`OnDemand.device`."""
        return self._device

    def shape(self, key: str) -> tuple[int, ...]:
        """See :meth:`OnDemand.shape`."""
        return self._below.shape(key)

    def same(self, one: str, other: str) -> bool:
        """See :meth:`OnDemand.same`."""
        changed = any({one, other} & edits.keys() for edits in self._changes)
        return super().same(one, other) if changed else self._below.same(one, other)
