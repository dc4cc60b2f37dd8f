"""Baselines: what a row's conversion and its checks gave when somebody accepted it, and what has moved since.

A baseline is one small JSON document a row, meant for version control: digests, figures and versions, no path and no
time except that of its acceptance. Nothing here reads a tensor or runs a model.
"""
