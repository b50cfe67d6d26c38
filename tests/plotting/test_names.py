"""Names out of tables in pictures, reports and files: they are shown as they are, whatever they hold."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.text import Text

from bayes_l2l import cli
from bayes_l2l.data.sweep import read_points, read_sweep
from bayes_l2l.files import as_csv, guard, unguarded, write_table
from bayes_l2l.fits import Fit
from bayes_l2l.plotting.gallery import HOME
from bayes_l2l.report.sections import report

#: A formula that is none, one that is one (and that a spreadsheet would run), and a name that legends leave out.
NAMES = {"fineweb-edu-100b": r"$\frac{$", "smollm-corpus": "=1+1 $x^2$", "starcoder": "_star$", "task": "task$ 5"}
BROKEN, FORMULA, HIDDEN, TASK = NAMES.values()


@pytest.fixture(scope="module")
def named(joint: Fit) -> Fit:
    """The joint fit with these names."""

    def cell(values: np.ndarray) -> list[str]:
        return ["|".join(NAMES[part] for part in str(value).split("|")) for value in values]

    groups = {name: group.to_dataset() for name, group in joint.tree.children.items()}
    for group in ("posterior", "diagnostics"):
        coords = groups[group].coords
        one = {"cell": cell(coords["cell"].values)}
        both = {n: ("cell", cell(coords[n].values)) for n in ("eval_set", "train_set") if n in coords}
        groups[group] = groups[group].assign_coords(one | both)
    observed = groups["observed_data"]
    both = {n: ("row", np.array(cell(observed[n].values), dtype=object)) for n in ("eval_set", "train_set")}
    groups["observed_data"] = observed.assign(both)
    return replace(joint, tree=xr.DataTree.from_dict(groups))


def every_picture(fit: Fit) -> dict[str, Figure]:
    # Of those left out, one needs error rates, and one shows no name.
    pairs = [(BROKEN, FORMULA), (HIDDEN, (TASK, HIDDEN))]
    given = {
        "exponents": {"pairs": pairs},
        "grid": {"pairs": pairs},
        "train_to_train": {"source": BROKEN},
        "train_to_test": {"eval_set": TASK},
        "test_to_test": {"eval_set": TASK, "source": BROKEN},
        "overview": {"source": BROKEN, "target": FORMULA, "eval_set": TASK},
    }
    shown = [name for name in HOME if name not in ("errors", "energy")]
    of_fit = {name: getattr(fit.plot, name)(**given.get(name, {})) for name in shown}
    choice = fit.choose(eval_set=TASK, flops=1e21)
    translation = fit.translate(BROKEN, FORMULA)
    return of_fit | {
        "forecast": fit.forecast(flops=1e21).plot(),
        "choice": choice.plot(),
        "plan": fit.plan(goal=choice, budget=1e20, runs=2).plot(),
        "translation": translation.plot(),
    }


def test_names_are_drawn_as_they_are(named):
    seen = set()
    for name, figure in every_picture(named).items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            figure.savefig(io.BytesIO(), format="png", dpi=40)
        texts = [text.get_text() for text in figure.findobj(Text)]
        held = [text for text in texts if any(word in text for word in ("frac", "x^2", "star", "task"))]
        assert held, f"{name} shows no name"
        assert not any(map(is_math_text, held)), name
        seen |= {shown for shown in NAMES.values() if any(shown in text.replace(r"\$", "$") for text in held)}
    assert seen == set(NAMES.values())


def test_a_name_that_begins_with_an_underscore_stands_in_the_legend(named):
    legend = named.plot.curves().axes[0].get_legend()
    assert any(text.get_text().replace("\u200b", "") == r"_star\$" for text in legend.get_texts())


def test_a_report_shows_names_as_they_are(named):
    html = report(named)
    assert r"$\frac{$" in html
    assert r"\$" not in html.replace(r"$\frac{$", "")


@pytest.mark.parametrize("name", ["=1+1", "+web", "-web", "@web", "'=x", "''-1", "'web", "web", "1-1", ""])
def test_what_a_spreadsheet_would_run_is_guarded_and_read_back(name):
    assert not guard(name).startswith(("=", "+", "-", "@"))
    assert unguarded(guard(name)) == name


def test_numbers_are_not_guarded():
    table = pd.DataFrame({"a": [-1.5, 2.0], "b": ["-x", None], "c": [True, False], "@d": [1, -2]})
    assert as_csv(table) == "a,b,c,'@d\n-1.5,'-x,True,1\n2,,False,-2\n"
    assert as_csv(table[:0]) == "a,b,c,'@d\n"


def test_tables_of_ours_are_read_back_with_their_names(named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_table(named.sweep.table, tmp_path / "runs.csv")
    assert ",'=1+1 $x^2$," in (tmp_path / "runs.csv").read_text()
    assert read_sweep(tmp_path / "runs.csv").cells.equals(named.sweep.cells)
    path = str(named.save(tmp_path / "fit.nc"))
    cli.main(["forecast", path, "--params", "1e9", "--tokens", "2e10", "-o", "forecast.csv"])
    assert set(read_points("forecast.csv")["train_set"]) == set(named.sweep.train_sets)
    actual = pd.read_csv("forecast.csv")[["train_set", "eval_set", "params", "tokens", "median"]]
    actual.rename(columns={"median": "loss"}).to_csv("actual.csv", index=False)
    capsys.readouterr()
    assert cli.main(["score", "forecast.csv", "actual.csv", "--each"]) == 0
    assert capsys.readouterr().out.count("\n") == 7
