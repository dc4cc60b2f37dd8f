"""The laws of generated families, and that of a whole conversion, for convkit's families and for other packages'.

A law takes the URI of a family with small sizes, and an empty folder; it raises AssertionError::

    @pytest.mark.parametrize("law", GENERATOR_LAWS, ids=lambda law: law.__name__)
    def test_my_family(law, tmp_path):
        law("generated://mine", tmp_path)


    def test_my_conversion(tmp_path):
        check_proved("generated://mine?tied=true", "hf/llama", tmp_path)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from convkit.checkpoint.digests import digest_file
from convkit.execute import convert
from convkit.generate import Generator, generate, parse
from convkit.plan import make_plan, open_source
from convkit.plan.detect import detect_layout
from convkit.verify.equivalence.check import equivalence
from convkit.verify.roundtrip import roundtrip
from convkit.verify.verdict import Verdict

__all__ = ["GENERATOR_LAWS", "GeneratorLaw", "check_proved"]

GeneratorLaw = Callable[[str, Path], None]


def makes_the_same_bytes_again(uri: str, folder: Path) -> None:
    """The same options give the same bytes, another seed gives others."""
    first, again, other = (folder / name for name in ("first", "again", "other"))
    generate(uri, first)
    generate(uri, again)
    generate(f"{uri}{'&' if '?' in uri else '?'}seed=77", other)
    assert _bytes_of(first) == _bytes_of(again), f"{uri} isn't the same each time"
    assert _bytes_of(first) != _bytes_of(other), f"{uri}: the seed changes nothing"


def has_the_layout_that_it_names(uri: str, folder: Path) -> None:
    """What is made is recognised, and is of the layout that the family names, if it names one."""
    generate(uri, folder / "model")
    with open_source(folder / "model") as source:
        found, _ = detect_layout(source)
    family = parse(uri)
    named = family.layout if isinstance(family, Generator) else ""
    assert named in ("", found.name), f"{uri} is of {found.name}, and the family says {named}"


GENERATOR_LAWS: tuple[GeneratorLaw, ...] = (makes_the_same_bytes_again, has_the_layout_that_it_names)


def check_proved(uri: str, to: str, folder: Path) -> list[Verdict]:
    """Make a model, convert it there and back, and prove both: round trip and equivalence, with every fault caught.

    Args:
        uri: of the model, ``generated://...``.
        to: the layout to which it is converted; the way back is to its own.
        folder: an empty one.

    Returns:
        The four verdicts.

    Raises:
        AssertionError: a verdict isn't *yes*, or no fault was planted.
    """
    generate(uri, folder / "source")
    with open_source(folder / "source") as source:
        own = detect_layout(source)[0].name
    verdicts = []
    for here, there, layout in (("source", "there", to), ("there", "back", own)):
        with open_source(folder / here) as source:
            receipt = convert(source, make_plan(source, layout), folder / there, threads=1)
        sides = folder / here, folder / there
        verdicts += [roundtrip(*sides, receipt["plan"], receipt=receipt), equivalence(*sides, threads=1)]
    for verdict in verdicts:
        assert verdict.passed, f"{verdict.check} of {verdict.target}: {verdict.problems[0]}"
        assert verdict.faults, f"{verdict.check} of {verdict.target}: no fault was planted"
    return verdicts


def _bytes_of(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest_file("sha256", path) for path in files}
