"""Mixtures of domains: from a table to a fit, forecasts of what was never trained, and the best mixture."""

from __future__ import annotations

import shlex

import numpy as np
import pandas as pd
import pytensor
import pytest
from command_line import table
from mixed import DOMAINS, EVALUATIONS, SIZES, mixtures

import bayes_l2l as l2l
from bayes_l2l.cli import main
from bayes_l2l.density.lowering import Lowering
from bayes_l2l.errors import DataError, ForecastError, TableError
from bayes_l2l.laws.mixing import MixingLaw
from bayes_l2l.structures.mixture import build_mixture
from bayes_l2l.structures.mixture_arrays import MixtureArrays
from bayes_l2l.structures.mixture_draws import mixture_draws
from bayes_l2l.structures.models import load_spec

SLOW = pytensor.compile.mode.Mode(linker="py", optimizer=None)
RUNS = mixtures()
FITTED = RUNS[RUNS["fitted"]].drop(columns="fitted")
LARGE = RUNS[~RUNS["fitted"]].drop(columns="fitted")
NEW = pd.DataFrame([[0.4, 0.3, 0.2, 0.1]], columns=[f"weight:{name}" for name in DOMAINS])


@pytest.fixture(scope="module")
def sweep():
    return l2l.Sweep.from_table(FITTED)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A fit by the command line, saved."""
    folder = tmp_path_factory.mktemp("mixtures")
    FITTED.to_csv(folder / "runs.csv", index=False)
    main(shlex.split(f"fit {folder}/runs.csv --model mixture --chains 2 --tune 400 --draws 400 -o {folder}/fit.nc"))
    return folder / "fit.nc"


@pytest.fixture(scope="module")
def fit(file):
    return l2l.load_fit(file)


def size(place: int) -> dict[str, float]:
    return {"params": SIZES[place][0], "tokens": SIZES[place][1]}


def test_departures_are_integrated_out(sweep):
    """The likelihood is that of the joint distribution of a mixture's runs, written out, in PyMC and on the tape."""
    data = MixtureArrays.of(sweep).only(0)
    spec = load_spec("mixture").to_dict()
    spec = load_spec({**spec, "likelihood": _normal(spec["likelihood"])})
    model = build_mixture(spec, data)
    start = model.initial_point()
    residual, above = _residuals(start, data)
    total = 0.0
    for m in range(len(data.mixtures)):
        runs = np.flatnonzero(data.mixture == m)
        departure = np.exp(-6.0) + _amounts(start, data)[0, m] ** -2.0
        covariance = np.eye(len(runs)) * np.exp(-9.0) + np.exp(-2.8) * departure
        r = residual[0, runs]
        total -= 0.5 * (r @ np.linalg.solve(covariance, r) + np.linalg.slogdet(covariance)[1])
        total -= np.log(above[0, runs]).sum()
    (likelihood,) = model.replace_rvs_by_values(model.potentials)
    compiled = pytensor.function(model.value_vars, likelihood, mode=SLOW, on_unused_input="ignore")
    assert float(compiled(*(start[v.name] for v in model.value_vars))) == pytest.approx(total, rel=1e-6)


def test_the_gradient_of_the_tape_is_right(sweep):
    data = MixtureArrays.of(sweep).only(1)
    tape = Lowering(build_mixture(load_spec("mixture"), data)).tape(data.arrays()).with_data(data.arrays())
    point, way = np.random.default_rng(0).normal(0, 0.1, (2, len(tape.start)))
    up, down = (tape.log_density(tape.start + point + step * way)[0] for step in (1e-5, -1e-5))
    assert tape.log_density(tape.start + point)[1] @ way == pytest.approx((up - down) / 2e-5, rel=1e-4)


def _normal(likelihood):
    """Normal departures, of known weights."""
    return {k: v for k, v in likelihood.items() if k != "nu"} | {"dist": "Normal", "weight_error": 1.0}


def _amounts(start, data):
    power = 1 / (1 + np.exp(-start["power_drawn"]))
    return 1 + np.exp(start["worth_drawn"]) @ np.where(data.weights > 0, data.weights, 1e-300).T ** power


def _residuals(start, data):
    """Residuals and losses above the floor where all coefficients are at the means of their priors."""
    power = 1 / (1 + np.exp(-start["power_drawn"]))
    reference = np.exp(start["log_reference_drawn"])
    below = (data.smallest**-8.0 + reference**-8.0) ** (-1 / 8)
    floor = below / (1 + np.exp(-0.5))
    at = np.log(1 + np.exp(start["worth_drawn"]) @ data.reference**power)
    moved = -np.exp(-1.4) * (np.log(_amounts(start, data)) - at[:, None])
    level = np.log(reference - floor)
    above = data.loss - floor[:, data.size]
    return np.log(above) - level[:, data.size] - moved[:, data.mixture], above


def test_it_forecasts_larger_runs_of_mixtures_that_were_run_small(fit):
    found = fit.forecast(LARGE[["train_set", "eval_set", "params", "tokens"]].reset_index(drop=True))
    error = np.log(np.median(found.draws, axis=0) / LARGE["loss"].to_numpy())
    assert np.abs(error).max() < 0.03
    low, high = found.interval(0.9)
    assert ((low < LARGE["loss"].to_numpy()) & (LARGE["loss"].to_numpy() < high)).mean() >= 0.7


def test_what_was_never_trained_is_less_certain_and_says_so(fit):
    trained = fit.forecast(train_set="mix03", **size(1))
    same = FITTED[FITTED["train_set"] == "mix03"].filter(like="weight:").iloc[:1]
    new = fit.forecast(same.assign(**size(1)))
    assert (new.draws.std(axis=0) > 1.3 * trained.draws.std(axis=0)).all()
    (note,) = [note for note in new.notes if note.code == "never_trained"]
    assert "'mixture 1' was never trained" in note.message
    assert "never_trained" not in [note.code for note in trained.notes]


def test_more_of_a_domain_than_any_mixture_has_is_noted(fit):
    most = FITTED["weight:math"].max()
    point = pd.DataFrame([{"weight:math": 1.0, **size(1)}])
    notes = [note for note in fit.forecast(point).notes if note.code == "beyond_mixtures"]
    assert len(notes) == (most < 0.99)


def test_the_command_forecasts_mixtures_of_a_table(file, tmp_path, capsys, fit):
    points = NEW.assign(**size(1))
    points.to_csv(tmp_path / "points.csv", index=False)
    main(shlex.split(f"forecast {file} --at {tmp_path}/points.csv --quantiles 0.05,0.95"))
    shown = table(capsys.readouterr().out)
    expected = fit.forecast(points).table(quantiles=[0.05, 0.95])
    pd.testing.assert_frame_equal(shown, expected, rtol=1e-6, check_dtype=False)


def test_the_best_mixture_is_the_best_and_within_bounds(file, fit, capsys):
    best = fit.choose_mixture(eval_set=EVALUATIONS, weights=(2, 1), bounds={"books": (0.1, 0.2)}, **size(1))
    assert best.weights.sum() == pytest.approx(1)
    assert 0.1 <= best.weights[DOMAINS.index("books")] <= 0.2
    draws = mixture_draws(fit)
    rng = np.random.default_rng(0)
    others = rng.dirichlet(np.ones(4), 400)
    others = others[(others[:, 2] >= 0.1) & (others[:, 2] <= 0.2) & (others <= best.high).all(axis=1)]
    both = np.vstack([best.weights, others])
    levels = [draws.level(name, SIZES[1], predictive=False) for name in EVALUATIONS]
    mean = sum(
        w * lv.loss(lv.law.log_effect(both)).mean(axis=0) for w, lv in zip((2 / 3, 1 / 3), levels, strict=True)
    )
    assert mean[0] <= mean[1:].min() + 1e-3
    assert ((best.each >= best.low - 1e-9) & (best.each <= best.high + 1e-9)).all()
    command = (
        f"choose {file} --over mixtures --eval-set code_val --eval-set web_val --weights 2,1 --bound books=0.1:0.2"
    )
    main(shlex.split(f"{command} --params 1e8 --tokens 1e10"))
    shown = capsys.readouterr()
    pd.testing.assert_frame_equal(table(shown.out), best.table(), rtol=1e-6, check_dtype=False)
    assert "never trained" in shown.err


def test_a_mixing_law_without_strength_is_exponential():
    law = MixingLaw(np.ones((1, 2)), np.array([[0.3, -0.3]]), np.array([0.5]), np.zeros(1), np.array([0.5, 0.5]))
    assert law.log_effect(np.array([[1.0, 0.0]])) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weight:web": -0.1}, "is no weight"),
        ({"weight:web": 3.0}, "sum to"),
    ],
)
def test_impossible_weights_are_refused_with_their_row(change, said):
    wrong = FITTED.copy()
    wrong.loc[wrong.index[0], list(change)] = list(change.values())
    with pytest.raises(TableError, match=said):
        l2l.Sweep.from_table(wrong)


def test_a_table_without_weights_cannot_be_fitted(sweep):
    plain = l2l.Sweep.from_table(FITTED.drop(columns=[f"weight:{name}" for name in DOMAINS]))
    with pytest.raises(DataError, match="what it is mixed of"):
        l2l.fit(plain, model="mixture")


def test_a_mapping_names_the_columns_of_weights():
    renamed = FITTED.rename(columns={f"weight:{name}": f"w_{name}" for name in DOMAINS})
    found = l2l.Sweep.from_table(renamed, columns={"weights": {name: f"w_{name}" for name in DOMAINS}})
    assert MixtureArrays.of(found).domains == list(DOMAINS)


def test_other_domains_and_names_are_refused(fit):
    with pytest.raises(ForecastError, match="'poems' was not fitted"):
        fit.forecast(pd.DataFrame([{"weight:poems": 1.0, **size(0)}]))
    with pytest.raises(DataError, match="other weights"):
        fit.forecast(NEW.assign(train_set="mix03", **size(0)))
    with pytest.raises(ForecastError, match="No mixture is inside"):
        fit.choose_mixture(eval_set="web_val", bounds={"web": (0.8, 0.9), "code": (0.3, 0.4)}, **size(0))
