"""Signed evidence: what is claimed of an output, who signs it, and whether it still holds.

Beside each target lie its statements (``<target>.intoto.jsonl``) and its OpenSSF model signature
(``<target>.model.sig``); in a campaign's results, one statement over all rows. Nothing here reads a checkpoint or a
mapping: documents, files and keys are enough. Nothing uses a network.
"""
