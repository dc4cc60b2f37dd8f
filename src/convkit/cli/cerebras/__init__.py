"""``convkit cerebras``: replaces ModelZoo's checkpoint converter and its compatibility scripts, with the same flags."""
