"""The page: complete without a network, true to its documents, and made from however little of a campaign."""

from __future__ import annotations

import base64
import doctest
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from socket import gethostname
from typing import Any, ClassVar

import pytest
import sample_campaign as sample

from convkit.checkpoint.digests import digest_value
from convkit.cli import main
from convkit.cli.check import show
from convkit.errors import ConvkitError, UsageError
from convkit.files.maker import called_as
from convkit.generate import generate
from convkit.report import build_report, measures, page, plots, text
from convkit.report.campaign import Conversion, read_campaign
from convkit.report.checks import checks_asked_for
from convkit.report.identity import family_of
from convkit.report.summary import format_table, summarize
from convkit.verify.judged import Check
from convkit.verify.verdict import Fault, Stage
from convkit.version import commit

VOID = {"meta", "line", "circle", "rect", "path", "br", "input"}


class Page(HTMLParser):
    """Collects what a page refers to, and insists that its elements nest."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.text = ""
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.links += [value for name, value in named.items() if name in ("src", "href", "xlink:href") and value]
        if named.get("id"):
            self.ids.add(str(named["id"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    return sample.write_campaign(tmp_path / "results")


def summary(directory: Path) -> dict:
    build_report(directory)
    return json.loads((directory / "summary.json").read_text())


def test_doctests():
    for module in (text, plots, measures):
        result = doctest.testmod(module)
        assert result.attempted and not result.failed


def test_page_is_whole_without_a_network(campaign: Path):
    source = build_report(campaign).read_text()
    page = Page(source)
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert "@import" not in source
    assert source.count("<script") == 1
    assert "url(" not in source and " style=" not in source
    assert len(source) < 300_000


def test_page_tells_each_row(campaign: Path):
    page = Page(build_report(campaign).read_text())
    assert {"good", "blunt", "wrong", "refused"} <= page.ids
    assert "1 of 4 conversions proved" in page.text
    assert "equivalence: planted fault missed: cast to bfloat16" in page.text
    assert "model.norm.weight: 3 of 60 elements differ" in page.text
    assert "no rule takes this leaf (drop it by name: --drop)" in page.text
    assert "the models first differ at layers.0.attention, fed by model.proj_q.weight" in page.text
    assert "(h two r) … -> (h r two) …" in page.text
    assert all(name in page.text for name in sample.FAULTS)


def test_verdicts(campaign: Path):
    found = summary(campaign)
    assert not found["passed"]
    assert {row["id"]: row["verdict"] for row in found["rows"]} == {
        "good": "yes",
        "blunt": "not shown",
        "wrong": "no",
        "refused": "stopped",
    }
    refused = found["rows"][-1]
    assert refused["stopped_at"] == "plan"
    assert refused["to"] == "cerebras/llama"


def test_table(campaign: Path):
    lines = format_table(summarize(read_campaign(campaign))).splitlines()
    assert lines[0].startswith("checkpoint")
    good, blunt, wrong = lines[2:5]
    assert "proved" in good
    assert "4.1e-07 ≤ 5.0e-06" in good
    assert "14 of 14" in good
    assert "13 of 14" in blunt
    assert "NOT SHOWN" in blunt and "not shown" in blunt and "≤" not in blunt
    assert "NOT PROVED" in wrong
    assert "0.033 > 5.0e-06" in wrong
    assert lines[-1] == "1 of 4 conversions proved"


def test_a_row_that_is_not_shown_looks_like_neither_yes_nor_no(campaign: Path):
    source = build_report(campaign).read_text()
    assert '<h2>blunt <span class="chip not-shown">not shown</span></h2>' in source
    assert '<h4>Equivalence <span class="chip not-shown">not shown</span></h4>' in source
    assert '<span class="verdict not-shown">not shown, 4.1e-07 ≤ 5.0e-06</span>' in source


class TestAtAGlance:
    """Whoever opens the page sees first what needs a look."""

    @staticmethod
    def lines(source: str) -> list[tuple[str, str]]:
        """The verdicts and ids of the table's lines, from the top."""
        cells = (
            r'<td data-label="Verdict"><span class="chip [^"]*">([^<]+)</span></td>',
            r'<th scope="row"><a[^>]*>([^<]+)<',
        )
        return re.findall(r"<tr>\s*" + r"\s*".join(cells), source)

    def test_what_is_not_proved_is_on_top(self, campaign: Path):
        table = campaign / "checkpoints.tsv"
        table.write_text(table.read_text() + "nearly\tx\t\t\thf/llama\t\t\ngone\tx\t\t\thf/llama\t\t\n")
        sample.write_row(campaign / "nearly", stages=sample.deviating_stages())
        sample.write_row(campaign / "gone", stages=sample.all_stages())
        (campaign / "gone" / "target.mdl").unlink()
        source = build_report(campaign).read_text()
        assert self.lines(source) == [
            ("not proved", "wrong"),
            ("stale", "gone"),
            ("stopped", "refused"),
            ("not shown", "blunt"),
            ("proved, with a deviation", "nearly"),
            ("proved", "good"),
        ]
        sections = re.findall(r'<section class="conversion" id="([^"]+)"', source)
        assert sections == [name for _, name in self.lines(source)]

    def test_what_it_can_be_filtered_by(self, campaign: Path):
        source = build_report(campaign).read_text()
        options = re.findall(r'<option value="([^"]*)">([^<]+)<', source)
        assert ("any but proved", "any except proved") in options and ("no", "not proved (1)") in options
        assert ("llama", "llama (4)") in options
        assert re.findall(r'data-verdict="([^"]+)" data-family="([^"]+)"', source) == [
            (verdict, "llama") for verdict in ("no", "stopped", "not shown", "yes")
        ]

    def test_the_page_says_who_made_it(self, campaign: Path):
        with called_as(["convkit", "report", "<b>"]):
            source = build_report(campaign).read_text()
        assert f"<code>{commit()}</code>" in source and gethostname() in source
        assert "convkit report &#39;&lt;b&gt;&#39;" in source

    def test_a_large_campaign_shows_only_the_worst_whole(self, campaign: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(page, "MOST_WHOLE", 2)
        source = build_report(campaign).read_text()
        whole, brief = source.partition('id="blunt"')[::2]
        assert "shows only the first sections whole" in brief and "shows only" not in whole
        assert "convkit report blunt" in brief and "Every source leaf" not in brief
        assert "blunt/target.mdl" in brief and "planted fault missed" in brief
        assert len(self.lines(source)) == 4 and Page(source).ids >= {"good", "blunt", "wrong", "refused"}

    def test_only_its_own_style_and_script_may_run(self, campaign: Path):
        source = build_report(campaign).read_text()
        (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', source)
        assert "default-src 'none'" in policy and "unsafe" not in policy
        for tag in ("style", "script"):
            (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", source, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            assert f"{tag}-src &#39;sha256-{digest}&#39;" in policy or f"{tag}-src 'sha256-{digest}'" in policy

    @pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
    def test_its_colours_have_contrast(self, scheme: int):
        """WCAG 2.2, AA: 4.5 for text, 3 for marks."""
        css = (files("convkit.report") / "templates" / "report.css").read_text()
        colours = [
            dict(re.findall(r"--(\w+): (#\w+);", root)) for root in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
        ]
        found = colours[0] | colours[scheme]
        texts, marks = ("ink", "muted", "good", "bad", "hold"), ("self", "fault")
        for paper, (names, least) in itertools.product(("paper", "card"), ((texts, 4.5), (marks, 3))):
            assert min(contrast(found[name], found[paper]) for name in names) >= least


def contrast(one: str, other: str) -> float:
    """The ratio of two colours' luminances, as WCAG defines it."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        values = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


class TestACheckLeftOut:
    """What the column ``checks`` leaves out isn't proved, whatever an earlier run has left in the folder."""

    @staticmethod
    def write(folder: Path, checks: str, **stages: dict[str, Any]) -> Path:
        sample.write_row(folder / "some", stages=sample.all_stages(**stages))
        (folder / "checkpoints.tsv").write_text(f"id\tsource\tto\tchecks\nsome\tx\tcerebras/llama\t{checks}\n")
        return folder

    @pytest.mark.parametrize(
        ("checks", "left_out"),
        [
            ("", []),
            ("equivalence:faults=all,roundtrip", []),
            ("roundtrip", ["equivalence"]),
            ("equivalence:stages=layers.0:layers.2", ["roundtrip"]),
            ("none", ["roundtrip", "equivalence"]),
        ],
    )
    def test_it_is_not_proved(self, tmp_path: Path, checks: str, left_out: list[str]):
        found = summary(self.write(tmp_path, checks))
        row = found["rows"][0]
        assert found["passed"] == (not left_out)
        assert row["verdict"] == ("left out" if left_out else "yes")
        assert row["left_out"] == left_out
        assert [check for check in ("roundtrip", "equivalence") if row[check] is None] == left_out
        table = format_table(summarize(read_campaign(tmp_path)))
        assert table.count("left out  ") == len(left_out)
        assert ("NOT PROVED" in table) == bool(left_out)
        assert table.endswith("0 of 1 conversion proved" if left_out else "1 of 1 conversion proved")

    def test_the_page_says_so(self, tmp_path: Path):
        source = build_report(self.write(tmp_path, "roundtrip")).read_text()
        page = Page(source)
        assert '<h2>some <span class="chip left-out">not proved</span></h2>' in source
        assert source.count('<span class="verdict left-out">left out</span>') == 1
        assert "equivalence: not proved, left out by the column checks" in page.text
        assert "4.1e-07" not in page.text

    def test_a_check_that_says_no_still_says_no(self, tmp_path: Path):
        row = summary(self.write(tmp_path, "roundtrip", roundtrip=sample.roundtrip(False)))["rows"][0]
        assert row["verdict"] == "no"
        assert row["left_out"] == ["equivalence"]

    @pytest.mark.parametrize(("checks", "stage"), [("roundtrip", "roundtrip"), ("none", "convert")])
    def test_what_was_asked_has_to_be_done(self, tmp_path: Path, checks: str, stage: str):
        self.write(tmp_path, checks)
        (tmp_path / "some" / f"{stage}.json").unlink()
        row = summary(tmp_path)["rows"][0]
        assert (row["verdict"], row["stopped_at"]) == ("stopped", stage)

    def test_a_word_that_is_not_known_names_the_table_and_the_row(self, tmp_path: Path):
        with pytest.raises(ConvkitError, match=r"checkpoints\.tsv: row some, column checks: 'round' names no check"):
            summary(self.write(tmp_path, "round"))


@pytest.mark.parametrize(
    ("cell", "asked"),
    [
        (" ", {"roundtrip": {}, "equivalence": {}}),
        (" none ", {}),
        ("equivalence, roundtrip", {"roundtrip": {}, "equivalence": {}}),
        ("equivalence:stages=a:b,equivalence:x==", {"equivalence": {"stages": "a:b", "x": "="}}),
        ("roundtrip,", "'' names no check"),
        ("equivalence:", "'equivalence:' gives no option"),
        ("equivalence:faults=", "'equivalence:faults=' gives no option"),
        ("roundtrip,roundtrip", "'roundtrip' is there twice"),
        ("equivalence:faults=all,equivalence:faults=none", "'equivalence:faults' is there twice"),
        ("roundtrip,none", "'none' beside other words"),
    ],
)
def test_the_cell_of_checks(cell: str, asked: dict[str, dict[str, str]] | str):
    if isinstance(asked, dict):
        assert checks_asked_for(cell) == asked
    else:
        with pytest.raises(UsageError, match=f"^{asked}"):
            checks_asked_for(cell)


class TestADeviation:
    """The state is yes, and nobody can miss what it holds under."""

    @pytest.fixture
    def nearly(self, tmp_path: Path) -> Path:
        sample.write_row(tmp_path / "nearly", stages=sample.deviating_stages())
        sample.write_row(tmp_path / "plain", stages=sample.all_stages())
        return tmp_path

    def test_the_summary_counts_it(self, nearly: Path):
        found = summary(nearly)
        assert (found["passed"], found["proved_with_deviations"]) == (True, 1)
        row, plain = found["rows"]
        assert row["verdict"] == "yes" and row["deviations"] == [sample.DEVIATION | {"max_rel": 3.2e-4}]
        assert plain["deviations"] == []

    def test_the_table(self, nearly: Path):
        lines = format_table(summarize(read_campaign(nearly))).splitlines()
        assert "proved, with a deviation" in lines[2] and "with a deviation" not in lines[3]
        assert lines[-2] == (
            "nearly: deviation: the source's hidden_act is 'gelu_new', and the target takes it as 'gelu': "
            "the gate has no other curve (by itself 3.2e-04)"
        )
        assert lines[-1] == "2 of 2 conversions proved, 1 of them with a deviation"

    def test_the_page(self, nearly: Path):
        source = build_report(nearly).read_text()
        page = Page(source)
        assert "2 of 2 conversions proved, 1 of them with a deviation" in page.text
        assert '<span class="verdict yes deviating">yes, with a deviation, 4.1e-07 ≤ 5.0e-06</span>' in source
        assert '<h2>nearly <span class="chip yes deviating">proved, with a deviation</span></h2>' in source
        assert '<h2>plain <span class="chip yes">proved</span></h2>' in source
        assert source.count('<h4>Equivalence <span class="chip yes deviating">yes, with a deviation</span></h4>') == 1
        assert page.text.count("the gate has no other curve") == 2 and "3.2e-04" in page.text
        assert "model_flavour" in page.text

    def test_a_row_without_its_check_shows_what_the_plan_declares(self, tmp_path: Path):
        stages = sample.deviating_stages()
        sample.write_row(tmp_path / "row", stages={stage: stages[stage] for stage in ("plan", "convert")})
        lines = format_table(summarize(read_campaign(tmp_path))).splitlines()
        assert "STOPPED" in lines[2] and "with a deviation" not in lines[2]
        assert lines[-2].endswith("(its own size wasn't measured)")
        assert lines[-1] == "0 of 1 conversion proved"

    def test_a_malformed_one_is_one_clear_error(self, tmp_path: Path):
        stages = sample.deviating_stages()
        stages["plan"]["deviations"] = [{"field": 3}]
        sample.write_row(tmp_path / "row", stages=stages)
        with pytest.raises(ConvkitError, match="deviations"):
            build_report(tmp_path)


@pytest.mark.parametrize("missed, verdict", [("", "yes"), ("cast to bfloat16", "not shown")])
def test_verdicts_of_version_1_have_no_state(tmp_path: Path, missed: str, verdict: str):
    """They passed although they missed a fault; that counts as not shown."""
    old = sample.equivalence(missed=missed) | {"schema": "convkit.verdict/1", "passed": True, "problems": []}
    del old["state"]
    sample.write_row(tmp_path / "row", stages=sample.all_stages(equivalence=old))
    found = summary(tmp_path)
    assert (found["passed"], found["rows"][0]["verdict"]) == (not missed, verdict)
    assert found["rows"][0]["problem"] == (f"equivalence: planted fault missed: {missed}" if missed else None)


class TestStages:
    """Whoever opens the page sees at once where two models part."""

    WRONG: ClassVar = {"layers.3": {"max_rel": 3.1e-2}, "layers.4": {"max_rel": None}}

    def report(self, folder: Path, **found: Any) -> Path:
        sample.write_row(folder / "row", stages=sample.all_stages(equivalence=sample.walked(**found)))
        return folder

    def page(self, folder: Path, **found: Any) -> tuple[str, str]:
        source = build_report(self.report(folder, **found)).read_text()
        return source, " ".join(Page(source).text.split())

    def row(self, folder: Path, **found: Any) -> dict[str, Any]:
        return summary(self.report(folder, **found))["rows"][0]

    def test_all_within_their_bounds(self, tmp_path: Path):
        source, shown = self.page(tmp_path)
        assert "8 stages are within the bound; nearest to it is layers.3: 2.5e-07 ≤ 5.0e-06." in shown
        plot = source.partition('<figure class="curve staged"')[2].partition("</figure>")[0]
        assert plot.count('<circle class="self"') == 8 + 1 and plot.count('<circle class="caught"') == 16 + 1
        assert all(f'<path class="{kind}"' in plot for kind in ("path", "free", "noise", "bound"))
        assert "parting" not in plot
        assert "layers.3: 2.5e-07 ≤ 5.0e-06" in plot and "q and k swapped, in embedding: 6.2e+04 × bound" in plot

    def test_the_first_that_is_beyond_its_bound_is_named(self, tmp_path: Path):
        source, shown = self.page(tmp_path, wrong=self.WRONG, state="no", passed=False)
        assert "The models part at layers.3: 0.031 > 5.0e-06; they differ at 1 more stage." in shown
        assert '<text class="caption middle" x="56.25%" y="0">layers.3</text>' in source
        assert source.count('<tr class="beyond">') == 2
        found = self.row(tmp_path, wrong=self.WRONG, state="no", passed=False)["equivalence"]["nearest"]
        assert found == {"stage": "layers.3", "max_rel": 3.1e-2, "bound": 5e-6, "parts": True}
        assert "0.031 > 5.0e-06 at layers.3" in format_table(summarize(read_campaign(tmp_path)))

    def test_what_is_not_finite_has_no_dot(self, tmp_path: Path):
        wrong = {"layers.4": dict.fromkeys(("max_rel", "noise", "free_max_rel"))}
        source, shown = self.page(tmp_path, wrong=wrong, state="no", passed=False)
        plot = source.partition('<figure class="curve staged"')[2].partition("</figure>")[0]
        assert plot.count('<circle class="self"') == 7 + 1
        (errors,) = re.findall(r'<path class="path" d="([^"]+)"', plot)
        assert errors.count("M") == 2 and errors.count("L") == 5
        assert "The models part at layers.4: not finite." in shown
        assert "not finite at layers.4" in format_table(summarize(read_campaign(tmp_path)))

    def test_an_error_of_0_lies_apart_from_all_decades(self, tmp_path: Path):
        source, _ = self.page(tmp_path, wrong={"embedding": {"max_rel": 0.0, "free_max_rel": 0.0}})
        plot = source.partition('<figure class="curve staged"')[2].partition("</figure>")[0]
        assert re.findall(r'y="([\d.]+)%" dy="4">([^<]+)<', plot)[:2] == [("100.0", "0"), ("72.99", "10⁻⁶")]
        assert '<circle class="self" cx="6.25%" cy="100.0%" r="4"><title>embedding: 0 ≤ 5.0e-06</title>' in plot

    def test_a_fault_counts_against_the_bound_of_its_stage(self, tmp_path: Path):
        wide = {"layers.1": {"bound": 1e-2}}
        faults = [
            {"name": "epsilon", "caught": False, "measured": {"max_rel": 5e-3}, "stage": "layers.1"},
            {"name": "heads", "caught": True, "measured": {"max_rel": 5e-3, "bound": 1e-3}, "stage": "layers.1"},
            {"name": "norms", "caught": True, "measured": {"max_rel": None}, "stage": "layers.1"},
            {
                "name": "rotary",
                "caught": True,
                "measured": {"max_rel": 5e-3, "amplified_max_rel": 5e-2, "amplified_bound": 1e-2},
                "stage": "layers.1",
            },
            {"name": "heads 7", "caught": True, "measured": {}, "stage": "layers.1"},
        ]
        source, shown = self.page(tmp_path, wrong=wide, faults=faults)
        assert "epsilon, in layers.1: 0.5 × bound" in source and "epsilon, in layers.1: MISSED" in shown
        assert "heads, in layers.1: 5 × bound" in source
        assert "norms, in layers.1: not finite" in shown and "norms, in layers.1:" not in source.partition("<ul")[0]
        assert "rotary, in layers.1: 5 × bound" in source and "heads 7, in layers.1: not measured" in shown
        assert "4 of 5" in shown and "missed: epsilon" in shown

    @pytest.mark.parametrize("measured", [{"max_rel": None, "bound": None}, {}])
    def test_what_is_wrong_in_another_way_than_by_its_error(self, tmp_path: Path, measured: dict[str, Any]):
        wrong = {"head": {**measured, "problems": ["lm: shapes [1, 9] and [1, 8]"]}}
        _, shown = self.page(tmp_path, wrong=wrong, state="no", passed=False)
        assert "The models part at head: lm: shapes [1, 9] and [1, 8]." in shown and "not finite" not in shown
        table = format_table(summarize(read_campaign(tmp_path)))
        assert "≤" not in table and "  NO  " in table

    def test_stronger_weights(self, tmp_path: Path):
        wrong = {"head": {"amplified_max_rel": 3e-4, "amplified_bound": 1e-5}}
        _, shown = self.page(tmp_path, wrong=wrong, state="no", passed=False)
        assert "The models part at head: 3.0e-04 > 1.0e-05." in shown
        assert "with stronger weights: 3.0e-04, bound 1.0e-05" in shown

    def test_hundreds_of_layers_stay_readable(self, tmp_path: Path):
        wrong = {f"layers.{i}": {"max_rel": 1e-3} for i in range(80, 120)}
        source, shown = self.page(tmp_path, layers=300, wrong=wrong, state="no", passed=False)
        assert "The models part at layers.80" in shown and "they differ at 39 more stages" in shown
        assert "Every stage 302" in shown and "and 26 more, in the table of all stages" in shown
        first, every = (part.partition("</table>")[0] for part in source.split('<table class="plain staged">')[1:])
        assert first.count('<tr class="beyond">') == 14 and every.count("<tr") == 302 + 1
        labels = source.partition('class="curve staged dense"')[2].partition("<figcaption")[0]
        assert len(re.findall(r'<text x="[\d.]+%" y="13"', labels)) <= 13
        assert len(source) < 500_000

    def test_a_part_of_the_model(self, tmp_path: Path):
        reason = "only the stages embedding:layers.1 were compared (leave out --stages to compare all)"
        found = {"covered": "embedding:layers.1", "state": "not shown", "passed": False, "problems": [reason]}
        source, shown = self.page(tmp_path, layers=2, **found)
        assert "Only the stages embedding:layers.1 were compared. Nothing is shown of the others." in shown
        assert f"equivalence: {reason}" in shown and '<span class="chip not-shown">not shown</span>' in source

    def test_what_was_not_shown_is_neither_wrong_nor_right(self, tmp_path: Path):
        wrong = {"layers.2": {"max_rel": None, "bound": None, "unshown": "no token chose expert 3"}}
        source, shown = self.page(tmp_path, wrong=wrong, state="not shown", passed=False, faults=[])
        assert "7 stages are within the bound" in shown and "not shown: no token chose expert 3" in shown
        assert '<tr class="unshown">' in source and '<tr class="beyond">' not in source
        assert "not finite" not in shown

    def test_a_reference_in_doubt_is_not_proved(self, tmp_path: Path):
        doubt = {"state": "reference in doubt", "passed": False, "problems": ["two oracles disagree at layers.1"]}
        found = self.row(tmp_path, **doubt)
        assert (found["verdict"], found["problem"]) == (
            "reference in doubt",
            "equivalence: two oracles disagree at layers.1",
        )
        table = format_table(summarize(read_campaign(tmp_path)))
        assert "REFERENCE IN DOUBT" in table and "≤" not in table and "0 of 1 conversion proved" in table
        source = build_report(tmp_path).read_text()
        assert '<h2>row <span class="chip reference-in-doubt">reference in doubt</span></h2>' in source

    def test_a_malformed_stage_is_one_clear_error(self, tmp_path: Path):
        with pytest.raises(ConvkitError, match=r"stages\[2\].noise"):
            self.page(tmp_path, wrong={"layers.1": {"noise": "little"}})


def test_a_verdict_on_the_terminal(capsys: pytest.CaptureFixture[str]):
    stages = [Stage(name="embedding", max_rel=1e-7, bound=5e-6), Stage(name="layers.0", max_rel=2e-3, bound=5e-6)]
    faults = [Fault("heads swapped", True, stage="embedding"), Fault("epsilon", False, stage="embedding")]
    figures = {"max_rel": float("nan"), "max_kl": 2e-9}
    show(
        Check("equivalence", "a", "b").judged((), faults, stages=stages, measured=figures, covered="embedding:layers.0")
    )
    assert capsys.readouterr().out.splitlines() == [
        "equivalence: NO: max_rel not finite, max_kl 2e-09",
        "stages: the models part at layers.0: 0.002 > 5.0e-06",
        "planted faults: caught 1 of 2; missed: epsilon, in embedding",
        "  layers.0: the error is 0.002, the bound is 5e-06",
        "  only the stages embedding:layers.0 were compared (leave out --stages to compare all)",
        "  planted fault missed: epsilon: in embedding (the check is at fault, not the checkpoint: report it)",
    ]


def test_bounds_are_told_in_words(tmp_path: Path):
    plan = sample.plan()
    plan["steps"][3]["exactness"] = {"ulp": 0.5, "dtype": "bfloat16"}
    sample.write_row(tmp_path / "row", stages=sample.all_stages(plan=plan, convert=sample.receipt(plan)))
    assert summary(tmp_path)["rows"][0]["exactness"] == "within 0.5 ulp of bfloat16"


def test_a_conversion_through_other_layouts_shows_the_rules_of_all_its_mappings(tmp_path: Path):
    first, second = sample.plan(), sample.plan()
    second["steps"] = [step | {"exactness": {"ulp": 0.5, "dtype": "bfloat16"}} for step in second["steps"][:1]]
    plan = sample.plan() | {"steps": [], "through": [first, second]}
    sample.write_row(tmp_path / "row", stages=sample.all_stages(plan=plan, convert=sample.receipt(plan)))
    assert summary(tmp_path)["rows"][0]["exactness"] == "within 0.5 ulp of bfloat16"
    assert "(h two r) … -> (h r two) …" in Page(build_report(tmp_path).read_text()).text


def test_a_fault_whose_error_is_not_finite_has_no_dot(tmp_path: Path):
    verdict = sample.equivalence()
    verdict["faults"].append({"name": "norms dropped", "caught": True, "measured": {}})
    sample.write_row(tmp_path / "row", stages=sample.all_stages(equivalence=verdict))
    source = build_report(tmp_path).read_text()
    assert "norms dropped: " not in source
    strip = source.partition("<span>norms dropped</span>")[2].partition("</div>")[0]
    assert "not finite" in strip and "<circle" not in strip


@pytest.mark.parametrize("stage", ["fetch", "plan", "convert"])
def test_what_an_earlier_run_left_does_not_count(tmp_path: Path, stage: str):
    sample.write_row(tmp_path / "row", stages=sample.all_stages(), log={stage: "convkit: no\n"})
    (tmp_path / "row" / f"{stage}.json").unlink()
    found = summary(tmp_path)["rows"][0]
    assert (found["verdict"], found["stopped_at"], found["problem"]) == ("stopped", stage, f"{stage}: convkit: no")
    source = (tmp_path / "report.html").read_text()
    assert f'<th scope="row">{stage}</th>' in source and '<th scope="row">equivalence</th>' not in source


@pytest.mark.parametrize(
    ("done", "begun", "source", "stopped"),
    [
        ([], {}, "hf://a/b", ("fetch", "fetch: not begun")),
        (["fetch"], {}, "hf://a/b", ("inspect", "inspect: not begun")),
        (["fetch", "plan"], {}, "hf://a/b", ("convert", "convert: not begun")),
        (["fetch", "inspect"], {"plan": ""}, "hf://a/b", ("plan", "plan: ended without a word")),
        (["fetch", "inspect", "plan", "convert"], {}, "hf://a/b", ("roundtrip", "roundtrip: not begun")),
        (["fetch", "inspect", "plan", "convert", "roundtrip"], {}, "x", ("equivalence", "equivalence: not begun")),
        ([], {}, "row:first", ("inspect", "inspect: not begun")),
        (["fetch"], {"inspect": "", "plan": "convkit: interrupted"}, "x", ("inspect", "inspect: ended without a word")),
    ],
)
def test_after_an_interrupt_the_stage_is_named_that_really_stopped(
    tmp_path: Path, done: list[str], begun: dict[str, str], source: str, stopped: tuple[str, str]
):
    stages = sample.all_stages()
    sample.write_row(tmp_path / "first", stages=stages)
    sample.write_row(tmp_path / "row", stages={stage: stages[stage] for stage in done}, log=begun)
    (tmp_path / "checkpoints.tsv").write_text(f"id\tsource\tto\nfirst\tx\thf/llama\nrow\t{source}\thf/llama\n")
    row = summary(tmp_path)["rows"][1]
    assert (row["stopped_at"], row["problem"]) == stopped


@pytest.mark.parametrize("left", ["", '{"schema": "convkit.receipt/2", "plan": {'])
def test_what_an_interrupt_left_of_a_document_is_none(tmp_path: Path, left: str):
    stages = sample.all_stages()
    done = {stage: stages[stage] for stage in ("fetch", "inspect", "plan")}
    sample.write_row(tmp_path / "row", stages=done, log={"convert": "convkit: interrupted; the same command resumes"})
    (tmp_path / "row" / "convert.json").write_text(left)
    row = summary(tmp_path)["rows"][0]
    assert (row["stopped_at"], row["verdict"]) == ("convert", "stopped")
    assert row["problem"] == "convert: convkit: interrupted; the same command resumes"


class TestWhatARowIsAbout:
    def test_the_summary_names_it(self, tmp_path: Path):
        made = {
            "commit": "a" * 40,
            "host": "north",
            "command_line": "convkit convert a b",
            "digest": "sha256:" + "0" * 64,
        }
        stages = sample.all_stages()
        leaves = {"a": {"digest": "xxh3-128:00"}, "b": {"digest": "xxh3-128:01"}}
        convert = stages["convert"] | made
        convert |= {side: convert[side] | {"leaves": leaves} for side in ("source", "target")}
        for check in ("roundtrip", "equivalence"):
            stages[check]["receipt"] = made["digest"]
        sample.write_row(tmp_path / "row", stages=stages | {"convert": convert})
        (tmp_path / "row" / "target.mdl.convkit.json").write_text(json.dumps(convert))
        found = summary(tmp_path)
        row = found["rows"][0]
        assert (row["target"], row["release"], row["family"]) == ("row/target.mdl", "2.10", "llama")
        assert row["digests"]["source"] == row["digests"]["target"] == digest_value("sha256", leaves)
        assert row["digests"]["receipt"] == made["digest"] and row["digests"]["plan"] == "sha256:" + "5e" * 32
        assert row["digests"]["fetched"] == "sha256:" + "ab" * 32
        assert row["made_by"] == {
            "convkit": "0.1.0",
            "commit": "a" * 40,
            "host": "north",
            "command_line": "convkit convert a b",
            "started": "2026-11-22T08:00:00+00:00",
        }

    def test_the_report_itself_is_made_by_someone(self, campaign: Path):
        with called_as(["convkit", "report", "results"]):
            found = summary(campaign)
        assert (found["commit"], found["host"]) == (commit(), gethostname())
        assert found["command_line"] == "convkit report results" and found["made"] > "2026"

    def test_what_older_receipts_do_not_say_is_null(self, campaign: Path):
        good, *_, refused = summary(campaign)["rows"]
        assert good["made_by"]["commit"] is None and good["digests"]["target"] is None
        assert refused["made_by"] is None and refused["target"] is None

    @pytest.mark.parametrize(
        ("claim", "plan", "family"),
        [
            ({}, {"source": {"layout": "pax/lm"}, "target": {"layout": "te/pax"}}, "lm"),
            ({}, {"source": {"format": "orbax-v0"}, "target": {"format": "orbax-v1"}}, "orbax"),
            ({"to": "cerebras/gpt2"}, {}, "gpt2"),
            ({"to": "fix-checkpoint-spec"}, {}, "unknown"),
        ],
    )
    def test_its_family(self, claim: dict[str, str], plan: dict[str, Any], family: str):
        assert family_of(Conversion("row", claim=claim, documents={"plan": plan})) == family


def test_a_row_without_its_source_does_not_count(campaign: Path):
    table = campaign / "checkpoints.tsv"
    sample.write_row(campaign / "back", stages=sample.all_stages())
    table.write_text(table.read_text() + "back\trow:refused\t\t\thf/llama\t\t\n")
    assert summary(campaign)["rows"][-1]["problem"] == "fetch: row refused has no output"


def test_rows_keep_the_order_of_the_table(campaign: Path):
    assert [row["id"] for row in summary(campaign)["rows"]] == ["good", "blunt", "wrong", "refused"]


def test_one_conversion(tmp_path: Path):
    documents = sample.all_stages()
    for name in ("convert", "roundtrip", "equivalence"):
        (tmp_path / f"any {name}.json").write_text(json.dumps(documents[name]))
    sample.write_target(tmp_path, documents["convert"])
    found = summary(tmp_path)
    assert found["passed"]
    assert [row["id"] for row in found["rows"]] == [tmp_path.name]
    assert found["rows"][0]["seconds"] == pytest.approx(0.31 + 0.2 + 3.2)


@pytest.mark.parametrize("count", range(1, 7))
def test_any_part_of_a_conversion_makes_a_page(tmp_path: Path, count: int):
    documents = sample.all_stages()
    for i, kept in enumerate(itertools.combinations(documents, count)):
        sample.write_row(tmp_path / f"row{i}", stages={name: documents[name] for name in kept})
    assert "–" not in Page(build_report(tmp_path).read_text()).text, "words say why something isn't there"


def test_documents_without_their_optional_parts_make_a_page(tmp_path: Path):
    verdict = {"schema": "convkit.verdict/1", "check": "equivalence", "passed": True}
    sample.write_row(
        tmp_path / "bare",
        stages={
            "plan": {"schema": "convkit.plan/1"},
            "convert": {"schema": "convkit.receipt/1"},
            "equivalence": verdict,
        },
    )
    assert summary(tmp_path)["rows"][0]["verdict"] == "stopped"


def test_text_from_documents_is_never_markup(tmp_path: Path):
    sample.write_hostile(tmp_path)
    source = build_report(tmp_path).read_text()
    assert source.count("<script") == 1 and "<img" not in source and "<b>" not in source
    assert source.count("alert(1)") > 5
    assert "\u202e" not in source and "\\u202etxt" in source, "marks of direction are shown, not obeyed"
    Page(source)


def test_a_name_that_is_not_unicode(tmp_path: Path):
    sample.write_row(tmp_path / os.fsdecode(b"\xff"), stages=sample.all_stages())
    assert summary(tmp_path)["rows"][0]["verdict"] == "yes"
    assert r"\udcff" in (tmp_path / "report.html").read_text()


def test_a_repair(tmp_path: Path):
    """Its record alone makes a page, which says what was repaired and why."""
    generate("generated://cerebras-old?release=1.7&layers=1", tmp_path / "old")
    fixed = tmp_path / "made" / "new.mdl"
    repair = ["cerebras", "fix-checkpoint-spec", str(tmp_path / "old"), "--fixed_checkpoint_path", str(fixed)]
    assert main(repair) == 0
    page = Page(build_report(fixed.parent).read_text())
    assert "TensorScalarDict" in page.text
    assert "no release after 1.7 has that class" in page.text
    assert "global_step is 15, and it begins at 10" in page.text


def test_nothing_to_report_on(tmp_path: Path):
    with pytest.raises(ConvkitError, match="holds no receipt"):
        build_report(tmp_path)


def test_no_folder(tmp_path: Path):
    with pytest.raises(ConvkitError, match="none: is not a folder"):
        build_report(tmp_path / "none")


def test_needs_no_heavy_library():
    heavy = "{'torch', 'jax', 'matplotlib', 'pandas', 'numpy'}"
    code = f"import sys, convkit.report; assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
