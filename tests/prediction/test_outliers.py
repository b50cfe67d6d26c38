"""Outlying runs are named; the others are not."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from synthetic import synthetic_fit
from tiny import SETS, SPEC, tiny_sweep

from bayes_l2l import cli
from bayes_l2l.data.sweep import Sweep
from bayes_l2l.fits import Fit, fit
from bayes_l2l.prediction.outliers import outlying


def with_loss(fit: Fit, row: int, factor: float) -> Fit:
    """The same fit, had one of its losses been another."""
    observed = fit.tree["observed_data"].to_dataset()
    loss = observed["loss"].to_numpy().copy()
    loss[row] *= factor
    tree = fit.tree.copy()
    tree["observed_data"] = xr.DataTree(observed.assign(loss=("row", loss)))
    return Fit(tree, fit.spec, fit.settings, fit.notes, fit.record)


@pytest.fixture(scope="module")
def clean() -> Fit:
    return synthetic_fit(train_sets=["starcoder"], jitter=0.0003)


def test_runs_about_their_law_are_not_named(clean):
    assert outlying(clean) == ()


def test_a_run_that_diverged_is_named_with_what_it_is_off_by(clean):
    row = int(np.argmax(clean.sweep.table["flops"]))
    (note,) = outlying(with_loss(clean, row, 1.5))
    assert note.code == "outlying_runs"
    ((name, off),) = note.data["runs"].items()
    params = clean.sweep.table["params"][row]
    assert name.startswith(f"starcoder@starcoder at {params:.3g} parameters")
    assert off == pytest.approx(0.5, abs=0.05)


def test_check_says_so(clean, tmp_path, capsys):
    row = int(np.argmax(clean.sweep.table["flops"]))
    cli.main(["check", str(with_loss(clean, row, 1.5).save(tmp_path / "fit.nc"))])
    said = capsys.readouterr().err
    assert said.count("a loss lies far off its law") == 1
    run_id = clean.sweep.table["run_id"][row]
    assert f"cell or bend the law: run {run_id!r}, starcoder@starcoder at" in said


def with_one_run_off(factor: float, *, sets: tuple[str, ...] = SETS) -> Sweep:
    table = tiny_sweep().table
    table = table[table["train_set"].isin(sets)].reset_index(drop=True)
    table.loc[7, "loss"] *= factor
    return Sweep.from_table(table, name="tiny")


@pytest.mark.parametrize("sets", [SETS, SETS[:1]])
def test_a_fit_holds_the_note_and_forecasts_show_it(sets, tmp_path, capsys):
    sweep = with_one_run_off(5.0, sets=sets)
    found = fit(sweep, model=SPEC, draws=200, tune=600, chains=4, random_seed=0, outliers="keep")
    (note,) = [note for note in found.notes if note.code == "outlying_runs"]
    run_id = sweep.table["run_id"][7]
    assert f"run {run_id!r}, code@code" in note.message
    assert "take the rows of one that went wrong out of the table" in note.message
    assert list(note.data["runs"].values()) == [pytest.approx(4.0, abs=1.0)]
    assert note in found.forecast(params=1e9, tokens=2e10).notes
    path = found.save(tmp_path / "fit.nc")
    cli.main(["forecast", str(path), "--params", "1e9", "--tokens", "2e10"])
    assert f"run {run_id!r}, code@code" in capsys.readouterr().err
    cli.main(["check", str(path)])
    assert capsys.readouterr().err.count("a loss lies far off its law") == 1


def test_a_fit_to_good_runs_holds_no_such_note():
    found = fit(with_one_run_off(1.0), model=SPEC, draws=60, tune=200, chains=2, random_seed=0)
    assert "outlying_runs" not in [note.code for note in found.notes]
