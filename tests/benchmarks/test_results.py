"""The pages of `benchmarks/results/` say what is stored beside them, in the words of today's code."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path

import pytest

from bayes_l2l.structures.models import load_spec

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
NAMES = sorted(path.stem for path in RESULTS.glob("*.json"))


def stored(name):
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_pages_are_up_to_date(name):
    as_markdown = import_module(f"benchmarks.{name}").as_markdown
    assert (RESULTS / f"{name}.md").read_text(encoding="utf-8") == as_markdown(stored(name))


def test_every_page_is_of_something_stored_and_its_pictures_exist():
    assert sorted(path.stem for path in RESULTS.glob("*.md")) == NAMES
    text = "\n".join(path.read_text(encoding="utf-8") for path in RESULTS.glob("*.md"))
    assert [shown for shown in re.findall(r"\]\(([^)]+\.png)\)", text) if not (RESULTS / shown).is_file()] == []


def test_stored_specs_can_be_read():
    assert {load_spec(result["spec"]).name for result in stored("recovery")} == {"law", "joint"}
