"""Averages over evaluations, whose uncertainty is not that of their parts: what is uncertain is shared in part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bayes_l2l.errors import DataError, ForecastError

if TYPE_CHECKING:
    import pandas as pd

    from bayes_l2l.prediction.forecasts import Forecast

Floats = npt.NDArray[np.float64]
Weights = Mapping[str, float] | Sequence[float]

#: An average of more evaluations than these is named by their number.
_NAMED = 3
_RUN = ("run_id", "train_set", "params", "tokens", "given")


def shares_of(names: Sequence[str], weights: Weights | None) -> dict[str, float]:
    """Weight of every evaluation; they sum to 1.

    Parameters
    ----------
    names : sequence of str
        Evaluations.
    weights : mapping of str to float, or sequence of float, optional
        Positive, one an evaluation; equal by default.

    Returns
    -------
    dict

    Raises
    ------
    ForecastError
        If there is no evaluation, one is named twice, or weights are refused.
    """
    if not names or len(set(names)) < len(names):
        raise ForecastError("Name at least one evaluation, each once.")
    if isinstance(weights, Mapping):
        if set(weights) != set(names):
            raise ForecastError(f"weights must name the evaluations {', '.join(names)}, not {', '.join(weights)}.")
        given = [float(weights[name]) for name in names]
    else:
        given = [1.0] * len(names) if weights is None else [float(w) for w in weights]
    if len(given) != len(names) or not all(np.isfinite(w) and w > 0 for w in given):
        raise ForecastError(f"weights must be {len(names)} positive numbers, one an evaluation, not {given}.")
    return {name: w / sum(given) for name, w in zip(names, given, strict=True)}


def weighted(draws: Floats, shares: Mapping[str, float]) -> Floats:
    """Weighted mean over evaluations of draws (draw, evaluation then point), shape (draw, point)."""
    parts = draws.reshape(len(draws), len(shares), -1)
    return np.asarray(np.einsum("e,dep->dp", list(shares.values()), parts))


def average(runs: Forecast, weights: Weights | None = None) -> Forecast:
    """Forecast of the weighted mean of all evaluations of every run.

    Parameters
    ----------
    runs : Forecast
        Of one metric, with the same evaluations of every run.
    weights : mapping of str to float, or sequence of float, optional
        Of the evaluations, in the order in which they first appear among the points; equal by default. They are
        scaled to sum to 1.

    Returns
    -------
    Forecast
        A point a run; its eval_set says what was averaged.

    Raises
    ------
    ForecastError
        If weights are refused, or losses would be averaged with rates.
    DataError
        If a run lacks an evaluation that another one has.
    """
    points = runs.points
    shares = shares_of(points["eval_set"].drop_duplicates().tolist(), weights)
    metrics = points["metric"].unique() if "metric" in points else ()
    if len(metrics) > 1:
        raise ForecastError(
            f"Average losses, error rates or accuracies, not several of them ({', '.join(metrics)} "
            "were asked for): name the evaluations (eval_set)."
        )
    order = _by_run(points, list(shares))
    of_runs = points.iloc[order[0]].assign(eval_set=_named(list(shares)))
    draws = np.einsum("e,der->dr", list(shares.values()), runs.draws[:, order])
    return replace(runs, points=of_runs.reset_index(drop=True), draws=np.asarray(draws))


def _by_run(points: pd.DataFrame, evaluations: Sequence[str]) -> npt.NDArray[np.intp]:
    """Places of the points, shape (evaluation, run), runs in the order in which they first appear."""
    key = [name for name in _RUN if name in points]
    # A point that is asked for twice is of two runs.
    repeat = points.groupby([*key, "eval_set"], dropna=False).cumcount()
    run = points.assign(repeat=repeat).groupby([*key, "repeat"], dropna=False, sort=False).ngroup().to_numpy()
    place = np.full((len(evaluations), run.max() + 1), -1)
    place[points["eval_set"].map(evaluations.index).to_numpy(), run] = np.arange(len(points))
    if (lacking := np.argwhere(place < 0)).size:
        evaluation, of_run = lacking[0]
        train_set = points["train_set"].iloc[int(np.flatnonzero(run == of_run)[0])]
        raise DataError(
            f"{train_set} has no {evaluations[evaluation]} to average: name evaluations that every training set has "
            "(eval_set), or the training sets (train_set)."
        )
    return place


def _named(evaluations: Sequence[str]) -> str:
    if len(evaluations) == 1:
        return evaluations[0]
    few = len(evaluations) <= _NAMED
    return f"mean of {', '.join(evaluations) if few else f'{len(evaluations)} evaluations'}"
