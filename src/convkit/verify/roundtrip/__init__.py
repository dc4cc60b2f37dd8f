"""Check whether a conversion lost anything, by mapping it back and comparing bit by bit."""

from convkit.verify.roundtrip.check import roundtrip

__all__ = ["roundtrip"]
