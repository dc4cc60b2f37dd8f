"""The forward passes of Cerebras ModelZoo, written from its definitions."""
