"""Migrate checkpoints between Orbax's two APIs."""
