"""Proposal: what importance sampling draws from, a mixture of skewed multivariate t distributions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from bayes_l2l.density.whitening import Whitening

Floats = npt.NDArray[np.float64]

#: Normal scores at which a component's margins are given; between them, and beyond, they are linear.
_SCORES: Final = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
#: Degrees of freedom of what starts about a mode, whose curvature may be off; of what was fitted to draws at least,
#: and for every dimension: of many dimensions, heavy tails leave few draws where the mass is.
_NU_OF_MODE: Final = 5.0
_NU: Final = 8.0
_NU_A_DIMENSION: Final = 0.7
#: A component of less weight is left out,
_LEAST: Final = 1e-3
#: and one of fewer independent draws than this many times the dimension stays as it is.
_DRAWS_A_DIMENSION: Final = 5.0
#: Part of the weights that is looked at.
_COUNTED: Final = 0.9995
#: Distance of two knots in standard deviations, at least.
_CLOSEST: Final = 1e-3


@dataclass(frozen=True, eq=False)
class Component:
    """Distribution of x = F(t): t is multivariate t, and F bends each margin.

    Parameters
    ----------
    knots : ndarray, shape (score, dimension)
        What F makes of `_SCORES`, rising.
    center : ndarray, shape (dimension,)
        Of t.
    root : ndarray, shape (dimension, dimension)
        Lower triangular root of its scale matrix.
    nu : float
        Its degrees of freedom.
    """

    knots: Floats
    center: Floats
    root: Floats
    nu: float

    @classmethod
    def of_mode(cls, mode: Whitening) -> Component:
        """About a mode, with the covariance that the curvature there says."""
        axes = mode.parameters(np.eye(len(mode.center))) - mode.center
        covariance = axes.T @ axes
        sd = np.sqrt(np.diag(covariance))
        root = np.linalg.cholesky(covariance / np.outer(sd, sd))
        return cls(mode.center + _SCORES[:, None] * sd, np.zeros(len(sd)), root, _NU_OF_MODE)

    @classmethod
    def fitted(cls, points: Floats, weights: Floats) -> Component:
        """To weighted points: their margins' quantiles at the scores, and the covariance of what F makes them of."""
        from scipy.special import ndtr

        # Of thousands of points most may count next to nothing.
        order = np.argsort(-weights)
        kept = order[: int(np.searchsorted(np.cumsum(weights[order]), _COUNTED)) + 1]
        points, weights = points[kept], weights[kept] / weights[kept].sum()
        mean = weights @ points
        sd = np.sqrt(weights @ (points - mean) ** 2)
        knots = _quantiles(points, weights, ndtr(_SCORES))
        # Rising at least so much from one to the next.
        knots[1:] = knots[0] + np.cumsum(np.maximum(np.diff(knots, axis=0), _CLOSEST * sd), axis=0)
        nu = max(_NU, _NU_A_DIMENSION * len(mean))
        t = cls(knots, mean, np.eye(len(mean)), nu)._straight(points)[0]
        center = np.asarray(weights @ t)
        covariance = (weights[:, None] * (t - center)).T @ (t - center)
        return cls(knots, center, np.asarray(np.linalg.cholesky(covariance)), nu)

    @cached_property
    def _slopes(self) -> Floats:
        return np.asarray(np.diff(self.knots, axis=0) / np.diff(_SCORES)[:, None])

    def draw(self, n: int, rng: np.random.Generator) -> Floats:
        """Points, shape (n, dimension)."""
        normal, chi2 = rng.standard_normal((n, len(self.center))), rng.chisquare(self.nu, n)
        t = self.center + normal / np.sqrt(chi2 / self.nu)[:, None] @ self.root.T
        piece, dimension = _piece(t, np.broadcast_to(_SCORES[:, None], self.knots.shape)), np.arange(t.shape[1])
        bent = self.knots[piece, dimension] + self._slopes[piece, dimension] * (t - _SCORES[piece])
        return np.asarray(bent)

    def log_density(self, points: Floats) -> Floats:
        """Log densities at points, but for a constant of the dimension and `nu`."""
        from scipy.linalg import solve_triangular
        from scipy.special import gammaln

        t, log_slopes = self._straight(points)
        n, nu = len(self.center), self.nu
        squares = (solve_triangular(self.root, (t - self.center).T, lower=True) ** 2).sum(axis=0)
        constant = gammaln((nu + n) / 2) - gammaln(nu / 2) - n / 2 * np.log(nu) - np.log(np.diag(self.root)).sum()
        return np.asarray(constant - (nu + n) / 2 * np.log1p(squares / nu) - log_slopes)

    def _straight(self, points: Floats) -> tuple[Floats, Floats]:
        """The t of points, and the logarithm of the determinant of F's derivative there."""
        piece, dimension = _piece(points, self.knots), np.arange(points.shape[1])
        slopes = self._slopes[piece, dimension]
        return _SCORES[piece] + (points - self.knots[piece, dimension]) / slopes, np.log(slopes).sum(axis=1)


@dataclass(frozen=True, eq=False)
class Proposal:
    """A mixture.

    Parameters
    ----------
    components : tuple of Component
        At least one.
    weights : ndarray, shape (component,)
        Summing to 1.
    """

    components: tuple[Component, ...]
    weights: Floats

    @classmethod
    def of_modes(cls, modes: list[Whitening]) -> Proposal:
        """About every mode, equally."""
        return cls(tuple(map(Component.of_mode, modes)), np.full(len(modes), 1 / len(modes)))

    def draw(self, n: int, rng: np.random.Generator) -> Floats:
        """Points, shape (n, dimension)."""
        each = rng.multinomial(n, self.weights)
        return np.concatenate([one.draw(k, rng) for one, k in zip(self.components, each, strict=True)])

    def log_density(self, points: Floats) -> Floats:
        """Log densities at points, but for a constant of the dimension."""
        return np.asarray(np.logaddexp.reduce(self._joint(points), axis=0))

    def fitted(self, points: Floats, weights: Floats) -> Proposal:
        """The same to weighted points, each shared among the components (Cappé et al., 2008, section 3).

        Parameters
        ----------
        points : ndarray, shape (point, dimension)
            Draws.
        weights : ndarray, shape (point,)
            Theirs, summing to 1.

        Returns
        -------
        Proposal
            doi:10.1007/s11222-008-9059-x.
        """
        if len(self.components) == 1:
            return Proposal((Component.fitted(points, weights),), self.weights)
        joint = self._joint(points)
        shared = np.exp(joint - np.logaddexp.reduce(joint, axis=0)) * weights
        kept = [(one, own) for one, own in zip(self.components, shared, strict=True) if own.sum() > _LEAST]
        enough = _DRAWS_A_DIMENSION * points.shape[1]
        components = tuple(
            Component.fitted(points, own / own.sum()) if own.sum() ** 2 > enough * (own**2).sum() else one
            for one, own in kept
        )
        mass = np.array([own.sum() for _, own in kept])
        return Proposal(components, mass / mass.sum())

    def _joint(self, points: Floats) -> Floats:
        """Log densities by the components, times their weights, shape (component, point)."""
        return np.array([
            one.log_density(points) + np.log(weight)
            for one, weight in zip(self.components, self.weights, strict=True)
        ])  # fmt: skip


def _piece(points: Floats, knots: Floats) -> npt.NDArray[np.int8]:
    """Between which two knots numbers lie."""
    piece = np.zeros(points.shape, dtype=np.int8)
    for knot in knots[1:-1]:
        piece += points > knot
    return piece


def _quantiles(points: Floats, weights: Floats, levels: Floats) -> Floats:
    """Quantiles of weighted points, shape (level, dimension)."""
    order = np.argsort(points, axis=0)
    found = np.empty((len(levels), points.shape[1]))
    for j, place in enumerate(order.T):
        below = np.cumsum(weights[place]) - weights[place] / 2
        found[:, j] = np.interp(levels, below, points[place, j])
    return found
