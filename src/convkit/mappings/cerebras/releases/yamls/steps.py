"""All steps in their order: what each release changed in yamls, from 1.6 to 2.10."""

from __future__ import annotations

from convkit.mappings.cerebras.releases.yamls.classes import named, unnamed
from convkit.mappings.cerebras.releases.yamls.compositions import (
    policy_flat,
    retriever_down,
    retriever_up,
    towers_down,
    towers_up,
)
from convkit.mappings.cerebras.releases.yamls.document import Step, dropped, nothing
from convkit.mappings.cerebras.releases.yamls.models import (
    BERT_CLASS,
    GPT2_CLASS,
    GPTJ_CLASS,
    T5_CLASS,
    before_or_after,
    came_with,
    experts_down,
    experts_up,
    nonlinearities_left_out,
    nonlinearities_said,
    norm_type,
)
from convkit.mappings.cerebras.releases.yamls.mup import mup_down, mup_up
from convkit.mappings.cerebras.releases.yamls.optimizers import renamed_down, renamed_up
from convkit.mappings.cerebras.releases.yamls.runs import (
    PRUNED,
    UNREAD,
    accumulation_down,
    accumulation_up,
    kept_by_number,
    precision_down,
    precision_up,
    pretrained_named,
    pretrained_said,
)
from convkit.mappings.cerebras.releases.yamls.sparsity import sparsity_down, sparsity_up
from convkit.mappings.cerebras.releases.yamls.trainer_down import trainer_down
from convkit.mappings.cerebras.releases.yamls.trainer_up import run_up, trainer_up

STEPS: tuple[Step, ...] = (
    Step((1, 8), nonlinearities_said, nonlinearities_left_out, BERT_CLASS),
    Step((1, 8), before_or_after, before_or_after, T5_CLASS),

    norm_type("use_rms_norm", "rmsnorm", GPT2_CLASS, written=True),
    norm_type("use_t5_layer_norm", "rmsnorm", T5_CLASS),
    norm_type("use_biasless_norm", "biasless-layernorm", GPTJ_CLASS),
    Step((2, 0), kept_by_number, nothing),
    Step((2, 0), pretrained_named, pretrained_said),
    dropped((2, 0), *PRUNED, *UNREAD),
    # 2.0 reads the names of 1.9 and those of 2.1
    Step((2, 0), nothing, renamed_down),

    Step((2, 1), kept_by_number, nothing),
    Step((2, 1), pretrained_named, nothing),
    dropped((2, 1), *PRUNED),
    Step((2, 1), renamed_up, renamed_down),
    Step((2, 1), precision_up, precision_down),

    Step((2, 2), accumulation_up, accumulation_down),
    dropped((2, 2), "runconfig.autogen_policy", *UNREAD),
    Step((2, 2), sparsity_up, sparsity_down),

    Step((2, 3), mup_up, mup_down),
    Step((2, 3), retriever_up, retriever_down, frozenset(("dpr-biencoder",))),
    dropped((2, 3), *(f"model.{name}" for name in (
        "use_position_embedding", "alibi_implementation", "weight_initialization_seed",
    ))),
    Step((2, 3), trainer_up, trainer_down),

    # 2.3 reads yamls of 2.2
    Step((2, 4), run_up, nothing),
    Step((2, 4), named, unnamed),
    Step((2, 4), nothing, policy_flat),
    Step((2, 4), towers_up, towers_down, frozenset(("multimodal_simple",))),
    Step((2, 4), nothing, came_with((2, 4))),

    *(Step(since, nothing, came_with(since)) for since in ((2, 5), (2, 7), (2, 8), (2, 10))),
    Step((2, 6), experts_up, experts_down),
)  # fmt: skip
