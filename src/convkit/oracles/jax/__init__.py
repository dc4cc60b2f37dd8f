"""Forward passes of T5X, Pax and Transformer Engine models, in JAX."""
