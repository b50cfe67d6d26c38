"""Averages over evaluations are those of the draws, and what evaluations have in common does not average out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bayes_l2l.errors import DataError, ForecastError
from bayes_l2l.posterior import draws as of_draws
from bayes_l2l.prediction.averages import shares_of, weighted
from bayes_l2l.prediction.forecasts import forecast_table
from bayes_l2l.structures.evaluation_correlation import EvaluationCorrelation
from bayes_l2l.structures.joint import Joint

LARGE = {"params": 3.3e9, "tokens": 5.04e10}


def test_weights_are_scaled_to_one_and_may_be_named():
    assert shares_of(["a", "b"], None) == {"a": 0.5, "b": 0.5}
    assert shares_of(["a", "b"], [3, 1]) == shares_of(["a", "b"], {"b": 1, "a": 3}) == {"a": 0.75, "b": 0.25}


@pytest.mark.parametrize(
    ("names", "weights", "said"),
    [
        ([], None, "at least one"),
        (["a", "a"], None, "each once"),
        (["a"], {"b": 1.0}, "must name the evaluations a, not b"),
        (["a", "b"], [1.0], "2 positive numbers"),
        (["a", "b"], [1.0, -1.0], "2 positive numbers"),
    ],
)
def test_weights_that_make_no_average_are_refused(names, weights, said):
    with pytest.raises(ForecastError, match=said):
        shares_of(names, weights)


def test_draws_are_weighted_by_evaluation():
    draws = np.arange(12.0).reshape(2, 6)
    np.testing.assert_allclose(weighted(draws, {"a": 0.25, "b": 0.75}), 0.25 * draws[:, :3] + 0.75 * draws[:, 3:])


def test_an_average_is_that_of_the_draws_a_point_a_run(joint):
    sets = ["smollm-corpus", "starcoder"]
    sizes = {"params": [1e9, 3.3e9], "tokens": [5e10, 5e10]}
    runs = joint.forecast(train_set=sets, eval_set="task", **sizes)
    one = runs.average()
    np.testing.assert_array_equal(one.draws, runs.draws)
    assert one.points["eval_set"].tolist() == ["task"] * 4

    two = runs.points.assign(eval_set="other")
    both = pd.concat([runs.points, two.iloc[::-1]], ignore_index=True)
    doubled = type(runs)(both, np.concatenate([runs.draws, 2 * runs.draws[:, ::-1]], axis=1), "predictive")
    found = doubled.average({"task": 1, "other": 3})
    np.testing.assert_allclose(found.draws, 1.75 * runs.draws)
    pd.testing.assert_frame_equal(found.points, runs.points.assign(eval_set="mean of task, other"))
    assert {"mean of task, other"} == set(found.table()["eval_set"])


def test_runs_that_lack_an_evaluation_are_named(joint):
    points = pd.DataFrame({"train_set": ["starcoder"] * 2 + ["smollm-corpus"], **LARGE})
    runs = joint.forecast(points.assign(eval_set=["task", "starcoder", "task"]))
    with pytest.raises(DataError, match="smollm-corpus has no starcoder to average"):
        runs.average()


def test_a_forecast_of_an_average_is_the_average_of_the_forecast(joint):
    asked = {"train_set": "starcoder", **LARGE}
    runs = joint.forecast(**asked)
    found = joint.forecast(**asked, average=[1, 3])
    assert runs.points["eval_set"].tolist() == ["starcoder", "task"]
    np.testing.assert_allclose(found.draws[:, 0], runs.draws @ [0.25, 0.75])
    equal = joint.forecast(**asked, average=True)
    np.testing.assert_allclose(equal.draws[:, 0], runs.draws.mean(axis=1))
    table, notes = forecast_table(joint, **asked, average=True)
    pd.testing.assert_frame_equal(table, equal.table())
    assert notes == equal.notes


def test_a_budget_is_spent_on_one_run_whose_evaluations_are_averaged(joint):
    found = joint.forecast(flops=1e21, train_set=["starcoder", "smollm-corpus"], eval_set="task", average=True)
    sizes = joint.forecast(flops=1e21, train_set=["starcoder", "smollm-corpus"], eval_set="task")
    np.testing.assert_allclose(found.points["params"], sizes.points["params"], rtol=1e-6)
    assert len(found) == 2


def test_averages_are_the_same_in_however_many_parts_they_are_made(joint, monkeypatch):
    rng = np.random.default_rng(0)
    points = pd.DataFrame({"params": rng.uniform(1e8, 1e9, 8), "tokens": 1e10, "train_set": "starcoder"})
    whole = joint.forecast(points)
    monkeypatch.setattr(of_draws, "_AT_ONCE", 3 * whole.draws.shape[0])
    np.testing.assert_allclose(joint.forecast(points).draws, whole.draws, rtol=1e-12)
    table, _ = forecast_table(joint, points, average=True)
    pd.testing.assert_frame_equal(table, whole.average().table())


def test_what_evaluations_have_in_common_does_not_average_out(joint, monkeypatch):
    """Of two evaluations that scatter as one, the mean is as uncertain as either."""
    names = sorted({evaluation for evaluation, _ in joint.cells})

    def width(correlation):
        matrix = np.full((len(names), len(names)), correlation)
        np.fill_diagonal(matrix, 1.0)
        made = EvaluationCorrelation(names, matrix)
        monkeypatch.setattr(Joint, "evaluation_correlation", lambda *_: made)
        wide = joint.forecast(train_set="starcoder", **LARGE)
        return np.log(wide.average().draws).std()

    assert width(0.99) > width(0.0)
