"""Checkpoints whose keys are wrapped: each lies below a prefix, or has names of wrapper modules between its parts.

Programs that train wrap a model in others (``DataParallel``, ``torch.compile``, FSDP, Lightning), or save its state
dict within a larger one. What is wrapped is found where layouts are known; here it is only taken off. Tensors that the
model lacks, and that are drawn for it, are put in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import UNSET, Struct, UnsetType

from convkit.checkpoint.drawn import Completed, Drawn
from convkit.checkpoint.read import Checkpoint, Tensors
from convkit.checkpoint.views import Renamed
from convkit.errors import ConvkitError


class Wrapping(Struct, frozen=True):
    """What stands in keys beside the model's own names.

    Attributes:
        prefix: how the keys of the model begin, with its dot: ``module.``; others stay as they are.
        within: names of wrapper modules, wherever they are parts of a key: ``_orig_mod``.
        drawn: tensors that the checkpoint lacks, and that are drawn from a seed.
    """

    prefix: str = ""
    within: tuple[str, ...] = ()
    drawn: tuple[Drawn, ...] | UnsetType = UNSET

    def __bool__(self) -> bool:
        return bool(self.prefix or self.within or self.drawn)

    def plain(self, key: str) -> str:
        """The model's own name of a leaf.

        >>> Wrapping("module.", ("_orig_mod",)).plain("module._orig_mod.lm_head.weight")
        'lm_head.weight'
        """
        if self.within:
            key = ".".join(part for part in key.split(".") if part not in self.within)
        return key.removeprefix(self.prefix)

    def names(self, keys: Iterable[str], path: Path) -> dict[str, str]:
        """The stored name of each leaf, by its plain name.

        Raises:
            ConvkitError: two leaves have one plain name.
        """
        found: dict[str, str] = {}
        for key in keys:
            plain = self.plain(key)
            if plain in found:
                problem = f"is the same leaf as {found[plain]} once the wrapper is taken off its key"
                raise ConvkitError(problem, path=path, key=key, remedy="rename one of them, or --drop it")
            found[plain] = key
        return found

    def off(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with plain keys.

        Raises:
            ConvkitError: two leaves have one plain name.
        """
        plain = Unwrapped(checkpoint, self) if self.prefix or self.within else checkpoint
        return Completed(plain, self.drawn) if self.drawn else plain

    def __str__(self) -> str:
        return " and ".join(f"'{name}'" for name in (self.prefix, *self.within) if name)


#: keys that nothing wraps
PLAIN = Wrapping()


class Unwrapped(Renamed, Checkpoint):
    """A checkpoint without the wrapper around its keys; its elements aren't touched."""

    def __init__(self, checkpoint: Checkpoint, wrapping: Wrapping) -> None:
        super().__init__(checkpoint, wrapping.names(checkpoint.leaves, checkpoint.path))
        self.path, self.format = checkpoint.path, checkpoint.format
        self.metadata, self.config = checkpoint.metadata, checkpoint.config
        self.described = checkpoint.described
        self._checkpoint = checkpoint

    def origins(self, key: str) -> Iterator[tuple[Tensors, str]]:
        """The leaf itself, under its plain key: nothing else is known of the source."""
        yield self, key

    def files(self) -> list[Path]:
        """See :meth:`Checkpoint.files`."""
        return self._checkpoint.files()

    def leaf_bytes(self) -> dict[Path, list[tuple[int, int]]]:
        """See :meth:`Checkpoint.leaf_bytes`."""
        return self._checkpoint.leaf_bytes()

    def check_sums(self, threads: int = 1, share: tuple[int, int] = (0, 1)) -> None:
        """See :meth:`Checkpoint.check_sums`."""
        self._checkpoint.check_sums(threads, share)

    def close(self) -> None:
        """Close the checkpoint below."""
        self._checkpoint.close()
