"""Acorn, an invented framework, for convkit: its format, its mapping, its oracle, and models to try them on.

The README defines the framework. Each module here states that definition for itself, and imports none of the others:
above all, the oracle knows nothing of the mapping that it judges.
"""
