"""HF <-> Cerebras ModelZoo, releases 2.1 ... 2.10."""
