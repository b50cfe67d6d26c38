"""The pages of `docs/` say what the commands and the model files say, and the README links to what there is."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import backtested
import click
import pytest

import bayes_l2l as l2l
from bayes_l2l.cli.app import FORMER_NAMES, program
from bayes_l2l.cli.inputs import which_evaluations
from bayes_l2l.data.columns import LONG_COLUMNS, LOSS_UNITS, RATE_UNITS, SHOWN_LOSS_UNITS, SIZE_UNITS, ColumnMap
from bayes_l2l.evaluation.backtests import Backtest
from bayes_l2l.prediction.forecasts import KINDS
from bayes_l2l.structures.models import load_spec, model_names
from bayes_l2l.structures.protocol import STRUCTURES

ROOT = Path(__file__).resolve().parents[1]


def pages() -> Any:
    """The module that makes the pages."""
    found = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "pages.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


PAGES = pages()
COMMANDS = dict(PAGES.commands(program))


def section(page: str, name: str) -> str:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.search(rf"^## {re.escape(name)}$.*?(?=^## |\Z)", text, flags=re.DOTALL | re.MULTILINE)[0]


@pytest.mark.parametrize("page", PAGES.PAGES)
def test_pages_are_up_to_date(page):
    written = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert written == PAGES.PAGES[page](), "run python docs/pages.py"


def test_the_table_of_the_readme_is_up_to_date():
    written = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(PAGES.TABLE.findall(written)) == 1
    assert written == PAGES.readme(), "run python docs/pages.py"


def test_the_table_of_the_readme_has_every_study():
    scored = json.loads((ROOT / "benchmarks" / "results" / "studies.json").read_text(encoding="utf-8"))["score"]
    assert set(PAGES.STUDIES) == {row["study"] for row in scored["rows"]}
    assert set(PAGES.FORECASTERS) == {row["forecaster"] for row in scored["rows"]}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_section_with_every_option_of_its_help(command):
    said = section("commands.md", command)
    with click.Context(COMMANDS[command]) as context:
        shown = COMMANDS[command].get_help(context).partition("\nOptions:")[2]
    offered = set(re.findall(r"(?:^  |, )(--?[a-z][\w-]*)", shown, flags=re.MULTILINE))
    common = {"--json", "--quiet"} if not isinstance(COMMANDS[command], click.Group) else set()
    assert common <= offered
    offered -= {"-h", "--help", *common}
    assert {option for option in offered if f"`{option}" not in said and f", {option}" not in said} == set()
    assert f"bayes-l2l {command}" in said


def test_what_all_commands_have_is_said_once():
    introduction = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8").split("\n## ")[0]
    assert "| `--json` |" in introduction
    assert "| `--quiet` |" in introduction


def test_every_key_and_unit_of_a_mapping_is_documented():
    page = (ROOT / "docs" / "columns.md").read_text(encoding="utf-8")
    documented = {name for row in cells(page) for name in re.findall(r"`([^`]+)`", row[0])}
    assert documented == set(ColumnMap.__dataclass_fields__) - {"source"}
    named = set(re.findall(r"`([\w/-]+)`", page))
    assert {*SIZE_UNITS, *LOSS_UNITS, *RATE_UNITS, *SHOWN_LOSS_UNITS, *LONG_COLUMNS} <= named
    (example,) = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    assert ColumnMap.from_dict(tomllib.loads(example)).wide


@pytest.mark.parametrize("model", model_names())
def test_every_model_has_its_section_with_every_prior(model):
    said, spec = section("models.md", model), load_spec(model)
    assert spec.equation in said
    names = {name for part in spec.quantities().values() for name in part}
    assert {name for name in names if f"| {name} |" not in said} == set()


@pytest.mark.parametrize(
    "page",
    sorted(
        str(path.relative_to(ROOT))
        for folder in (".", "docs", "docs/api", "docs/guides", "models")
        for path in (ROOT / folder).glob("*.md")
    ),
)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    inside = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"https?:|#", link)]
    assert [link for link in inside if not ((ROOT / page).parent / link.partition("#")[0]).exists()] == []


GLOSSARY, OLD_WORDS = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").split("## Old words")
PLACE = re.compile(r"([a-z]+(?: [a-z]+)?) `([^`]+)`")


def cells(text: str) -> list[list[str]]:
    """Cells of every row of the tables of a text, their heads left out."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    ruled = [i for i, row in enumerate(rows) if set(row[0]) == {"-"}]
    heads = {j for i in ruled for j in (i, i - 1)}
    return [[cell.strip() for cell in row] for i, row in enumerate(rows) if i not in heads]


def keys(table: Mapping[str, Any], within: str = "") -> Iterator[str]:
    for key, value in table.items():
        yield within + key
        if isinstance(value, Mapping):
            yield from keys(value, f"{within}{key}.")


def is_object(path: str) -> bool:
    """Whether a dotted name is a module's, or of a class in it."""
    parts = path.split(".")
    for n in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:n]))
        except ImportError:
            continue
        for part in parts[n:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.fixture(scope="module")
def known(joint) -> dict[str, Any]:
    """What there is, of every kind of place that the glossary names."""
    backtest = Backtest(backtested.by_hand([2.0, 20.0]))
    models = (tomllib.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "models").glob("*.toml"))
    point = {"train_set": joint.cells[0][1], "params": 1e9, "tokens": 2e10}
    return {
        "sweep column": LONG_COLUMNS,
        "mapping key": ColumnMap.__dataclass_fields__,
        "model key": {key for model in models for key in keys(model)},
        "posterior": {name for structure in STRUCTURES.values() for name in structure.variables},
        "coordinate": joint.draws.coords,
        "forecast column": joint.forecast(**point).table().columns,
        "score column": backtest.scores().columns,
        "backtest column": backtest.table().columns,
    }


def test_the_glossary_names_what_there_is(known):
    named = [place for row in cells(GLOSSARY) for place in PLACE.findall(row[-1])]
    assert sum(row[-1].count("`") for row in cells(GLOSSARY)) == 2 * len(named)
    assert all(PLACE.search(row[-1]) for row in cells(GLOSSARY))
    for kind, name in named:
        if kind == "file":
            assert (ROOT / name).is_file(), name
        elif kind == "object":
            assert is_object(name), name
        else:
            assert name in known[kind], (kind, name)
    files = re.findall(r"`(bayes_l2l/[^`]+)`", GLOSSARY)
    assert [file for file in files if not (ROOT / file).is_file()] == []


#: Old word of the glossary, and whether it still means what it did.
STILL_ACCEPTED = {
    "run": lambda: KINDS["run"] == "predictive",
    "curve": lambda: KINDS["curve"] == "mean",
    "l2l.rollout": lambda: l2l.rollout is l2l.backtest,
    "l2l.Rollout": lambda: l2l.Rollout is l2l.Backtest,
    "fit.forecast(rollout=)": lambda: "rollout" in inspect.signature(l2l.Fit.forecast).parameters,
    "fit.report(rollout=)": lambda: "rollout" in inspect.signature(l2l.Fit.report).parameters,
    "rollout": lambda: FORMER_NAMES["rollout"] == "backtest",
    "--rollout": lambda: all("--rollout" in options(name) for name in ("forecast", "report")),
    "--fold": lambda: "--fold" in options("backtest"),
    "--star-factor": lambda: "--star-factor" in options("sweep"),
    "--eval-set own": lambda: which_evaluations(["own"]) == "train",
    'eval_sets="own"': lambda: len(l2l.simulated_sweep().select(eval_sets="own")) == 528,
}


def options(command: str) -> list[str]:
    return [name for one in COMMANDS[command].params for name in one.opts]


def test_old_words_are_still_accepted():
    listed = [word for row in cells(OLD_WORDS) for word in re.findall(r"`([^`]+)`", row[0])]
    assert sorted(listed) == sorted([*STILL_ACCEPTED, "fold"])
    assert [word for word, accepted in STILL_ACCEPTED.items() if not accepted()] == []


def test_tables_with_folds_are_still_read(tmp_path):
    rows = backtested.by_hand([2.0, 20.0])
    rows.rename(columns={"split": "fold"}).to_csv(tmp_path / "rollout.csv", index=False)
    assert (Backtest.read(tmp_path / "rollout.csv").frame["split"] == rows["split"]).all()
