"""Tools for Orbax alone: predict and try which of its calls load a checkpoint, and compare its two APIs."""
