"""What Orbax stores beside the arrays: trees, steps, shardings, and which folder is what."""
