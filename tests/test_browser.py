"""The page in a real browser: it loads without an error, and its filter works.

Where there is no browser (:mod:`browsers`), these tests are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sample_campaign as sample
from browsers import launched
from campaigns import GOOD, WRONG, Campaign

from convkit.report import build_report

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with launched() as one:
        yield one


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a thousand rows of four families: 4 % of them aren't proved."""
    results = tmp_path_factory.mktemp("results")
    for number in range(1000):
        sample.write_row_of_many(results, number)
    return build_report(results)


class Opened:
    """A page in a tab of its own that has no network, and whatever it complained of."""

    def __init__(self, browser, path: Path, **settings) -> None:
        self.context = browser.new_context(offline=True, **settings)
        self.tab = self.context.new_page()
        self.complaints: list[str] = []
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.tab.on(
            "request", lambda request: self.complaints.append(request.url) if request.url != path.as_uri() else 0
        )
        self.tab.goto(path.as_uri())

    def shown(self) -> list[str]:
        """The checkpoints whose lines can be seen, from the top."""
        script = "lines => lines.filter(line => line.checkVisibility()).map(line => line.innerText.trim())"
        return self.tab.locator(".glance th[scope=row]").evaluate_all(script)

    def close(self) -> None:
        self.context.close()
        assert self.complaints == []


@pytest.fixture
def opened(browser, campaign: Path) -> Iterator[Opened]:
    page = Opened(browser, campaign, viewport={"width": 1400, "height": 900})
    yield page
    page.close()


def test_the_filter(opened: Opened) -> None:
    tab = opened.tab
    every = opened.shown()
    assert len(every) == 1000
    assert tab.locator("output").inner_text() == "All 1,000 rows"

    tab.get_by_label("Verdict").select_option("any but proved")
    bad = opened.shown()
    assert bad == every[: len(bad)] and 0 < len(bad) < 60
    assert tab.locator("output").inner_text() == f"{len(bad)} of 1,000 rows"

    tab.get_by_label("Family").select_option("bert")
    assert set(opened.shown()) == {name for name in bad if name.startswith("bert")}
    tab.get_by_label("Text").fill("no RULE  takes")
    (stopped, *_) = found = opened.shown()
    assert all(tab.locator(f'section[id="{name}"] .chip').first.text_content() == "stopped" for name in found)
    sections = tab.locator("section.conversion").evaluate_all(
        "all => all.filter(one => !one.hidden).map(one => one.id)"
    )
    assert sections == found
    tab.get_by_role("link", name=stopped, exact=True).first.click()
    assert tab.locator(f'section[id="{stopped}"]').bounding_box()["y"] < 900

    tab.get_by_label("Text").fill("nothing says this")
    assert opened.shown() == [] and tab.locator("output").inner_text() == "0 of 1,000 rows"
    tab.get_by_role("button", name="Show all").click()
    assert opened.shown() == every


def test_the_keyboard_is_enough(opened: Opened) -> None:
    tab = opened.tab
    tab.keyboard.press("Tab")
    focused = []
    for _ in range(5):
        focused.append(tab.evaluate("document.activeElement.name || document.activeElement.innerText"))
        assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        tab.keyboard.press("Tab")
    assert focused == ["verdict", "family", "text", "Show all", opened.shown()[0]]


@pytest.mark.parametrize("settings", [{"java_script_enabled": False}, {}], ids=["no script", "script"])
def test_markup_in_names_is_text(browser, tmp_path: Path, settings: dict) -> None:
    page = Opened(browser, build_report(sample.write_hostile(tmp_path)), **settings)
    assert page.tab.locator(".glance th[scope=row]").count() == 2
    assert page.tab.locator("form").is_visible() == (not settings)
    assert page.tab.locator("script").count() == 1
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_width_needs_to_be_scrolled_sideways(browser, tmp_path: Path, scheme: str) -> None:
    sample.write_campaign(tmp_path)
    sample.write_row(tmp_path / "nearly", stages=sample.deviating_stages())
    sample.write_row(tmp_path / "not-begun-of-a-rather-long-name", stages={}, log={"fetch": "a " + 300 * "b"})
    page = Opened(browser, build_report(tmp_path), color_scheme=scheme)
    for width in (320, 830, 840, 1000, 1210, 1225, 1400):
        page.tab.set_viewport_size({"width": width, "height": 800})
        assert page.tab.evaluate("document.documentElement.scrollWidth") <= width
    dark = page.tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 28)"
    assert dark == (scheme == "dark")
    page.close()


def test_one_conversion_has_no_filter(browser, tmp_path: Path) -> None:
    sample.write_row(tmp_path / "row", stages=sample.all_stages())
    page = Opened(browser, build_report(tmp_path))
    assert page.shown() == ["row"] and page.tab.locator("form").count() == 0
    page.close()


def test_the_filter_works_within_snakemakes_own_report(browser, played: Campaign) -> None:
    played.write([WRONG, GOOD])
    played.run()
    assert played.run("--report", "campaign.html").returncode == 0
    page = Opened(browser, played.directory / "campaign.html")
    for name in ("Results", "Campaign"):
        page.tab.get_by_text(name).first.click()
    page.tab.get_by_role("row", name="page of verdicts").locator("a").first.click()
    inner = page.tab.frame_locator("iframe")
    inner.get_by_label("Verdict").select_option("any but proved")
    assert inner.locator("output").inner_text() == "1 of 2 rows"
    assert not inner.locator("section[id=good]").is_visible() and inner.locator("section[id=wrong]").is_visible()
    page.complaints = [text for text in page.complaints if "tailwindcss" not in text and not text.startswith("data:")]
    page.close()


def test_in_print_nothing_is_folded_and_nothing_asks_to_be_filtered(browser, tmp_path: Path) -> None:
    page = Opened(browser, build_report(sample.write_campaign(tmp_path)), color_scheme="dark")
    folded = page.tab.locator("details.reading dl")
    assert page.tab.locator("form").is_visible() and not folded.is_visible()
    page.tab.emulate_media(media="print")
    assert folded.is_visible() and not page.tab.locator("form").is_visible()
    assert page.tab.locator("h1").evaluate("one => getComputedStyle(one).color") == "rgb(173, 42, 30)", (
        "not the dark red"
    )
    page.tab.set_viewport_size({"width": 680, "height": 1000})  # of A4 within its margins
    assert page.tab.evaluate("document.documentElement.scrollWidth") <= 680
    page.close()
