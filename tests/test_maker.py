"""What is made says who made it, by which command, without credentials."""

from __future__ import annotations

import os

from msgspec import UNSET

from convkit.files.maker import called_as, maker


def test_credentials_of_a_command_are_masked() -> None:
    with called_as(["convkit", "fetch", "https://me:pw@host/m.bin?sig=abc", "--token=s3://k:secret@b/x", "a folder"]):
        assert maker().command_line == "convkit fetch 'https://host/m.bin?sig=***' --token=s3://b/x 'a folder'"
    assert maker().command_line is UNSET, "called from Python"


def test_any_argument_can_be_recorded() -> None:
    with called_as(["convkit", "plan", os.fsdecode(b"\xff.bin"), "<b>"]):
        assert maker().command_line == "convkit plan '\\udcff.bin' '<b>'"
