"""A headless Chromium, as the machine has it: what a reader's browser makes of a page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: As root there is no sandbox; the rest keeps the browser from calling home.
OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextmanager
def chromium() -> Iterator[Any]:
    """Playwright's browser: the machine's own Chromium, or the one that `playwright install chromium` fetched."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        named = [os.environ.get("BAYES_L2L_CHROMIUM"), *map(shutil.which, NAMES), play.chromium.executable_path]
        found = next((path for path in named if path and Path(path).exists()), None)
        if found is None:
            pytest.skip("no Chromium on this machine: apt-get install chromium, or playwright install chromium")
        browser = play.chromium.launch(executable_path=found, args=OPTIONS)
        yield browser
        browser.close()
