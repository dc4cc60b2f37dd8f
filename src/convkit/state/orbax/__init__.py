"""Orbax's metadata: trees, steps, shardings, and how each kind of folder is recognised."""
