"""Pointwise log likelihood: how probable each fitted loss is in every draw, given those that hang together with it.

Where losses are correlated given the parameters, leaving one out leaves the others of its group in: its density is
conditional on them (Bürkner, Gabry and Vehtari, 2021, doi:10.1007/s00180-020-01045-4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bayes_l2l.laws.residuals import Normal, Residuals
from bayes_l2l.laws.scaling import Law
from bayes_l2l.structures.size_effect import conditional_log_density

if TYPE_CHECKING:
    from bayes_l2l.structures.arrays import LossArrays

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pointwise:
    """Log density of every fitted loss in every draw.

    Parameters
    ----------
    density : ndarray, shape (draw, loss)
        Log density of the logarithm of each loss, chain by chain, given the parameters and the losses that are
        correlated with it.
    weight : ndarray, shape (loss,)
        What each counted in the likelihood.
    names : mapping of str to sequence
        What each loss is, one entry a loss: eval_set, train_set and the like.
    """

    density: Floats
    weight: Floats
    names: Mapping[str, Any]


def residual_densities(residuals: Residuals, residual: Floats, scale: Floats) -> Floats:
    """Log densities of residuals that share nothing.

    Parameters
    ----------
    residuals : Residuals
        Their distribution; its parameters are numbers or draws of shape (draw,).
    residual, scale : ndarray, shape (draw, loss)
        Residuals, and their scales.

    Returns
    -------
    ndarray, shape (draw, loss)
    """
    import pytensor
    import pytensor.tensor as pt

    drawn = {field.name: np.asarray(getattr(residuals, field.name), dtype=float) for field in fields(residuals)}
    along = {name: np.broadcast_to(np.reshape(value, (-1, 1)), residual.shape) for name, value in drawn.items()}
    given = [np.ravel(value) for value in (residual, scale, *along.values())]
    inputs = [pt.dvector() for _ in given]
    density = type(residuals)(**dict(zip(along, inputs[2:], strict=True))).log_density(*inputs[:2])
    # The definition is the model's own; evaluated once, it is not worth compiling.
    found = pytensor.function(inputs, density, mode="FAST_COMPILE")(*given)
    return np.asarray(found).reshape(residual.shape)


def law_densities(
    law: Law,
    data: LossArrays,
    *,
    residual_scale: Floats,
    shift: Floats,
    effect_scale: Floats | float = 0.0,
    residuals: Residuals = Normal(),  # noqa: B008 - immutable
) -> Floats:
    """Log density of every loss about its law, given the others of its size.

    Parameters
    ----------
    law : Law
        Of the cells, arrays of shape (draw, cell).
    data : LossArrays
        Of the cells.
    residual_scale : ndarray, shape (draw, cell)
        Scale of log loss of each cell on its own.
    shift : ndarray, shape (point,) or (draw, point)
        What log R is off by at each point.
    effect_scale : ndarray, shape (draw, point), or 0
        Standard deviation of the effect on log R that the runs of each point share.
    residuals : Residuals
        Distribution of what runs scatter on their own; Normal where they share an effect.

    Returns
    -------
    ndarray, shape (draw, loss)
        In the order of `LossArrays.arrays`: cell by cell.
    """
    known = data.arrays()
    cell, point = known["cell_index"], known["point_index"]
    of_loss = Law(**{name: value[:, cell] for name, value in vars(law).items()})
    loss = of_loss.loss(np.exp(data.log_params[point]), np.exp(data.log_tokens[point]), shift[..., point])
    residual = known["log_loss"] - np.log(loss)
    variance = residual_scale[:, cell] ** 2 + known["noise"] ** 2
    if not residuals.is_normal:
        return residual_densities(residuals, residual, np.sqrt(variance))
    effect = np.broadcast_to(effect_scale, (len(loss), len(data.log_params)))[:, point]
    total = _summed(point, len(data.log_params))
    shared = effect * of_loss.gamma * (1 - of_loss.E / loss)
    return np.asarray(conditional_log_density(residual, variance=variance, shared=shared, total=total))


def _summed(point: npt.NDArray[np.int_], n_points: int) -> Callable[[Floats], Floats]:
    """Function that sums numbers (draw, loss) over the losses of each point, and gives every loss its point's sum."""
    from scipy.sparse import csr_array

    n = len(point)
    belongs = csr_array((np.ones(n), (np.arange(n), point)), shape=(n, n_points))
    return lambda values: np.asarray((values @ belongs)[:, point])


def loss_names(data: LossArrays) -> dict[str, Any]:
    """Cell and size of every loss of the arrays, cell by cell."""
    cell, point = np.nonzero(data.observed.T)
    evals, trains = zip(*data.cells, strict=True)
    sizes = {"params": data.log_params, "tokens": data.log_tokens}
    names = {"eval_set": np.array(evals)[cell], "train_set": np.array(trains)[cell]}
    return names | {name: np.exp(log[point]) for name, log in sizes.items()}
