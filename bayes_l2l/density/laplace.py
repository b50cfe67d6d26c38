"""Laplace approximation of a posterior: its mode and curvature, found by the gradient of a tape.

NUTS samples in coordinates in which this normal distribution is standard: its first trajectories are then as long as
its last, where without it most of the adaptation goes into finding the scales. Without NUTS, the approximations about
all modes that are found are where importance sampling starts (`bayes_l2l.inference.importance`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.density.threads import one_thread
from bayes_l2l.density.whitening import Whitening

if TYPE_CHECKING:
    from bayes_l2l.density.tape import Tape

Floats = npt.NDArray[np.float64]

#: Step of the differences of gradients that make the curvature; parameters are of order 1.
_STEP: Final = 1e-4
#: Standard deviations along a direction are at most this: no prior of a model is wider.
_WIDEST: Final = 3.0
#: Directions that are kept besides the scale of every parameter: as many as there are, up to this many by default.
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
#: Other starts: bounded parameters, by PyMC's ending of their names, near a bound on their unconstrained scale,
_BOUNDED: Final = ("_interval__", "_between__")
_AT_BOUND: Final = 8.0
#: and so many scattered about the start.
_SCATTERED: Final = 2
#: Part of the largest mode's mass that a mode must have to be looked at: approximations are off by factors.
_LEAST: Final = 1e-4


def laplace(tape: Tape, *, directions: int = _DIRECTIONS) -> Whitening:
    """Mode of a log density, from where its chains start, and the curvature there.

    Where effects and their spread are both unknown, the density is largest where all effects are one and the spread
    is 0, far from where its mass is. That of the effects' offsets, in units of their spread, is not: its mode and
    curvature are taken.

    Parameters
    ----------
    tape : Tape
        Filled with data, in the parameters as they are.
    directions : int
        That are kept at most besides the scale of every parameter.

    Returns
    -------
    Whitening
        In which the Laplace approximation is standard normal, but for directions that are close to the scales of
        the parameters, or where the density is not concave. None where the mode is a spike that says nothing of
        where the mass is, as of cells with as many runs as parameters, whose noise may vanish.
    """
    with one_thread():
        found = _mode(tape.of_offsets, tape.start, directions)
    return Whitening.none(tape.start) if found is None else found


def modes(tape: Tape) -> list[Whitening]:
    """Every mode of a log density that is found from several starts, as `laplace` finds one.

    Parameters
    ----------
    tape : Tape
        Filled with data, in the parameters as they are.

    Returns
    -------
    list of Whitening
        By the mass of their normal approximations, the largest first; those of less than `_LEAST` of it are left out.
        One about the start if there is no mode that says where the mass is.
    """
    start, offsets = tape.start, tape.of_offsets
    bounded = np.repeat([name.endswith(_BOUNDED) for name in tape.names], [math.prod(shape) for shape in tape.shapes])
    starts = [start]
    if bounded.any():
        # What is bounded may have a mode at its bound besides one inside.
        starts += [np.where(bounded, end, start) for end in (-_AT_BOUND, _AT_BOUND)]
    rng = np.random.default_rng(0)
    starts += [start + rng.standard_normal(len(start)) for _ in range(_SCATTERED)]
    found: list[tuple[float, Whitening]] = []
    for one in starts:
        mode = _mode(offsets, one)
        if mode is None or any(_same(mode, other) for _, other in found):
            continue
        value = replace(offsets, whitening=mode).log_density(np.zeros(len(start)))[0]
        found.append((value + float(np.log(mode.scale).sum() + np.log1p(mode.factors).sum()), mode))
    if not found:
        return [Whitening.none(start)]
    found.sort(key=lambda one: -one[0])
    return [mode for mass, mode in found if mass > found[0][0] + math.log(_LEAST)]


def _same(one: Whitening, other: Whitening) -> bool:
    """Whether two approximations are about one mode: within what one is wide."""
    return bool(np.linalg.norm((one.center - other.center) / np.maximum(one.scale, other.scale)) < 1)


def _mode(tape: Tape, start: Floats, directions: int = _DIRECTIONS) -> Whitening | None:
    """Mode uphill of a point and the curvature there; None where it says nothing of where the mass is."""
    whitening = Whitening.none(start)
    if not np.isfinite(replace(tape, whitening=whitening).log_density(np.zeros(len(start)))[0]):
        return None
    for round_ in range(_ROUNDS):
        z = _uphill(replace(tape, whitening=whitening))
        whitening = _curved(tape, whitening.parameters(z), directions)
        if np.linalg.norm(z) < _NEAR and round_ > 0:
            break
    return whitening if _describes(whitening, tape) else None


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


def _curved(tape: Tape, mode: Floats, directions: int) -> Whitening:
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
    kept = np.argsort(-off)[:directions]
    kept = kept[off[kept] > np.log(_OFF)]
    return Whitening(mode, scale, np.ascontiguousarray(vectors[:, kept].T), factors[kept] - 1)
