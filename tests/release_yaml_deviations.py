"""What we do otherwise than ModelZoo 2.10.0's converter in yamls from release to release, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: the field isn't in our yaml
GONE = object()


@dataclass(frozen=True)
class Deviation:
    """A difference from the original.

    Attributes:
        edges: a pattern of edges, ``2.0>2.1``.
        model: a pattern of models.
        case: a pattern of cases.
        ours: "refuse", "accept", "form" (a yaml of the other form), or field -> our value. Fields are patterns of
            paths below the model's section, or in the whole yaml; a type stands for all of its values.
        reason: why.
    """

    edges: str
    model: str
    case: str
    ours: str | dict[str, Any]
    reason: str


INVERSE = "the original applies the upgrade's rules downwards; ours is the inverse of the step"
SINCE_2_0 = "the original prunes from 1.9 and 2.0, not from 1.8, whose yamls 2.0 reads no better"
DEFAULT = "the default is another in the target's release: what the source's says is written out"
UNKNOWN = "the target's class doesn't have the field, and it says nothing: classes refuse such fields since 2.4"
NO_CHAIN = "the original has no converter for these releases"
LIST = "the original drops lists where it expects a scalar; the trainer takes them"
KEPT_RUN = {
    "runconfig.load_checkpoint_states": GONE,
    "runconfig.max_checkpoints": GONE,
    "runconfig.keep_checkpoint_max": int,
    "runconfig.is_pretrained_checkpoint": bool,
    "runconfig.num_*": int,
    "runconfig.experimental_api": bool,
    "runconfig.multireplica": bool,
    "runconfig.save_losses": bool,
    "runconfig.service_dir": str,
    "runconfig.use_appliance_data": bool,
    "csconfig": dict,
}
PRUNED_RUN = {
    "runconfig.load_checkpoint_states": list,
    "runconfig.max_checkpoints": 3,
    **dict.fromkeys(KEPT_RUN.keys() - {"runconfig.load_checkpoint_states", "runconfig.max_checkpoints"}, GONE),
}

# fmt: off
DEVIATIONS = (
    # --- the form of the yaml
    Deviation("2.[3459]>2.2", "*", "*", "form", "the original leaves the trainer as it is, which 2.2 can't read"),
    Deviation("2.2>2.[459]", "gpt2", "*", "form", "the original's GPT-2 step to 2.4 and later makes no trainer"),
    Deviation("2.0>2.1", "*", "trainer", "accept", "a trainer's model is upgraded too: there KeyError"),
    Deviation("2.3>2.4", "*", "bare", "accept", "a yaml without trainer gets its name too: there KeyError"),
    Deviation("2.3>2.4", "gpt2", "hf-made*", "accept", "the same, of a yaml that the original's own converter makes"),
    Deviation("2.3>2.4", "gpt2", "trainer list", "accept", "each trainer of the list is upgraded"),
    Deviation("2.2>2.3", "gpt2", "eval_input list", "accept", "a list of data to validate with is a list of loaders"),
    Deviation("*", "gpt2", "hf-made*", "accept", NO_CHAIN),

    # --- downwards
    Deviation("2.0>1.[6789]", "*", "*", KEPT_RUN, INVERSE),
    Deviation("1.9>1.[678]", "*", "*", KEPT_RUN, INVERSE),
    Deviation("2.1>2.0", "*", "whole*", {
        "train_input.micro_batch_size": GONE, "eval_input.micro_batch_size": GONE,
        "runconfig.use_cs_grad_accum": True, "runconfig.autogen_policy": "default",
        "fp16_type": GONE, "use_bfloat16": True,
        "runconfig.precision_opt_level": GONE, "precision_opt_level": 1,
        "optimizer.betas": GONE, "optimizer.beta1": 0.9, "optimizer.beta2": 0.95,
        "optimizer.weight_decay": GONE, "optimizer.weight_decay_rate": 0.1,
        "optimizer.learning_rate": list}, INVERSE),
    Deviation("2.2>2.1", "*", "whole*", {
        "runconfig.use_cs_grad_accum": True, "train_input.micro_batch_size": GONE}, INVERSE),
    Deviation("2.4>2.3", "*", "*", {"name": GONE}, "2.3 has no such field: it came with 2.4"),

    # --- what a step does otherwise
    Deviation("1.[678]>2.0", "*", "*", PRUNED_RUN, SINCE_2_0),
    Deviation("2.0>2.1", "gpt2", "opt AdamW only beta1", {
        "optimizer.beta1": GONE, "optimizer.betas": [0.9, 0.999]},
              "2.1 knows only the pair; the other one has 1.9's default"),
    Deviation("2.0>2.1", "gpt2", "no runconfig", {
        "precision_opt_level": GONE, "runconfig.precision_opt_level": 1},
              "the original leaves the level in the model's section, which 2.1 doesn't read"),
    Deviation("2.1>2.2", "gpt2", "sparsity patterns dict", {"sparsity": list},
              "a group's own type is its algorithm, too; the original leaves it, which 2.2 doesn't know"),
    Deviation("2.1>2.2", "gpt2", "sparsity list", {"sparsity": [{"sparsity": 0.4}]},
              "groups of a list are renamed too, as the section is"),
    Deviation("2.2>2.3", "gpt2", "wandb", {"trainer.init.loggers": list}, LIST),
    Deviation("2.2>2.3", "gpt2", "logging", {"trainer.init.loggers": list}, LIST),
    Deviation("2.2>2.3", "gpt2", "load states list", {"trainer.init.callbacks": list}, LIST),
    Deviation("2.2>2.3", "gpt2", "mbs None", {"trainer.init.callbacks": list},
              "null is a size of a micro batch, no accumulation: without the flag, 2.3 chooses one"),
    Deviation("2.2>2.3", "gpt2", "eeh", {"trainer.init.callbacks": list},
              "the arguments of an evaluation have a callback, which the original's scripts make of them"),

    # --- fields that a class has in some releases
    Deviation("2.2>2.3", "*", "gpt2 legacy model keys", {
        "alibi_implementation": GONE, "weight_initialization_seed": GONE, "use_position_embedding": GONE}, UNKNOWN),
    Deviation("2.3>2.4", "gpt2", "already trainer", {"fp16_type": GONE}, UNKNOWN),
    Deviation("2.[034]>2.[145]", "llama", "whole*", {"norm_first": GONE, "use_ff_layer1_dropout": GONE}, UNKNOWN),
    Deviation("2.3>2.4", "*", "gpt2 legacy model keys", {"use_position_embedding": GONE}, UNKNOWN),
    Deviation("2.3>2.2", "gpt2", "compression", "refuse", "the weights are compressed: no field of 2.2 says that"),
    Deviation("2.3>2.2", "*", "*mup*", "refuse", "2.2's class has none of the three fields: they came with 2.3"),
    Deviation("2.4>2.3", "bert-sequence-classifier", "whole*", {
        "initializer_range": GONE, "mlm_nonlinearity": GONE, "position_embedding_type": GONE,
        "share_embedding_weights": GONE}, UNKNOWN),
    Deviation("2.2>2.3", "bert-sequence-classifier", "whole*", {"embedding_dropout_rate": 0.1}, DEFAULT),
    Deviation("2.[23]>2.[459]", "*", "trainer", {"attention_dropout_rate": None}, DEFAULT),
    Deviation("2.2>2.[459]", "gpt2", "trainer", {"name": "gpt2"}, "the class is named since 2.4"),
    Deviation("2.4>2.3", "*", "trainer", {"attention_dropout_rate": 0.1}, DEFAULT),
    Deviation("2.[459]>2.[23]", "*", "bare", {"attention_dropout_rate": 0.1}, DEFAULT),
    Deviation("2.2>2.3", "*bert*", "trainer", {"max_position_embeddings": 512}, DEFAULT),
    Deviation("2.2>2.3", "*bert*", "bare", {"max_position_embeddings": 512}, DEFAULT),
    Deviation("2.3>2.4", "clip-vit", "trainer", {
        "num_channels": 2, "dropout_rate": 0.0, "attention_dropout_rate": 0.0}, DEFAULT),
    Deviation("2.4>2.3", "clip-vit", "*", {
        "num_channels": 3, "dropout_rate": 0.1, "attention_dropout_rate": 0.1}, DEFAULT),

    # --- BERT
    Deviation("1.[67]>*", "bert", "trainer", "accept", "encoder_nonlinearity has a default, gelu"),
    Deviation("1.[67]>*", "bert", "bare", "accept", "encoder_nonlinearity has a default, gelu"),
    Deviation("*>1.[67]", "bert", "trainer", "accept", "encoder_nonlinearity has a default, gelu"),
    Deviation("*>1.[67]", "bert", "bare", "accept", "encoder_nonlinearity has a default, gelu"),
)
# fmt: on
