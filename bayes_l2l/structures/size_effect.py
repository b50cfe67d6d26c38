"""What the runs of one size (N, D) deviate from the law together: integrated out of the model, drawn in forecasts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bayes_l2l.data.sizes import size_label, size_labels
from bayes_l2l.laws.arrays import namespace
from bayes_l2l.laws.scaling import Law
from bayes_l2l.structures.arrays import LossArrays

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]


def log_density(residual: Any, *, variance: Any, shared: Any, total: Callable[[Any], Any]) -> Any:
    """Log density of the residuals of every point, with the effect that its runs share integrated out.

    The residuals of one point are jointly normal with covariance ``diag(variance) + shared shared'``; the
    inverse and the determinant are those of a rank-one update (Sherman and Morrison, 1950).

    Parameters
    ----------
    residual, variance : tensor or ndarray, one number a run
        Residuals of log loss, and the variance of each on its own.
    shared : tensor or ndarray, one number a run
        What one standard deviation of the shared effect moves each of them by.
    total : callable
        Sums such numbers over the runs of every point.

    Returns
    -------
    same kind as the inputs, one number a point
    """
    log = namespace(residual, variance, shared).log
    gain = 1 + total(shared**2 / variance)
    quadratic = total(residual**2 / variance) - total(shared * residual / variance) ** 2 / gain
    log_det = total(log(2 * np.pi * variance)) + log(gain)
    return -0.5 * (quadratic + log_det)


def conditional_log_density(residual: Any, *, variance: Any, shared: Any, total: Callable[[Any], Any]) -> Any:
    """Log density of every residual given the others of its point: of it alone, where it is left out.

    With the inverse P of the covariance of `log_density`, a residual given the others is normal with precision
    ``P_ii`` and lies ``(P r)_i / P_ii`` off its mean (Bürkner, Gabry and Vehtari, 2021,
    doi:10.1007/s00180-020-01045-4).

    Parameters
    ----------
    residual, variance, shared : ndarray, one number a run along the last axis
        As in `log_density`.
    total : callable
        Sums such numbers over the runs of every point, and gives each run the sum of its point.

    Returns
    -------
    ndarray, one number a run
    """
    pull = shared / variance
    gain = 1 + total(shared * pull)
    precision = (1 - pull * shared / gain) / variance
    off = residual / variance - pull * total(pull * residual) / gain
    return 0.5 * (np.log(precision / (2 * np.pi)) - off**2 / precision)


def evidence(
    law: Law, data: LossArrays, points: Sequence[int], *, params: float, tokens: float, residual_scale: Floats
) -> tuple[Floats, Floats]:
    """What the runs of one size say about the effect on log R that they share, given the parameters.

    `log_density` integrates that effect out, about its mean; with a normal prior of precision ``p`` what it is beyond
    that mean has a normal posterior with precision ``p + precision`` and mean ``pull / (p + precision)``.

    Parameters
    ----------
    law : Law
        Of the cells of `data`, arrays of shape (draw, cell).
    data : LossArrays
        Where the losses are.
    points : sequence of int
        Points of that size; several where runs are repeated.
    params, tokens : float
        N and D of the size.
    residual_scale : ndarray, shape (draw, cell)
        Standard deviation of log loss of each cell on its own.

    Returns
    -------
    pull, precision : ndarray, shape (draw,)
    """
    pull, precision = np.zeros((2, len(law.E)))
    if not points:
        return pull, precision
    loss = law.loss(params, tokens, data.shift[points[0]])
    sensitivity = law.gamma * (1 - law.E / loss)
    for i in points:
        weight = data.observed[i] / (residual_scale**2 + data.noise[i] ** 2)
        pull = pull + (sensitivity * weight * (data.log_loss[i] - np.log(loss))).sum(axis=1)
        precision = precision + (sensitivity**2 * weight).sum(axis=1)
    return pull, precision


def expected_effect(law: Law, data: LossArrays, *, residual_scale: Floats, size_effect_scale: Floats) -> Floats:
    """Expected effect on log R of the size of every point, given the losses that decide R, in each draw.

    Parameters
    ----------
    law : Law
        Of the cells that decide it, arrays of shape (draw, cell).
    data : LossArrays
        Of these cells.
    residual_scale : ndarray, shape (draw, cell)
        Standard deviation of log loss of each on its own.
    size_effect_scale : ndarray, shape (draw,)
        Standard deviation of the shared effect.

    Returns
    -------
    ndarray, shape (draw, point)
        Its mean where nothing that decides R was measured.
    """
    expected = np.zeros((len(size_effect_scale), len(data.log_params)))
    for p, (n, d) in enumerate(zip(np.exp(data.log_params), np.exp(data.log_tokens), strict=True)):
        pull, precision = evidence(law, data, [p], params=n, tokens=d, residual_scale=residual_scale)
        prior = size_effect_scale**2 + data.discrepancy[p] ** 2
        expected[:, p] = data.shift[p] + prior * pull / (1 + prior * precision)
    return expected


def drawn_effect(
    seed: int,
    law: Law,
    data: LossArrays,
    points: pd.DataFrame,
    *,
    residual_scale: Floats,
    scale: Floats,
) -> Floats:
    """Draws of the effect on log R that runs of each size share, alike where (N, D) are, given the fitted runs.

    They are of what it is beyond its mean. Given the parameters it is normal, with what the losses that decide R say
    of it (see `evidence`).

    Parameters
    ----------
    seed : int
        Of the draws: those of a size are the same whatever other sizes there are.
    law : Law
        Of the cells that decide R, arrays of shape (draw, cell).
    data : LossArrays
        Of these cells.
    points : pandas.DataFrame
        Columns params and tokens.
    residual_scale : ndarray, shape (draw, cell)
        Standard deviation of log loss of each cell on its own.
    scale : ndarray, shape (draw, point)
        Standard deviation of the effect at each point, before a run of it was seen.

    Returns
    -------
    ndarray, shape (draw, point)
    """
    known: dict[str, list[int]] = {}
    for i, (n, d) in enumerate(zip(np.exp(data.log_params), np.exp(data.log_tokens), strict=True)):
        known.setdefault(size_label(n, d), []).append(i)
    drawn: dict[str, Floats] = {}
    labels = size_labels(points)
    for i, (label, n, d) in enumerate(zip(labels, points["params"], points["tokens"], strict=True)):
        if label in drawn:
            continue
        pull, precision = evidence(law, data, known.get(label, ()), params=n, tokens=d, residual_scale=residual_scale)
        # Standardised, so that an effect of scale 0 is none.
        precision = 1 + scale[:, i] ** 2 * precision
        rng = np.random.default_rng([seed, 7, *label.encode()])
        delta = scale[:, i] * pull / precision + rng.standard_normal(precision.size) / np.sqrt(precision)
        drawn[label] = scale[:, i] * delta
    return np.stack([drawn[label] for label in labels], axis=1)
