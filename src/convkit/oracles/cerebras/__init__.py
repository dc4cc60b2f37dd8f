"""Forward passes of Cerebras ModelZoo models, written from their definitions."""
