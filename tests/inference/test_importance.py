"""Method laplace: proposals, what is refused, and fits that go through everything that a fit goes through."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny
import xarray as xr
from scipy import stats

from bayes_l2l.density import laplace
from bayes_l2l.density.whitening import Whitening
from bayes_l2l.errors import ApproximationError, DataError
from bayes_l2l.evaluation.backtests import backtest
from bayes_l2l.fits import fit, load_fit
from bayes_l2l.inference import importance
from bayes_l2l.inference.compiled import CompiledModel
from bayes_l2l.inference.diagnostics import diagnose_importance
from bayes_l2l.inference.importance import smoothed
from bayes_l2l.inference.proposal import Component, Proposal
from bayes_l2l.plotting import sampler

SWEEP = tiny.tiny_sweep()
FEW = {"draws": 400, "tune": 300, "chains": 2, "cores": 2}


@pytest.fixture(scope="module")
def compiled():
    return CompiledModel(tiny.SPEC, SWEEP)


@pytest.fixture(scope="module")
def fitted(compiled):
    return fit(SWEEP, compiled=compiled, method="laplace", random_seed=1, draws=1000, chains=4)


def _skewed(n, rng):
    """Draws of two dimensions, one skewed, and their distribution."""
    x = rng.standard_normal((n, 2))
    return np.column_stack([np.exp(0.5 * x[:, 0]), x[:, 1] + 0.5 * x[:, 0]])


# Proposals


def test_a_component_of_straight_margins_has_the_density_of_a_multivariate_t():
    axes = np.array([[2.0, 0.0], [0.6, 0.5]])
    mode = Whitening(np.array([1.0, -2.0]), np.ones(2), np.empty((0, 2)), np.empty(0))
    covariance = axes.T @ axes
    values, vectors = np.linalg.eigh(covariance)
    mode = replace(mode, directions=vectors.T.copy(), factors=np.sqrt(values) - 1)
    component = Component.of_mode(mode)
    points = component.draw(50, np.random.default_rng(1))
    expected = stats.multivariate_t(mode.center, covariance, df=component.nu).logpdf(points)
    np.testing.assert_allclose(np.ptp(component.log_density(points) - expected), 0, atol=1e-9)


def test_the_density_of_a_fitted_mixture_is_that_of_its_draws():
    rng = np.random.default_rng(2)
    points = np.concatenate([_skewed(4000, rng), _skewed(4000, rng) + np.array([8.0, 0.0])])
    modes = [Whitening.none(np.array([1.0, 0.0])), Whitening.none(np.array([9.0, 0.0]))]
    found = Proposal.of_modes(modes).fitted(points, np.full(len(points), 1 / len(points)))
    np.testing.assert_allclose(found.weights, 0.5, atol=0.02)
    drawn = found.draw(40_000, rng)
    inside = ((drawn > [0.5, -1]) & (drawn < [1.5, 1])).all(axis=1).mean()
    x, y = np.meshgrid(*(np.linspace(a, b, 400, endpoint=False) + (b - a) / 800 for a, b in ((0.5, 1.5), (-1, 1))))
    grid = np.column_stack([x.ravel(), y.ravel()])
    # Constants of the dimension: Gamma(nu / 2) and so on are in, pi is not.
    density = np.exp(found.log_density(grid)) / np.pi
    np.testing.assert_allclose(density.mean() * 2, inside, rtol=0.05)


def test_a_component_without_enough_draws_stays_as_it_is():
    rng = np.random.default_rng(3)
    modes = [Whitening.none(np.zeros(2)), Whitening.none(np.array([20.0, 0.0]))]
    before = Proposal.of_modes(modes)
    points = np.concatenate([rng.standard_normal((500, 2)), rng.standard_normal((4, 2)) + np.array([20.0, 0.0])])
    after = before.fitted(points, np.full(len(points), 1 / len(points)))
    assert after.components[1] is before.components[1]
    assert after.components[0] is not before.components[0]


# Weights


def test_weights_of_a_proposal_with_lighter_tails_are_seen_through():
    rng = np.random.default_rng(4)
    x = 0.3 * rng.standard_normal(4000)
    _, khat = smoothed(stats.t(3).logpdf(x) - stats.norm(scale=0.3).logpdf(x))
    assert khat > importance.MAX_KHAT
    x = 3 * rng.standard_t(5, size=4000)
    weights, khat = smoothed(stats.norm.logpdf(x) - stats.t(5, scale=3).logpdf(x))
    assert khat < importance.MAX_KHAT
    assert abs(weights @ x**2 - 1) < 0.1


def test_weights_that_hardly_any_point_has_are_seen_through():
    assert smoothed(np.where(np.arange(100) < 20, 0.0, -np.inf))[1] == np.inf


# Modes


def test_modes_are_found_from_where_chains_start(compiled):
    module = compiled.modules[0]
    tape = compiled.densities.tape(0, module, module.data(compiled._first, []))
    found = laplace.modes(tape)
    assert len(found) == 1
    np.testing.assert_allclose(found[0].center, laplace.laplace(tape).center, atol=0.02)


def test_draws_without_gradients_have_the_same_log_density(compiled):
    module = compiled.modules[0]
    tape = compiled.densities.tape(0, module, module.data(compiled._first, []))
    points = tape.start + 0.1 * np.random.default_rng(5).standard_normal((5, len(tape.start)))
    np.testing.assert_allclose(tape.log_densities(points), [tape.log_density(x)[0] for x in points], rtol=1e-12)


# Fits


def test_forecasts_are_those_of_nuts(fitted, compiled):
    nuts = fit(SWEEP, compiled=compiled, random_seed=1, **FEW)
    points = {"params": 3e9, "tokens": 6e10}
    ours, theirs = (one.forecast(**points).draws for one in (fitted, nuts))
    levels = [0.05, 0.25, 0.5, 0.75, 0.95]
    apart = np.quantile(ours, levels, axis=0) - np.quantile(theirs, levels, axis=0)
    assert (np.abs(apart) < 0.2 * theirs.std(axis=0)).all()


def test_the_same_seed_gives_the_same_draws(fitted, compiled):
    again = fit(SWEEP, compiled=compiled, method="laplace", random_seed=1, draws=1000, chains=4)
    assert again.posterior.equals(fitted.posterior)


def test_a_fit_says_how_it_was_drawn(fitted):
    assert fitted.settings.method == "laplace"
    found = fitted.diagnostics["importance"]
    assert found.sel(diagnostic="khat") < importance.MAX_KHAT
    assert found.sel(diagnostic="ess") > 400
    assert "approximate" in [note.code for note in fitted.notes]
    assert "approximate" in [note.code for note in fitted.forecast(params=3e9, tokens=6e10).notes]
    assert "k-hat" in fitted._repr_html_()
    assert "rhat" not in fitted.summary()


def test_a_file_keeps_it(fitted, tmp_path):
    again = load_fit(fitted.save(tmp_path / "fit.nc"))
    assert again.posterior.equals(fitted.posterior)
    assert again.diagnostics.equals(fitted.diagnostics)
    assert again.settings == fitted.settings


def test_a_report_is_written_of_it(fitted, tmp_path):
    page = fitted.report(tmp_path / "fit.html").read_text(encoding="utf-8")
    assert "k-hat" in page
    assert "R-hat" not in page


def test_pictures_of_the_sampler_show_what_there_is(fitted):
    sampler.traces(fitted)
    with pytest.raises(DataError, match="energy"):
        sampler.energy(fitted)


def test_what_cannot_be_drawn_is_refused(compiled, monkeypatch):
    monkeypatch.setattr(importance, "MAX_KHAT", -10.0)
    with pytest.raises(ApproximationError, match=r"k-hat is .*method='nuts'"):
        fit(SWEEP, compiled=compiled, method="laplace")


def test_several_modes_are_said():
    kinds = {"khat": 0.3, "ess": 300.0, "modes": 2, "points": 9000}
    found, notes = diagnose_importance(xr.Dataset(kinds))
    assert list(found) == ["importance"]
    assert [(note.code, note.severity) for note in notes] == [
        ("approximate", "warning"),
        ("several_modes", "warning"),
    ]


def test_an_unknown_method_is_refused():
    with pytest.raises(DataError, match="known are nuts and laplace"):
        fit(SWEEP, model=tiny.SPEC, method="exact")


def test_backtests_keep_results_by_method(tmp_path):
    cutoff = [float(np.sort(SWEEP.table["flops"].unique())[5])]
    options = {"models": [tiny.SPEC], "cutoffs": cutoff, "kinds": ["hindcast"], "path": tmp_path / "b.csv"}
    said: list[str] = []
    found = backtest(SWEEP, method="laplace", **options)
    assert found.trusted
    backtest(SWEEP, method="laplace", progress=said.append, **options)
    assert "finished before" in said[0]
    said.clear()
    backtest(SWEEP, draws=100, tune=100, chains=2, progress=said.append, **options)
    assert "finished before" not in said[0]
