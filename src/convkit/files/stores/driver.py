"""fsspec's driver of a store, whose errors are one line without secrets.

Credentials, endpoints and other options come from the environment variables and configuration files of the
store's own driver, and from fsspec's configuration (``FSSPEC_S3='{"anon": true}'``).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from convkit.errors import ConvkitError, UsageError
from convkit.extras import install
from convkit.files.stores.failures import DeniedError, MissingError, TransientError
from convkit.files.uri import hide_secrets_of, scheme_of, without_secrets

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

#: the modules behind the schemes that people use most; fsspec knows the others
DRIVERS = {"s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub"}
#: what helps who is denied; the Hub says the same of what isn't there
_REMEDIES = {
    "hf": "check the URI; if it is private, set HF_TOKEN or log in: hf auth login; if it is gated, ask on its page too"
}


class Driver:
    """The driver for a URI. It is made when it is first asked for, by any thread.

    Args:
        uri: of what is in the store.
        once: whether the driver tries each request once, because who asks tries again: else both would, many times.

    Raises:
        UsageError: fsspec doesn't know the scheme.
    """

    def __init__(self, uri: str, *, once: bool = False) -> None:
        import fsspec

        if scheme_of(uri) not in fsspec.available_protocols():
            raise UsageError(
                f"unknown scheme {scheme_of(uri)}://",
                remedy="use file, package, generated, http, https, s3, gs, hf, or a scheme of fsspec",
            )
        self.given = uri
        self.uri = without_secrets(uri)
        self._once = once
        self._lock = threading.Lock()
        self._opened: tuple[AbstractFileSystem, str] | None = None

    def opened(self) -> tuple[AbstractFileSystem, str]:
        """fsspec's file system, and its path to what the URI names.

        Raises:
            ConvkitError: the driver isn't installed, or can't be made.
        """
        with self._lock:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def renew(self) -> None:
        """Make the driver anew when it is next asked for: it looks for credentials again."""
        with self._lock:
            self._opened = None

    def _open(self) -> tuple[AbstractFileSystem, str]:
        from fsspec.core import url_to_fs

        try:
            # a cached driver object would list the store as it was at an earlier call
            store, root = url_to_fs(self.given, skip_instance_cache=True)
        except ImportError as error:
            driver = DRIVERS.get(str(scheme_of(self.given)))
            raise ConvkitError(
                "the driver isn't installed",
                path=self.uri,
                remedy=install(driver) if driver else hide_secrets_of(self.given, f"{error}"),
            ) from error
        except Exception as error:  # some drivers ask their server at once
            raise ConvkitError(self.words(error), path=self.uri, remedy="check the URI") from error
        if self._once:
            _try_once(store)
        return store, root.rstrip("/")

    def shown(self, full: str) -> str:
        """The URI of a path of the driver's, without secrets."""
        return hide_secrets_of(self.given, f"{scheme_of(self.given)}://{full}")

    @contextmanager
    def one_line(self, full: str) -> Iterator[None]:
        """Turn errors of a driver (and of botocore or aiohttp) into our own, in one line."""
        try:
            yield
        except FileNotFoundError as error:
            raise MissingError("no such file or folder", path=self.shown(full), remedy="check the URI") from error
        except (ConvkitError, TransientError):
            raise
        except Exception as error:
            if _denies(error):
                remedy = _REMEDIES.get(str(scheme_of(self.given)), "check its credentials")
                raise DeniedError("access denied", path=self.shown(full), remedy=remedy) from error
            if _status(error) == 404:
                raise MissingError("no such file or folder", path=self.shown(full), remedy="check the URI") from error
            raise TransientError(self.words(error)) from error

    def words(self, error: Exception) -> str:
        """What a driver says, in one line without our secrets."""
        first = str(error).strip().partition("\n")[0]
        return hide_secrets_of(self.given, f"{type(error).__name__}: {first}")


def _try_once(store: Any) -> None:
    """Switch off a driver's own further attempts: S3's has options for them, Google's a decorator."""
    if hasattr(store, "config_kwargs"):
        store.retries = 1
        store.config_kwargs = {**store.config_kwargs, "retries": {"total_max_attempts": 1}}
    elif undecorated := getattr(getattr(type(store), "_request", None), "__wrapped__", None):
        store._request = partial(undecorated, store)


def _denies(error: Exception) -> bool:
    """Whether a driver says that we may not: as PermissionError, by the HTTP status, or in gcsfs's words of a 403."""
    forbidden = isinstance(error, OSError) and str(error).startswith("Forbidden: ")
    return isinstance(error, PermissionError) or forbidden or _status(error) in (401, 403)


def _status(error: Exception) -> object:
    """The HTTP status in a driver's error; None if it has none."""
    return getattr(error, "code", None) or getattr(getattr(error, "response", None), "status_code", None)
