"""What changed in ModelZoo's yamls from release to release, as small steps that all families share."""
