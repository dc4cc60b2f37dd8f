"""The laws of oracles, for convkit's and for other packages'.

A law takes a layout, a small checkpoint of it with its config, and an empty folder, and raises AssertionError::

    @pytest.mark.parametrize("law", ORACLE_LAWS, ids=lambda law: law.__name__)
    def test_my_oracle(law, tmp_path):
        generate("generated://mine", tmp_path / "model")
        law("mine/decoder", tmp_path / "model", tmp_path)

The checkpoint's weights have to be strong enough that a fault shows: those of ``convkit.generate`` are.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from convkit.errors import ConvkitError
from convkit.oracles import get_oracle
from convkit.oracles.opening import open_model
from convkit.oracles.oracle import Oracle
from convkit.plugins import installed
from convkit.testing.reading import check_that_reading_is_enough
from convkit.testing.stages import (
    Inputs,
    check_that_a_fault_shows_in_its_stage,
    check_that_faults_show_in_their_stage,
    check_that_roles_are_read_where_said,
    check_that_stages_are_the_run,
    check_that_wrong_configs_show_where_said,
)
from convkit.verify.equivalence.check import equivalence
from convkit.verify.equivalence.probe import make_probe
from convkit.verify.equivalence.walk import Choices

__all__ = ["ORACLE_LAWS", "OracleLaw"]

OracleLaw = Callable[[str, Path, Path], None]

#: positions of the input of the laws that look into stages
LENGTH = 16
#: what an oracle, and what it imports, never imports
CONVERTING = ("mapping", "mappings", "config", "plan", "execute", "migrate")
_PACKAGE = "convkit."
_IMPORTED = "import importlib, json, sys; importlib.import_module(sys.argv[1]); print(json.dumps(sorted(sys.modules)))"


@contextmanager
def _opened(layout: str, checkpoint: Path) -> Iterator[tuple[Oracle, Inputs]]:
    """The model in memory, and an input."""
    with open_model(checkpoint, layout=layout) as opened:
        tensors = {key: opened.tensors[key].clone() for key in opened.tensors}
        oracle = opened.oracle.rebuilt(tensors=tensors)
        yield oracle, make_probe(oracle.facts, oracle.facts, length=LENGTH)


# --- the laws ----------------------------------------------------------------------------------------------


def shares_no_code_with_mappings(layout: str, checkpoint: Path, folder: Path) -> None:
    """A process that imports the oracle imports no mapping, and nothing that converts."""
    module = get_oracle(layout).__module__
    done = subprocess.run([sys.executable, "-c", _IMPORTED, module], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{module} can't be imported alone: {done.stderr.strip()}"
    found = set(json.loads(done.stdout.splitlines()[-1]))
    wrong = [_PACKAGE + room for room in CONVERTING] + [plugin.module for plugin in installed("mappings")]
    shared = [name for name in wrong if name in found]
    assert not shared, f"{module} imports {', '.join(shared)}: what judges a conversion shares no code with it"


def gives_every_tensor_a_role(layout: str, checkpoint: Path, folder: Path) -> None:
    """Every tensor of the checkpoint has a role; a further one is a problem, and a missing one is refused by name."""
    with _opened(layout, checkpoint) as (oracle, _):
        assert not oracle.problems, oracle.problems
        named = {part.key for part in oracle.roles.values()}
        unnamed = [key for key in oracle.tensors if key not in named and key not in oracle.twins]
        assert not unnamed, f"no role: {', '.join(unnamed)}"
        some = next(iter(oracle.tensors.values()))
        assert oracle.rebuilt(tensors={**oracle.tensors, "no.such.tensor": some}).problems, "a stranger isn't noticed"
        for key in sorted({oracle.roles[role].key for role in oracle.roles}):
            lacking = {name: tensor for name, tensor in oracle.tensors.items() if name not in (key, *oracle.twins)}
            try:
                problems = oracle.rebuilt(tensors=lacking).problems
            except ConvkitError as refusal:
                named_in = refusal.key is not None and key.endswith(refusal.key)  # without the prefix, it may be
                assert named_in, f"the refusal doesn't name {key}: {refusal}"
            else:
                assert problems, f"{key} is missing, and nothing says so"


def runs_a_stage_at_a_time(layout: str, checkpoint: Path, folder: Path) -> None:
    """Its stages, one after another, give what the run gives, and each reads the roles that are said to be its own."""
    with _opened(layout, checkpoint) as (oracle, inputs):
        check_that_stages_are_the_run(oracle, inputs)
        check_that_roles_are_read_where_said(oracle, inputs)


def reads_no_more_than_a_stage_needs(layout: str, checkpoint: Path, folder: Path) -> None:
    """Over a file, a stage reads its own tensors, rows of the embedding, slices of the head, and lets go of them."""
    with _opened(layout, checkpoint) as (oracle, inputs):
        check_that_reading_is_enough(oracle, inputs, folder)


def depends_on_every_role(layout: str, checkpoint: Path, folder: Path) -> None:
    """Whichever role is changed, the stage that reads it gives something else, and no other stage does."""
    with _opened(layout, checkpoint) as (oracle, inputs):
        parts = [*oracle.roles.values()]
        for role, part in oracle.roles.items():
            if parts.count(part) == 1:  # a tied head shows in two stages
                check_that_a_fault_shows_in_its_stage(oracle, inputs, role)


def shows_faults_where_they_are(layout: str, checkpoint: Path, folder: Path) -> None:
    """Every fault that can be planted, in tensors or in the config, shows in its stage: swapped queries and keys,
    rotary halves for pairs, another base. Of a rotary model, those of rotary positions are among them.
    """
    with _opened(layout, checkpoint) as (oracle, inputs):
        planted = check_that_faults_show_in_their_stage(oracle, inputs)
        check_that_wrong_configs_show_where_said(oracle, inputs)
        assert planted, "no fault could be planted"
        wrong = oracle.wrong_configs()
        assert not oracle.facts.base_matters or "wrong rotary base" in wrong, "no wrong rotary base among the faults"
        assert not oracle.facts.base_matters or oracle.rebased(2.0), "the noise of its rotary base can't be measured"


def equals_itself_with_no_fault_missed(layout: str, checkpoint: Path, folder: Path) -> None:
    """Compared with itself the verdict is *yes*, every fault planted in every layer being caught."""
    verdict = equivalence(
        checkpoint, checkpoint, from_layout=layout, to_layout=layout, threads=1, choices=Choices(faults="all")
    )
    assert verdict.passed, verdict.problems[0]
    assert verdict.faults, "no fault was planted"


ORACLE_LAWS: tuple[OracleLaw, ...] = (
    shares_no_code_with_mappings,
    gives_every_tensor_a_role,
    runs_a_stage_at_a_time,
    reads_no_more_than_a_stage_needs,
    depends_on_every_role,
    shows_faults_where_they_are,
    equals_itself_with_no_fault_missed,
)
