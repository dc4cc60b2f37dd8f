"""Models whose code lies on the hub, beside their checkpoints: transformers has no class of them.

Code from a checkpoint is never run. Each is written from its published definition, in blocks that all oracles share.
"""
