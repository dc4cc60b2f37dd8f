"""Predict which calls of the Orbax APIs load a checkpoint, and try them in the real Orbax."""
