"""Scores agree with scoringrules and with their definitions; bad tables are refused with one sentence."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scoringrules as sr
from hypothesis import given
from hypothesis import strategies as st

from bayes_l2l.errors import ForecastError
from bayes_l2l.evaluation import scores

ROOT = Path(__file__).resolve().parents[2]
PERCENTILES = np.arange(1, 100) / 100
# Of the standard normal, so that the tests need no scipy: symmetric, the upper half.
NORMAL = {0.5: 0.0, 0.75: 0.6744897501960817, 0.9: 1.2815515655446004, 0.95: 1.6448536269514722}
NORMAL |= {0.975: 1.959963984540054}
NORMAL |= {round(1 - level, 3): -z for level, z in NORMAL.items()}
SOME_LEVELS = sorted(NORMAL)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def tables(*, levels=SOME_LEVELS, sd=0.1, actual=(2.0, 2.5, 3.0)):
    """Normal forecasts centred on 2.1, 2.6, 3.1 and the losses that were then measured."""
    n = len(actual)
    keys = {"train_set": "web", "eval_set": [f"e{i}" for i in range(n)], "params": 3.3e9, "tokens": 5e10}
    median = 2.1 + 0.5 * np.arange(n)
    quantiles = {f"q{level:g}": median + sd * NORMAL[level] for level in levels}
    forecast = pd.DataFrame({**keys, "flops": 1e21, "kind": "run", "median": median, **quantiles})
    return forecast, pd.DataFrame({**keys, "loss": list(actual)})


def test_crps_of_draws_is_that_of_scoringrules_and_of_the_definition(rng):
    draws, actual = rng.normal(size=(50, 4, 3)), rng.normal(size=(4, 3))
    score = scores.crps_draws(draws, actual)
    np.testing.assert_allclose(score, sr.crps_ensemble(actual, draws, m_axis=0, estimator="nrg"))
    pairs = np.abs(draws[:, None] - draws[None]).mean(axis=(0, 1))
    np.testing.assert_allclose(score, np.abs(draws - actual).mean(axis=0) - pairs / 2)


def test_crps_of_draws_with_ties_is_that_of_the_definition_to_the_last_digits(rng):
    draws, actual = np.round(rng.normal(3, 0.2, size=(400, 6)), 1), np.round(rng.normal(3, 0.2, size=6), 1)
    pairs = np.abs(draws[:, None] - draws[None]).mean(axis=(0, 1))
    definition = np.abs(draws - actual).mean(axis=0) - pairs / 2
    np.testing.assert_allclose(scores.crps_draws(draws, actual), definition, rtol=0, atol=1e-10)


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20),
    st.floats(-1e3, 1e3),
    st.floats(-10, 10),
    st.floats(0.1, 10),
)
def test_crps_has_the_unit_of_the_draws_and_lies_between_zero_and_the_absolute_error(x, y, shift, scale):
    draws = np.array(x)
    score = scores.crps_draws(draws, y)
    assert -1e-9 <= score <= np.abs(draws - y).mean() + 1e-9
    moved = scores.crps_draws(shift + scale * draws, shift + scale * y)
    np.testing.assert_allclose(moved, scale * score, atol=1e-9, rtol=1e-9)
    np.testing.assert_allclose(scores.crps_draws(draws[:1], y), abs(draws[0] - y), atol=1e-12)


def test_crps_of_even_quantiles_is_twice_the_mean_pinball_loss(rng):
    values, actual = np.sort(rng.normal(size=(5, 99)), axis=-1), rng.normal(size=5)
    score = scores.crps_quantiles(PERCENTILES, values, actual)
    np.testing.assert_allclose(score, sr.crps_quantile(actual, values, PERCENTILES))


@pytest.mark.parametrize(
    ("levels", "within"),
    [(SOME_LEVELS, 0.02), ([0.05, 0.25, 0.5, 0.75, 0.95], 0.10)],
    ids=["nine", "five"],
)
def test_crps_of_uneven_quantiles_is_close_to_the_exact_one(levels, within, rng):
    values = np.array([NORMAL[level] for level in levels])
    actual = rng.normal(size=20_000)
    mean = scores.crps_quantiles(levels, np.broadcast_to(values, (len(actual), len(levels))), actual).mean()
    assert mean == pytest.approx(sr.crps_normal(actual, 0.0, 1.0).mean(), rel=within)


@pytest.mark.parametrize("level", scores.LEVELS)
def test_interval_score_is_that_of_scoringrules(level, rng):
    lower, width, actual = rng.normal(size=30), rng.gamma(2, size=30), rng.normal(size=30)
    score = scores.interval_score(lower, lower + width, actual, level=level)
    np.testing.assert_allclose(score, sr.interval_score(actual, lower, lower + width, 1 - level))
    missed = np.maximum(lower - actual, 0) + np.maximum(actual - lower - width, 0)
    np.testing.assert_allclose(score, width + 2 / (1 - level) * missed, rtol=0, atol=1e-10)


def test_interval_scores_have_the_shape_that_limits_and_outcomes_have_together():
    assert scores.interval_score(0.0, 1.0, 2.0, level=0.5) == 5
    assert scores.interval_score([0.0], [1.0], [2.0], level=0.5).tolist() == [5]
    assert scores.interval_score(0.0, [[1.0], [2.0]], [0.5, 3.0, 4.0], level=0.5).tolist() == [[1, 9, 13], [2, 6, 10]]


def test_nothing_slow_is_imported_before_a_score_is_asked_for():
    code = "import sys, bayes_l2l.evaluation.scores; print({'scoringrules', 'numba', 'scipy'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_coverage_counts_closed_intervals():
    assert scores.coverage([0, 0, 0, 0], [1, 1, 1, 1], [0, 0.5, 1, 1.1]) == 0.75


def test_pit_is_the_part_of_the_draws_below_and_half_of_the_ties():
    np.testing.assert_allclose(scores.pit([[1, 1], [2, 2], [3, 3], [4, 4]], [2, 9]), [0.375, 1])


def test_pit_of_calibrated_draws_is_uniform(rng):
    values = scores.pit(rng.normal(size=(200, 4000)), rng.normal(size=4000))
    np.testing.assert_allclose(np.quantile(values, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.03)


def test_score_table_in_percent_of_the_actual_loss():
    forecast, actual = tables(actual=(2.0, 2.5, 3.3))
    scored = scores.score_table(forecast, actual)
    np.testing.assert_allclose(scored["rel_error"], [5, 4, 20 / 3.3])
    np.testing.assert_allclose(scored["bias"], [5, 4, -20 / 3.3])
    np.testing.assert_allclose(scored["width90"], 100 * 0.2 * NORMAL[0.95] / actual["loss"])
    # one, one and two sd from the median
    assert scored["in50"].tolist() == [False, False, False]
    assert scored["in80"].tolist() == [True, True, False]
    assert scored["in95"].tolist() == [True, True, False]
    missed = 0.2 - 0.1 * NORMAL[0.95]
    expected = 100 * (0.2 * NORMAL[0.95] + 20 * missed) / 3.3
    assert scored["interval_score90"].iloc[2] == pytest.approx(expected)
    values = forecast[[f"q{level:g}" for level in SOME_LEVELS]].to_numpy()
    crps = scores.crps_quantiles(SOME_LEVELS, values, actual["loss"])
    np.testing.assert_allclose(scored["crps"], 100 * crps / actual["loss"])
    assert scored["pit"].iloc[0] == pytest.approx(np.interp(-1, [NORMAL[v] for v in SOME_LEVELS], SOME_LEVELS))
    assert scored["pit"].iloc[2] == 1
    assert (scored["kind"] == "run").all()


def test_median_may_be_a_quantile_of_its_own():
    forecast, actual = tables()
    pd.testing.assert_frame_equal(
        scores.score_table(forecast.drop(columns="median"), actual), scores.score_table(forecast, actual)
    )


def test_rows_follow_the_actual_table_and_change_neither_input():
    forecast, actual = tables()
    copies = forecast.copy(), actual.copy()
    shuffled = forecast.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(scores.score_table(shuffled, actual), scores.score_table(forecast, actual))
    pd.testing.assert_frame_equal(forecast, copies[0])
    pd.testing.assert_frame_equal(actual, copies[1])


def test_sizes_meet_to_five_digits():
    forecast, actual = tables()
    actual["params"] *= 1 + 1e-7
    assert len(scores.score_table(forecast, actual)) == 3
    actual["params"] *= 1.001
    with pytest.raises(ForecastError, match="3 of 3 rows of the forecast table have no actual loss"):
        scores.score_table(forecast, actual)


def test_every_seed_of_a_point_is_scored():
    forecast, actual = tables()
    seeds = pd.concat([actual.assign(run_id="a"), actual.assign(run_id="b", loss=actual["loss"] + 0.1)])
    scored = scores.score_table(forecast, seeds)
    assert scored["run_id"].tolist() == ["a"] * 3 + ["b"] * 3
    np.testing.assert_allclose(scored["bias"][3:], 0, atol=1e-9)


def test_an_interval_without_its_quantiles_is_absent():
    forecast, actual = tables(levels=[0.05, 0.5, 0.95])
    scored = scores.score_table(forecast, actual)
    assert {"in90", "width90", "interval_score90"} <= set(scored)
    assert not {"in50", "in80", "in95", "crps", "pit"} & set(scored)
    averages = scores.summary(scored)
    assert averages.columns.tolist() == [
        "n",
        "rel_error",
        "bias",
        "coverage90",
        "width90",
        "interval_score90",
    ]


def test_a_forecast_without_quantiles_has_only_an_error():
    forecast, actual = tables(levels=[])
    assert scores.summary(scores.score_table(forecast, actual)).columns.tolist() == ["n", "rel_error", "bias"]


def test_summary_averages_all_rows_or_groups():
    forecast, actual = tables(actual=(2.0, 2.5, 3.3))
    scored = scores.score_table(forecast, actual)
    total = scores.summary(scored)
    assert total.shape[0] == 1
    assert total["n"].item() == 3
    assert total["coverage80"].item() == pytest.approx(200 / 3)
    assert total["bias"].item() == pytest.approx((5 + 4 - 20 / 3.3) / 3)
    by_set = scores.summary(scored, by="eval_set")
    assert by_set["eval_set"].tolist() == ["e0", "e1", "e2"]
    assert by_set["coverage80"].tolist() == [100, 100, 0]
    assert scores.summary(scored, by=["train_set", "kind"]).columns.tolist()[:3] == ["train_set", "kind", "n"]


def test_calibrated_forecasts_have_their_coverage(rng):
    forecast, actual = tables(actual=[2.0] * 400)
    actual["loss"] = forecast["median"] + 0.1 * rng.normal(size=400)
    averages = scores.summary(scores.score_table(forecast, actual)).iloc[0]
    for level in scores.LEVELS:
        sd = 100 * np.sqrt(level * (1 - level) / 400)
        assert abs(averages[f"coverage{100 * level:.0f}"] - 100 * level) < 3 * sd


BAD = {
    "no median": (
        lambda f, a: (f.drop(columns=["median", "q0.5"]), a),
        "neither a column 'median' nor 'q0.5'",
    ),
    "no key": (
        lambda f, a: (f.drop(columns="eval_set"), a),
        "The forecast table has no column 'eval_set'; it has train_set, params",
    ),
    "no loss": (lambda f, a: (f, a.drop(columns="loss")), "The actual table has no column 'loss'; it has"),
    "empty": (lambda f, a: (f.iloc[:0], a), "The forecast table has no rows."),
    "text": (
        lambda f, a: (f.assign(median="high"), a),
        "Column 'median' of the forecast table holds something that is not a number.",
    ),
    "blank quantile": (
        lambda f, a: (f.assign(**{"q0.05": [1.0, np.nan, 1.0]}), a),
        "Row 2 (the header not counted) of the forecast table has no finite number in column 'q0.05'",
    ),
    "blank loss": (
        lambda f, a: (f, a.assign(loss=[2.0, 2.5, np.inf])),
        "Row 3 (the header not counted) of the actual table has no finite number in column 'loss'",
    ),
    "negative loss": (
        lambda f, a: (f, a.assign(loss=[2.0, -2.5, 3.0])),
        "Row 2 (the header not counted) of the actual table has the loss -2.5; a loss is above 0.",
    ),
    "crossed quantiles": (
        lambda f, a: (f.assign(**{"q0.05": f["q0.05"] + [0, 9, 0]}), a),
        "Row 2 (the header not counted) of the forecast table has quantiles that decrease",
    ),
    "repeated forecast": (
        lambda f, a: (pd.concat([f, f.assign(kind="mean")]), a),
        "The forecast table repeats a point in 3 of 6 rows, the first e0 of web at 3.3e+09 parameters, "
        "5e+10 tokens: keep one forecast of a point (one kind, one model).",
    ),
    "repeated actual": (
        lambda f, a: (f, pd.concat([a, a.iloc[1:2]])),
        "The actual table repeats a point in 1 of 4 rows, the first e1 of web at",
    ),
    "unmatched forecast": (
        lambda f, a: (f, a.iloc[1:]),
        "1 of 3 rows of the forecast table have no actual loss, the first e0 of web at 3.3e+09 parameters, "
        "5e+10 tokens: the two tables must hold the same points.",
    ),
    "unmatched actual": (
        lambda f, a: (f.iloc[:1], a),
        "2 of 3 rows of the actual table have no forecast, the first e1 of web",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_table_is_refused_with_a_sentence(fault):
    spoil, sentence = BAD[fault]
    with pytest.raises(ForecastError, match=re.escape(sentence)):
        scores.score_table(*spoil(*tables()))


def test_summary_refuses_what_it_cannot_average():
    scored = scores.score_table(*tables())
    with pytest.raises(ForecastError, match="no column 'model'; it has train_set"):
        scores.summary(scored, by="model")
    with pytest.raises(ForecastError, match="no scored rows"):
        scores.summary(scored.iloc[:0])


def test_rows_beside_what_happened_score_as_two_tables_do():
    forecast, actual = tables(actual=(2.0, 2.5, 3.3))
    beside = forecast.assign(actual=actual["loss"], extrapolation=[0.5, 7.0, 100.0])
    found, expected = scores.score_rows(beside), scores.score_table(forecast, actual)
    shared = [c for c in expected if c not in ("train_set", "eval_set", "params", "tokens", "kind")]
    pd.testing.assert_frame_equal(found[shared], expected[shared])
    assert found["distance"].tolist() == ["0 to 1", "5 to 10", "above 50"]
    kept = scores.score_rows(beside.assign(crps=1.5, pit=0.25))
    assert (kept[["crps", "pit"]] == [1.5, 0.25]).all(axis=None)


def test_classes_of_distance_stay_in_order():
    beside = tables()[0].assign(actual=2.0, extrapolation=[30.0, 3.0, 15.0])
    by_distance = scores.summary(scores.score_rows(beside), by="distance")
    assert by_distance["distance"].tolist() == ["2 to 5", "10 to 20", "20 to 50"]
