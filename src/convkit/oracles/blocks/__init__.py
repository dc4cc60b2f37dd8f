"""Building blocks of forward passes."""
