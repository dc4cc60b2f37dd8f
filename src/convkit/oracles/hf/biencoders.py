"""Two encoders of ``transformers`` in folders, which are a retriever together: DPR's, or DRAGON's BERTs.

A text becomes what its first token becomes, in DPR behind a projection if there is one; a BERT's pooler isn't used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from convkit.oracles.biencoder import TEXTS, Biencoder

if TYPE_CHECKING:
    from convkit.oracles.oracle import Oracle
    from convkit.oracles.tensors import Within


class HfDprBiencoder(Biencoder):
    """DPRQuestionEncoder and DPRContextEncoder."""

    layout = "hf/dpr-biencoder"
    packages = ("transformers",)
    of: ClassVar[str] = "hf/dpr"
    runs = "DPRQuestionEncoder and DPRContextEncoder are run; the embedding of a text is their pooler_output"
    prefixes: ClassVar[Mapping[str, str]] = {name: f"{name}." for name in TEXTS}

    def encoder(self, fields: dict[str, Any], tensors: Within) -> Oracle:
        """See :meth:`Biencoder.encoder`."""
        from convkit.oracles import get_oracle

        return get_oracle(self.of)(fields, tensors, self.path)


class HfDragonBiencoder(HfDprBiencoder):
    """Two of BertModel."""

    layout = "hf/dragon-biencoder"
    of = "hf/dragon"
    runs = "two of BertModel are run; the embedding of a text is what its first token becomes"
