"""Judge a conversion: by round trip, equivalence, comparison and receipts.

Nothing here or in ``convkit.oracles`` reaches ``mapping``, ``mappings``, ``config``, ``plan``, ``execute`` or
``migrate``, not even through another module, so a fault there can't hide itself here. A test checks the imports.
"""

from convkit.verify.verdict import Verdict

__all__ = ["Verdict"]
