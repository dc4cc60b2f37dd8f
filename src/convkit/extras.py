"""Packages that aren't always installed: the extra of convkit's distribution that brings each, the error without it."""

from __future__ import annotations

from contextlib import contextmanager

from convkit.errors import ConvkitError

TYPE_CHECKING = False  # as in `typing`, which takes ten milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator

DISTRIBUTION = "convkit-checkpoints"
#: the extra that brings a module that convkit imports, or a driver that fsspec imports for it
EXTRA_OF = {
    "torch": "torch",
    "transformers": "torch",
    "safetensors": "torch",
    "jax": "jax",
    "msgpack": "jax",
    "tensorstore": "jax",
    "zstandard": "jax",
    "isal": "jax",
    "flax": "orbax",
    "optax": "orbax",
    "orbax": "orbax",
    "cryptography": "audit",
    "securesystemslib": "audit",
    "huggingface_hub": "hf",
    "s3fs": "s3",
    "gcsfs": "gs",
    "cv2": "fast",
    "hypothesis": "testing",
}


def install(module: str) -> str:
    """The command that installs a module of :data:`EXTRA_OF` in the environment that runs.

    >>> install("orbax")
    "pip install 'convkit-checkpoints[orbax]'"
    """
    return f"pip install '{DISTRIBUTION}[{EXTRA_OF[module]}]'"


@contextmanager
def named_extras() -> Iterator[None]:
    """Refuse in one line what needs a package that isn't installed.

    Raises:
        ConvkitError: the package belongs to an extra, which the remedy installs.
        ModuleNotFoundError: any other module that isn't there.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRA_OF:
            raise
        raise ConvkitError(f"{error.name} isn't installed", remedy=install(module)) from error
