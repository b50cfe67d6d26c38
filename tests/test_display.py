"""What notebooks show: every object that users hold, with its numbers and its notes, and nothing that is markup."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from synthetic_errors import chained

from bayes_l2l.data.sweep import Sweep
from bayes_l2l.display import as_html

SHOWN = {
    "sweep": (lambda fit: fit.sweep, ["Sweep joint (simulated, not measured)", "starcoder"]),
    "fit": (lambda fit: fit, ["Fit of model &#x27;joint&#x27;", "R-hat at most", "3 of error rates or accuracies"]),
    "forecast": (lambda fit: fit.forecast(flops=1e21), ["Forecast of 9 points", "q0.95", "accuracy"]),
    "translation": (lambda fit: fit.translate("starcoder", "task@starcoder"), ["Translation of", "kappa"]),
    "choice": (lambda fit: fit.choose(eval_set="quiz", flops=1e21), ["highest accuracy", "p_best"]),
    "plan": (lambda fit: fit.plan(goal="starcoder", budget=1e20, flops=1e21, runs=2), ["Plan of", "total_flops"]),
    "optimum": (lambda fit: fit.optimum(1e21), ["Optimum of 1 budgets", "N* grows as", "[shared_optimum]"]),
}


class Tags(HTMLParser):
    """Whether every tag is closed, the last opened first."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def fit():
    return chained(metric="accuracy", jitter=0.05)


@pytest.mark.parametrize("name", SHOWN)
def test_a_notebook_shows_numbers_and_notes(name, fit):
    make, said = SHOWN[name]
    shown = make(fit)
    text = shown._repr_html_()
    assert Tags(text).open == []
    assert "<table" in text
    for words in said:
        assert words in text
    for note in shown.notes:
        assert f"[{note.code}]" in text


def test_names_are_no_markup():
    rows = [["<b>x</b>", 1e8 * i, 2e9, 3.5 - 0.1 * i] for i in (1, 2, 3)]
    table = pd.DataFrame(rows, columns=["train_set", "params", "tokens", "loss"])
    text = Sweep.from_table(table, name="<script>")._repr_html_()
    assert "<script>" not in text
    assert "<b>x" not in text


def test_a_long_table_is_cut_and_says_so():
    text = as_html("x", table=pd.DataFrame({"n": np.arange(50.0)}))
    assert text.count("<tr>") == 20
    assert "and 30 more rows" in text


def test_completion_shows_what_is_public(fit):
    import bayes_l2l as l2l

    assert {name for name in dir(l2l) if name.startswith("_")} == set()
    assert {"Optimum", "Forecast", "fit"} <= set(dir(l2l))
    assert {"mean", "quantile", "interval", "table"} <= set(dir(fit.forecast(flops=1e21)))
