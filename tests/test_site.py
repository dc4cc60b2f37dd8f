"""The documentation as a site: built without a warning, shown by a browser without an error, and without broken links.

Where there is no browser (:mod:`browsers`), the tests that need one are skipped.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest
from browsers import launched

ROOT = Path(__file__).parent.parent
pytestmark = [pytest.mark.browser, pytest.mark.slow]

INDEX = "docs/index.html"
PAGES = (
    INDEX,
    "docs/tutorial/index.html",
    "docs/how-to/orbax.html",
    "docs/explanation/why.html",
    "docs/explanation/equivalence.html",
    "docs/explanation/architecture.html",
    "docs/reference/commands.html",
    "docs/reference/names.html",
    "docs/reference/documents.html",
    "docs/reference/cerebras.html",
    "docs/reference/report.html",
    "docs/reference/benchmarks.html",
    "docs/reference/api/checkpoints.html",
    "config/README.html",
)
WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 390, "height": 800}
WIDER = {"width": 1920, "height": 1000}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as ``make docs`` makes it."""
    made = tmp_path_factory.mktemp("site")
    options = ["--builder", "html", "--fail-on-warning", "--keep-going", "--fresh-env", "--conf-dir", "docs"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, ".", str(made)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the site is served, on this machine only."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with launched() as one:
        yield one


class Opened:
    """A page in a tab of its own, and whatever it complained of, or asked another host for."""

    def __init__(self, browser, address: str, page: str, **settings) -> None:
        self.context = browser.new_context(**settings)
        self.tab = self.context.new_page()
        self.complaints: list[str] = []
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("response", lambda answer: self.complaints.append(answer.url) if answer.status >= 400 else None)
        own = (address, "data:", "blob:")
        self.tab.on("request", lambda asked: None if asked.url.startswith(own) else self.complaints.append(asked.url))
        self.tab.goto(address + page)
        self.tab.wait_for_load_state("networkidle")

    def close(self) -> None:
        self.context.close()
        assert self.complaints == []


def test_no_page_is_left_out(site: Path) -> None:
    written = {path.relative_to(ROOT).with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert written <= {path.relative_to(site) for path in site.rglob("*.html")}


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "light"), (WIDER, "dark"), (NARROW, "light"), (NARROW, "dark")])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_without_a_complaint(browser, address: str, page: str, size: dict[str, int], scheme: str) -> None:
    opened = Opened(browser, address, page, viewport=size, color_scheme=scheme)
    tab = opened.tab
    assert tab.locator("article h1").count() == 1
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), "what is wide scrolls by itself"
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(one => one < 64)")
    assert dark == (scheme == "dark")
    opened.close()


def test_the_address_of_the_site_leads_to_its_index(browser, address: str) -> None:
    opened = Opened(browser, address, "")
    opened.tab.wait_for_url(address + INDEX)
    opened.close()


def test_the_index_leads_to_every_page(browser, address: str) -> None:
    opened = Opened(browser, address, INDEX, viewport=WIDE)
    linked = opened.tab.locator("nav a, .sidebar-tree a").evaluate_all("all => all.map(one => one.href.split('#')[0])")
    for page in PAGES[1:]:
        assert address + page in linked, page
    opened.close()


def test_the_search_finds_a_word_of_a_command(browser, address: str) -> None:
    opened = Opened(browser, address, INDEX, viewport=WIDE)
    tab = opened.tab
    tab.get_by_placeholder("Search").fill("fix-checkpoint-spec")
    tab.keyboard.press("Enter")
    found = tab.locator("#search-results li a")
    found.first.wait_for()
    assert any("reference/commands" in (link.get_attribute("href") or "") for link in found.all())
    found.first.click()
    tab.wait_for_load_state("networkidle")
    assert tab.locator("article mark, article .highlighted").count()
    opened.close()


def test_a_page_shows_the_real_report(browser, address: str) -> None:
    opened = Opened(browser, address, "docs/reference/report.html", viewport=WIDE)
    report = opened.tab.frame_locator("iframe.example").first
    assert report.get_by_text("llama.mdl").first.is_visible()
    text = report.locator("body").inner_text()
    for outcome in ("proved", "with a deviation", "not shown"):
        assert outcome in text.lower(), outcome
    opened.close()


class Links(HTMLParser):
    """What a page refers to, and the places in it that others may refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See :meth:`HTMLParser.handle_starttag`."""
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.targets.append(value)
            elif name == "id" and value:
                self.places.add(value)


def test_every_link_within_the_site_leads_somewhere(site: Path) -> None:
    pages = {
        path.relative_to(site).as_posix(): Links(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")
    }
    broken = defaultdict(set)
    for page, links in pages.items():
        for link in links.targets:
            target, place = urldefrag(urljoin(f"http://site/{page}", link))
            if urlsplit(target).netloc != "site" or "searchindex" in target:
                continue
            path = unquote(urlsplit(target).path.lstrip("/"))
            there = path in pages and (not place or unquote(place) in pages[path].places)
            if not there and (path in pages or not (site / path).is_file()):
                broken[page].add(link)
    assert not broken
