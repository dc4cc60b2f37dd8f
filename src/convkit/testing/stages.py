"""Walks oracles stage by stage, and checks what every oracle's stages must hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from torch import Tensor

from convkit.errors import ConvkitError
from convkit.oracles.oracle import Oracle, State, Trace
from convkit.oracles.parts import Cut
from convkit.oracles.stage_tensors import StageTensors
from convkit.oracles.tensors import OnDemand
from convkit.oracles.windows import Slice, Window
from convkit.verify.equivalence.agreement import Gap, measure
from convkit.verify.equivalence.faults import AFTER_THE_LAYERS, BEFORE_THE_LAYERS, IN_A_LAYER, Kind, Place
from convkit.verify.equivalence.faults_of_images import OF_IMAGES
from convkit.verify.equivalence.faults_of_texts import HEADS_OF_TEXTS, TABLES_OF_TEXTS
from convkit.verify.equivalence.lanes import Lane, Models
from convkit.verify.equivalence.noise import BASE
from convkit.verify.equivalence.probe import positions_of
from convkit.verify.equivalence.record import Record
from convkit.verify.equivalence.walk import Choices, Walk

Inputs = Mapping[str, Tensor]


class InMemory(OnDemand):
    """The tensors of a dict as a checkpoint would give them: anew at each access."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key].clone()

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __contains__(self, key: object) -> bool:
        return key in self.tensors

    def shape(self, key: str) -> tuple[int, ...]:
        """See :meth:`OnDemand.shape`."""
        return tuple(self.tensors[key].shape)


def edited(oracle: Oracle, changes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a model with these roles' parts replaced."""
    return {**oracle.tensors, **{key: make() for key, make in oracle.edits(changes).items()}}


def apart(one: Trace, other: Trace) -> float:
    """How far two runs are apart: infinitely, if they don't show the same."""
    shown = [{**trace.states, **trace.outputs} for trace in (one, other)]
    gaps: dict[str, Gap] = {}
    measure(gaps, *shown)
    assert gaps
    return max(gap.relative for gap in gaps.values()) if shown[0].keys() == shown[1].keys() else float("inf")


def compared(source: Oracle, target: Oracle, inputs: Inputs, choices: Choices | None = None) -> Record:
    """What a walk of two models in memory finds."""
    ours, theirs = StageTensors(InMemory(source.tensors)), StageTensors(InMemory(target.tensors))
    lanes = {
        "source": Lane(source.rebuilt(tensors=ours), ours, [inputs]),
        "target": Lane(target.rebuilt(tensors=theirs), theirs, [inputs]),
    }
    rebased = source.rebased(1 + BASE)
    noisy = Lane(source.rebuilt(rebased, ours), ours, [inputs]) if rebased else lanes["source"]
    record = Record()
    walk = Walk(Models(lanes, noisy, [positions_of(source.facts, inputs)]), [inputs], choices or Choices(), record)
    assert [*walk.run()] == [*source.stages]
    return record


class Logged(InMemory):
    """Tensors that note which of them are read."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors)
        self.read = set[tuple[str, int | None]]()

    def __getitem__(self, key: str) -> Tensor:
        self.read.add((key, None))
        return self.tensors[key]

    def part(self, key: str, window: Window) -> Tensor:
        """See :meth:`OnDemand.part`."""
        assert isinstance(window, Slice) and window.axis == 0 and window.length == 1
        self.read.add((key, window.start))
        return self.tensors[key][window.start : window.stop]


def walked(oracle: Oracle, inputs: Inputs) -> Iterator[tuple[str, State, Trace]]:
    """Each stage: its name, what enters it, and what it leaves in a trace of its own."""
    state = oracle.begin(inputs)
    for name in oracle.stages:
        trace = Trace()
        after = oracle.stage(name, state, trace)
        yield name, state, trace
        state = after


def check_stages(oracle: Oracle, inputs: Inputs, roles: Iterable[str]) -> set[str]:
    """All checks of an oracle's stages, with a fault in each of these roles; returns the faults that were planted."""
    check_that_stages_are_the_run(oracle, inputs)
    check_that_roles_are_read_where_said(oracle, inputs)
    for role in roles:
        check_that_a_fault_shows_in_its_stage(oracle, inputs, role)
    check_that_wrong_configs_show_where_said(oracle, inputs)
    return check_that_faults_show_in_their_stage(oracle, inputs)


def check_that_stages_are_the_run(oracle: Oracle, inputs: Inputs) -> None:
    """One stage after another leaves what the run leaves, bit by bit."""
    whole, together = oracle.run(inputs), Trace()
    for _, _, trace in walked(oracle, inputs):
        together.states |= trace.states
        together.outputs |= trace.outputs
    assert list(whole.states) == list(together.states) and list(whole.outputs) == list(together.outputs)
    assert apart(whole, together) == 0


def check_that_roles_are_read_where_said(oracle: Oracle, inputs: Inputs) -> None:
    """``stage_of`` names the first stage that reads a role; a tied head's is the last one all the same."""
    logged = Logged(oracle.tensors)
    reading = oracle.rebuilt(tensors=logged)
    first: dict[tuple[str, int | None], str] = {}
    state = reading.begin(inputs)
    for name in reading.stages:
        logged.read.clear()
        state = reading.stage(name, state, Trace())
        first = dict.fromkeys(logged.read, name) | first
    for role, part in reading.roles.items():
        read = part.key, part.at[0] if isinstance(part, Cut) and part.at else None
        assert reading.stage_of(role) == ("head" if role.startswith("head.") else first[read]), role


def check_that_a_fault_shows_in_its_stage(oracle: Oracle, inputs: Inputs, role: str) -> None:
    """Fed with what enters the sound stage, only the stage with the fault gives something else."""
    faulty = oracle.rebuilt(tensors=edited(oracle, {role: oracle.part(role) * 1.01}))
    wrong = _stages_that_differ(faulty, [*walked(oracle, inputs)], inputs)
    assert wrong == {oracle.stage_of(role)}


def check_that_faults_show_in_their_stage(oracle: Oracle, inputs: Inputs) -> set[str]:
    """Planted before, after and in the first layer of each stack, each is seen there, and else where its leaves are
    read too; returns which were planted.
    """
    sound, planted = [*walked(oracle, inputs)], set[str]()
    first = {stage.partition(".layers.")[0]: stage for stage in reversed(oracle.layer_stages)}
    places: list[tuple[str, int | None, tuple[Kind, ...]]]
    places = [(stage, oracle.layer_stages.index(stage), IN_A_LAYER) for stage in first.values()]
    before, after = (*BEFORE_THE_LAYERS, *OF_IMAGES, *TABLES_OF_TEXTS), (*AFTER_THE_LAYERS, *HEADS_OF_TEXTS)
    places += [(stage, None, before) for stage in oracle.stages if stage.endswith("embedding")]
    places += [(oracle.stages[-1], None, after)]
    heads = frozenset(role.split(".")[1] for role in oracle.roles if role.startswith("head."))
    for stage, layer, kinds in places:
        place = Place(oracle, stage, layer, heads=heads)
        for kind in (kind for kind in kinds if kind.alters(place)):
            changes = {role: made() if callable(made) else made for role, made in kind.changes(place).items()}
            seen = _stages_that_differ(oracle.rebuilt(tensors=edited(oracle, changes)), sound, inputs)
            assert stage in seen, f"{kind.name} in {stage}"
            shared = not all(role.startswith("layers.") for role in changes)
            assert shared or seen == {stage}, f"{kind.name} in {seen}"
            planted.add(kind.name)
    return planted


def _stages_that_differ(faulty: Oracle, sound: Sequence[tuple[str, State, Trace]], inputs: Inputs) -> set[str]:
    """The stages that give something else, fed with what enters the sound ones."""
    own, wrong = faulty.begin(inputs), set()
    for name, entered, trace in sound:
        fed = Trace()
        faulty.stage(name, own.fed(entered), fed)
        if (trace.states or trace.outputs) and apart(trace, fed) > 0:
            wrong.add(name)
    return wrong


def check_that_wrong_configs_show_where_said(oracle: Oracle, inputs: Inputs) -> None:
    """Fed with what enters the sound stages, a wrong config gives something else in stages that it names only."""
    sound = [*walked(oracle, inputs)]
    for fault, config in oracle.wrong_configs().items():
        try:
            faulty = oracle.rebuilt(config)
        except ConvkitError:  # which shows it, too
            continue
        wrong = _stages_that_differ(faulty, sound, inputs)
        assert wrong and wrong <= oracle.shown_in(fault), fault
