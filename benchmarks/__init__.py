"""Speed and memory as ratios, each measured within one run: ``make bench``."""
