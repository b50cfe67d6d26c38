"""The baseline: independent point fits of the cells of a sweep, and their bootstrap.

It is what the field does today, done right, and what every posterior of this package is compared with. Each cell is
fitted on its own (`bayes_l2l.point_fits`) and
refitted to resampled runs; a forecast is the spread of the refits, with run noise from the residuals. That
its intervals are too narrow far from the data is the point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bayes_l2l.laws.scaling import FLOPS_PER_PARAM_TOKEN
from bayes_l2l.point_fits.resampling import CellFit, resampled_fits
from bayes_l2l.posterior.draws import QUANTILES
from bayes_l2l.prediction.forecasts import Forecast, expand, kind_of

if TYPE_CHECKING:
    import pandas as pd

    from bayes_l2l.data.sweep import Sweep


_POINT: Final = ("eval_set", "train_set", "params", "tokens")


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

    def draw(self, points: pd.DataFrame, *, kind: str = "predictive") -> Forecast:
        """Refits at new points, as the draws of a forecast.

        Parameters
        ----------
        points : DataFrame
            `params`, `tokens`; `train_set` and `eval_set`, without which a point is forecast for every
            fitted cell that it may mean; `flops` (6 N D if absent).
        kind : {"predictive", "mean"}
            "predictive" adds a resampled residual to every draw, as a new run would have one; "mean" is the law.

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
        kept = kind_of(kind)
        at = expand(points, cells=list(self.cells), max_flops=self.max_flops)
        rng = np.random.default_rng(self.seed)
        columns = []
        for evaluation, train, n, d in zip(*(at[c] for c in _POINT), strict=True):
            cell = self.cells[evaluation, train]
            curve = cell.resampled.predict(n, d)
            columns.append(curve * np.exp(rng.choice(cell.residuals, len(curve))) if kept == "predictive" else curve)
        return Forecast(at, np.stack(columns, axis=1), kept)

    def forecast(
        self,
        points: pd.DataFrame,
        *,
        kind: str = "predictive",
        quantiles: Sequence[float] = QUANTILES,
    ) -> pd.DataFrame:
        """Forecast table at new points.

        Parameters
        ----------
        points : DataFrame
            As in `draw`.
        kind : {"predictive", "mean"}
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


def bootstrap(sweep: Sweep | pd.DataFrame, *, law: str = "kaplan", n_boot: int = 200, seed: int = 0) -> BaselineFit:
    """Fit every cell of a sweep on its own and refit it to resampled runs.

    Runs are resampled with replacement within a training set, alike for all its evaluations: a run that is
    drawn twice counts twice in each cell. Refits start from the point fit.

    Parameters
    ----------
    sweep : Sweep or DataFrame
        A sweep or its long table; rows whose `metric` is not "loss" have no law and are not fitted.
    law : str
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

    table = sweep if isinstance(sweep, pd.DataFrame) else sweep.table
    if "metric" in table:
        table = table[table["metric"] == "loss"]
    flops = table["flops"] if "flops" in table else FLOPS_PER_PARAM_TOKEN * table["params"] * table["tokens"]
    cells = resampled_fits(table, law=law, n_boot=n_boot, seed=seed)
    max_flops = {str(train): float(most) for train, most in flops.groupby(table["train_set"]).max().items()}
    return BaselineFit(law=law, cells=cells, max_flops=max_flops, seed=seed)
