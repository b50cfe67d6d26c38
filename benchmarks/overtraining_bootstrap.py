"""The recipe of arXiv 2403.08540 with a bootstrap: what its users would have for an interval.

Every law is fitted alone by least squares of the loss, or error, itself: L = E + a N^-alpha + b D^-alpha (Eq. 4; its
a M^eta + b M^-eta at C^-eta in other letters), and error = eps - k exp(-g L) (Eq. 5). Runs are resampled with
replacement, the law is refitted from where the first fit ended, and a residual of that fit is added as a run's noise.
Resamples that do not determine the law are counted and left out: with five runs for four parameters, most.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import OptimizeWarning, curve_fit

Floats = npt.NDArray[np.float64]

LOSS: Final = "c4_val"
#: Of one law; those that fail are not replaced.
RESAMPLES: Final = 500
#: Draws of a forecast, of a refit each and with a residual each.
DRAWS: Final = 4000
_SMALLEST: Final = (
    1e-8  # singular value of the columns of a Jacobian, over the largest: below, the law is undetermined
)
_SIZE: Final = ["params", "tokens"]


@dataclass(frozen=True)
class Form:
    """A curve and the points from which its fit is started; the best end is kept."""

    curve: Callable[..., Any]
    starts: Sequence[tuple[float, ...]]


def of_size(size: Any, a: Any, b: Any, alpha: Any, E: Any) -> Any:
    """Eq. 4: loss at sizes (N, D), in units of 1e8 parameters and 1e10 tokens."""
    return E + a * (size[0] / 1e8) ** -alpha + b * (size[1] / 1e10) ** -alpha


def of_loss(loss: Any, k: Any, g: Any, eps: Any) -> Any:
    """Eq. 5: error at a loss."""
    return eps - k * np.exp(-g * loss)


LAW: Final = Form(of_size, [*product([0.3, 1.0, 3.0], [0.3, 1.0, 3.0], [0.1, 0.3, 0.6], [0.5, 1.0, 2.0])])
ERROR: Final = Form(of_loss, [*product([0.3, 1.0, 3.0], [0.3, 1.0, 2.0], [0.6, 0.8, 1.0])])


@dataclass(frozen=True)
class Refits:
    """A point fit and its bootstrap.

    Attributes
    ----------
    point : ndarray, shape (parameter,)
    resampled : ndarray, shape (resample, parameter)
        Of the resamples that determine the curve.
    residuals : ndarray, shape (run,)
        Measured less predicted, of the point fit.
    failed : float
        Part of the resamples that do not.
    """

    form: Form
    point: Floats
    resampled: Floats
    residuals: Floats
    failed: float

    def draws(self, x: Any, rng: np.random.Generator) -> Floats:
        """Draws of new runs, each of a refit and with a residual of its own.

        `x` is what the curve is a function of, or `DRAWS` draws of it.
        """
        refit = self.resampled[rng.integers(len(self.resampled), size=DRAWS)]
        with np.errstate(over="ignore"):
            return np.asarray(self.form.curve(x, *refit.T) + rng.choice(self.residuals, DRAWS))


def fit(form: Form, x: Floats, y: Floats, starts: Sequence[Any]) -> tuple[Floats, bool]:
    """Least squares from several starts: the best parameters, and whether the runs determine them."""
    best, least = np.full(len(starts[0]), np.nan), np.inf
    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", OptimizeWarning)  # the Jacobian is looked at below
        for start in starts:
            try:
                found, _, info, _, _ = curve_fit(form.curve, x, y, p0=start, maxfev=2000, full_output=True)
            except RuntimeError:  # no end within as many steps
                continue
            if (squares := float((info["fvec"] ** 2).sum())) < least:
                best, least = found, squares
        return best, np.isfinite(best).all() and _determined(form, x, best)


def _determined(form: Form, x: Floats, at: Floats) -> bool:
    """Whether the columns of the Jacobian, each scaled to length 1, are independent."""
    steps = 1e-6 * np.maximum(np.abs(at), 1e-3)
    columns = [(form.curve(x, *(at + s)) - form.curve(x, *(at - s))) / (2 * s.max()) for s in np.diag(steps)]
    jacobian = np.stack(columns, axis=1)
    lengths = np.linalg.norm(jacobian, axis=0)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        return False
    singular = np.linalg.svd(jacobian / lengths, compute_uv=False)
    return len(jacobian) >= len(at) and bool(singular[-1] > _SMALLEST * singular[0])


def bootstrap(form: Form, x: Floats, y: Floats, *, seed: int, resamples: int = RESAMPLES) -> Refits:
    """Point fit, and refits to runs drawn with replacement.

    Parameters
    ----------
    form : Form
        The curve.
    x : ndarray, shape (..., run)
        What it is a function of.
    y : ndarray, shape (run,)
        Measured.
    seed : int
        Of the resampling.
    resamples : int
        How many.

    Returns
    -------
    Refits
    """
    point, _ = fit(form, x, y, form.starts)
    rng = np.random.default_rng(seed)
    drawn = [np.unique(rng.integers(len(y), size=len(y)), return_counts=True) for _ in range(resamples)]
    refits = []
    for runs, counts in drawn:
        if len(runs) < len(point):
            continue
        again = np.repeat(runs, counts)
        found, determined = fit(form, x[..., again], y[again], [point])
        if determined:
            refits.append(found)
    return Refits(form, point, np.array(refits), y - form.curve(x, *point), 1 - len(refits) / resamples)


def forecasts(losses: pd.DataFrame, errors: pd.DataFrame, ahead: pd.DataFrame, *, seed: int) -> tuple[Floats, Floats]:
    """Draws of runs ahead: losses from their size, errors through the C4 validation loss.

    Parameters
    ----------
    losses, errors : DataFrame
        Long tables of the runs to fit: losses for Eq. 4, and errors with the losses of the same runs for Eq. 5.
    ahead : DataFrame
        What to forecast: train_set, eval_set, params, tokens, metric.
    seed : int
        Of the resampling and the noise.

    Returns
    -------
    draws : ndarray, shape (draw, row)
        Of every row of `ahead`. Refits of the two laws are joined at random.
    failed : ndarray, shape (row,)
        Part of the resamples that did not determine the row's own law.
    """
    rng = np.random.default_rng(seed)
    fitted: dict[tuple[str, str], Refits] = {}
    draws, failed = [], []
    for row in ahead.itertuples():
        through = LOSS if row.metric == "error" else row.eval_set
        for name in dict.fromkeys((through, row.eval_set)):
            if (row.train_set, name) not in fitted:
                runs = _law_runs(losses, row.train_set, name) if name == through else _error_runs(errors, row)
                form = LAW if name == through else ERROR
                fitted[row.train_set, name] = bootstrap(form, *runs, seed=seed)
        found = fitted[row.train_set, through].draws((row.params, row.tokens), rng)
        if row.metric == "error":
            found = fitted[row.train_set, row.eval_set].draws(found, rng)
        draws.append(found)
        failed.append(fitted[row.train_set, row.eval_set].failed)
    return np.stack(draws, axis=1), np.array(failed)


def _law_runs(table: pd.DataFrame, train_set: str, eval_set: str) -> tuple[Floats, Floats]:
    rows = table[(table["train_set"] == train_set) & (table["eval_set"] == eval_set)]
    return rows[_SIZE].to_numpy().T, rows["loss"].to_numpy()


def _error_runs(table: pd.DataFrame, row: Any) -> tuple[Floats, Floats]:
    of_set = table[table["train_set"] == row.train_set]
    wide = of_set.pivot_table(index=_SIZE, columns="eval_set", values="loss")[[LOSS, row.eval_set]].dropna()
    return wide[LOSS].to_numpy(), wide[row.eval_set].to_numpy()
