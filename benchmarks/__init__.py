"""Speed and memory, each claim a ratio measured within one run: ``make bench``."""
