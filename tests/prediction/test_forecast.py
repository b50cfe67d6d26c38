"""Forecasts are the law's arithmetic on posterior draws, and the run noise that the model says."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import faults
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import kstest, norm, t
from synthetic import joint_fit, synthetic_fit

from bayes_l2l.errors import DataError, ForecastError
from bayes_l2l.laws.scaling import Law
from bayes_l2l.notes import Note
from bayes_l2l.posterior import draws
from bayes_l2l.posterior.draws import QUANTILES, law_draws, stacked
from bayes_l2l.prediction.forecasts import Forecast, expand, forecast_table
from bayes_l2l.spec.likelihood import Discrepancy, ResidualSpec
from bayes_l2l.structures import laws as structures
from bayes_l2l.structures.arrays import discrepancy_scale
from bayes_l2l.structures.protocol import structure_of

LARGE = {"params": 3.3e9, "tokens": 5.04e10}  # 20.6 times the largest budget
MANY = 4000
CELL = ["eval_set", "train_set"]
DISCREPANCY = Discrepancy(at_largest=0.003, rate=1.0, cap=0.1)
NAMES = ("E", "log_A", "log_B", "alpha", "beta", "gamma", "c")


@pytest.fixture(scope="module")
def fit():
    """A posterior that is sharp about the published laws, so that the noise of runs is what is seen."""
    made = synthetic_fit(draws=MANY // 4, jitter=2e-4)
    likelihood = replace(made.spec.likelihood, weight_exponent=0.0, discrepancy=DISCREPANCY)
    posterior = made.draws.assign(size_effect_scale=2 * made.posterior["size_effect_scale"])
    return with_group(replace(made, spec=replace(made.spec, likelihood=likelihood)), posterior=posterior)


def with_group(fit, **changed):
    """The fit with one of its groups replaced."""
    groups = {name: group.to_dataset() for name, group in fit.tree.children.items()}
    return replace(fit, tree=xr.DataTree.from_dict(groups | changed))


def draws_of(fit, name):
    """Posterior draws one after another, chains in order; shape (sample,) or (sample, cell)."""
    values = fit.posterior[name].to_numpy()
    return values.reshape(-1, *values.shape[2:])


def curve_by_hand(fit, train_set, params, tokens):
    """Loss and its sensitivity to log R by the textbook formula, draw by draw."""
    i = fit.cells.index((train_set, train_set))
    E, log_A, log_B, alpha, beta, gamma, c = (draws_of(fit, name)[:, i] for name in NAMES)
    assert (c == 0).all()
    R = np.exp(alpha / gamma * (log_A - np.log(params))) + np.exp(beta / gamma * (log_B - np.log(tokens)))
    loss = E + R**gamma
    return loss, gamma * R**gamma / loss


def noise_by_hand(fit, train_set, params, tokens):
    """Standard deviations of log loss, draw by draw: the cell's own, and of what runs of one size share."""
    _, sensitivity = curve_by_hand(fit, train_set, params, tokens)
    largest = fit.sweep.table["flops"].max()
    off = discrepancy_scale(np.array([6 * params * tokens / largest]), fit.spec.likelihood.discrepancy)
    own = draws_of(fit, "residual_scale")[:, fit.cells.index((train_set, train_set))]
    return own, sensitivity * np.hypot(draws_of(fit, "size_effect_scale"), off)


def observing(fit, train_set, factor):
    """The fit with the large run of one training set among its runs, its loss `factor` times the law's."""
    law, _ = curve_by_hand(fit, train_set, **LARGE)
    row = {"run_id": "large", "train_set": train_set, "eval_set": train_set, "metric": "loss", **LARGE}
    row |= {"flops": 6 * LARGE["params"] * LARGE["tokens"], "loss": float(np.median(law)) * factor}
    table = pd.concat([fit.sweep.table, pd.DataFrame([row])], ignore_index=True)
    text = ("run_id", "train_set", "eval_set", "metric")
    columns = {c: ("row", table[c].to_numpy(dtype=object if c in text else float)) for c in row}
    return with_group(fit, observed_data=xr.Dataset(columns))


# The law


def test_a_curve_is_the_law_of_every_draw(fit):
    points = pd.DataFrame(
        {
            "train_set": ["starcoder", "fineweb-100b", "starcoder"],
            "params": [1e9, 2e8, 3.3e9],
            "tokens": [2e10, 1e9, 5e10],
        }
    )
    forecast = fit.forecast(points, kind="mean")
    assert forecast.draws.shape == (MANY, 3)
    assert forecast.kind == "mean"
    for i, row in enumerate(points.itertuples()):
        by_hand, _ = curve_by_hand(fit, row.train_set, row.params, row.tokens)
        np.testing.assert_allclose(forecast.draws[:, i], by_hand, rtol=1e-10)


def test_a_curve_has_the_transient_of_short_runs_if_the_posterior_has(fit):
    posterior = fit.draws.assign(c=fit.draws["c"] + 0.05)
    slow = with_group(fit, posterior=posterior)
    at = {"train_set": "starcoder", "params": 1e8, "tokens": 5e8, "kind": "curve"}
    i = fit.cells.index(("starcoder", "starcoder"))
    E, gamma = draws_of(fit, "E")[:, i], draws_of(fit, "gamma")[:, i]
    expected = E + (fit.forecast(**at).draws[:, 0] - E) * (1 + 0.05 * 2e9 / 5e8) ** gamma
    np.testing.assert_allclose(slow.forecast(**at).draws[:, 0], expected, rtol=1e-10)


def test_a_forecast_is_near_the_truth_that_was_simulated(fit):
    from bayes_l2l.data.simulation import simulate

    large = simulate(0)[1].table.set_index("train_set")["loss"]
    table = fit.forecast(**LARGE).table().set_index("train_set")
    assert len(table) == 6
    np.testing.assert_allclose(table["median"], large[table.index], rtol=0.03)


# The noise of a run


@pytest.mark.parametrize("train_set", ["starcoder", "fineweb-edu-100b"])
@pytest.mark.parametrize("size", [LARGE, {"params": 1.23e8, "tokens": 1.1e9}])
def test_a_run_scatters_about_the_curve_as_the_model_says(fit, train_set, size):
    run = fit.forecast(train_set=train_set, **size).draws[:, 0]
    law, _ = curve_by_hand(fit, train_set, **size)
    own, shared = noise_by_hand(fit, train_set, **size)
    z = np.log(run / law) / np.hypot(own, shared)
    assert abs(z.mean()) < 4 / np.sqrt(MANY)
    assert z.std() == pytest.approx(1, abs=4 / np.sqrt(2 * MANY))
    assert abs((abs(z) < 1.645).mean() - 0.9) < 0.02


def test_small_runs_scatter_more_than_the_deviation_says(fit):
    """They may lie off the law: the discrepancy of the model file."""
    small = {"params": 3.1e7, "tokens": 1.07e9}
    law, sensitivity = curve_by_hand(fit, "starcoder", **small)
    own, shared = noise_by_hand(fit, "starcoder", **small)
    assert (shared > 1.3 * sensitivity * draws_of(fit, "size_effect_scale")).all()
    run = fit.forecast(train_set="starcoder", **small).draws[:, 0]
    assert np.log(run / law).std() == pytest.approx(np.hypot(own, shared).mean(), rel=0.06)


def test_runs_of_one_size_deviate_together_and_of_two_sizes_apart(fit):
    sizes = pd.DataFrame([LARGE, {"params": 3.4e9, "tokens": 5.04e10}])
    forecast = fit.forecast(sizes, train_set=["starcoder", "smollm-corpus"])
    found = {}
    for i, row in enumerate(forecast.points.itertuples()):
        law, _ = curve_by_hand(fit, row.train_set, row.params, row.tokens)
        found[row.train_set, row.params] = np.log(forecast.draws[:, i] / law)
    expected = 1.0
    for name in ("starcoder", "smollm-corpus"):
        own, shared = noise_by_hand(fit, name, **LARGE)
        expected *= float(np.mean(shared / np.hypot(own, shared)))

    def correlation(one, other):
        return np.corrcoef(found[one], found[other])[0, 1]

    assert expected > 0.8
    together = correlation(("starcoder", 3.3e9), ("smollm-corpus", 3.3e9))
    assert together == pytest.approx(expected, abs=0.03)
    assert abs(correlation(("starcoder", 3.3e9), ("smollm-corpus", 3.4e9))) < 0.07
    assert abs(correlation(("starcoder", 3.3e9), ("starcoder", 3.4e9))) < 0.07


def test_an_observed_run_of_that_size_on_another_set_narrows_and_moves_the_interval(fit):
    """The posterior of the shared deviation, given one residual, is a normal that is written down here."""
    high = observing(fit, "fineweb-edu-100b", 1.03)
    before, after = (one.forecast(train_set="starcoder", **LARGE).table().iloc[0] for one in (fit, high))
    assert after["q0.95"] - after["q0.05"] < 0.6 * (before["q0.95"] - before["q0.05"])
    assert after["median"] > before["median"] * 1.005
    low = observing(fit, "fineweb-edu-100b", 0.97).forecast(train_set="starcoder", **LARGE).table().iloc[0]
    assert low["median"] < before["median"] / 1.005

    observed = float(high.sweep.table.query("run_id == 'large'")["loss"].iloc[0])
    other, _ = curve_by_hand(high, "fineweb-edu-100b", **LARGE)
    other_own, other_shared = noise_by_hand(high, "fineweb-edu-100b", **LARGE)
    precision = 1 + (other_shared / other_own) ** 2
    mean = other_shared * np.log(observed / other) / other_own**2 / precision
    law, _ = curve_by_hand(high, "starcoder", **LARGE)
    own, shared = noise_by_hand(high, "starcoder", **LARGE)
    run = high.forecast(train_set="starcoder", **LARGE).draws[:, 0]
    z = (np.log(run / law) - shared * mean) / np.sqrt(own**2 + shared**2 / precision)
    assert abs(z.mean()) < 4 / np.sqrt(MANY)
    assert z.std() == pytest.approx(1, abs=4 / np.sqrt(2 * MANY))


def test_an_observed_run_tells_nothing_about_the_noise_of_another_size(fit):
    high = observing(fit, "fineweb-edu-100b", 1.03)
    at = {"train_set": "starcoder", "params": 1e9, "tokens": 1e11}
    before, after = (one.forecast(**at).table().iloc[0] for one in (fit, high))
    assert after["median"] == pytest.approx(before["median"], rel=1e-3)
    curves = [one.forecast(**at, kind="mean").draws for one in (fit, high)]
    np.testing.assert_array_equal(*curves)


def test_a_forecast_is_the_same_whenever_it_is_made(fit):
    before = fit.posterior.copy(deep=True)
    points = pd.DataFrame([LARGE])
    given = points.copy()
    one, same = fit.forecast(points), fit.forecast(points)
    np.testing.assert_array_equal(one.draws, same.draws)
    other = replace(fit, settings=replace(fit.settings, seed=99)).forecast(points)
    assert not np.array_equal(one.draws, other.draws)
    pd.testing.assert_frame_equal(points, given)
    assert fit.posterior.equals(before)


def test_runs_of_downstream_evaluations_scatter_by_students_t():
    """They have heavy tails where the model says so; train losses have none."""
    made = joint_fit(draws=2000)
    heavy = ResidualSpec(dist="StudentT", parameters={"nu": 4.0})
    spec = replace(made.spec, downstream=replace(made.spec.downstream, likelihood=heavy))
    fit = replace(made, spec=spec)
    at = pd.DataFrame({"params": [5e8], "tokens": [1e10]})
    structure = structure_of(spec)
    points = expand(at, cells=fit.cells, max_flops=fit.max_flops)
    noisy, still = (structure.losses(fit, points, kind="predictive", noisy=noisy) for noisy in (True, False))
    drawn = np.log(noisy / still) / draws_of(fit, "residual_scale")[:, fit.columns(points)]
    for column, (evaluation, train) in enumerate(points[["eval_set", "train_set"]].itertuples(index=False)):
        right, wrong = (norm(), t(4)) if evaluation == train else (t(4), norm())
        assert kstest(right.cdf(drawn[:, column]), "uniform").pvalue > 1e-3
        assert kstest(wrong.cdf(drawn[:, column]), "uniform").pvalue < 1e-3
    # what scatters normally is drawn as without heavy tails
    own = (points["eval_set"] == points["train_set"]).to_numpy()
    np.testing.assert_array_equal(noisy[:, own], made.forecast(at).draws[:, own])


def test_a_downstream_evaluation_whose_asymptote_is_below_zero_stays_above_it():
    """However far out, and however far its runs deviate; where losses are, it is left as it is."""
    made = joint_fit()
    reads = np.array([evaluation != train for evaluation, train in made.cells])
    posterior = made.draws.assign_coords(anchor=("cell", ~reads))
    posterior = posterior.assign(
        E=posterior["E"].where(~reads, -2.0), size_effect_scale=0 * posterior["size_effect_scale"] + 0.3
    )
    fit = replace(
        made,
        tree=xr.DataTree.from_dict(
            {**{k: v.to_dataset() for k, v in made.tree.children.items()}, "posterior": posterior}
        ),
    )
    far = pd.DataFrame({"params": [1e9, 1e13], "tokens": [2e10, 1e16]})
    for kind in ("run", "curve"):
        forecast = fit.forecast(far, kind=kind)
        assert np.isfinite(forecast.draws).all()
        assert (forecast.draws > 0).all()
        assert forecast.draws.max() < 20
    law = law_draws(stacked(fit.posterior), reads)
    assert (law.loss(1e13, 1e16) < 0).all()  # or the test would show nothing
    kept = structures._above_zero(np.array([0.5, 2.0, 10.0]))
    np.testing.assert_allclose(kept, [0.5, 2.0, 10.0], rtol=1e-5)


# Extrapolation discrepancy: beyond the runs


def departing(fit, size):
    likelihood = replace(fit.spec.likelihood, extrapolation_discrepancy=size)
    return replace(fit, spec=replace(fit.spec, likelihood=likelihood))


def departure_of(fit, size, points, *, kind="mean"):
    """What it adds to log loss, over the scatter of the cell, draw by draw."""
    with_it, without = (one.forecast(points, kind=kind) for one in (departing(fit, size), departing(fit, 0.0)))
    column = [fit.cells.index(cell) for cell in with_it.points[["eval_set", "train_set"]].itertuples(index=False)]
    return np.log(with_it.draws / without.draws) / draws_of(fit, "residual_scale")[:, column]


def beyond(fit, factors, eval_set):
    """Points of all training sets with an evaluation, so many times its largest compute."""
    largest = fit.sweep.table.query("eval_set == @eval_set")["flops"].max()
    return pd.DataFrame({"eval_set": eval_set, "params": 1e9, "tokens": [f * largest / 6e9 for f in factors]})


def test_nothing_departs_among_the_runs(joint):
    points = beyond(joint, [0.01, 0.5, 1.0], "task")
    assert len(joint.forecast(points)) == 9
    np.testing.assert_allclose(departure_of(joint, 2.0, points), 0, atol=1e-9)


@pytest.mark.parametrize("kind", ["curve", "run"])
def test_departures_grows_with_the_log_distance_as_the_model_says(joint, kind):
    """By so many scatters an e-fold of compute: the same draw at every distance."""
    factors = np.exp([1.0, 2.0, 3.0])
    points = beyond(joint, factors, "task").assign(train_set="starcoder")
    found = departure_of(joint, 0.7, points, kind=kind)
    np.testing.assert_allclose(found, found[:, :1] * [1.0, 2.0, 3.0], rtol=1e-6)
    draws = len(found)
    assert found[:, 0].std() == pytest.approx(0.7, rel=4 / np.sqrt(2 * draws))
    assert abs(found[:, 0].mean()) < 4 * 0.7 / np.sqrt(draws)
    np.testing.assert_allclose(departure_of(joint, 1.4, points, kind=kind), 2 * found, rtol=1e-6)


def test_an_evaluation_departs_alike_on_all_training_sets_and_from_others_as_residuals_do(joint):
    """Its distance is that from its own largest run, of whichever training set."""
    task = departure_of(joint, 1.0, beyond(joint, [np.e], "task"))
    assert task.shape[1] == 3
    np.testing.assert_allclose(task, task[:, :1] * np.ones(3), rtol=1e-9)
    other = departure_of(joint, 1.0, beyond(joint, [np.e], "smollm-corpus"))
    known = structure_of(joint.spec).evaluation_correlation(joint)
    expected = (lambda factor: factor @ factor.T)(known.of(["smollm-corpus", "task"]))[0, 1]
    assert np.corrcoef(task[:, 0], other[:, 0])[0, 1] == pytest.approx(expected, abs=4 / np.sqrt(len(task)))
    # starcoder's few runs are smaller than the task's largest, on other sets
    own, largest = joint.max_flops["starcoder"], max(joint.max_flops.values())
    assert own < largest
    near = pd.DataFrame({"train_set": ["starcoder"], "params": 1e9, "tokens": largest / 6e9})
    found = departure_of(joint, 1.0, near)
    at = joint.forecast(near).points["eval_set"].tolist()
    np.testing.assert_allclose(found[:, at.index("task")], 0, atol=1e-9)
    assert found[:, at.index("starcoder")].std() == pytest.approx(np.log(largest / own), rel=0.25)


def test_departures_is_the_same_in_two_forecasts_of_a_fit(joint):
    fit = departing(joint, 1.0)
    near, far = beyond(fit, [2.0], "task"), beyond(fit, [5.0, 2.0], "task")
    alone, among = (fit.forecast(points, train_set="starcoder", kind="mean").draws for points in (near, far))
    np.testing.assert_array_equal(alone[:, 0], among[:, 1])
    other = replace(fit, settings=replace(fit.settings, seed=fit.settings.seed + 1))
    assert not np.allclose(other.forecast(near, train_set="starcoder", kind="mean").draws, alone)


# Tables whose draws are not kept


def many_points(n):
    rng = np.random.default_rng(0)
    size = {"params": np.exp(rng.uniform(19, 25, n)), "tokens": np.exp(rng.uniform(21, 27, n))}
    return pd.DataFrame(size).assign(train_set="starcoder", eval_set="starcoder")


@pytest.mark.parametrize("kind", ["mean", "predictive"])
def test_a_table_is_that_of_a_forecast(joint, kind):
    points = many_points(10)
    made = joint.forecast(points, kind=kind)
    table, notes = forecast_table(joint, points, kind=kind, quantiles=[0.1, 0.9])
    pd.testing.assert_frame_equal(table, made.table(quantiles=[0.1, 0.9]))
    assert notes == made.notes


def test_a_table_that_is_made_in_parts_is_the_same_table(joint, monkeypatch):
    points = many_points(50)
    whole, table_of_whole = joint.forecast(points), joint.forecast(points).table()
    monkeypatch.setattr(draws, "_AT_ONCE", 7 * 200)
    table, notes = forecast_table(joint, points)
    pd.testing.assert_frame_equal(table, table_of_whole, rtol=1e-12)
    assert notes == whole.notes


@pytest.mark.parametrize("kind", ["mean", "predictive"])
def test_a_forecast_that_is_made_in_parts_is_the_same_forecast(joint, kind, monkeypatch):
    """Noise of runs, too: that of a size is shared by its points in other parts, and every point has its own."""
    sizes = many_points(8)[["params", "tokens"]]
    points = pd.concat([sizes, joint.sweep.table[["params", "tokens"]].head(3), sizes], ignore_index=True)
    whole = joint.forecast(points, kind=kind)
    quantiles, sd = whole.quantile([0.05, 0.5]), whole.table()["sd"]
    monkeypatch.setattr(draws, "_AT_ONCE", 5 * len(whole.draws))
    found = joint.forecast(points, kind=kind)
    np.testing.assert_allclose(found.draws, whole.draws, rtol=1e-12)
    pd.testing.assert_frame_equal(found.points, whole.points)
    np.testing.assert_allclose(found.quantile([0.05, 0.5]), quantiles, rtol=1e-12)
    np.testing.assert_allclose(found.table()["sd"], sd, rtol=1e-12)
    assert found.notes == whole.notes
    # Two runs of one size and cell have the law in common, and each scatters by itself.
    same = found.points[["params", *CELL]].apply(tuple, axis=1)
    first, second = found.draws[:, (same == same[0]).to_numpy()].T
    assert (first == second).all() == (kind == "mean")


@pytest.mark.parametrize(
    ("made", "most"),
    [
        ("forecast_table(fit, many_points(2_000), quantiles=[0.5], kind='mean')[0]", 160_000),
        ("fit.forecast(many_points(2_000)).table(quantiles=[0.5])", 360_000),
    ],
)
def test_forecasts_of_many_points_take_little_memory(made, most):
    """Where the draws of all points take 160 MB, and what they are made from a dozen times as much."""
    program = f"""
import resource
from synthetic import joint_fit
from test_forecast import many_points
from bayes_l2l.prediction.forecasts import forecast_table
fit = joint_fit(chains=4, draws=2500)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert len({made}) == 2_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = faults.python(program, cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < most  # kB


# What decides R


def test_a_task_that_only_reads_R_tells_nothing_of_its_deviation(joint):
    """The run of that size is off on both evaluations; only what decides R is asked how far R is."""
    decides = [e == t for e, t in joint.cells]
    size = joint.sweep.table.query("train_set == 'smollm-corpus'").iloc[-1][["params", "tokens"]]
    at_size = np.isclose(joint.sweep.table["params"], size["params"]) & np.isclose(
        joint.sweep.table["tokens"], size["tokens"]
    )
    task = joint.sweep.table["eval_set"] == "task"

    def median(moved, *, some):
        loss = joint.sweep.table["loss"] * np.where(at_size & moved, 1.02, 1.0)
        made = with_group(joint, observed_data=joint.tree["observed_data"].to_dataset().assign(loss=("row", loss)))
        anchors = decides if some else [True] * len(decides)
        made = with_group(made, posterior=made.draws.assign_coords(anchor=("cell", anchors)))
        found = made.forecast(train_set="starcoder", eval_set="starcoder", **size)
        return float(np.median(found.draws))

    as_it_was = median(False, some=True)
    assert median(task, some=True) == as_it_was
    assert median(~task, some=True) > 1.001 * as_it_was
    # a fit whose cells are all anchors
    assert median(task, some=False) > 1.001 * as_it_was


# Where


def test_points_without_names_are_meant_for_every_cell(fit):
    forecast = fit.forecast(pd.DataFrame([LARGE, LARGE | {"params": 1e9}]))
    assert len(forecast) == 12
    assert sorted(set(forecast.points["train_set"])) == fit.sweep.train_sets
    named = fit.forecast(pd.DataFrame([LARGE]), train_set=["starcoder", "proof-pile-2"])
    assert sorted(named.points["train_set"]) == ["proof-pile-2", "starcoder"]
    one = fit.forecast(pd.DataFrame([LARGE | {"train_set": "starcoder"}]))
    assert one.points[["train_set", "eval_set"]].values.tolist() == [["starcoder", "starcoder"]]
    kept = fit.forecast(
        pd.DataFrame([LARGE | {"train_set": t} for t in ("starcoder", "proof-pile-2")]), train_set="proof-pile-2"
    )
    assert kept.points["train_set"].tolist() == ["proof-pile-2"]


def test_points_keep_their_order(fit):
    names = ["starcoder", "fineweb-100b", "smollm-corpus", "fineweb-100b"]
    points = pd.DataFrame({"train_set": names, "params": [4e9, 1e9, 3e9, 2e9], "tokens": 2e10}, index=[7, 7, 1, 0])
    found = fit.forecast(points).points
    assert found["train_set"].tolist() == names
    assert found["params"].tolist() == [4e9, 1e9, 3e9, 2e9]
    assert found.index.tolist() == [0, 1, 2, 3]


def test_the_extrapolation_is_relative_to_the_largest_run_of_the_training_set(fit):
    fewer = fit.sweep.table["flops"].where(fit.sweep.table["train_set"] != "starcoder")
    assert fit.max_flops["starcoder"] == pytest.approx(4.84e19, rel=1e-6)
    points = fit.forecast(**LARGE).points
    np.testing.assert_allclose(points["extrapolation"], 6 * 3.3e9 * 5.04e10 / fewer.max(), rtol=1e-12)
    uneven = expand(
        pd.DataFrame({"train_set": ["a", "b"], "params": 1e9, "tokens": 1e10}),
        cells=[("a", "a"), ("b", "b")],
        max_flops={"a": 6e18, "b": 6e20},
    )
    np.testing.assert_allclose(uneven["extrapolation"], [10, 0.1])


def test_flops_that_are_given_are_kept(fit):
    points = pd.DataFrame([LARGE | {"train_set": "starcoder", "flops": f} for f in (2e21, np.nan)])
    found = fit.forecast(points).points
    np.testing.assert_allclose(found["flops"], [2e21, 6 * 3.3e9 * 5.04e10])
    np.testing.assert_allclose(found["extrapolation"], found["flops"] / fit.max_flops["starcoder"])


@pytest.mark.parametrize("budget", [1e19, 1e21])
def test_a_budget_is_forecast_at_each_cells_own_optimum(fit, budget):
    forecast = fit.forecast(flops=budget, kind="mean")
    assert forecast.points["train_set"].tolist() == fit.sweep.train_sets
    np.testing.assert_allclose(6 * forecast.points["params"] * forecast.points["tokens"], budget)
    np.testing.assert_allclose(forecast.points["flops"], budget)
    assert forecast.points["params"].nunique() == 6
    for i, row in enumerate(forecast.points.itertuples()):
        law = Law(**{name: draws_of(fit, name)[:, i] for name in NAMES})
        assert row.params == pytest.approx(np.median(law.optimal(budget)[0]))
        centre = Law(**{name: np.median(draws_of(fit, name)[:, i]) for name in NAMES})
        at = [centre.loss(row.params * f, row.tokens / f) for f in (0.7, 1, 1.4)]
        assert at[1] < min(at[0], at[2])
    assert len(fit.forecast(flops=budget, train_set="starcoder")) == 1


# The table


def test_the_table_is_that_of_the_contract(fit):
    forecast = fit.forecast(train_set="starcoder", **LARGE)
    table = forecast.table()
    levels = [f"q{q:g}" for q in QUANTILES]
    assert list(table.columns) == [
        "train_set", "eval_set", "params", "tokens", "flops", "kind",
        "mean", "sd", "median", *levels, "extrapolation",
    ]  # fmt: skip
    row, draws = table.iloc[0], forecast.draws[:, 0]
    assert (row["train_set"], row["eval_set"], row["kind"]) == ("starcoder", "starcoder", "predictive")
    assert row["mean"] == pytest.approx(draws.mean())
    assert row["sd"] == pytest.approx(draws.std())
    assert row["median"] == row["q0.5"] == pytest.approx(np.median(draws))
    for q in QUANTILES:
        assert row[f"q{q:g}"] == pytest.approx(np.quantile(draws, q))
    assert (np.diff([row[level] for level in levels]) > 0).all()
    assert fit.forecast(flops=1e20, kind="mean").table()["kind"].unique().tolist() == ["mean"]


def test_quantiles_are_those_asked_for_once_and_ascending(fit):
    table = fit.forecast(train_set="starcoder", **LARGE).table(quantiles=[0.9, 0.1, 0.9, 0.005])
    assert [c for c in table if c.startswith("q")] == ["q0.005", "q0.1", "q0.9"]
    assert [c for c in fit.forecast(**LARGE).table(quantiles=[]) if c.startswith("q")] == []


@pytest.mark.parametrize("level", [0, 1, 1.5, -0.1, 95])
def test_a_quantile_beyond_its_bounds_is_refused(fit, level):
    with pytest.raises(ForecastError) as caught:
        fit.forecast(**LARGE).table(quantiles=[0.5, level])
    assert str(caught.value) == f"A quantile must lie between 0 and 1, not {level:g}."


def test_a_forecast_says_what_it_is(fit):
    forecast = fit.forecast(**LARGE)
    assert repr(forecast) == f"<Forecast of 6 points, kind 'predictive', {MANY} draws>"
    assert isinstance(forecast, Forecast)


# Notes


def test_points_beyond_what_hindcasts_have_tested_are_noted(fit):
    far = LARGE | {"params": 3.3e10, "tokens": 5e11}
    forecast = fit.forecast(pd.DataFrame([LARGE, far]), train_set="starcoder")
    (note,) = [note for note in forecast.notes if note.code == "far_extrapolation"]
    assert note.severity == "warning"
    assert note.data["points"] == 1
    assert note.data["extrapolation"] == pytest.approx(6 * 3.3e10 * 5e11 / 4.84e19, rel=1e-3)
    assert note.message.startswith(f"1 of 2 points have up to {note.data['extrapolation']:.0f} times")
    near = fit.forecast(**LARGE)
    assert "far_extrapolation" not in {note.code for note in near.notes}


def test_objections_to_the_fit_go_with_its_forecasts(fit):
    objection = Note("rhat", "serious", "the chains disagree")
    assert objection in replace(fit, notes=(objection,)).forecast(**LARGE).notes


# Refusals


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"params": 1e9},
        {"tokens": 1e9},
        {"params": 1e9, "tokens": 1e10, "flops": 1e20},
        {"params": 1e9, "flops": 1e20},
        {"points": pd.DataFrame([LARGE]), "flops": 1e20},
        {"points": pd.DataFrame([LARGE]), "params": 1e9, "tokens": 1e10},
        {"train_set": "starcoder"},
    ],
)
def test_where_to_forecast_is_said_in_exactly_one_way(fit, asked):
    with pytest.raises(ForecastError) as caught:
        fit.forecast(**asked)
    assert str(caught.value) == "Say where to forecast: a table of points, or both params and tokens, or flops."


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"params": -1.0, "tokens": 1e9}, ForecastError, "The points to forecast need positive, finite params."),
        ({"params": 1e9, "tokens": 0.0}, ForecastError, "The points to forecast need positive, finite tokens."),
        ({"params": np.nan, "tokens": 1e9}, ForecastError, "The points to forecast need positive, finite params."),
        ({"params": 1e9, "tokens": np.inf}, ForecastError, "The points to forecast need positive, finite tokens."),
        ({"flops": 0.0}, ForecastError, "flops must be positive and finite, not 0."),
        ({"flops": -1e20}, ForecastError, "flops must be positive and finite, not -1e+20."),
        ({"flops": np.inf}, ForecastError, "flops must be positive and finite, not inf."),
        (
            {"points": pd.DataFrame({"params": [1e9]})},
            ForecastError,
            "The points to forecast have no column 'tokens'.",
        ),
        (
            {"points": pd.DataFrame({"params": [], "tokens": []}, dtype=float)},
            ForecastError,
            "There are no points to forecast.",
        ),
        (
            LARGE | {"kind": "law"},
            ForecastError,
            "kind is 'law'; it must be 'predictive' (a run) or 'mean' (the law).",
        ),
        (
            LARGE | {"train_set": "the-pile"},
            DataError,
            "The training set 'the-pile' was not fitted; fitted are fineweb-",
        ),
        (
            LARGE | {"eval_set": "hellaswag"},
            DataError,
            "The evaluation 'hellaswag' was not fitted; fitted are fineweb-",
        ),
        (
            LARGE | {"train_set": "starcoder", "eval_set": "proof-pile-2"},
            DataError,
            "No cell was fitted for proof-pile-2 of starcoder.",
        ),
        (
            {"points": pd.DataFrame([LARGE | {"train_set": "the-pile"}, LARGE | {"train_set": "starcoder"}])},
            DataError,
            "No cell was fitted for the-pile, asked for by 1 of 2 points; fitted are fineweb-100b of fineweb-100b, ",
        ),
        (
            {"points": pd.DataFrame([LARGE | {"train_set": "starcoder", "eval_set": "smollm-corpus"}])},
            DataError,
            "No cell was fitted for smollm-corpus of starcoder, asked for by 1 of 1 points",
        ),
    ],
)
def test_what_cannot_be_forecast_is_refused(fit, asked, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        fit.forecast(**asked)


# what Python and notebooks are given


def test_sizes_are_broadcast_cell_by_cell(fit):
    sets = ["proof-pile-2", "starcoder"]
    several = fit.forecast(train_set=sets, params=[1e9, 2e9, 3e9], tokens=5e10)
    assert several.points[["train_set", "params"]].to_numpy().tolist() == [
        [name, size] for name in sets for size in (1e9, 2e9, 3e9)
    ]
    assert set(several.points["tokens"]) == {5e10}
    pairs = fit.forecast(train_set="starcoder", params=np.array([1e9, 2e9]), tokens=[2e10, 4e10])
    assert pairs.points["tokens"].tolist() == [2e10, 4e10]
    budgets = fit.forecast(train_set="starcoder", flops=[1e20, 1e21])
    alone = fit.forecast(train_set="starcoder", flops=1e21)
    assert budgets.points["params"].iloc[1] == alone.points["params"].item()


@pytest.mark.parametrize("tokens", [[1e10, 2e10, 3e10], "many", []])
def test_sizes_that_do_not_fit_are_refused_in_a_sentence(fit, tokens):
    with pytest.raises(ForecastError, match="params and tokens must be numbers, or as many as each other"):
        fit.forecast(params=[1e9, 2e9], tokens=tokens)


def test_mean_quantiles_and_intervals(fit):
    forecast = fit.forecast(flops=1e21)
    table = forecast.table()
    np.testing.assert_allclose(forecast.mean(), table["mean"])
    np.testing.assert_allclose(forecast.quantile(0.95), table["q0.95"])
    assert forecast.quantile([0.1, 0.5, 0.9]).shape == (3, 6)
    low, high = forecast.interval(0.5)
    np.testing.assert_allclose([low, high], [table["q0.25"], table["q0.75"]])
    np.testing.assert_allclose(forecast.interval()[1], table["q0.95"])
    for refused in (0, 1, 1.5):
        with pytest.raises(ForecastError, match="between 0 and 1"):
            forecast.quantile(refused)
        with pytest.raises(ForecastError, match="between 0 and 1"):
            forecast.interval(refused)
