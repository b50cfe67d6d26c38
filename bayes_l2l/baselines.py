"""The field's habit, done right: independent point fits of the cells of a sweep, and their bootstrap.

It is what every posterior of this package is compared with. Each cell is fitted on its own (`fit_point`) and
refitted to resampled runs; a forecast is the spread of the refits, with run noise from the residuals. That
its intervals are too narrow far from the data is the point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bayes_l2l.errors import DataError, ForecastError, SpecError
from bayes_l2l.forecast import QUANTILES, Forecast, Kind, expand
from bayes_l2l.laws import FLOPS_PER_PARAM_TOKEN
from bayes_l2l.pointfit import N_STARTS, Floats, Form, PointLaw, Runs, fit_point

if TYPE_CHECKING:
    import pandas as pd

    from bayes_l2l.sweep import Sweep

__all__ = ["BaselineFit", "CellFit", "Form", "PointLaw", "bootstrap", "fit_point"]

_POINT: Final = ("eval_set", "train_set", "params", "tokens")


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


@dataclass(frozen=True, eq=False)
class BaselineFit:
    """Independent fits of the cells of a sweep, with their bootstrap (made by `bootstrap`).

    Attributes
    ----------
    law : str
        Member of the family that was fitted.
    cells : mapping of (eval_set, train_set) to CellFit
    max_flops : mapping of str to float
        Largest training compute (FLOPs) of each training set's runs.
    seed : int
        Seed of the bootstrap and of the run noise of forecasts.
    """

    law: str
    cells: Mapping[tuple[str, str], CellFit]
    max_flops: Mapping[str, float]
    seed: int

    def draw(self, points: pd.DataFrame, *, kind: Kind = "run") -> Forecast:
        """Refits at new points, as the draws of a forecast.

        Parameters
        ----------
        points : DataFrame
            `params`, `tokens`; `train_set` and `eval_set`, without which a point is forecast for every
            fitted cell that it may mean; `flops` (6 N D if absent).
        kind : {"run", "curve"}
            "run" adds a resampled residual to every draw, as a new run would have one; "curve" is the law.

        Returns
        -------
        Forecast
            In the order of `points`.

        Raises
        ------
        ForecastError
            If `kind` is unknown, or `points` lacks `params` or `tokens`.
        DataError
            If a point is of a cell that was not fitted.
        """
        if kind not in ("run", "curve"):
            raise ForecastError(f"kind is {kind!r}; it must be 'run' or 'curve'.")
        at = expand(points, cells=list(self.cells), max_flops=self.max_flops)
        rng = np.random.default_rng(self.seed)
        columns = []
        for evaluation, train, n, d in zip(*(at[c] for c in _POINT), strict=True):
            cell = self.cells[evaluation, train]
            curve = cell.resampled.predict(n, d)
            columns.append(curve * np.exp(rng.choice(cell.residuals, len(curve))) if kind == "run" else curve)
        return Forecast(at, np.stack(columns, axis=1), kind)

    def forecast(
        self,
        points: pd.DataFrame,
        *,
        kind: Kind = "run",
        quantiles: Sequence[float] = QUANTILES,
    ) -> pd.DataFrame:
        """Forecast table at new points.

        Parameters
        ----------
        points : DataFrame
            As in `draw`.
        kind : {"run", "curve"}
            A run with its noise, or the law.
        quantiles : sequence of float
            Levels in (0, 1), a column each.

        Returns
        -------
        DataFrame, in the order of `points`
            `train_set, eval_set, params, tokens, flops, kind, mean, sd, median`, quantiles `q0.05`...
            (nats/token), and `extrapolation`: how many times the largest compute of the training set's runs.

        Raises
        ------
        ForecastError
            If `kind` is unknown, a level is not in (0, 1), or `points` lacks `params` or `tokens`.
        DataError
            If a point is of a cell that was not fitted.
        """
        return self.draw(points, kind=kind).table(quantiles=quantiles)


def bootstrap(sweep: Sweep | pd.DataFrame, *, law: Form = "kaplan", n_boot: int = 200, seed: int = 0) -> BaselineFit:
    """Fit every cell of a sweep on its own and refit it to resampled runs.

    Runs are resampled with replacement within a training set, alike for all its evaluations: a run that is
    drawn twice counts twice in each cell. Refits start from the point fit.

    Parameters
    ----------
    sweep : Sweep or DataFrame
        A sweep or its long table; rows whose `metric` is not "loss" have no law and are not fitted.
    law : {"kaplan", "chinchilla", "overtraining", "generalised"}
        Member of the family.
    n_boot : int
        Resamples.
    seed : int
        Seed of the resampling and of the run noise of forecasts.

    Returns
    -------
    BaselineFit
        Point fits, refits and residuals by cell; its `forecast` is the baseline's forecast table.

    Raises
    ------
    SpecError
        If `law` is not a member of the family, or `n_boot` is below 1.
    DataError
        If a cell has fewer runs than the law has parameters; it is named.
    """
    import pandas as pd

    if n_boot < 1:
        raise SpecError(f"n_boot must be at least 1, not {n_boot}.")
    table = sweep if isinstance(sweep, pd.DataFrame) else sweep.table
    if "metric" in table:
        table = table[table["metric"] == "loss"]
    flops = table["flops"] if "flops" in table else FLOPS_PER_PARAM_TOKEN * table["params"] * table["tokens"]
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
    max_flops = {str(train): float(most) for train, most in flops.groupby(table["train_set"]).max().items()}
    return BaselineFit(law=law, cells=cells, max_flops=max_flops, seed=seed)


def _fit_cell(params: Floats, tokens: Floats, loss: Floats, *, law: Form, counts: Floats) -> CellFit:
    runs = Runs.of(params, tokens, loss, law=law)
    theta, objective, converged = runs.best(np.ones(len(loss)), n_starts=N_STARTS, seed=0)
    point = runs.law(theta, objective, converged)
    resampled = runs.law(*runs.minimise(np.tile(theta, (len(counts), 1)), counts))
    return CellFit(point=point, resampled=resampled, residuals=np.log(loss / point.predict(params, tokens)))
