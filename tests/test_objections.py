"""The page of what is said of bad inputs says what is said, of every one, and names every note."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


def objections() -> Any:
    """The module that makes the page."""
    found = importlib.util.spec_from_file_location("objections", ROOT / "docs" / "objections.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


MADE = objections()


def test_the_page_is_up_to_date():
    assert MADE.PAGE.read_text(encoding="utf-8") == MADE.page(), "run python docs/objections.py"


def test_nothing_is_said_of_good_runs():
    assert MADE.of_table(MADE.runs()) == []
    assert MADE.of_model({}) == []


@pytest.mark.parametrize("what", MADE.TABLES)
def test_no_bad_table_passes_in_silence(what):
    assert MADE.of_table(MADE.TABLES[what]())


@pytest.mark.parametrize("what", MADE.MODELS)
def test_no_bad_model_passes_in_silence(what):
    assert MADE.of_model(MADE.MODELS[what])


def test_every_note_is_on_the_page():
    package = ROOT / "bayes_l2l"
    codes = {code for file in package.rglob("*.py") for code in re.findall(r'Note\("(\w+)"', file.read_text("utf-8"))}
    assert len(codes) > 20
    page = MADE.PAGE.read_text(encoding="utf-8")
    assert {code for code in codes if f"`{code}`" not in page} == set()
