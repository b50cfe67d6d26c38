"""Leave-one-out: the log likelihood of single losses is that of the models, and what is said of them is exact."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import arviz_stats
import numpy as np
import pandas as pd
import pytest
import tiny
import xarray as xr
from scipy import stats
from synthetic import JOINT_CELLS, joint_fit, pairs_fit, synthetic_fit

import bayes_l2l as l2l
from bayes_l2l.data.sweep import Sweep
from bayes_l2l.errors import ForecastError
from bayes_l2l.evaluation import leave_one_out as module
from bayes_l2l.evaluation.leave_one_out import leave_one_out
from bayes_l2l.fits import Fit
from bayes_l2l.laws.residuals import StudentT
from bayes_l2l.posterior.draws import law_draws, stacked
from bayes_l2l.posterior.settings import SamplerSettings
from bayes_l2l.spec.model import ModelSpec
from bayes_l2l.structures.models import load_spec
from bayes_l2l.structures.pointwise import Pointwise, residual_densities
from bayes_l2l.structures.protocol import arranged, structure_of
from bayes_l2l.structures.size_effect import conditional_log_density, expected_effect

MOST = 40


def drawn_from_prior(spec: ModelSpec, sweep: Sweep, n_draws: int = 3) -> tuple[Fit, np.ndarray]:
    """A posterior of draws from the prior of a model of one module, and its log likelihood in each."""
    import pymc as pm

    structure, arrays = structure_of(spec), arranged(spec, sweep)
    (module_,) = structure.modules(spec, arrays)
    model = module_.model
    names = [one.name for one in model.deterministics] + [one.name for one in model.free_RVs]
    (likelihood,) = (one for one in model.potentials if one.name == "log_likelihood")
    *values, potential = pm.draw([*(model[name] for name in names), likelihood], draws=n_draws, random_seed=3)
    along = {}
    for name, value in zip(names, values, strict=True):
        dims = ["cell" if structure.along == "cell" else structure.along] * (value.ndim == 2)
        if value.ndim < 2 or value.shape[1] == len(arrays.labels):
            along[name] = (["chain", "draw", *dims], value[None])
    draws = structure.join(spec, arrays, [xr.Dataset(along)], None, size=(1, n_draws))
    observed = {name: ("row", sweep.table[name].to_numpy()) for name in sweep.table}
    tree = xr.DataTree.from_dict({"posterior": draws, "observed_data": xr.Dataset(observed)})
    record = {"sweep": {"name": "drawn", "provenance": "", "simulated": True}}
    return Fit(tree, spec, SamplerSettings(draws=n_draws, chains=1), (), record), np.asarray(potential)


def one_loss_a_size() -> Sweep:
    """A tiny sweep whose training sets have no size in common."""
    table = tiny.tiny_sweep().table
    place = table.groupby("train_set").cumcount() % 2
    return Sweep.from_table(table[place == (table["train_set"] == "web")].reset_index(drop=True), name="apart")


def without_sizes() -> Sweep:
    """Six runs of three checkpoints, evaluated on three sets."""
    rng, rows = np.random.default_rng(0), []
    for run, end in enumerate(np.linspace(2.3, 3.4, 6)):
        for step in range(3):
            row = {"run_id": f"run {run}", "step": step, "train_set": "web"}
            loss = end * np.exp(0.05 * (2 - step))
            rows += [
                row | {"eval_set": name, "loss": factor * loss * np.exp(0.003 * rng.standard_normal())}
                for name, factor in (("web", 1.0), ("code", 0.6), ("books", 1.1))
            ]
    return Sweep.from_table(pd.DataFrame(rows), name="related")


# What the density of a loss is


@pytest.mark.parametrize("shared", [0.0, 0.02])
def test_the_density_of_one_given_the_others_is_that_of_the_normal_distribution(shared):
    rng = np.random.default_rng(0)
    residual, variance = rng.normal(0, 0.02, 5), rng.uniform(1e-5, 1e-3, 5)
    moves = shared * rng.uniform(0.2, 1.0, 5)
    covariance = np.diag(variance) + np.outer(moves, moves)
    found = conditional_log_density(
        residual, variance=variance, shared=moves, total=lambda x: np.full_like(x, x.sum())
    )
    together = stats.multivariate_normal(cov=covariance).logpdf(residual)
    for i in range(5):
        rest = np.delete(np.arange(5), i)
        without = stats.multivariate_normal(cov=covariance[np.ix_(rest, rest)]).logpdf(residual[rest])
        assert found[i] == pytest.approx(together - without)


def test_losses_of_one_size_are_left_out_given_each_other(handmade):
    """By brute force: the joint density of all losses of a size, over that of all but one."""
    few = replace(handmade, tree=handmade.tree.isel(draw=slice(2), chain=slice(1)))
    found = structure_of(few.spec).pointwise(few)
    data, draws = arranged(few.spec, few.sweep), stacked(few.draws)
    law, expected = law_draws(draws, slice(None)), []
    for j, p in zip(*np.nonzero(data.observed.T), strict=True):
        seen = np.flatnonzero(data.observed[p])
        of_draw = []
        for s in range(2):
            n, d = np.exp(data.log_params[p]), np.exp(data.log_tokens[p])
            loss = law.loss(n, d, data.shift[p])[s]
            residual = data.log_loss[p] - np.log(loss)
            effect = np.hypot(float(draws["size_effect_scale"][s]), data.discrepancy[p])
            moves = effect * law.gamma[s] * (1 - law.E[s] / loss)
            own = draws["residual_scale"].to_numpy()[s] ** 2 + data.noise[p] ** 2
            covariance = np.diag(own) + np.outer(moves, moves)

            def density(these: Any, residual: Any = residual, covariance: Any = covariance) -> float:
                if not len(these):
                    return 0.0
                cov = covariance[np.ix_(these, these)]
                return float(stats.multivariate_normal(cov=cov, allow_singular=True).logpdf(residual[these]))

            of_draw.append(density(seen) - density(seen[seen != j]))
        expected.append(of_draw)
    assert pytest.approx(np.array(expected), rel=1e-4, abs=1e-4) == found.density.T
    assert list(found.names["train_set"][:3]) == [data.cells[0][1]] * 3


@pytest.mark.parametrize(
    ("spec", "sweep"),
    [
        (tiny.SPEC, one_loss_a_size),
        (tiny.JOINT, one_loss_a_size),
        (load_spec("train_to_train"), tiny.tiny_sweep),
        (load_spec("relations"), without_sizes),
    ],
    ids=["separate", "joint", "pairwise", "relations"],
)
def test_the_densities_of_losses_that_share_nothing_sum_to_the_likelihood_of_the_model(spec, sweep):
    fitted, likelihood = drawn_from_prior(spec, sweep())
    found = structure_of(spec).pointwise(fitted)
    assert found.density @ found.weight == pytest.approx(likelihood, rel=1e-6)
    assert {len(values) for values in found.names.values()} == {len(found.weight)}


def test_downstream_evaluations_are_given_the_progress_of_their_draw(joint):
    found = structure_of(joint.spec).pointwise(joint)
    assert found.density.shape == (200, len(joint.sweep))
    cell = ("task", "starcoder")
    of_cell = (found.names["eval_set"] == cell[0]) & (found.names["train_set"] == cell[1])
    table = joint.sweep.table
    rows = table[(table["eval_set"] == cell[0]) & (table["train_set"] == cell[1])]
    assert sorted(found.names["params"][of_cell]) == pytest.approx(sorted(rows["params"]))
    assert of_cell.sum() == len(rows) < (found.names["train_set"] == "smollm-corpus").sum()
    # Each lies about its own law, at the progress that the losses of its size say.
    data, draws = arranged(joint.spec, joint.sweep), stacked(joint.draws)
    anchors, i = list(data.anchors), list(JOINT_CELLS).index(cell)
    scales = {name: draws.isel(cell=anchors)[name].to_numpy() for name in ("residual_scale", "size_effect_scale")}
    effect = expected_effect(law_draws(draws, anchors), data.only(anchors), **scales)
    p = np.flatnonzero(data.observed[:, i])[0]
    loss = law_draws(draws, i).loss(np.exp(data.log_params[p]), np.exp(data.log_tokens[p]), effect[:, p])
    expected = stats.norm(scale=draws["residual_scale"].to_numpy()[:, i]).logpdf(data.log_loss[p, i] - np.log(loss))
    assert found.density[:, of_cell][:, 0] == pytest.approx(expected)


def test_heavy_tails_are_those_of_the_models():
    rng = np.random.default_rng(1)
    nu, residual = rng.uniform(3, 8, 4), rng.normal(0, 2, (4, 6))
    found = residual_densities(StudentT(nu=nu), residual, np.full((4, 6), 0.7))
    assert found == pytest.approx(stats.t(nu[:, None], scale=0.7).logpdf(residual))


def test_a_model_of_error_rates_says_that_it_has_none():
    with pytest.raises(ForecastError, match=r"structure 'error_rate' have no log likelihood of single losses"):
        structure_of(load_spec("error_richards")).pointwise(joint_fit())


# Leaving out


def exact(y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Leave-one-out log density of normal numbers with scale 1 and a common mean, flat before."""
    found = []
    for i in range(len(y)):
        rest = np.delete(weight, i)
        mean, precision = np.average(np.delete(y, i), weights=rest), rest.sum()
        found.append(stats.norm(mean, np.sqrt(1 + 1 / precision)).logpdf(y[i]))
    return np.array(found)


@pytest.mark.parametrize("weighted", [False, True])
def test_what_importance_sampling_says_is_what_leaving_out_says(handmade, monkeypatch, weighted):
    rng = np.random.default_rng(2)
    y = rng.normal(0, 1, 30)
    weight = rng.uniform(0.05, 1, 30) if weighted else np.ones(30)
    mean = rng.normal(np.average(y, weights=weight), weight.sum() ** -0.5, 1000)
    density = stats.norm(mean[:, None], 1).logpdf(y)
    made = Pointwise(density, weight, {"eval_set": np.full(30, "y")})
    monkeypatch.setattr(type(structure_of(handmade.spec)), "pointwise", lambda self, fit: made)
    found = leave_one_out(handmade)
    assert found.elpd_i == pytest.approx(exact(y, weight), abs=0.05)
    assert found.n_bad == 0
    assert found.elpd == pytest.approx(exact(y, weight).sum(), abs=0.2)
    assert found.p_loo == pytest.approx(1 if not weighted else found.p_loo, abs=0.4)
    assert str(found).endswith("0 of 30 losses have Pareto k above 0.67")


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [joint_fit, pairs_fit, lambda: synthetic_fit(draws=100)])
def test_arviz_takes_a_fit_as_it_is(make):
    fitted = make()
    tree = fitted.to_datatree(draws=200)
    again = arviz_stats.loo(tree, pointwise=True)
    assert again.n_data_points == tree["log_likelihood"].sizes["observation"]
    if fitted.spec.name == "joint":  # no weights
        found = fitted.loo(draws=200)
        assert again.elpd == pytest.approx(found.elpd, rel=1e-6)
        assert again.pareto_k.to_numpy() == pytest.approx(found.pareto_k)
    both = arviz_stats.compare({"one": tree, "other": fitted.to_datatree(draws=100)})
    assert set(both.index) == {"one", "other"}
    for given in (tree, tree["posterior"].to_dataset()):
        table = arviz_stats.summary(given, ci_kind="eti")
        assert len(table) == sum(int(np.prod(one.shape[2:])) for one in fitted.posterior.values())
    assert set(arviz_stats.rhat(fitted.posterior)) == set(fitted.posterior)
    assert set(arviz_stats.hdi(fitted.posterior)) == set(fitted.posterior)


def test_a_file_of_a_fit_has_no_log_likelihood(joint, tmp_path):
    joint.to_datatree()
    read = l2l.load_fit(joint.save(tmp_path / "fit.nc"))
    assert "log_likelihood" not in read.tree
    assert read.loo(draws=100).elpd == joint.loo(draws=100).elpd


def test_few_draws_of_many_losses_are_held(joint, monkeypatch):
    assert joint.loo().n_draws == 200
    assert joint.loo(draws=MOST).n_draws == MOST
    monkeypatch.setattr(module, "_LARGEST", 100 * len(joint.sweep))
    monkeypatch.setattr(module, "_FEWEST", MOST)
    assert joint.loo().n_draws == 100
    whole = joint.to_datatree(draws=MOST)
    assert whole["posterior"].sizes["draw"] == whole["sample_stats"].sizes["draw"] == MOST // 2
    assert pd.Index(whole["log_likelihood"]["draw"].to_numpy()).equals(
        pd.Index(whole["posterior"]["draw"].to_numpy())
    )
