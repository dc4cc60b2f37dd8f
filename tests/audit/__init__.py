"""Signed evidence."""
