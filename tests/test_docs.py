"""The pages of `docs/` say what the commands and the model files say, and the README links to what there is."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from bayes_l2l.arguments import parser
from bayes_l2l.spec import load_spec, model_names

ROOT = Path(__file__).resolve().parents[1]


def pages() -> Any:
    """The module that makes the pages."""
    found = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "pages.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


PAGES = pages()
COMMANDS = dict(PAGES.commands(parser()))


def section(page: str, name: str) -> str:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.search(rf"^## {re.escape(name)}$.*?(?=^## |\Z)", text, flags=re.DOTALL | re.MULTILINE)[0]


@pytest.mark.parametrize("page", PAGES.PAGES)
def test_pages_are_up_to_date(page):
    written = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert written == PAGES.PAGES[page](), "run python docs/pages.py"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_section_with_every_option_of_its_help(command):
    said = section("commands.md", command)
    offered = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", COMMANDS[command].format_usage())) - {"-h"}
    assert {option for option in offered if f"`{option}" not in said and f", {option}" not in said} == set()
    assert f"bayes-l2l {command}" in said


@pytest.mark.parametrize("model", model_names())
def test_every_model_has_its_section_with_every_prior(model):
    said, spec = section("models.md", model), load_spec(model)
    assert spec.equation in said
    assert {name for name in (*spec.priors, *spec.readings) if f"| {name} |" not in said} == set()


@pytest.mark.parametrize("page", ["README.md", "docs/commands.md", "docs/models.md", "models/README.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    inside = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"https?:|#", link)]
    assert [link for link in inside if not ((ROOT / page).parent / link.partition("#")[0]).exists()] == []
