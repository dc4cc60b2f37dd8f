"""The parts that forward passes are made of."""
