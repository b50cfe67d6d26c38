"""Evaluations that read the progress R which other losses decide: the second part of a joint fit.

R is decided by every training set's own loss. All other evaluations (tasks, other validation sets) are shifted
power laws of the R that was found, and do not act back on it: the small runs of a task are nearly at chance, its
noise is common to many tasks, and where its curve is no shifted power law it would otherwise bend R, and with it the
forecasts of losses that are well measured. So a fit of two modules, of which the second is cut off from the first
(Plummer, 2015, doi:10.1007/s11222-014-9503-z; Jacob et al., 2017, arXiv 1708.08719).

The readings are sampled at the mean of R; each draw is then moved to the R that it is joined with, as far as the
posterior mean moves to first order, which is exact where the posterior is normal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.build import ModelData, coords, effects_of, evidence, parameter
from bayes_l2l.laws import Law, ShiftedPowerLaw, log_reducible

if TYPE_CHECKING:
    import pymc as pm

    from bayes_l2l.spec import ModelSpec

Floats = npt.NDArray[np.float64]

#: What NUTS reports of every reading: the loss at the reference size besides E, gamma and scatter.
READING_VARIABLES: Final = ("E", "loss_at_reference", "gamma", "scatter")
_FEWEST_TO_COMPARE: Final = 10


def deciding(data: ModelData) -> list[int]:
    """Columns of the cells that decide R: of every training set its own loss.

    A training set whose own loss was not measured is represented by its smoothest evaluation: the one with the
    smallest scatter about a quadratic surface of log loss in log N and log D.

    Parameters
    ----------
    data : ModelData
        All cells.

    Returns
    -------
    list of int
        One column a training set, ascending.
    """
    columns: dict[str, list[int]] = {}
    for i, (_, train_set) in enumerate(data.cells):
        columns.setdefault(train_set, []).append(i)
    own = {train: [i for i in cells if data.cells[i][0] == train] for train, cells in columns.items()}
    return sorted((own[t] or [min(cells, key=lambda i: _roughness(data, i))])[0] for t, cells in columns.items())


def _roughness(data: ModelData, column: int) -> tuple[bool, float]:
    """Scatter of a cell about a quadratic surface; cells with too few runs come last, fewest last."""
    seen = data.observed[:, column] > 0
    if seen.sum() < _FEWEST_TO_COMPARE:
        return True, -float(seen.sum())
    n, d = data.log_params[seen] - data.reference[0], data.log_tokens[seen] - data.reference[1]
    surface = np.stack([np.ones_like(n), n, d, n * n, n * d, d * d], axis=1)
    y = data.log_loss[seen, column]
    coefficients, _, rank, _ = np.linalg.lstsq(surface, y, rcond=None)
    return False, float(np.sum((y - surface @ coefficients) ** 2) / (len(y) - rank))


def progress(law: Law, data: ModelData, deviation: Floats) -> Floats:
    """Draws of log R at every point, less that at the reference size.

    Parameters
    ----------
    law : Law
        Of any deciding cell, arrays of shape (draw,).
    data : ModelData
        For the sizes of the points and the reference.
    deviation : ndarray, shape (draw, point)
        What the runs of each size deviate from R (log R).

    Returns
    -------
    ndarray, shape (draw, point)
    """
    shape = {name: getattr(law, name)[:, None] for name in ("log_A", "log_B", "alpha", "beta", "gamma", "c")}
    at_points = log_reducible(data.log_params, data.log_tokens, **shape)
    at_reference = log_reducible(*data.reference, **shape)
    return np.asarray((at_points - at_reference) / shape["gamma"] + deviation)


def deviations(law: Law, data: ModelData, *, scatter: Floats, deviation: Floats) -> Floats:
    """Expected deviation of log R of the runs of every size, given the losses that decide R, in each draw.

    Parameters
    ----------
    law : Law
        Of the deciding cells, arrays of shape (draw, cell).
    data : ModelData
        The deciding cells.
    scatter : ndarray, shape (draw, cell)
        Standard deviation of log loss of each on its own.
    deviation : ndarray, shape (draw,)
        Standard deviation of the shared deviation of log R.

    Returns
    -------
    ndarray, shape (draw, point)
        0 where nothing that decides R was measured.
    """
    expected = np.zeros((len(deviation), len(data.log_params)))
    for p, (n, d) in enumerate(zip(np.exp(data.log_params), np.exp(data.log_tokens), strict=True)):
        pull, precision = evidence(law, data, [p], params=n, tokens=d, scatter=scatter)
        prior = deviation**2 + data.discrepancy[p] ** 2
        expected[:, p] = prior * pull / (1 + prior * precision)
    return expected


def build_readings(spec: ModelSpec, data: ModelData) -> pm.Model:
    """Model of the evaluations that read R, with the priors of the spec.

    Parameters
    ----------
    spec : ModelSpec
        For the priors of E, excess and gamma, and of the scatter.
    data : ModelData
        The reading cells. The data ``progress``, shape (point,), is set before sampling.

    Returns
    -------
    pymc.Model
        With `READING_VARIABLES` along ``cell``.
    """
    import pymc as pm
    import pytensor.tensor as pt

    effects, ones = effects_of(data.cells), pt.ones(len(data.cells))
    with pm.Model(coords=coords(data)) as model:
        known = {name: pm.Data(name, value) for name, value in arrays(data, np.zeros(len(data.log_params))).items()}
        priors = {**spec.priors, **spec.readings}
        E = parameter("E_fraction", priors["E_fraction"], effects) * known["smallest"]
        loss = known["smallest"] * (1 + parameter("excess", priors["excess"], effects) * ones)
        # As in `build`: the data know the slope of log loss in log R, gamma (L - E)/L, not gamma itself.
        gamma = parameter("gamma", priors["gamma"], effects, shift=pt.log1p(-E / loss)) * ones
        scatter = parameter("scatter", spec.likelihood.scatter, effects) * ones
        for name, value in zip(READING_VARIABLES, (E, loss, gamma, scatter), strict=True):
            pm.Deterministic(name, value, dims="cell")
        curve = E + (loss - E) * pt.exp(gamma * known["progress"][:, None])
        spread = pt.sqrt(scatter**2 + known["noise"] ** 2)
        heavy = np.isfinite(spec.readings_nu)
        noise = pm.StudentT.dist(nu=spec.readings_nu, sigma=spread) if heavy else pm.Normal.dist(0.0, spread)
        density = pm.logp(noise, known["log_loss"] - pt.log(curve)) * known["observed"]
        pm.Potential("log_likelihood", (known["weight"][:, None] * density).sum())
    return model


def arrays(data: ModelData, progress: Floats) -> dict[str, Floats]:
    """What the model of the readings holds as `pm.Data`, by name."""
    return {name: getattr(data, name) for name in ("log_loss", "observed", "noise", "weight", "smallest")} | {
        "progress": progress
    }


def moved(
    reading: dict[str, Floats], data: ModelData, *, progress: Floats, drawn_at: Floats, nu: float = np.inf
) -> dict[str, Floats]:
    """Readings drawn at one R, each moved to the R of the draw that it is joined with.

    To first order the posterior mean moves by the posterior covariance of the parameters and the score, the
    derivative of the log-likelihood by R (Giordano, Broderick and Jordan, 2018, arXiv 1709.02536).

    Parameters
    ----------
    reading : dict of ndarray, shape (draw, cell)
        `READING_VARIABLES`.
    data : ModelData
        The reading cells.
    progress : ndarray, shape (draw, point)
        From `progress`.
    drawn_at : ndarray, shape (point,)
        The progress that the readings were drawn at.
    nu : float
        Degrees of freedom of what runs scatter.

    Returns
    -------
    dict of ndarray, shape (draw, cell)
        E, loss_at_reference and gamma, each within its bounds; scatter as it was.
    """
    change = progress - drawn_at
    result = {name: values.copy() for name, values in reading.items()}
    for j, smallest in enumerate(data.smallest):
        seen = data.observed[:, j] > 0
        E, loss, gamma, scatter = (reading[name][:, [j]] for name in READING_VARIABLES)
        # A reading's E may be below 0: the asymptote of a curve, not an entropy.
        free = np.concatenate([-np.log1p(-E / smallest), np.log(loss / smallest - 1), np.log(gamma)], axis=1)
        curve = E + (loss - E) * np.exp(gamma * drawn_at[seen])
        residual = data.log_loss[seen, j] - np.log(curve)
        variance = scatter**2 + data.noise[seen, j] ** 2
        # Of Student's t; the more a run lies off, the less it counts.
        pull = residual / (variance + residual**2 / nu) * (1 + 1 / nu)
        score = data.weight[seen] * pull * gamma * (1 - E / curve)
        covariance = (free - free.mean(axis=0)).T @ (score - score.mean(axis=0)) / len(free)
        below, log_excess, log_gamma = (free + change[:, seen] @ covariance.T).T
        result["E"][:, j] = -smallest * np.expm1(-below)
        result["loss_at_reference"][:, j] = smallest * (1 + np.exp(log_excess))
        result["gamma"][:, j] = np.exp(log_gamma)
    return result


def laws(decided: Law, reading: dict[str, Floats], reference: Sequence[float] | Floats) -> Law:
    """Laws of the reading cells: the law of a deciding cell, translated.

    Parameters
    ----------
    decided : Law
        Of any deciding cell, arrays of shape (draw,).
    reading : dict of ndarray, shape (draw, cell)
        E, loss_at_reference and gamma.
    reference : sequence of float, shape (2,)
        Logarithms of N and D at the reference size.

    Returns
    -------
    Law
        Arrays of shape (draw, cell), of one R with `decided`.
    """
    source = Law(**{name: value[:, None] for name, value in vars(decided).items()})
    at_reference: Any = np.log(source.loss(*np.exp(reference)) - source.E)
    kappa = reading["gamma"] / source.gamma
    K = np.exp(np.log(reading["loss_at_reference"] - reading["E"]) - kappa * at_reference)
    law = source.translate(ShiftedPowerLaw(K=K, kappa=kappa, E0=source.E, E1=reading["E"]))
    return Law(**{name: np.broadcast_to(value, kappa.shape) for name, value in vars(law).items()})
