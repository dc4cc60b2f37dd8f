"""Migration of Orbax checkpoints between its two APIs."""
