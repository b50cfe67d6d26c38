"""What the evaluations of a run have in common beyond their laws is found again, and drawn."""

from __future__ import annotations

import numpy as np
import pytest

from bayes_l2l.structures.evaluation_correlation import EvaluationCorrelation, evaluation_correlation

TRUE = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.2], [0.0, 0.2, 1.0]])
CELLS = [(name, train) for train in ("books", "web") for name in ("arc", "boolq", "code")]


def residuals(n_runs, *, seed=0):
    """Of runs of two training sets with three evaluations, of different scales."""
    normal = np.random.default_rng(seed).standard_normal((2, n_runs, 3)) @ np.linalg.cholesky(TRUE).T
    return np.concatenate(list(normal), axis=1) * np.array([1.0, 5.0, 0.1, 2.0, 0.3, 1.0])


def test_correlations_of_many_runs_are_found():
    found = evaluation_correlation(residuals(4000), CELLS)
    assert found.evaluations == ["arc", "boolq", "code"]
    np.testing.assert_allclose(found.matrix, TRUE, atol=0.04)


def test_few_runs_are_shrunk_to_what_all_evaluations_have_in_common():
    few, many = (evaluation_correlation(residuals(n, seed=3), CELLS).matrix for n in (3, 4000))
    off = ~np.eye(3, dtype=bool)
    assert np.ptp(few[off]) < 0.5 * np.ptp(many[off])


def test_evaluations_that_no_run_has_together_get_the_mean_and_the_matrix_stays_one_of_correlations():
    residual = residuals(50)
    residual[:25, [0, 3]] = np.nan
    residual[25:, [2, 5]] = np.nan
    found = evaluation_correlation(residual, CELLS).matrix
    assert found[0, 2] == pytest.approx(found[~np.eye(3, dtype=bool)].mean(), abs=0.25)
    np.testing.assert_allclose(np.diag(found), 1.0)
    assert np.linalg.eigvalsh(found).min() > 0


def test_evaluations_that_move_as_one_still_have_a_factor():
    one = residuals(200)[:, [0]]
    found = evaluation_correlation(np.repeat(one, 2, axis=1), [("arc", "web"), ("arc_easy", "web")])
    factor = found.of(["arc", "arc_easy"])
    np.testing.assert_allclose(factor @ factor.T, found.matrix)


def test_draws_correlate_within_a_run_and_not_between_runs():
    correlation = EvaluationCorrelation(["arc", "boolq", "code"], TRUE)
    normal = np.random.default_rng(1).standard_normal((20_000, 5))
    # The last point asks for an evaluation of the first run again: it is of another run.
    drawn = correlation.correlated(normal, ["boolq", "arc", "arc", "code", "boolq"], ["a", "a", "b", "b", "a"])
    expected = np.eye(5)
    expected[0, 1] = expected[1, 0] = 0.9
    np.testing.assert_allclose(np.corrcoef(drawn.T), expected, atol=0.03)
    np.testing.assert_array_equal(drawn[:, [0, 2, 4]], normal[:, [0, 2, 4]])
