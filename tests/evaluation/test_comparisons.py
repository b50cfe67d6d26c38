"""Comparisons of backtests made by hand: who is better, how sure, and on which losses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny
from backtested import by_hand

import bayes_l2l as l2l
from bayes_l2l.cli import main
from bayes_l2l.errors import DataError, ForecastError
from bayes_l2l.evaluation import comparisons
from bayes_l2l.evaluation.backtests import Backtest
from bayes_l2l.evaluation.comparisons import compare
from bayes_l2l.evaluation.leave_one_out import LeaveOneOut
from bayes_l2l.posterior.posterior import Posterior
from bayes_l2l.structures.models import load_spec

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


def left_out(joint, elpd: np.ndarray, *, model: str, k: float = 0.1, place: str = "a") -> Posterior:
    """Patched below: a fit that answers with these numbers."""
    spec = load_spec(load_spec("kaplan").to_dict() | {"name": model})
    fitted = replace(joint, spec=spec)
    SCORES[model] = LeaveOneOut(elpd, np.full(len(elpd), k), 3.0, 0.67, {"eval_set": np.full(len(elpd), place)}, 1000)
    return fitted


SCORES: dict[str, LeaveOneOut] = {}


@pytest.fixture
def two(monkeypatch):
    """A backtest that says joint, and fits whose leave-one-out scores are made by hand."""
    monkeypatch.setattr(comparisons, "leave_one_out", lambda fit: SCORES[fit.spec.name])
    return Backtest(pd.concat([rows("law", 2.0, scatter=0.1), rows("joint", 1.0, scatter=0.1, seed=1)]))


@pytest.mark.parametrize(
    ("gap", "verdict"),
    [
        (0.5, "Leave-one-out agrees: amid the runs joint foretells losses better than law"),
        (-0.5, "Leave-one-out disagrees: amid the runs law foretells losses better than joint"),
        (0.01, "Leave-one-out does not decide between joint and law"),
    ],
)
def test_leave_one_out_stands_beside_the_backtest(two, joint, gap, verdict):
    rng = np.random.default_rng(0)
    base = rng.normal(3, 1, 100)
    other = base - gap + 0.3 * rng.standard_normal(100)
    found = compare(two, fits=[left_out(joint, base, model="joint"), left_out(joint, other, model="law")])
    assert str(found).startswith("joint forecasts better than law: CRPS 1")
    assert f". {verdict}: elpd_loo {base.sum():.1f} ± {10 * base.std():.1f} against" in str(found)
    assert "0 and 0 of 100 losses have Pareto k above 0.67" in str(found)
    table = found.table().set_index("model")
    assert table["elpd_loo"].tolist() == pytest.approx([base.sum(), other.sum()])
    assert table.loc["law", "elpd_difference"] == pytest.approx((other - base).sum())
    assert table.loc["law", "difference_se"] == pytest.approx(10 * (other - base).std())
    assert table.loc["joint", "elpd_difference"] == 0
    assert found.notes == ()


def test_leave_one_out_that_is_not_to_be_relied_on_says_so(two, joint):
    even = np.ones(20)
    found = compare(two, fits=[left_out(joint, even, model="joint", k=0.9), left_out(joint, even - 1, model="law")])
    assert "Leave-one-out is not to be relied on between joint and law" in str(found)
    (note,) = found.notes
    assert (note.code, note.data["bad_k"]) == ("loo_not_trusted", 20)
    assert found.table()["bad_k"].tolist() == [20, 0]


def test_scores_of_other_losses_are_not_set_against_each_other(two, joint):
    one = left_out(joint, np.ones(20), model="joint")
    found = compare(two, fits=[one, left_out(joint, np.ones(20), model="law", place="b")])
    assert "Leave-one-out" not in str(found)
    assert np.isnan(found.table()["elpd_difference"].tolist()[1])


def test_a_model_that_cannot_leave_out_says_so(two, joint, monkeypatch):
    def refuses(fit):
        raise ForecastError("no log likelihood")

    monkeypatch.setattr(comparisons, "leave_one_out", refuses)
    found = compare(two, fits=[left_out(joint, np.ones(20), model="joint")])
    assert [note.code for note in found.notes] == ["no_loo"]
    assert "elpd_loo" not in found.table()


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
    assert {"crps", "coverage90", "difference", "p_better", "elpd_loo", "elpd_se", "bad_k"} <= set(head)
    assert "CRPS" in shown.err
    assert "[leave-one-out] other: elpd_loo " in shown.err
    main([*arguments, "--no-loo", "--draws", "60", "--tune", "60", "--chains", "2", "-o", str(tmp_path / "out.csv")])
    shown = capsys.readouterr()
    assert "elpd" not in shown.out + shown.err


def l2l_models():
    """Folder of the model files."""
    from bayes_l2l.structures import models

    return models._folder()
