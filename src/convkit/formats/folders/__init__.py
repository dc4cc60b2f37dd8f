"""Several checkpoints of transformers as one: a folder of folders."""
