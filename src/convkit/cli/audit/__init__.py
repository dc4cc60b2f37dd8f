"""``convkit audit``: sign what was proved, show what is signed, and check it."""
