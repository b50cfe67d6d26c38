"""What the evaluations of one run have in common beyond their laws: measured on the fitted runs, drawn in forecasts.

A run that is better than its law on one task is better on similar tasks, too. The likelihood takes the residuals of
evaluations for independent and is left as it is: laws are hardly moved by their correlation, but averages over
evaluations, and differences between them, are as uncertain as it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Runs that what all evaluations have in common is worth, where two evaluations' own correlation is estimated.
_PRIOR_RUNS: Final = 10
#: Eigenvalues that a correlation matrix of incomplete data may lack.
_LEAST: Final = 1e-9


@dataclass(frozen=True, eq=False)
class EvaluationCorrelation:
    """Correlation of the residuals of one run between evaluations.

    Parameters
    ----------
    evaluations : list of str
        Their names.
    matrix : ndarray, shape (evaluation, evaluation)
        Of correlations, positive definite.
    """

    evaluations: list[str]
    matrix: Floats

    def of(self, names: Sequence[str]) -> Floats:
        """Factor F of the correlation matrix of these evaluations, F F' the matrix, shape (name, name)."""
        places = [self.evaluations.index(name) for name in names]
        return np.asarray(np.linalg.cholesky(self.matrix[np.ix_(places, places)]))

    def correlated(self, normal: Floats, evaluations: Sequence[str], runs: Sequence[object]) -> Floats:
        """Standard normal draws, made to correlate between the evaluations of each run.

        Parameters
        ----------
        normal : ndarray, shape (draw, point)
            Independent draws.
        evaluations : sequence of str
            Of every point.
        runs : sequence of hashable
            The run of every point. An evaluation that comes again is of another run.

        Returns
        -------
        ndarray, shape (draw, point)
        """
        members: dict[object, list[int]] = {}
        seen: dict[object, int] = {}
        for i, key in enumerate(zip(runs, evaluations, strict=True)):
            seen[key] = seen.get(key, 0) + 1
            members.setdefault((key[0], seen[key]), []).append(i)
        # Runs of the same evaluations are made at once.
        alike: dict[tuple[str, ...], list[list[int]]] = {}
        for points in members.values():
            alike.setdefault(tuple(evaluations[i] for i in points), []).append(points)
        result = normal.copy()
        for names, of_runs in alike.items():
            if len(names) > 1:
                result[:, of_runs] = normal[:, of_runs] @ self.of(names).T
        return result


def evaluation_correlation(residual: Floats, cells: Sequence[tuple[str, str]]) -> EvaluationCorrelation:
    """Correlation of residuals between evaluations, over the runs of all training sets.

    What few runs say of two evaluations is shrunk to the mean of all pairs, and that to 0.

    Parameters
    ----------
    residual : ndarray, shape (point, cell)
        Of log loss, NaN where there is none.
    cells : sequence of (str, str)
        Evaluation and training set of every column.

    Returns
    -------
    EvaluationCorrelation
    """
    names = sorted({name for name, _ in cells})
    # A cell of one run may lie on its law.
    scale = np.sqrt(np.nanmean(residual**2, axis=0))
    standard = residual / np.maximum(scale, np.finfo(float).tiny)
    sets = sorted({train for _, train in cells})
    by_set = np.full((len(sets), len(residual), len(names)), np.nan)
    for j, (name, train) in enumerate(cells):
        by_set[sets.index(train), :, names.index(name)] = standard[:, j]
    runs = by_set.reshape(-1, len(names))
    seen = np.isfinite(runs).astype(float)
    value = np.where(seen > 0, runs, 0.0)
    common = seen.T @ seen
    variance = (value**2).T @ seen
    own = value.T @ value / np.sqrt(np.maximum(variance * variance.T, np.finfo(float).tiny))
    pairs = ~np.eye(len(names), dtype=bool)
    mean = (common * own)[pairs].sum() / (common[pairs].sum() + _PRIOR_RUNS)
    matrix = (common * own + _PRIOR_RUNS * mean) / (common + _PRIOR_RUNS)
    np.fill_diagonal(matrix, 1.0)
    return EvaluationCorrelation(names, _positive(matrix))


def _positive(matrix: Floats) -> Floats:
    """The nearest matrix by its eigenvalues that is one of correlations."""
    values, vectors = np.linalg.eigh(matrix)
    if values.min() > _LEAST:
        return matrix
    fixed = (vectors * np.maximum(values, _LEAST)) @ vectors.T
    scale = np.sqrt(np.diag(fixed))
    return np.asarray(fixed / np.outer(scale, scale))
