"""A smooth surface of log loss over log N and log D, to tell without a law how far the runs of a cell scatter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Runs from which on the surface is quadratic: its six terms then leave four degrees of freedom or more.
FEWEST_FOR_QUADRATIC: Final = 10
_TERMS_OF_PLANE: Final = 3


@dataclass(frozen=True, eq=False)
class Surface:
    """Least-squares surface of log loss in n = log N and d = log D, each less its mean over the runs.

    Attributes
    ----------
    coefficients : ndarray, shape (6,) or (3,)
        Of 1, n, d and, where there were runs enough, n^2, n d, d^2.
    middle : ndarray, shape (2,)
        Means of log N and log D.
    residuals : ndarray, shape (run,)
        Log loss less the surface.
    residual_scale : float
        Standard deviation of the residuals over their degrees of freedom; NaN if there are none.
    """

    coefficients: Floats
    middle: Floats
    residuals: Floats
    residual_scale: float

    def log_loss(self, log_params: npt.ArrayLike, log_tokens: npt.ArrayLike) -> Floats:
        """Height of the surface at some sizes, shape (size,).

        Parameters
        ----------
        log_params, log_tokens : array-like, shape (size,)
            Logarithms of N and D.

        Returns
        -------
        ndarray, shape (size,)
            Log loss.
        """
        sizes = np.stack(np.broadcast_arrays(log_params, log_tokens), axis=-1) - self.middle
        return np.asarray(_terms(sizes, len(self.coefficients)) @ self.coefficients)


def fit_surface(log_params: npt.ArrayLike, log_tokens: npt.ArrayLike, log_loss: npt.ArrayLike) -> Surface:
    """Fit a quadratic surface by least squares, or a plane to fewer than `FEWEST_FOR_QUADRATIC` runs.

    Parameters
    ----------
    log_params, log_tokens, log_loss : array-like, shape (run,)
        Logarithms of N, D and the loss (nats/token) of at least one run.

    Returns
    -------
    Surface
        Of the smallest coefficients, where runs lie on a line and do not determine all of them.
    """
    sizes, y = np.stack([log_params, log_tokens], axis=-1).astype(float), np.asarray(log_loss, dtype=float)
    middle = sizes.mean(axis=0)
    terms = _terms(sizes - middle, 6 if len(y) >= FEWEST_FOR_QUADRATIC else _TERMS_OF_PLANE)
    coefficients, _, rank, _ = np.linalg.lstsq(terms, y, rcond=None)
    residuals = y - terms @ coefficients
    left = len(y) - int(rank)
    scale = float(np.sqrt(np.sum(residuals**2) / left)) if left else np.nan
    return Surface(coefficients, middle, residuals, scale)


def _terms(sizes: Floats, how_many: int) -> Floats:
    """The first terms of a quadratic in n and d, shape (..., term)."""
    n, d = sizes[..., 0], sizes[..., 1]
    return np.stack([np.ones_like(n), n, d, n * n, n * d, d * d][:how_many], axis=-1)
