"""Secrets of URIs are masked, also where they weren't percent-encoded as they should be."""

from __future__ import annotations

from pathlib import Path

import pytest

from convkit.errors import ConvkitError
from convkit.fetch import fetch
from convkit.files.uri import hide_secrets, hide_secrets_of, without_secrets


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://me:pw@host:80/m.bin?sig=abc&v=1#x", "https://host:80/m.bin?sig=***&v=***"),
        ("https://host/m?token", "https://host/m?***"),
        ("https://host/m?a=1;b", "https://host/m?a=***;***"),
        ("https://me:p/w@host/m", "https://***"),
        ("https://me:p#w@host/m", "https://***"),
        ("https://me:p?w@host/m", "https://***"),
        ("https://tok?en@host/m", "https://***"),
        ("https://me:p@w@host/m", "https://host/m"),
        ("https://[::1]:80/m", "https://[::1]:80/m"),
        ("https://me:pw@[::1/m", "https://***"),
        ("S3://key:secret@bucket/m@1", "S3://bucket/m@1"),
        ("hf://org/model@v1/sub", "hf://org/model@v1/sub"),
        ("hf://me:pw@org/model?token=x", "hf://org/model?token=***"),
        ("generated://llama?seed=7", "generated://llama?seed=7"),
        ("models/a@b?c=d", "models/a@b?c=d"),
    ],
)
def test_a_uri_is_shown_without_its_secrets(uri: str, shown: str):
    assert without_secrets(uri) == shown
    assert hide_secrets(f"can't read {uri}: gone ({uri}), '{uri}'.") == (
        f"can't read {shown}: gone ({shown}), '{shown}'."
    )


def test_words_of_another_program_too():
    uri = "s3://key:se%20cret@bucket/m?sig=abc=d&x=1"
    assert hide_secrets_of(uri, "no bucket key:se cret@bucket, key:se%20cret, abc=d, 1") == (
        "no bucket ***:***@bucket, ***, ***, 1"
    )


@pytest.mark.parametrize("uri", ["memory://me:s3cret@x/y?sig=s3cret", "file://me:s3cret@x/y?s=s3cret"])
@pytest.mark.parametrize("before", ["", "simplecache::"])
def test_no_error_of_a_fetch_says_them(tmp_path: Path, uri: str, before: str):
    with pytest.raises(ConvkitError) as refused:
        fetch(before + uri, tmp_path / "m", retries=0)
    assert "s3cret" not in str(refused.value)
