"""The laws that every format and every mapping obeys, for convkit's and for other packages'. Needs hypothesis.

Those of oracles, which need torch, are in :mod:`.oracles`, those of generated families and of whole conversions in
:mod:`.generators`.
"""

from convkit.testing.families import FAMILY_LAWS
from convkit.testing.formats import (
    LAWS,
    Law,
    check_bits,
    check_equal,
    holdable,
    in_a_fresh_process_that_dies,
    in_a_process_that_dies,
    write,
    write_leaf,
)
from convkit.testing.samples import Sample, bits, keys, samples, specs, values
from convkit.testing.writers import writer_machine

__all__ = [
    "FAMILY_LAWS",
    "LAWS",
    "Law",
    "Sample",
    "bits",
    "check_bits",
    "check_equal",
    "holdable",
    "in_a_fresh_process_that_dies",
    "in_a_process_that_dies",
    "keys",
    "samples",
    "specs",
    "values",
    "write",
    "write_leaf",
    "writer_machine",
]
