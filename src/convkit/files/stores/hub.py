"""The Hugging Face Hub: a branch counts as the commit that it is at the start, and each range is asked for once.

A commit's files don't change. Large files lie elsewhere: the Hub leads to them by redirects, on which ``httpx2`` sends
no credentials to another host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from convkit.errors import UsageError
from convkit.files.stores.driver import Driver
from convkit.files.stores.failures import RETRIES, retrying

if TYPE_CHECKING:
    from huggingface_hub import HfFileSystem


def pinned(uri: str) -> str:
    """A URI of the Hub with a commit in place of a branch, a tag, or nothing. Buckets of the Hub have no commits.

    Raises:
        ConvkitError: the URI is malformed, nothing is there, or the Hub doesn't let us see it.
    """
    driver = Driver(uri)
    store, _ = driver.opened()
    from huggingface_hub import constants
    from huggingface_hub.utils import parse_hf_uri

    try:
        parsed = parse_hf_uri(uri)
    except ValueError as error:
        raise UsageError(driver.words(error), path=driver.uri, remedy="write hf://org/model@revision") from error
    if parsed.is_bucket:
        return uri
    name = f"{constants.REPO_TYPES_URL_PREFIXES.get(parsed.type, '')}{parsed.id}"

    def commit() -> str:
        with driver.one_line(f"{name}@{parsed.revision}" if parsed.revision else name):
            found: Any = store._api.repo_info(
                parsed.id, revision=parsed.revision, repo_type=parsed.type, timeout=constants.HF_HUB_ETAG_TIMEOUT
            )
            return str(found.sha)

    return f"hf://{name}@{retrying(commit, driver.uri, RETRIES)}/{parsed.path_in_repo}".rstrip("/")


def reader(store: HfFileSystem, path: str) -> Callable[[int, int], bytes]:
    """Reads ranges of a file, each by one request: the driver's own would be tried again there and here."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session, hf_raise_for_status

    url = store.url(path)

    def read(start: int, stop: int) -> bytes:
        headers = {"Range": f"bytes={start}-{stop - 1}", **store._api._build_hf_headers()}
        answer = get_session().get(url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)
        hf_raise_for_status(answer)
        return bytes(answer.content)

    return read
