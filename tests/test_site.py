"""The site is built without a warning, and a browser finds nothing wrong with it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from browser import chromium

import bayes_l2l

pytest.importorskip("myst_nb", reason="the documentation's requirements are not installed: pip install '.[docs]'")

ROOT = Path(__file__).resolve().parents[1]
#: Wider than the window by so many pixels is what rounding does.
SLACK = 1
#: What is said to the console of these kinds is a complaint.
LOUD = {"error", "warning"}
#: What becomes of a request, as of the icon, whose page was left before the answer.
LEFT = "net::ERR_ABORTED"
#: Sends the browser on to the first page.
REDIRECT = "index.html"
#: Other words of the glossary for what is there under another name.
OLD_NAMES = {"Rollout", "rollout"}

pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """What a page has to be pointed at, and what it points at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.names.add(value)
            elif name == "href" and tag == "a" and value:
                self.links.add(value)
            elif name in {"href", "src"} and tag != "a" and value:
                self.loaded.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The folder of a site that was built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "-c", "docs"]
    done = subprocess.run(
        [*command, "-d", str(folder / "doctrees"), ".", str(folder / "html")],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site) -> dict[str, Page]:
    """Every page by its address within the site."""
    files = sorted(site.rglob("*.html"))
    return {file.relative_to(site).as_posix(): Page(file.read_text(encoding="utf-8")) for file in files}


@pytest.fixture(scope="module")
def address(site) -> Iterator[str]:
    """Where the site is served on this machine."""

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(site))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def dead(pages: dict[str, Page], site: Path) -> list[str]:
    """Links and files of pages that lead nowhere within the site."""
    found = []
    for page, held in pages.items():
        for link in sorted(held.links | held.loaded):
            if urlsplit(link).scheme:
                continue
            target = urlsplit(urljoin(page, link))
            path = unquote(target.path) or page
            there = (site / path).is_file()
            named = not target.fragment or path not in pages or unquote(target.fragment) in pages[path].names
            if not (there and named):
                found.append(f"{page}: {link}")
    return found


def test_no_link_is_dead(pages, site):
    assert len(pages) > 30
    assert dead(pages, site) == []


def test_a_dead_link_is_caught(tmp_path):
    (tmp_path / "b.html").write_text("")
    pages = {"a.html": Page('<a href="b.html#there">'), "b.html": Page('<p id="here"><img src="c.png">')}
    assert dead(pages, tmp_path) == ["a.html: b.html#there", "b.html: c.png"]


def test_nothing_is_loaded_from_elsewhere(pages):
    loaded = {link for page in pages.values() for link in page.loaded}
    assert [link for link in sorted(loaded) if urlsplit(link).scheme not in {"", "data"}] == []


def test_every_page_of_the_docs_is_in_the_site(pages):
    folders = {"docs": "**/*.md", "notebooks": "*.ipynb", "benchmarks/results": "*.md", "models": "*.md"}
    sources = [file for folder, pattern in folders.items() for file in (ROOT / folder).glob(pattern)]
    sources = [file for file in sources if "_build" not in file.parts]
    assert {file.relative_to(ROOT).with_suffix(".html").as_posix() for file in sources} <= set(pages)


def test_every_export_is_in_the_reference(pages):
    held = [name for page, held in pages.items() if page.startswith("docs/api/") for name in held.names]
    documented = {name.rpartition(".")[2] for name in held if name.startswith("bayes_l2l.")}
    assert set(bayes_l2l.__all__) - documented <= OLD_NAMES | {"__version__"}


def test_a_browser_shows_every_page_without_a_complaint(pages, address):
    complaints, wide = [], []
    with chromium() as browser:
        for width in (390, 1280):
            tab = browser.new_page(viewport={"width": width, "height": 900})
            tab.on("console", lambda said: complaints.append(said.text) if said.type in LOUD else None)
            tab.on("pageerror", lambda error: complaints.append(str(error)))
            tab.on("requestfailed", lambda sent: complaints.append(sent.url) if sent.failure != LEFT else None)
            for page in pages.keys() - {REDIRECT}:
                tab.goto(address + page, wait_until="load")
                found = tab.evaluate("document.documentElement.scrollWidth") - width
                if found > SLACK:
                    wide.append(f"{page} at {width}: {found} pixels too wide")
    assert complaints == []
    assert wide == []


def test_the_search_finds_a_page(address):
    with chromium() as browser:
        tab = browser.new_page()
        tab.goto(address + "search.html?q=backtest")
        # Results come one by one.
        tab.wait_for_selector("#search-results li a[href*='guides/backtests.html']")
