"""The forward passes of T5X, Pax and Transformer Engine, in JAX."""
