"""Whitening: coordinates in which a posterior is about standard normal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Whitening:
    """Coordinates z in which a distribution is about standard normal: x = center + scale (z + sum of directions).

    Parameters
    ----------
    center, scale : ndarray, shape (dimension,)
        Mean, and standard deviation of every parameter given the others.
    directions : ndarray, shape (direction, dimension)
        Orthonormal, in units of `scale`.
    factors : ndarray, shape (direction,)
        How much longer the distribution is along each, less 1.
    """

    center: Floats
    scale: Floats
    directions: Floats
    factors: Floats

    @classmethod
    def none(cls, center: Floats) -> Whitening:
        """Parameters as they are, about a center."""
        return cls(center, np.ones(len(center)), np.empty((0, len(center))), np.empty(0))

    def parameters(self, z: Floats) -> Floats:
        """Unconstrained parameters at points of shape (..., dimension)."""
        return np.asarray(self.center + self.scale * (z + (z @ self.directions.T * self.factors) @ self.directions))
