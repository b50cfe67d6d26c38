"""Comparisons of backtests made by hand: who is better, how sure, and on which losses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tiny
from backtested import by_hand

import bayes_l2l as l2l
from bayes_l2l.cli import main
from bayes_l2l.errors import DataError
from bayes_l2l.evaluation.backtests import Backtest
from bayes_l2l.evaluation.comparisons import compare

BUDGETS = [2.0, 4.0, 8.0, 16.0]


def rows(model: str, crps: float, *, scatter: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Forecasts of four budgets of three training sets, five runs each."""
    rng, parts = np.random.default_rng(seed), []
    for name in "abc":
        part = by_hand(BUDGETS * 5, model=model).assign(train_set=name, eval_set=name)
        off = np.repeat([rng.normal(0, scatter, len(BUDGETS))], 5, axis=0).ravel()
        parts.append(part.assign(crps=crps + off))
    return pd.concat(parts, ignore_index=True)


def test_the_better_model_is_named_with_its_scores():
    found = compare(Backtest(pd.concat([rows("law", 2.0, scatter=0.1), rows("joint", 1.0, scatter=0.1, seed=1)])))
    assert (found.models, found.best, found.n_groups) == (["joint", "law"], "joint", 12)
    table = found.table()
    assert table["model"].tolist() == ["joint", "law"]
    assert table["difference"].tolist() == [0, pytest.approx(table["crps"][1] - table["crps"][0])]
    assert 0.8 < table["q0.05"][1] < table["difference"][1] < table["q0.95"][1] < 1.2
    assert table["p_better"][1] == 0
    assert str(found).startswith("joint forecasts better than law: CRPS 1")
    assert "over 60 losses (1 split, 12 groups of one training set and budget)" in str(found)
    assert "joint forecasts better" in found._repr_html_()


def test_what_may_be_chance_is_not_decided():
    """The losses of a group are off together: many of them tell no more than one."""
    even = compare(Backtest(pd.concat([rows("law", 1.05, scatter=0.5), rows("joint", 1.0, scatter=0.5, seed=1)])))
    assert str(even).startswith("not decided between ")
    low, high = even.table().loc[1, ["q0.05", "q0.95"]]
    assert low < 0 < high


def test_few_groups_decide_nothing():
    both = pd.concat([by_hand(2.0, model="law").assign(crps=2.0), by_hand(2.0, model="joint")])
    assert str(compare(Backtest(both))).startswith("joint did better than law, but on too few groups of runs")


def test_only_what_all_forecast_is_compared():
    full, part = rows("law", 2.0), rows("joint", 1.0)
    found = compare(Backtest(pd.concat([full, part[part["train_set"] != "c"]])))
    assert found.table()["n"].tolist() == [40, 40]
    (note,) = found.notes
    assert (note.code, note.data["forecasts"]) == ("not_compared", 20)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(DataError, match="The backtest is of law alone"):
        compare(Backtest(rows("law", 1.0)))
    with pytest.raises(DataError, match="No loss was forecast by all of joint, law"):
        compare(Backtest(pd.concat([rows("law", 1.0), rows("joint", 1.0).assign(train_set="d")])))
    with pytest.raises(DataError, match="Name two models or more"):
        l2l.compare(tiny.tiny_sweep(), models=["joint"])


def test_the_command(tmp_path, capsys):
    path, models = tmp_path / "runs.csv", tmp_path / "other.toml"
    tiny.tiny_sweep().table.to_csv(path, index=False)
    source = (l2l_models() / "kaplan.toml").read_text(encoding="utf-8")
    models.write_text(source.replace('name = "kaplan"', 'name = "other"'), encoding="utf-8")
    arguments = ["compare", str(path), "--models", f"baseline,{models}", "--resamples", "5", "--cutoff", "5e18"]
    status = main([*arguments, "--draws", "60", "--tune", "60", "--chains", "2", "-o", str(tmp_path / "out.csv")])
    shown = capsys.readouterr()
    assert status in (0, 1)
    assert sorted(pd.read_csv(tmp_path / "out.csv")["model"].unique()) == ["baseline", "other"]
    head = shown.out.splitlines()[0].split(",")
    assert head[:2] == ["model", "n"]
    assert {"crps", "coverage90", "difference", "p_better"} <= set(head)
    assert "CRPS" in shown.err


def l2l_models():
    """Folder of the model files."""
    from bayes_l2l.structures import models

    return models._folder()
