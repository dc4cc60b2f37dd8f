"""``convkit baseline``: record, compare and accept what the rows of a campaign gave."""
