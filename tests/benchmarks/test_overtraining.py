"""The benchmark of over-training: what does not sample, and the figures that the paper's recipe reproduces."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import multivariate_normal

from bayes_l2l.data.datasets import DATA_VARIABLE, large_runs, load_sweep
from bayes_l2l.laws.scaling import Law
from bayes_l2l.posterior.draws import law_draws, stacked
from bayes_l2l.structures.models import load_spec
from bayes_l2l.structures.protocol import structure_of
from benchmarks import overtraining
from benchmarks import overtraining_bootstrap as recipe
from benchmarks import overtraining_slope as slope

LAW = Law(E=1.5, log_A=np.log(3e8), log_B=np.log(4e9), alpha=0.4, beta=0.3, gamma=0.7)


@pytest.fixture(scope="module")
def gadre(real_data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DATA_VARIABLE, str(real_data))
        yield load_sweep("gadre").table, large_runs("gadre", eval_sets="all").table


@pytest.mark.parametrize("train_set", ["rpj", "rw_original"])
def test_point_fits_reproduce_the_recipe_of_the_paper(gadre, train_set):
    table, large = gadre
    table, large = (frame[frame["train_set"] == train_set] for frame in (table, large))
    five = table.query("used_in_paper_loss_fit == 1 and eval_set == 'c4_val'")
    law, determined = recipe.fit(
        recipe.LAW, five[["params", "tokens"]].to_numpy().T, five["loss"].to_numpy(), recipe.LAW.starts
    )
    assert determined
    six = table[table["used_in_paper_error_fit"] == 1].pivot_table(index="run_id", columns="eval_set", values="loss")
    error, _ = recipe.fit(recipe.ERROR, six["c4_val"].to_numpy(), six["avg_17"].to_numpy(), recipe.ERROR.starts)
    for run, rows in large.groupby("run_id"):
        actual = rows.set_index("eval_set")["loss"]
        size = rows["params"].iloc[0], rows["tokens"].iloc[0]
        loss = recipe.of_size(size, *law)
        found = [
            100 * abs(loss / actual["c4_val"] - 1),
            100 * abs(recipe.of_loss(loss, *error) / actual["avg_17"] - 1),
        ]
        theirs = overtraining.THEIRS[train_set, round(size[0] / 1e6)]
        assert found == pytest.approx(theirs, abs=0.006), run


def test_runs_of_one_multiplier_do_not_determine_their_law():
    params = np.geomspace(1e7, 1e9, 6)
    for tokens, determined in ((20 * params, False), (params * [20, 20, 20, 320, 320, 320], True)):
        loss = recipe.of_size((params, tokens), 1.0, 0.5, 0.3, 1.8)
        found, known = recipe.fit(recipe.LAW, np.stack([params, tokens]), loss, recipe.LAW.starts)
        assert known is determined
        np.testing.assert_allclose(recipe.of_size((params, tokens), *found), loss, rtol=1e-4)


def test_bootstrap_counts_what_it_leaves_out():
    x = np.linspace(2.5, 4.0, 4)
    y = recipe.of_loss(x, 2.0, 0.7, 0.86) + 0.003 * np.array([1, -1, 1, -1])
    found = recipe.bootstrap(recipe.ERROR, x, y, seed=0, resamples=80)
    # of four runs, at least three differ in 36 of 64 resamples
    assert len(found.resampled) == round(80 * (1 - found.failed))
    assert found.failed == pytest.approx(28 / 64, abs=0.15)
    draws = found.draws(3.0, np.random.default_rng(0))
    assert abs(np.median(draws) - recipe.of_loss(3.0, 2.0, 0.7, 0.86)) < 0.01


def test_slope_is_the_derivative_along_a_line_of_equal_m():
    for multiple in (5.0, 640.0):
        flops = 1e19 * np.exp(np.array([-1e-4, 1e-4]))
        params = np.sqrt(flops / (6 * multiple))
        change = np.diff(np.log(LAW.loss(params, multiple * params) - LAW.E)) / 2e-4
        assert slope.slope_at(LAW, multiple, 1e19) == pytest.approx(change.item(), rel=1e-6)


def test_lines_are_parallel_if_the_exponents_are_equal():
    equal = Law(**{**vars(LAW), "beta": LAW.alpha})
    assert slope.slope_at(equal, 5.0, 1e18) == pytest.approx(slope.slope_at(equal, 640.0, 1e20))
    assert abs(slope.slope_at(LAW, 5.0, 1e19) - slope.slope_at(LAW, 640.0, 1e19)) > 1e-3


@pytest.mark.parametrize("name", slope.MEMBERS)
def test_members_differ_in_the_mean_function_alone(name):
    spec, shipped = slope.member(name), load_spec("overtraining")
    assert spec.law == name
    assert spec.likelihood == shipped.likelihood
    assert {k: v for k, v in spec.priors.items() if k in shipped.priors} == shipped.priors
    assert set(spec.priors) - set(shipped.priors) == {
        "overtraining": set(), "chinchilla": {"beta"}, "kaplan": {"beta"}, "generalised": {"beta", "gamma"},
    }[name]  # fmt: skip


def test_density_of_a_size_is_that_of_all_its_runs_together(joint):
    data = structure_of(joint.spec).arrange(joint.spec, joint.sweep)
    found = slope.densities(joint.draws, data)
    assert dict(found.sizes) == {"chain": 2, "draw": joint.draws.sizes["draw"], "size": len(data.weight)}
    long, size = stacked(joint.draws), 3
    law = law_draws(long, slice(None))
    loss = law.loss(np.exp(data.log_params[size]), np.exp(data.log_tokens[size]), data.shift[size])[0]
    seen = data.observed[size] == 1
    shared = (
        np.hypot(long["size_effect_scale"].to_numpy()[0], data.discrepancy[size])
        * (law.gamma * (1 - law.E / loss))[0]
    )
    own = long["residual_scale"].to_numpy()[0] ** 2 + data.noise[size] ** 2
    covariance = (np.diag(own) + np.outer(shared, shared))[np.ix_(seen, seen)]
    expected = multivariate_normal(np.log(loss)[seen], covariance).logpdf(data.log_loss[size][seen])
    assert found.to_numpy()[0, 0, size] == pytest.approx(expected)
    left_out = slope.densities(joint.draws, slope.without(data, size))
    assert (left_out.isel(size=size) == 0).all()
    np.testing.assert_array_equal(left_out.isel(size=0), found.isel(size=0))


def test_models_are_compared_size_by_size():
    def loo(*elpd):
        each = xr.DataArray(np.array(elpd), dims="size")
        return SimpleNamespace(
            elpd=float(each.sum()), elpd_i=each, pareto_k=each.copy(data=[0.1, 0.9]), good_k=0.7, p=2.0
        )

    best, other = slope.comparison({"a": loo(1.0, 2.0), "b": loo(3.0, 4.0)})
    assert (best["model"], best["difference"], best["se"]) == ("b", 0, 0)
    assert (other["difference"], other["se"], other["largest_k"], other["refitted"]) == (-4, 0, 0.9, 1)


def test_the_bootstrap_has_columns_where_it_was_made():
    row = {"train_set": "rpj", "eval_set": "c4_val", "params": 1.44e9, "tokens": 9.2e11, "metric": "loss"}
    row |= {"actual": 2.5, "median": 2.6, "low": 2.4, "high": 2.7, "error_pct": 4.0, "width_pct": 12.0}
    row |= {"held": 1.0, "crps_pct": 1.5}
    made = {"settings": {}, "seconds": 1, "machine": "m", "versions": {}}
    record = {"few": {"rows": [row], "fits": [], **made}}
    assert "bootstrap" not in overtraining.as_markdown(record)
    baseline = pd.Series(
        row | {"low": 2.0, "crps_pct": 3.25, "part": "few", "recipe": "least squares", "failed": 0.65}
    )
    page = overtraining.as_markdown(record | {"bootstrap": {"rows": [baseline], **made}})
    assert "| 2.400 to 2.700 | 4.00 | 0.71 | 1.50 | yes | 2.000 to 2.700 | 4.00 | 3.25 | yes |" in page
    assert "were left out: Eq. 4 65%" in page
