"""Has ``transformers`` build its rules of renaming, some 900 regular expressions, as this module is imported.

The loader would build them for a process's first model. Built by an import, they are there in each fork of a worker.
"""

from contextlib import suppress

with suppress(ImportError):  # not every version has them
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    get_checkpoint_conversion_mapping("llama")
