"""Known parameters are recovered: a small version of benchmarks/recovery.py, and what that one reports is right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny
import xarray as xr

from bayes_l2l.inference.compiled import CompiledModel
from bayes_l2l.laws.scaling import Law
from bayes_l2l.posterior.settings import SamplerSettings
from bayes_l2l.spec.likelihood import Discrepancy
from bayes_l2l.structures.arrays import LossArrays
from bayes_l2l.structures.models import load_spec
from benchmarks import recovery

SETTINGS = SamplerSettings(draws=400, tune=300, chains=2, cores=2, seed=11)


def within_binomial_error(found, variables, *, errors=3.0):
    """Every interval's coverage and the mean rank lie where chance would put them, a sweep counted once."""
    for name in variables:
        for level, held in found[name]["levels"].items():
            assert abs(held["coverage"] - float(level)) < errors * held["binomial_se"], (name, level, held)
        n = held["binomial_se"] ** -2 * float(level) * (1 - float(level))
        assert abs(found[name]["mean_rank"] - 0.5) < errors / np.sqrt(12 * n), name


@pytest.mark.slow
def test_a_small_model_is_calibrated():
    """Many simulations, since each takes less than a second."""
    sweep = recovery.template()
    compiled = CompiledModel(tiny.SPEC, sweep)
    case = recovery.Case("tiny", tiny.SPEC.likelihood, "template")
    found = recovery.recover(compiled, sweep, case, simulations=60, settings=SETTINGS)
    within_binomial_error(found["coverage"], ("E", "log_A", "log_B"))
    assert found["worst_rhat"] < 1.05


@pytest.mark.slow
def test_the_shipped_law_is_calibrated():
    sweep = recovery.template()
    spec = load_spec("law")
    compiled = CompiledModel(spec, sweep)
    case = recovery.Case("as shipped", spec.likelihood, "template")
    found = recovery.recover(compiled, sweep, case, simulations=20, settings=SETTINGS)
    within_binomial_error(found["coverage"], ("E", "alpha", "beta"))


def test_coverage_of_uniform_ranks_is_nominal():
    found = recovery.coverage(np.random.default_rng(0).random((4000, 3)))
    for level, held in found["levels"].items():
        assert held["coverage"] == pytest.approx(float(level), abs=4 * held["se"])
        # three cells that know nothing of each other are worth three times as much as one
        assert held["se"] == pytest.approx(held["binomial_se"] / np.sqrt(3), rel=0.05)
    assert sum(found["histogram"]) == 12000
    assert found["rank_p"] > 0.01
    within_binomial_error({"E": found}, ["E"])


def test_errors_know_that_cells_of_one_sweep_belong_together():
    ranks = np.repeat(np.random.default_rng(0).random((500, 1)), 4, axis=1)
    for held in recovery.coverage(ranks)["levels"].values():
        assert held["se"] == pytest.approx(held["binomial_se"], rel=0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda ranks: np.clip(0.5 + 2.5 * (ranks - 0.5), 0, 1),  # intervals far too narrow
        lambda ranks: 0.5 + 0.3 * (ranks - 0.5),  # far too wide
        lambda ranks: ranks**3,  # biased
    ],
)
def test_a_model_that_is_not_calibrated_is_seen(wrong):
    ranks = np.random.default_rng(0).random((60, 3))
    found = recovery.coverage(wrong(ranks))
    assert found["rank_p"] < 0.01
    with pytest.raises(AssertionError):
        within_binomial_error({"E": found}, ["E"])


@pytest.mark.parametrize("weight_exponent", [0.0, 1.0])
def test_simulated_runs_scatter_as_the_likelihood_says(weight_exponent):
    """At known parameters: runs of one size together, more so small ones, all of them more where they count less."""
    discrepancy = Discrepancy(at_largest=0.003, rate=0.5, cap=0.05)
    data = LossArrays.of(recovery.template(), weight_exponent=weight_exponent, discrepancy=discrepancy)
    n, draws = len(data.cells), 3000
    law = {"E": 0.5 * data.smallest, "log_A": 17.0, "log_B": 20.0, "alpha": 0.4, "beta": 0.4, "gamma": 0.8, "c": 0.01}
    dims = ("draw", "cell")
    prior = {name: (dims, np.broadcast_to(value, (draws, n))) for name, value in law.items()}
    # a loss that the law puts where the template's smallest one is, or the sweep would not be plausible
    flat = Law(**{name: np.broadcast_to(value, n) for name, value in law.items()})
    params, tokens = np.exp(data.log_params)[:, None], np.exp(data.log_tokens)[:, None]
    data = replace(data, smallest=flat.loss(params, tokens).min(axis=0))
    prior |= {
        "residual_scale": (dims, np.full((draws, n), 0.002)),
        "size_effect_scale": ("draw", np.full(draws, 0.01)),
    }

    simulated = list(recovery.simulate(xr.Dataset(prior), data, np.random.default_rng(0)))
    assert len(simulated) > 0.9 * draws
    residual = np.array([one.log_loss for _, one, _ in simulated]) - np.log(flat.loss(params, tokens))
    sensitivity = flat.gamma * (1 - flat.E / flat.loss(params, tokens))
    shared = np.hypot(0.01, data.discrepancy)[:, None] * sensitivity
    for point in (0, 20, 39):
        found = np.cov(residual[:, point].T) * data.weight[point]
        expected = 0.002**2 * np.eye(n) + np.outer(shared[point], shared[point])
        np.testing.assert_allclose(found, expected, atol=0.12 * expected.max())


def test_sweeps_that_nobody_would_fit_are_drawn_again():
    data = LossArrays.of(recovery.template())
    n = len(data.cells)
    law = {"log_A": 17.0, "log_B": 20.0, "alpha": 0.4, "beta": 0.4, "gamma": 1.0, "c": 0.0, "residual_scale": 1e-6}
    prior = {name: (("draw", "cell"), np.full((3, n), value)) for name, value in law.items()}
    reducible = Law(E=0.0, **{k: v for k, v in law.items() if k != "residual_scale"})
    lowest = reducible.loss(np.exp(data.log_params), np.exp(data.log_tokens)).min()
    # the smallest loss as it should be, a half too high, and a half too low
    E = np.stack([factor * data.smallest - lowest for factor in (1.0, 1.5, 0.5)])
    prior |= {"E": (("draw", "cell"), E), "size_effect_scale": ("draw", np.full(3, 1e-6))}
    kept = list(recovery.simulate(xr.Dataset(prior), data, np.random.default_rng(0)))
    assert [tried for _, _, tried in kept] == [1]
    np.testing.assert_allclose(kept[0][0]["E"], E[0])


def test_the_report_holds_every_case_and_parameter():
    ranks = np.random.default_rng(0).random((50, 3))
    result = {
        "model": "law",
        "case": {"name": "as shipped"},
        "simulations": 50,
        "prior_draws_tried": 99,
        "seconds": 12.0,
        "worst_rhat": 1.02,
        "least_ess": 140,
        "divergences": 0,
        "drawn_twice": 1,
        "coverage": {name: recovery.coverage(ranks) for name in recovery.VARIABLES},
        "setup": {
            "grid": "3 training sets, 40 sizes each",
            "machine": "2 cores",
            "versions": {"python": "3", "pymc": "5", "nutpie": "0"},
            "draws": 400,
            "tune": 300,
            "chains": 2,
        },
    }
    page = recovery.as_markdown([result, result | {"model": "joint"}])
    assert page.count("## `") == 2
    assert "## `law`, as shipped: 50 sweeps (binomial error 7.1 at 50%, 4.2 at 90%)" in page
    held = recovery.coverage(ranks)["levels"]["0.9"]
    assert page.count(f"{100 * held['coverage']:.1f} ± {100 * held['se']:.1f}") == 12
    for name in recovery.VARIABLES:
        assert f"\n| {name} | " in page
