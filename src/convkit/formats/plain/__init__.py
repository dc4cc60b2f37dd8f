"""Shared code of the formats that store tensors uncompressed in files."""
