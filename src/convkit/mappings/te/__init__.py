"""T5X and Pax <-> Transformer Engine (TE), as NVIDIA's T5X and Pax run it."""
