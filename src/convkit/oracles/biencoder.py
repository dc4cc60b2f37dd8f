"""Retrievers of two encoders, of questions and of contexts, each run by the oracle that runs it alone.

The second encoder's stages come after the first's. At the end stand the embedding of each text and the similarities,
which are the products of both. Roles outside the layers begin with the encoder's name if they are the second's; layers
are numbered through both.

Sources: the README of facebook/dragon-plus-query-encoder on the hub; transformers, ``models/dpr``; Cerebras ModelZoo
2.10.0, ``models/nlp/dpr/dpr_model.py``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from convkit.errors import ConvkitError
from convkit.oracles.inputs import Input
from convkit.oracles.oracle import Facts, Oracle, State, Trace
from convkit.oracles.tensors import Within

if TYPE_CHECKING:
    from torch import Tensor

#: an encoder: its section of the config -> the name of the output that is the embedding of its text
QUESTIONS, CONTEXTS = "q_encoder", "ctx_encoder"
TEXTS = {QUESTIONS: "question", CONTEXTS: "context"}
#: inputs of the contexts
_OF_CONTEXTS = "ctx_"


class Biencoder(Oracle):
    """Two encoders; subclasses say which oracle runs one, and where its tensors are."""

    #: of each encoder, by its section of the config
    encoders: dict[str, Oracle]
    #: what keys of an encoder begin with
    prefixes: ClassVar[Mapping[str, str]]
    #: what is run, for the verdict
    runs: ClassVar[str]

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path | None = None) -> None:
        self.config, self.tensors, self.path = dict(config), tensors, path
        self.wrapper = self._wrapper()
        at = {name: self.wrapper + prefix for name, prefix in self.prefixes.items()}
        self.encoders = {name: self.encoder(self._section(name), Within(tensors, at[name])) for name in TEXTS}
        both = self.encoders.items()
        self.problems = [f"{name}: {problem}" for name, one in both for problem in one.problems]
        self.notes = [f"{self.runs}; a similarity is the product of a question's and a context's"]
        self.notes += [f"{name}: {note}" for name, one in both for note in one.notes]
        self.twins = {at[name] + key: at[name] + of for name, one in both for key, of in one.twins.items()}
        self.roles = {
            self._role(name, role): replace(part, key=at[name] + part.key)
            for name, one in both
            for role, part in one.roles.items()
        }
        own = tuple(at.values())
        self.refuse(key for key in tensors if key.startswith(self.wrapper) and not key.startswith(own))
        self.facts = self._facts()

    def _wrapper(self) -> str:
        """What all keys of the model begin with."""
        return ""

    @abstractmethod
    def encoder(self, fields: dict[str, Any], tensors: Within) -> Oracle:
        """The oracle of an encoder, from its section and its tensors."""

    def _section(self, name: str) -> dict[str, Any]:
        section = self.config.get(name)
        if not isinstance(section, Mapping):
            raise ConvkitError("no such section", path=self.path, key=name, remedy="a retriever has two encoders")
        return dict(section)

    def _facts(self) -> Facts:
        ours, theirs = (one.facts for one in self.encoders.values())
        return replace(
            ours,
            layers=ours.layers + theirs.layers,
            vocab_size=min(ours.vocab_size, theirs.vocab_size),
            positions=min(ours.positions, theirs.positions),
            segments=min(ours.segments, theirs.segments),
        )

    # --- names ---

    @cached_property
    def _first_layers(self) -> dict[str, int]:
        """The number of each encoder's first layer."""
        return {QUESTIONS: 0, CONTEXTS: self.encoders[QUESTIONS].facts.layers}

    def _role(self, name: str, role: str) -> str:
        """A role of an encoder, in the whole model; the projection is that of a text."""
        if role.startswith("layers."):
            return _moved(role, self._first_layers[name])
        if role.startswith("head.text."):
            return role.replace("head.text", f"head.{TEXTS[name]}")
        return role if name == QUESTIONS else f"{name}.{role}"

    def _place(self, stage: str) -> tuple[str, str]:
        """The encoder of a stage, and what it calls the stage."""
        name, _, own = stage.partition(".")
        return (name, own) if name in TEXTS else (QUESTIONS, stage)

    @property
    def layer_stages(self) -> tuple[str, ...]:
        """See :attr:`Oracle.layer_stages`."""
        return tuple(f"{name}.{stage}" for name, one in self.encoders.items() for stage in one.layer_stages)

    @property
    def stages(self) -> tuple[str, ...]:
        """See :attr:`Oracle.stages`."""
        layers, first = self.layer_stages, self._first_layers[CONTEXTS]
        return ("embedding", *layers[:first], f"{CONTEXTS}.embedding", *layers[first:], "head")

    def stage_of(self, role: str) -> str:
        """See :meth:`Oracle.stage_of`."""
        name, _, own = role.partition(".")
        if name == "layers":
            return self.layer_stages[int(own.partition(".")[0])]
        return f"{name}.{super().stage_of(own)}" if name in TEXTS else super().stage_of(role)

    def outside(self, role: str, stage: str) -> str:
        """See :meth:`Oracle.outside`."""
        return self._role(self._place(stage)[0], role)

    def other(self, role: str) -> str:
        """See :meth:`Oracle.other`."""
        name, _, rest = role.partition(".")
        if name == "layers":
            first = self._first_layers[CONTEXTS]
            return _moved(role, first if int(rest.partition(".")[0]) < first else -first)
        if name == "head":
            ours, theirs = (f"head.{text}." for text in TEXTS.values())
            return role.replace(ours, theirs) if role.startswith(ours) else role.replace(theirs, ours)
        return rest if name in TEXTS else f"{CONTEXTS}.{role}"

    @property
    def tables(self) -> dict[str, int]:
        """See :attr:`Oracle.tables`."""
        return self._rows_of(f"{self._role(name, 'embedding')}.weight" for name in TEXTS)

    # --- the run ---

    @property
    def inputs(self) -> dict[str, Input]:
        """See :attr:`Oracle.inputs`; those of the contexts, of which there may be more than questions, come last."""
        found = dict(self.encoders[QUESTIONS].inputs)
        for name, one in self.encoders[CONTEXTS].inputs.items():
            found[_OF_CONTEXTS + name] = replace(one, like=one.like and _OF_CONTEXTS + one.like)
        return found

    def start(self, inputs: Mapping[str, Tensor]) -> State:
        """See :meth:`Oracle.start`."""
        contexts = {name: value for name, value in inputs.items() if name.startswith(_OF_CONTEXTS)}
        given = {
            QUESTIONS: {name: value for name, value in inputs.items() if name not in contexts},
            CONTEXTS: {name.removeprefix(_OF_CONTEXTS): value for name, value in contexts.items()},
        }
        return State({}, {name: one.start(given[name]).given for name, one in self.encoders.items()})

    def step(self, name: str, state: State, trace: Trace) -> State:
        """See :meth:`Oracle.step`; what the first encoder leaves flows beside the second's layers."""
        if name == self.stages[-1]:
            return self._compared(state, trace)
        flow = dict(state.flow)
        if name == f"{CONTEXTS}.embedding":
            flow = {TEXTS[QUESTIONS]: flow["hidden"]}
        encoder, own = self._place(name)
        left = self._stepped(encoder, own, State(flow, state.given), trace)
        return State({**flow, **left.flow}, state.given)

    def _stepped(self, name: str, own: str, state: State, trace: Trace) -> State:
        """Run a stage of an encoder."""
        first = self._first_layers[name]
        found = Trace(trace.detail - first if trace.detail is not None and trace.detail >= first else None)
        left = self.encoders[name].step(own, State(state.flow, state.given[name]), found)
        trace.states |= {self._role(name, of): value for of, value in found.states.items()}
        if "text" in found.outputs:
            trace.outputs[TEXTS[name]] = found.outputs["text"]
        return left

    def _compared(self, state: State, trace: Trace) -> State:
        """The last stage: what the texts become, and how similar they are."""
        hidden = {QUESTIONS: state.flow[TEXTS[QUESTIONS]], CONTEXTS: state.flow["hidden"]}
        for name, value in hidden.items():
            left = self._stepped(name, self.encoders[name].stages[-1], State({"hidden": value}, state.given), trace)
            trace.outputs[TEXTS[name]] = self.text(name, left.flow["hidden"], state.given[name], trace.outputs)
        questions, contexts = (trace.outputs[text] for text in TEXTS.values())
        trace.outputs["similarity"] = questions @ contexts.T
        return State({"hidden": hidden[CONTEXTS]}, state.given)

    def text(self, name: str, hidden: Tensor, given: Any, outputs: Mapping[str, Tensor]) -> Tensor:
        """The embedding ``[b, width]`` of an encoder's text: what the encoder itself says, else its first token."""
        return outputs[TEXTS[name]] if TEXTS[name] in outputs else hidden[:, 0]

    # --- faults ---

    def wrong_configs(self) -> dict[str, dict[str, Any]]:
        """See :meth:`Oracle.wrong_configs`."""
        return {
            f"{fault} of the {TEXTS[name]}s": {**self.config, name: {**self._section(name), **wrong}}
            for name, one in self.encoders.items()
            for fault, wrong in one.wrong_configs().items()
        }

    def shown_in(self, fault: str) -> frozenset[str]:
        """See :meth:`Oracle.shown_in`."""
        for name, one in self.encoders.items():
            own = fault.removesuffix(f" of the {TEXTS[name]}s")
            if own != fault:
                names = dict(zip(one.layer_stages, self._layers_of(name), strict=True))
                names |= {"embedding": self.stages[0] if name == QUESTIONS else f"{name}.embedding", "head": "head"}
                return frozenset(names[stage] for stage in one.shown_in(own))
        return super().shown_in(fault)

    def _layers_of(self, name: str) -> list[str]:
        return [stage for stage in self.layer_stages if stage.startswith(f"{name}.")]


def _moved(role: str, by: int) -> str:
    """The role, or the state, of a layer with a higher number.

    >>> _moved("layers.3.q.weight", 2)
    'layers.5.q.weight'
    """
    layers, i, *rest = role.split(".")
    return ".".join((layers, str(int(i) + by), *rest))
