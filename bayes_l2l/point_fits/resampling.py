"""Point fits of every cell of a sweep, and the same fits to resampled runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayes_l2l.errors import DataError, SpecError
from bayes_l2l.point_fits.point_fit import N_STARTS, Floats, PointLaw, Runs

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class CellFit:
    """Point fit of one cell, and the same law refitted to resampled runs.

    Attributes
    ----------
    point : PointLaw
        The fit to the runs as they are.
    resampled : PointLaw
        The refits: every parameter, and the objective, of shape (n_boot,).
    residuals : ndarray, shape (n_runs,)
        log(measured / predicted) of the point fit.
    """

    point: PointLaw
    resampled: PointLaw
    residuals: Floats


def resampled_fits(table: pd.DataFrame, *, law: str, n_boot: int, seed: int) -> dict[tuple[str, str], CellFit]:
    """Fit every cell of a table on its own and refit it to resampled runs.

    Runs are resampled with replacement within a training set, alike for all its evaluations: a run that is
    drawn twice counts twice in each cell. Refits start from the point fit.

    Parameters
    ----------
    table : pandas.DataFrame
        Losses: columns train_set, eval_set, params, tokens, loss, and run_id where several runs are of one size.
    law : str
        Member of the family.
    n_boot : int
        Resamples.
    seed : int
        Of the resampling.

    Returns
    -------
    dict of (eval_set, train_set) to CellFit

    Raises
    ------
    SpecError
        If `law` is not a member of the family, or `n_boot` is below 1.
    DataError
        If a cell has fewer runs than the law has parameters; it is named.
    """
    if n_boot < 1:
        raise SpecError(f"n_boot must be at least 1, not {n_boot}.")
    rng = np.random.default_rng(seed)
    cells = {}
    for train, of_set in table.groupby("train_set", sort=True):
        run = of_set.groupby(["run_id"] if "run_id" in of_set else ["params", "tokens"]).ngroup().to_numpy()
        n_runs = run.max() + 1
        counts = rng.multinomial(n_runs, np.full(n_runs, 1 / n_runs), size=n_boot).astype(float)
        columns = of_set[["params", "tokens", "loss"]].to_numpy(dtype=float)
        for evaluation, rows in of_set.groupby("eval_set", sort=True).indices.items():
            try:
                fitted = _fit_cell(*columns[rows].T, law=law, counts=counts[:, run[rows]])
            except DataError as error:
                raise DataError(f"{evaluation} of {train}: {error}") from None
            cells[str(evaluation), str(train)] = fitted
    return cells


def _fit_cell(params: Floats, tokens: Floats, loss: Floats, *, law: str, counts: Floats) -> CellFit:
    runs = Runs.of(params, tokens, loss, law=law)
    theta, objective, converged = runs.best(np.ones(len(loss)), n_starts=N_STARTS, seed=0)
    point = runs.law(theta, objective, converged)
    resampled = runs.law(*runs.minimise(np.tile(theta, (len(counts), 1)), counts))
    return CellFit(point=point, resampled=resampled, residuals=np.log(loss / point.predict(params, tokens)))
