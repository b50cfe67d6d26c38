"""One run that went wrong does not ruin its set; what runs scatter is left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import joint_fit
from tiny import SETS, SPEC, tiny_sweep

from bayes_l2l import cli
from bayes_l2l.data.datasets import known, load_sweep
from bayes_l2l.data.sweep import Sweep
from bayes_l2l.errors import DataError
from bayes_l2l.evaluation.backtests import backtest
from bayes_l2l.fits import fit
from bayes_l2l.point_fits.wild_runs import without_wild_runs

SHORT = {"draws": 200, "tune": 400, "chains": 2, "random_seed": 0}
LARGE = {"params": 1e9, "tokens": 2e10, "train_set": "code", "eval_set": "code"}


def with_losses(factors: dict[int, float]) -> Sweep:
    """The small sweep with some losses so many times as high."""
    table = tiny_sweep().table.copy()
    for row, factor in factors.items():
        table.loc[row, "loss"] *= factor
    return Sweep.from_table(table, name="tiny")


@pytest.mark.parametrize("factor", [5.0, 2.0, 0.2])
@pytest.mark.parametrize("row", [0, 7, 19])
def test_one_wild_loss_is_set_aside_and_named(row, factor):
    sweep = with_losses({row: factor})
    found = without_wild_runs(sweep)
    (note,) = [note for note in found.notes if note.code == "runs_set_aside"]
    wild = sweep.table.loc[row]
    name = f"run {wild['run_id']!r} on {wild['eval_set']}@{wild['train_set']}"
    assert note.data["losses"][name]["expected"] == pytest.approx(wild["loss"] / factor, rel=0.05)
    assert f"{name} has {wild['loss']:.3g}" in note.message
    pd.testing.assert_frame_equal(found.table, sweep.table.drop(index=row).reset_index(drop=True))
    # What was said of it as an oddity is said of no run that is left, and the note goes with the sweep.
    assert [note.code for note in found.select(train_sets=SETS[:1]).notes] == ["runs_set_aside"]


@pytest.mark.parametrize(
    "factors",
    [{}, {7: 1.3}, dict.fromkeys(range(5, 10), 5.0)],
    ids=["none", "one that is noted alone", "a quarter of the set"],
)
def test_other_sweeps_are_as_they_were(factors):
    sweep = with_losses(factors)
    assert without_wild_runs(sweep) is sweep


def test_runs_without_sizes_or_others_are_not_judged():
    few = with_losses({7: 5.0}).table.iloc[:11]
    for table in (few, with_losses({7: 5.0}).table.drop(columns=["params", "tokens", "flops"])):
        sweep = Sweep.from_table(table)
        assert without_wild_runs(sweep) is sweep


def test_in_public_sweeps_nothing_is_set_aside(real_data: Path):
    studies = sorted((real_data / "studies").glob("*.csv"))
    if not studies:
        pytest.skip("the published studies are not here")
    for source in (*(dataset.name for dataset in known()), *studies):
        sweep = load_sweep(source)
        assert without_wild_runs(sweep) is sweep, source


def test_a_wild_run_leaves_the_forecast_as_it_would_be_without_it(tmp_path, capsys):
    sweep = with_losses({7: 5.0})
    found = fit(sweep, model=SPEC, **SHORT)
    without = fit(Sweep.from_table(sweep.table.drop(index=7), name="tiny"), model=SPEC, **SHORT)
    np.testing.assert_array_equal(found.forecast(**LARGE).draws, without.forecast(**LARGE).draws)
    codes = [note.code for note in found.forecast(**LARGE).notes]
    assert "runs_set_aside" in codes
    assert not {"odd_losses", "outlying_runs"} & set(codes)
    path = found.save(tmp_path / "fit.nc")
    capsys.readouterr()
    cli.main(["check", str(path)])
    assert "a loss was set aside and not fitted" in capsys.readouterr().err


def test_it_is_kept_where_that_is_asked_for():
    sweep = with_losses({7: 5.0})
    kept = fit(sweep, model=SPEC, draws=20, tune=50, chains=2, random_seed=0, outliers="keep")
    assert len(kept.sweep) == len(sweep)
    assert {"odd_losses", "outlying_runs"} <= {note.code for note in kept.notes}
    with pytest.raises(DataError, match=r"outliers is 'drop'; it must be 'set-aside' or 'keep'"):
        fit(sweep, model=SPEC, outliers="drop")


def test_the_command_keeps_it_where_that_is_asked_for(tmp_path, monkeypatch):
    asked = []

    def remember(*_, **options):
        asked.append(options["outliers"])
        raise DataError("enough")

    monkeypatch.setattr("bayes_l2l.fits.fit", remember)
    runs = tmp_path / "runs.csv"
    joint_fit().sweep.table.to_csv(runs, index=False)
    for options in ([], ["--outliers", "keep"]):
        assert cli.main(["fit", str(runs), "-o", str(tmp_path / "fit.nc"), *options]) == 1
    assert asked == ["set-aside", "keep"]


def test_a_backtest_fits_without_it_and_says_so():
    sweep = with_losses({2: 5.0})
    found = backtest(sweep, models=[SPEC], kinds=("hindcast",), cutoffs=[sweep.table["flops"].max() / 2], **SHORT)
    assert found.table()["notes"].str.contains("runs_set_aside").all()
