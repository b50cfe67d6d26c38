"""Outlying runs are named; the others are not."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from synthetic import synthetic_fit

from bayes_l2l import cli
from bayes_l2l.fits import Fit
from bayes_l2l.outliers import outlying


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
    assert "1 losses lie far off their law: starcoder@starcoder" in capsys.readouterr().err
