"""Scores of probabilistic forecasts against the runs that were then made.

The elementary scores take arrays. `score_table` joins a forecast table with the actual losses, one row a
forecast point, and `summary` averages its rows. All of them are proper, or describe calibration and width;
none is a likelihood, so that forecasts of any origin (posterior draws, a bootstrap, an expert's quantiles)
compare. Figures of the tables are in percent of the actual loss.

Formulas are those of `scoringrules` where it computes what is said here; it takes seconds to import (Numba), so that
is done where a score is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from bayes_l2l.errors import ForecastError

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
Value = TypeVar("Value")

#: Levels of the central intervals that the tables report.
LEVELS: Final = (0.5, 0.8, 0.9, 0.95)
#: Widest step between quantile levels (0 and 1 included) from which a CRPS is still computed.
MAX_STEP: Final = 0.25
#: Limits of the classes in which distances are reported (times the largest fitted compute).
DISTANCES: Final = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, np.inf)
#: Rows of the two tables meet on these; sizes to five digits, as a forecast may be printed with fewer.
KEYS: Final = ("train_set", "eval_set", "params", "tokens")

_CARRIED: Final = ("run_id", "kind", "extrapolation")
_QUANTILE = re.compile(r"q(0?\.\d+|\d(\.\d+)?e-\d+)")


def crps_draws(draws: npt.ArrayLike, actual: npt.ArrayLike) -> Floats:
    """Continuous ranked probability score of an empirical distribution, exactly.

    Parameters
    ----------
    draws : array-like, shape (n_draws, ...)
        Draws along the first axis.
    actual : array-like, shape (...)
        What happened, in the same unit.

    Returns
    -------
    ndarray, shape (...)
        mean|x - y| - mean|x - x'| / 2 over all draws x and pairs (x, x'), in the unit of the draws.

    Notes
    -----
    Eq. 21 of Gneiting and Raftery (2007, doi:10.1198/016214506000001437), with the mean over pairs taken
    from the sorted draws.
    """
    import scoringrules as sr

    # "qd" is the mean over all pairs, ties among them, without an array of all pairs ("pwm" and "fair" are of other
    # means). NumPy has nothing to compile first.
    x, y = np.asarray(draws, dtype=float), np.asarray(actual, dtype=float)
    return np.asarray(sr.crps_ensemble(y, x, m_axis=0, estimator="qd", backend="numpy"))


def crps_quantiles(levels: npt.ArrayLike, values: npt.ArrayLike, actual: npt.ArrayLike) -> Floats:
    """CRPS from quantiles: twice the mean pinball loss over the levels.

    Levels that are not evenly spaced are weighted by the spacing around them, so that many quantiles of the
    tails do not outweigh the middle; evenly spaced ones have equal weights. For a normal distribution the
    mean score comes out 0.5% high with the 99 percentiles, and within 10% with five levels or more.

    Parameters
    ----------
    levels : array-like, shape (n_levels,)
        Increasing, in (0, 1).
    values : array-like, shape (..., n_levels)
        Quantiles at these levels.
    actual : array-like, shape (...)
        What happened, in the same unit.

    Returns
    -------
    ndarray, shape (...)
        In the unit of the quantiles.
    """
    # Not `scoringrules.crps_quantile`, which gives uneven levels equal weights.
    tau = np.asarray(levels, dtype=float)
    excess = np.asarray(actual, dtype=float)[..., None] - np.asarray(values, dtype=float)
    pinball = np.maximum(tau * excess, (tau - 1) * excess)
    weights = np.gradient(tau) if tau.size > 1 else np.ones(1)
    return np.asarray(2 * np.average(pinball, axis=-1, weights=weights))


def interval_score(lower: npt.ArrayLike, upper: npt.ArrayLike, actual: npt.ArrayLike, *, level: float) -> Floats:
    """Interval score of a central interval: its width, and 2/(1 - level) times what it missed by.

    Parameters
    ----------
    lower, upper, actual : array-like, broadcast together
        Limits of the interval and what happened.
    level : float
        Nominal coverage in (0, 1), such as 0.9.

    Returns
    -------
    ndarray
        In the unit of the limits; smaller is better (Eq. 43 of Gneiting and Raftery, 2007).
    """
    import scoringrules as sr

    # It takes limits of one shape alone, and leaves out axes of length 1.
    lo, hi, y = np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in (lower, upper, actual)))
    return np.asarray(sr.interval_score(y, lo, hi, 1 - level, backend="numpy")).reshape(y.shape)


def coverage(lower: npt.ArrayLike, upper: npt.ArrayLike, actual: npt.ArrayLike) -> float:
    """Part of the actual values that their closed intervals hold.

    Parameters
    ----------
    lower, upper, actual : array-like, broadcast together
        Limits of the intervals and what happened.

    Returns
    -------
    float
        In [0, 1].
    """
    y = np.asarray(actual)
    return float(np.mean((np.asarray(lower) <= y) & (y <= np.asarray(upper))))


def pit(draws: npt.ArrayLike, actual: npt.ArrayLike) -> Floats:
    """Probability integral transform: part of the draws below what happened (ties count half).

    Parameters
    ----------
    draws : array-like, shape (n_draws, ...)
        Draws along the first axis.
    actual : array-like, shape (...)
        What happened, in the same unit.

    Returns
    -------
    ndarray, shape (...)
        In [0, 1], uniform for a calibrated forecast.
    """
    x, y = np.asarray(draws), np.asarray(actual)
    return np.asarray(np.mean((x < y) + 0.5 * (x == y), axis=0))


def score_table(forecast: pd.DataFrame, actual: pd.DataFrame) -> pd.DataFrame:
    """Score every forecast of a table against the loss that was then measured.

    Parameters
    ----------
    forecast : DataFrame
        A forecast table: `train_set`, `eval_set`, `params`, `tokens`, one row a point; `median` or `q0.5`;
        any quantiles `q<level>`.
    actual : DataFrame
        The same keys and `loss`. Repeated runs of one point (seeds) need a `run_id` each and are each
        scored against the one forecast.

    Returns
    -------
    DataFrame, one row for each of `actual`, in its order
        The keys (and `run_id`, `kind`, `extrapolation` where the tables have them), `actual` and `median`
        (unit of the loss), `rel_error`, `bias`, `crps` (percent of the actual loss), `pit` (0 to 1), and for
        each level of 50, 80, 90, 95: `in90` (bool), `width90`, `interval_score90` (percent). What the
        quantiles of the forecast cannot tell is absent: an interval without its two quantiles, and `crps`
        and `pit` where levels are more than `MAX_STEP` apart.

    Raises
    ------
    ForecastError
        Where a column is missing or not numeric, quantiles decrease, rows are repeated, or a row of one
        table has no partner in the other.
    """
    import pandas as pd

    levels = _quantile_levels(forecast)
    middle = "median" if "median" in forecast else _nearest(levels, 0.5)
    if middle is None:
        raise ForecastError("The forecast table has neither a column 'median' nor 'q0.5': it needs one of the two.")
    fc = _checked(forecast, "forecast", [*{middle, *levels.values()}])
    falling = (np.diff(fc[list(levels.values())].to_numpy(), axis=1) < 0).any(axis=1)
    if falling.any():
        row = int(np.argmax(falling))
        raise ForecastError(
            f"{_row(row)} of the forecast table has quantiles that decrease as their level increases."
        )
    truth = _checked(actual, "actual", ["loss"])
    y = truth["loss"].to_numpy()
    if y.min() <= 0:
        row = int(np.argmax(y <= 0))
        raise ForecastError(f"{_row(row)} of the actual table has the loss {y[row]:g}; a loss is above 0.")
    _refuse_repeated(fc, "forecast", "keep one forecast of a point (one kind, one model)", by=[])
    _refuse_repeated(truth, "actual", "give each run its own run_id", by=["run_id"] if "run_id" in truth else [])
    _refuse_unmatched(fc, truth, "forecast", "actual loss")
    _refuse_unmatched(truth, fc, "actual", "forecast")

    at = fc.set_index("_key").loc[truth["_key"]]
    q50 = at[middle].to_numpy()
    carried = {c: t[c].to_numpy() for c, t in zip(_CARRIED, (truth, at, at), strict=True) if c in t}
    scored: dict[str, Any] = {key: truth[key].to_numpy() for key in KEYS} | carried
    scored |= {"actual": y, "median": q50}
    return pd.DataFrame(
        scored | _measures(y, q50, {level: at[column].to_numpy() for level, column in levels.items()})
    )


def score_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Score rows that hold a forecast and what happened side by side, such as those of a backtest.

    Parameters
    ----------
    table : DataFrame
        `actual`, `median`, any quantiles `q<level>`, and `extrapolation`. A `crps` (percent) and a `pit`, which
        may be those of draws, are kept.

    Returns
    -------
    DataFrame
        The table, with the measures of `score_table` and `distance`, the extrapolation in classes.
    """
    y, q50 = (table[c].to_numpy(dtype=float) for c in ("actual", "median"))
    values = {level: table[column].to_numpy(dtype=float) for level, column in _quantile_levels(table).items()}
    found = {k: v for k, v in _measures(y, q50, values).items() if k not in table}
    return table.assign(**found, distance=distance(table["extrapolation"]))


def distance(extrapolation: pd.Series) -> pd.Series:
    """Classes of how many times further than the largest fitted compute a point lies, ordered."""
    import pandas as pd

    labels = [f"{low:g} to {high:g}" for low, high in pairwise(DISTANCES[:-1])]
    return pd.cut(extrapolation, DISTANCES, labels=[*labels, f"above {DISTANCES[-2]:g}"])


def _measures(y: Floats, q50: Floats, quantiles: Mapping[float, Floats]) -> dict[str, Any]:
    """What the quantiles of forecasts tell about what happened, by the names of `score_table`."""
    found: dict[str, Any] = {"rel_error": 100 * np.abs(q50 - y) / y, "bias": 100 * (q50 - y) / y}
    levels = list(quantiles)
    if levels and np.diff([0, *levels, 1]).max() <= MAX_STEP + 1e-9:
        values = np.stack(list(quantiles.values()), axis=1)
        found["crps"] = 100 * crps_quantiles(levels, values, y) / y
        # between the outermost quantiles by interpolation; beyond them the level is 0 or 1
        found["pit"] = [np.interp(v, q, levels, left=0, right=1) for q, v in zip(values, y, strict=True)]
    for level in LEVELS:
        lo, hi = (_nearest(quantiles, side) for side in ((1 - level) / 2, (1 + level) / 2))
        if lo is not None and hi is not None:
            name = f"{100 * level:.0f}"
            found[f"in{name}"] = (lo <= y) & (y <= hi)
            found[f"width{name}"] = 100 * (hi - lo) / y
            found[f"interval_score{name}"] = 100 * interval_score(lo, hi, y, level=level) / y
    return found


def summary(scored: pd.DataFrame, *, by: str | Sequence[str] | None = None) -> pd.DataFrame:
    """Averages of the rows of `score_table`.

    Parameters
    ----------
    scored : DataFrame
        A result of `score_table`, or several of them concatenated.
    by : str or sequence of str, optional
        Columns to average within, such as "eval_set". Without it there is one row.

    Returns
    -------
    DataFrame
        `n`, then means in percent of the actual loss: `rel_error`, `bias`, `crps`, and for each level
        `coverage90` (percent of rows), `width90` and `interval_score90`. The columns of `by` come first.

    Raises
    ------
    ForecastError
        Where a column of `by` is not in the table, or the table has no rows.
    """
    groups = [by] if isinstance(by, str) else list(by or [])
    if unknown := [c for c in groups if c not in scored]:
        raise ForecastError(
            f"The table of scores has no column {unknown[0]!r}; it has {', '.join(map(str, scored))}."
        )
    if not len(scored):
        raise ForecastError("There are no scored rows to average.")
    percent = {f"in{100 * level:.0f}" for level in LEVELS} & set(scored)
    table = scored.assign(n=1, **{c: 100.0 * scored[c] for c in percent})
    measures = ["rel_error", "bias", "crps"]
    measures += [f"{what}{100 * level:.0f}" for level in LEVELS for what in ("in", "width", "interval_score")]
    how = {"n": "sum"} | {m: "mean" for m in measures if m in table}
    grouped = table.groupby(groups or np.zeros(len(table), dtype=int), sort=True, observed=True)
    averages = grouped.agg(how).reset_index(drop=not groups)
    return averages.rename(columns={c: c.replace("in", "coverage") for c in percent})


def _quantile_levels(forecast: pd.DataFrame) -> dict[float, str]:
    """Level -> column of every quantile of a forecast table, by increasing level."""
    columns = [c for c in forecast if isinstance(c, str) and _QUANTILE.fullmatch(c)]
    return dict(sorted((float(c[1:]), c) for c in columns))


def _nearest(levels: Mapping[float, Value], level: float) -> Value | None:
    """What belongs to a level, which arithmetic may have rounded."""
    return next((value for known, value in levels.items() if abs(known - level) < 1e-9), None)


def _checked(table: pd.DataFrame, name: str, values: list[str]) -> pd.DataFrame:
    """Take what is needed of a table: names, finite numbers, and a text `_key` of each row's point."""
    import pandas as pd

    if missing := [c for c in (*KEYS, *values) if c not in table]:
        raise ForecastError(
            f"The {name} table has no column {', '.join(map(repr, missing))}; it has {', '.join(map(str, table))}."
        )
    if not len(table):
        raise ForecastError(f"The {name} table has no rows.")
    numbers = {}
    for column in ("params", "tokens", *values):
        try:
            numbers[column] = table[column].to_numpy(dtype=float)
        except (TypeError, ValueError):
            raise ForecastError(
                f"Column {column!r} of the {name} table holds something that is not a number."
            ) from None
        if not np.isfinite(numbers[column]).all():
            row = int(np.argmin(np.isfinite(numbers[column])))
            raise ForecastError(
                f"{_row(row)} of the {name} table has no finite number in column {column!r}: "
                "complete the row, or remove it from both tables."
            )
    keys = point_keys(table).to_list()
    kept = {c: table[c].to_numpy() for c in ("train_set", "eval_set", *_CARRIED) if c in table}
    return pd.DataFrame(kept | numbers | {"_key": keys})


def point_keys(table: pd.DataFrame) -> pd.Series[str]:
    """Text of each row's point, by which the rows of two tables are known to be of one."""
    import pandas as pd

    points = zip(*(table[c] for c in KEYS), strict=True)
    keys = [f"{e} of {t} at {float(n):.5g} parameters, {float(d):.5g} tokens" for t, e, n, d in points]
    return pd.Series(keys, index=table.index, dtype="str")


def _row(index: int) -> str:
    return f"Row {index + 1} (the header not counted)"


def _refuse_repeated(table: pd.DataFrame, name: str, advice: str, *, by: list[str]) -> None:
    repeated = table.duplicated(["_key", *by])
    if repeated.any():
        raise ForecastError(
            f"The {name} table repeats a point in {int(repeated.sum())} of {len(table)} rows, "
            f"the first {table['_key'][repeated].iloc[0]}: {advice}."
        )


def _refuse_unmatched(table: pd.DataFrame, other: pd.DataFrame, name: str, lacks: str) -> None:
    alone = ~table["_key"].isin(other["_key"])
    if alone.any():
        raise ForecastError(
            f"{int(alone.sum())} of {len(table)} rows of the {name} table have no {lacks}, "
            f"the first {table['_key'][alone].iloc[0]}: the two tables must hold the same points."
        )
