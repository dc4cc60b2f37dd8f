"""Judging a conversion: round trip, equivalence, comparison, receipts.

Nothing here or in ``convkit.oracles`` reaches ``mapping``, ``mappings``, ``config``, ``plan`` or ``execute``,
not even through another module: a fault there can't hide itself here. A test walks the imports.
"""

from convkit.verify.verdict import Verdict

__all__ = ["Verdict"]
