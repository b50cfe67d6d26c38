"""Averages over evaluations, whose uncertainty is not that of their parts: what is uncertain is shared in part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bayes_l2l.errors import DataError, ForecastError

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
Weights = Mapping[str, float] | Sequence[float]

#: An average of more evaluations than these is named by their number.
_NAMED = 3
_RUN = ("run_id", "train_set", "params", "tokens", "given")


def in_words(shares: Mapping[str, float]) -> str:
    """Evaluations with their weights."""
    return " and ".join(name if w == 1 else f"{name} (weight {w:.3g})" for name, w in shares.items())


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


def weights_of(average: bool | Weights) -> Weights | None:
    """Weights of an average that is asked for; equal ones are not said."""
    return None if isinstance(average, bool) else average


def weighted(draws: Floats, shares: Mapping[str, float]) -> Floats:
    """Weighted mean over evaluations of draws (draw, evaluation then point), shape (draw, point)."""
    parts = draws.reshape(len(draws), len(shares), -1)
    return np.asarray(np.einsum("e,dep->dp", list(shares.values()), parts))


def by_run(points: pd.DataFrame, evaluations: Sequence[str]) -> npt.NDArray[np.intp]:
    """Places of the points of every evaluation of every run.

    Parameters
    ----------
    points : pandas.DataFrame
        Columns train_set, eval_set, params, tokens; run_id and given, where there are any, tell runs apart.
    evaluations : sequence of str
        Those of every run.

    Returns
    -------
    ndarray, shape (evaluation, run)
        Runs in the order in which they first appear.

    Raises
    ------
    DataError
        If a run lacks an evaluation.
    """
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


def name_of(evaluations: Sequence[str]) -> str:
    """What an average is called in tables and pictures."""
    if len(evaluations) == 1:
        return evaluations[0]
    few = len(evaluations) <= _NAMED
    return f"mean of {', '.join(evaluations) if few else f'{len(evaluations)} evaluations'}"
