"""The formats that the original's command knows, and what it calls its outputs.

Source: ModelZoo release 2.10.0, ``tools/convert_checkpoint.py``, ``tools/checkpoint_converters/``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from convkit.errors import UsageError

#: formats as the help has them
FORMS = "hf, cs-X.Y, cs-X.Y-dpo, cs-X.Y-no-dpo, cs-2.4-backbone"
AUTO, CURRENT = "cs-auto", "cs-current"
#: what a format may be of beside transformers, and what its name then ends with
KINDS = {"cs": "", "dpo": "-dpo", "no-dpo": "-no-dpo", "backbone": "-backbone"}

_FORM = re.compile(r"cs-(?P<release>\d+\.\d+)(?:-(?P<kind>dpo|no-dpo|(?<=-2\.4-)backbone))?")
_EXTENSIONS = re.compile(r"(?:\.[A-Za-z]+)+$")


@dataclass(frozen=True)
class Form:
    """A format.

    Attributes:
        text: as the user says it, and as files are called.
        kind: ``hf``, or one of :data:`KINDS`.
        release: of ModelZoo; None for transformers, and for what is to be read from the checkpoint.
    """

    text: str
    kind: str
    release: str | None = None


def form_called(text: str, flag: str) -> Form:
    """The format of this name.

    Args:
        text: the name.
        flag: the option that gives it.

    Raises:
        UsageError: none has this name.
    """
    if text == "hf":
        return Form(text, "hf")
    if text == AUTO and flag == "--src-fmt":
        return Form(text, "cs")
    if text == CURRENT:
        from convkit.mappings.cerebras.classes import RELEASES

        return Form(text, "cs", ".".join(map(str, RELEASES[-1])))
    if (found := _FORM.fullmatch(text)) is None:
        own = {"--src-fmt": AUTO, "--tgt-fmt": CURRENT}[flag]
        raise UsageError(f"{flag} {text}: no format is called so", remedy=f"formats: {FORMS}, {own}")
    return Form(text, found["kind"] or "cs", found["release"])


def stem(name: str) -> str:
    """A file's name without its extensions, which are letters after a dot; the original takes off all of them.

    >>> [stem(name) for name in ("pytorch_model.bin.index.json", "checkpoint_1.7.mdl", "a_to_cs-2.9.mdl", "smollm")]
    ['pytorch_model', 'checkpoint_1.7', 'a_to_cs-2.9', 'smollm']
    """
    return _EXTENSIONS.sub("", name) or name
