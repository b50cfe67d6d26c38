"""Laplace approximation of a posterior: its mode and curvature, found by the gradient of a tape.

NUTS samples in coordinates in which this normal distribution is standard: its first trajectories are then as long as
its last, where without it most of the adaptation goes into finding the scales.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.density.whitening import Whitening

if TYPE_CHECKING:
    from bayes_l2l.density.tape import Tape

Floats = npt.NDArray[np.float64]

#: Step of the differences of gradients that make the curvature; parameters are of order 1.
_STEP: Final = 1e-4
#: Standard deviations along a direction are at most this: no prior of a model is wider.
_WIDEST: Final = 3.0
#: Directions that are kept besides the scale of every parameter: as many as there are, up to this many.
_DIRECTIONS: Final = 64
#: What a direction must be off by, as a ratio of scales, to be worth keeping.
_OFF: Final = 1.05
#: The mode is looked for in rounds, each in the coordinates of the curvature that the one before has found,
_ROUNDS: Final = 5
#: of so many steps at most, until a round goes no further than this many standard deviations.
_STEPS: Final = 300
_NEAR: Final = 0.3
#: Of so many draws of the approximation, one in four may have a log density this many times as far below the mode as
#: of a normal distribution.
_CHECKED: Final = 16
_FAR: Final = 5.0


def laplace(tape: Tape) -> Whitening:
    """Mode of a log density, from where its chains start, and the curvature there.

    Where effects and their spread are both unknown, the density is largest where all effects are one and the spread
    is 0, far from where its mass is. That of the effects' offsets, in units of their spread, is not: its mode and
    curvature are taken.

    Parameters
    ----------
    tape : Tape
        Filled with data, in the parameters as they are.

    Returns
    -------
    Whitening
        In which the Laplace approximation is standard normal, but for directions that are close to the scales of
        the parameters, or where the density is not concave. None where the mode is a spike that says nothing of
        where the mass is, as of cells with as many runs as parameters, whose noise may vanish.
    """
    start, tape = tape.start, tape.of_offsets
    whitening = Whitening.none(tape.start)
    for round_ in range(_ROUNDS):
        z = _uphill(replace(tape, whitening=whitening))
        whitening = _curved(tape, whitening.parameters(z))
        if np.linalg.norm(z) < _NEAR and round_ > 0:
            break
    return whitening if _describes(whitening, tape) else Whitening.none(start)


def _describes(whitening: Whitening, tape: Tape) -> bool:
    """Whether draws of the approximation have about the density that those of a normal distribution have."""
    whitened, n = replace(tape, whitening=whitening), len(tape.start)
    at_mode = whitened.log_density(np.zeros(n))[0]
    draws = np.random.default_rng(0).standard_normal((_CHECKED, n))
    below = [2 * (at_mode - whitened.log_density(z)[0]) / n for z in draws]
    return bool(np.quantile(below, 0.75) < _FAR)


def _uphill(tape: Tape) -> Floats:
    """Where the log density is largest, or at least larger than at 0."""
    from scipy.optimize import minimize

    def downhill(z: Floats) -> tuple[float, Floats]:
        value, gradient = tape.log_density(z)
        return (-value, -gradient) if np.isfinite(value) else (np.inf, np.zeros(len(z)))

    options = {"maxiter": _STEPS, "maxcor": 30, "ftol": 1e-10}
    found = minimize(downhill, np.zeros(len(tape.start)), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x) if np.isfinite(found.fun) else np.zeros(len(tape.start))


def _curved(tape: Tape, mode: Floats) -> Whitening:
    """Whitening by the curvature at the mode."""
    n = len(mode)
    curvature = np.empty((n, n))
    for i in range(n):
        step = np.zeros(n)
        step[i] = _STEP
        curvature[i] = (tape.log_density(mode - step)[1] - tape.log_density(mode + step)[1]) / (2 * _STEP)
    if not np.isfinite(curvature).all():
        return Whitening.none(mode)
    curvature = (curvature + curvature.T) / 2
    scale = 1 / np.sqrt(np.maximum(np.diag(curvature), _WIDEST**-2))
    values, vectors = np.linalg.eigh(scale[:, None] * curvature * scale)
    # Along no direction is anything wider than priors are.
    widest = 1 / np.sqrt((vectors**2).T @ (scale / _WIDEST) ** 2)
    factors = np.minimum(1 / np.sqrt(np.maximum(values, 1e-12)), widest)
    off = np.abs(np.log(factors))
    kept = np.argsort(-off)[:_DIRECTIONS]
    kept = kept[off[kept] > np.log(_OFF)]
    return Whitening(mode, scale, np.ascontiguousarray(vectors[:, kept].T), factors[kept] - 1)
