"""The tasks of encoders: which head a checkpoint has, and the fields that only its task has.

A family's heads are a table, which one function reads both ways.

Facts: ModelZoo release 2.10.0, ``models/nlp/bert`` (its classes, also those of 2.1.0 ... 2.9.0); transformers,
``models/bert``.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import NoneType
from typing import Any

from msgspec.structs import replace

from convkit.config import ABSENT, Answer, ConfigClass, ConfigError, Coupled, Row
from convkit.config.values import shown
from convkit.mapping import Fact

Values = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A class of ModelZoo's.

    Attributes:
        name: the declared name that is true for this task alone.
        yaml: the ``name`` of its yamls since release 2.4.
        config: its config class.
        trunk: where its encoder lies.
        fields: fields that show it in a yaml without a name.
        rows: the rows that it alone has.
    """

    name: str
    yaml: str
    config: ConfigClass
    trunk: str
    fields: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Head:
    """A class of transformers'.

    Attributes:
        tensors: the facts that its leaves show. A pooler may be there unused; a class with a pooler alone has no head.
        hf: its name.
        task: ModelZoo's class for it, or why there is none.
    """

    tensors: str
    hf: str
    task: Task | str

    def facts(self, unseen: frozenset[str] = frozenset()) -> frozenset[str]:
        """The facts that its leaves show, without those that one side can't show."""
        return frozenset(self.tensors.split()) - unseen

    def core(self, unseen: frozenset[str] = frozenset()) -> frozenset[str]:
        """The facts without the pooler."""
        return self.facts(unseen) - {"pooler"}


@dataclass(frozen=True)
class Heads:
    """A family's heads, as a table.

    The first whose facts are there, apart from the pooler, is the model's. Where several have the same, it is the one
    that the config names, else the pooler decides. Where the tensors aren't known, the config decides.

    Attributes:
        table: the heads; the last is the base model, whose task is the default.
        facts: the facts that they are recognised by.
    """

    table: tuple[Head, ...]
    facts: tuple[Fact, ...]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Every task once."""
        return tuple(dict.fromkeys(head.task for head in self.table if isinstance(head.task, Task)))

    @property
    def base(self) -> Task:
        """The base model's task."""
        return next(task for task in self.tasks if task is self.table[-1].task)

    @property
    def row(self) -> Coupled:
        """The row that declares the facts, the tasks, ``pooled``, ``trunk``, ``headless`` and ``architecture``."""
        own = (field for task in self.tasks for field in task.fields)
        return Coupled(("architectures",), ("name", "disable_nsp", *own), self._to_cerebras, self._to_hf)

    def _to_cerebras(self, values: Values, names: Values) -> Answer:
        architectures = values.get("architectures") or ()
        stated = next((head for head in self.table if head.hf in architectures), None)
        named = stated or self._of_yaml({})
        head = self._found(named, names, frozenset())
        if isinstance(head.task, str):
            raise ConfigError(head.task, key="architectures", remedy="convert the base model")
        lacking = self._lacking(stated, head, names) if stated and not names.get("headless") else []
        answer = self._answer(head, head.task, names, headless=False)
        other = self._other(stated) if stated else frozenset()
        return replace(answer, claims=dict.fromkeys(lacking, f"architectures = {named.hf}"), denied=other)

    def _to_hf(self, values: Values, names: Values) -> Answer:
        unseen = frozenset(fact.name for fact in self.facts if not fact.right)
        named, headless = self._of_yaml(values), names.get("headless", False)
        head = self._found(named, names, unseen)
        if isinstance(head.task, str) or isinstance(named.task, str):
            raise ConfigError(f"{head.task}", key="name", remedy="convert the base model: --headless")
        lacking = [] if headless else self._lacking(named, head, names, unseen)
        if named.task is self.base and not names.get("mlm"):
            lacking = []  # ModelZoo has one class for pre-training, base models and the next sentence alone
        answer = self._answer(head, head.task, names, headless=headless)
        return replace(answer, claims=dict.fromkeys(lacking, f"name = {named.task.yaml}"))

    def _lacking(self, named: Head, found: Head, names: Values, unseen: frozenset[str] = frozenset()) -> list[str]:
        """The facts of a class with a head that its leaves don't show, unless they show another head."""
        core = named.core(unseen)
        if self.facts[0].name not in names or not core or not found.core(unseen) <= core:
            return []
        return [fact for fact in named.tensors.split() if fact not in unseen and not names.get(fact)]

    def _other(self, named: Head) -> frozenset[str]:
        """The facts of other heads than that of a class."""
        core = named.core()
        return frozenset(fact.name for fact in self.facts) - named.facts() if core else frozenset()

    def _of_yaml(self, values: Values) -> Head:
        """The head that a yaml names."""
        named = [task for task in self.tasks if task.yaml == values.get("name") and task.yaml != self.base.yaml]
        named += [task for task in self.tasks if values.keys() & set(task.fields)]
        fits = [head for head in self.table if head.task is (named or [self.base])[0]]
        nsp = not values.get("disable_nsp", False)
        return fits[0] if named else next((head for head in fits if ("nsp" in head.facts()) == nsp), fits[0])

    def _found(self, named: Head, names: Values, unseen: frozenset[str]) -> Head:
        """The head of a model of which the declared names hold the facts, if its tensors are known."""
        if self.facts[0].name not in names:
            return named
        there = {fact.name for fact in self.facts if names.get(fact.name)}
        core = next(head.core(unseen) for head in self.table if head.core(unseen) <= there)
        fits = [head for head in self.table if head.core(unseen) == core]
        if named in fits:
            return named
        return max(fits, key=lambda head: (head.facts(unseen) <= there, len(head.facts(unseen))))

    def _answer(self, head: Head, task: Task, names: Values, headless: bool) -> Answer:
        facts = {fact.name: names.get(fact.name, fact.name in head.facts()) for fact in self.facts}
        bare = not head.core()
        return Answer(
            names={
                **facts,
                **{other.name: other is task for other in self.tasks},
                "pooled": facts.get("pooler", False) if bare else "pooler" in head.facts(),
                "trunk": task.trunk,
                "headless": headless or bare,
                "architecture": (self.table[-1] if headless else head).hf,
            }
        )


# --- rows of tasks -----------------------------------------------------------------------------------------

PROBLEMS = ("single_label_classification", "multi_label_classification", "regression")


def _stated_labels(values: Values) -> int:
    """The number of labels, counted like transformers: by their names, if there are any."""
    names = values.get("id2label")
    if not isinstance(names, dict | NoneType):
        raise ConfigError(f"is {names!r}", key="id2label", remedy="it must be a section: the name of each label")
    return len(names) if names else values.get("num_labels") or 2


def _labels(stated: int, key: str, names: Values) -> tuple[int, tuple[str, ...]]:
    """The number of labels, of which the tensors know better, and a warning where they do."""
    true = names.get("labels", stated)
    if true == stated:
        return true, ()
    return true, (f"the config says {key} = {stated}, the checkpoint has {true}: corrected",)


def labels(field: str, usual: int | None = None) -> Coupled:
    """The row of the number of labels, which ModelZoo's class calls ``field``; declares ``labels``. ``usual`` is the
    number that this class takes where a yaml leaves it out, if there is one.
    """

    def to_cerebras(values: Values, names: Values) -> Answer:
        number, warnings = _labels(_stated_labels(values), "num_labels", names)
        left_out = {} if values or "labels" in names else {"num_labels": number}
        return Answer({field: number}, {"labels": number}, warnings, defaults=left_out)

    def to_hf(values: Values, names: Values) -> Answer:
        stated = values.get(field, names.get("labels", usual))
        if stated is None:
            raise ConfigError("is missing", key=field, remedy="add it: there is no default")
        number, warnings = _labels(stated, field, names)
        left_out = {} if field in values or "labels" in names else {field: number}
        return Answer({"num_labels": number}, {"labels": number}, warnings, defaults=left_out)

    return Coupled(("num_labels", "id2label"), (field,), to_cerebras, to_hf)


def _problem_to_cerebras(values: Values, names: Values) -> Answer:
    problem = values.get("problem_type") or ("regression" if names["labels"] == 1 else None)
    if problem not in PROBLEMS:
        raise ConfigError(
            f"is {shown(problem)}", key="problem_type", remedy=f"add it to the config: {' or '.join(PROBLEMS)}"
        )
    return Answer({"problem_type": problem})


def _problem_to_hf(values: Values, names: Values) -> Answer:
    problem = values.get("problem_type", ABSENT)
    if problem not in (*PROBLEMS, ABSENT):
        raise ConfigError(f"is {shown(problem)}", key="problem_type", remedy=f"known: {', '.join(PROBLEMS)}")
    return Answer({"problem_type": problem})


problem_type = Coupled(("problem_type",), ("problem_type",), _problem_to_cerebras, _problem_to_hf)


def _span_to_cerebras(values: Values, names: Values) -> Answer:
    number = _stated_labels(values)
    if number != 2:
        raise ConfigError(f"is {number}", key="num_labels", remedy="a span has two ends: it must be 2")
    no_class = "no Cerebras release has a class for question answering: the keys of ModelZoo's converter are written"
    return Answer(warnings=(no_class,))


#: a span's two ends are its labels
span = Coupled(("num_labels", "id2label"), (), _span_to_cerebras, lambda values, names: Answer({"num_labels": 2}))


def _segments_to_cerebras(values: Values, names: Values) -> Answer:
    return Answer({} if names["pooled"] else {"disable_nsp": True, "num_segments": 2})


def _segments_to_hf(values: Values, names: Values) -> Answer:
    disabled = bool(values.get("disable_nsp", False))
    if disabled == names["pooled"]:
        here = "the checkpoint has a pooler" if names["pooled"] else "the checkpoint has no pooler"
        raise ConfigError(f"is {disabled}, but {here}", key="disable_nsp", remedy="correct the yaml")
    number = values.get("num_segments", 0 if disabled else 2)
    if number != 2:
        raise ConfigError(f"is {number}", key="num_segments", remedy="transformers' model has two segments: correct it")
    taken = {"disable_nsp": disabled, "num_segments": number}
    return Answer(defaults={field: value for field, value in taken.items() if field not in values})


#: ModelZoo's pre-training class has a pooler and segments, unless it doesn't predict the next sentence: then it has
#: no pooler, and segments only if the yaml says how many
segments = Coupled((), ("disable_nsp", "num_segments"), _segments_to_cerebras, _segments_to_hf)


def _segments_as_stated(values: Values, names: Values) -> Answer:
    number = values.get("type_vocab_size", 2)
    return Answer({"num_segments": number}, {"segments": number}, defaults={} if values else {"type_vocab_size": 2})


def _segments_to_be_stated(values: Values, names: Values) -> Answer:
    number = values.get("num_segments")
    if not number:
        remedy = "transformers' model has a table of segments: correct the yaml"
        raise ConfigError("without it, this class has no table of segments", key="num_segments", remedy=remedy)
    return Answer({"type_vocab_size": number}, {"segments": number})


#: the same class with a table of any length, and without a pooler: its yaml says the length; declares ``segments``
tables_of_segments = Coupled(("type_vocab_size",), ("num_segments",), _segments_as_stated, _segments_to_be_stated)
