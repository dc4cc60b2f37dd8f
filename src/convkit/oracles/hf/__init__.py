"""Hugging Face models, run by transformers itself."""
