"""Whether a conversion lost anything: mapped back, and compared bit by bit."""

from convkit.verify.roundtrip.check import roundtrip

__all__ = ["roundtrip"]
