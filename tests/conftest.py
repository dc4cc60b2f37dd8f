"""Puts this folder on the import path, so that tests in its subfolders can say ``from goldens import golden_dir``."""
