"""Posterior draws of one PyMC model without chains: importance resampling, started by Laplace approximations.

Mixtures of skewed t distributions start about the modes and are fitted, round after round, to all points drawn so far
(adaptive multiple importance sampling: Cornuet et al., 2012, doi:10.1111/j.1467-9469.2011.00756.x). Draws of the last
are resampled by Pareto-smoothed weights, whose shape k-hat says whether that can be believed (Vehtari et al., 2024,
JMLR 25, 72).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.density.laplace import modes
from bayes_l2l.density.threads import one_thread
from bayes_l2l.errors import ApproximationError, SpecError
from bayes_l2l.inference.nuts import reported, tidy
from bayes_l2l.inference.proposal import Proposal
from bayes_l2l.inference.stages import stage as told
from bayes_l2l.posterior.settings import SamplerSettings

if TYPE_CHECKING:
    import xarray as xr

    from bayes_l2l.density.tape import Tape
    from bayes_l2l.density.whitening import Whitening

Floats = npt.NDArray[np.float64]

#: Bars that an approximation must pass to be used: shape of the weights' tail, and what the draws are worth.
MAX_KHAT: Final = 0.7
MIN_DRAWS: Final = 100
#: Rounds at least and at most, and points of each: so many, or so many a dimension.
_LEAST_ROUNDS: Final = 5
_ROUNDS: Final = 10
_POINTS: Final = 3000
_POINTS_A_DIMENSION: Final = 150
#: The proposal is good enough when the tail is this light and so large a part of the points counts.
_GOOD_KHAT: Final = 0.5
_GOOD_PART: Final = 0.2
#: Weights that a proposal is fitted with are flattened until so large a part of the points counts, or so many a
#: dimension.
_COUNTED: Final = 0.1
_COUNTED_A_DIMENSION: Final = 10
#: Points a draw that is asked for; where they are worth fewer than `_WORTH`, up to so many times as many.
_A_DRAW: Final = 2
_MORE: Final = 4
_WORTH: Final = 1000
#: A log density so far above that of every mode is none.
_TOO_HIGH: Final = 1000.0


def run_importance(
    density: Callable[[], Tape], settings: SamplerSettings, *, what: tuple[str, str], stage: str = "sampling"
) -> tuple[xr.Dataset, xr.Dataset]:
    """Draw from the posterior of a PyMC model given its data.

    Parameters
    ----------
    density : callable
        Gives the log density, filled with the data, in the parameters as they are.
    settings : SamplerSettings
        Chains times draws are drawn.
    what : (str, str)
        Names of the model and of the sweep, for messages.
    stage : str
        What a listener is told that is done.

    Returns
    -------
    posterior, stats : xarray.Dataset
        Dims chain and draw, without what serves the sampler alone; and numbers ``khat``, ``ess`` (independent draws
        that the resampled ones are worth), ``points`` (log densities that it took) and ``modes``, with the log
        density ``lp`` of every draw.

    Raises
    ------
    ApproximationError
        If k-hat is above `MAX_KHAT`, or the draws are worth fewer than `MIN_DRAWS`.
    SpecError
        If the log density is finite hardly anywhere: a prior lets a quantity leave its bounds.
    """
    import xarray as xr

    tape = density()
    told(stage)
    with one_thread():
        points, stats = _drawn(tape, settings, what)
    dims = {"chain": range(settings.chains), "draw": range(settings.draws)}
    return tidy(reported(tape, points, dims)), xr.Dataset(stats, coords=dims)


def _drawn(tape: Tape, settings: SamplerSettings, what: tuple[str, str]) -> tuple[Floats, dict[str, Any]]:
    """Draws, shape (chain, draw, dimension), and what is known of them."""
    rng = np.random.default_rng(settings.seed)
    found = modes(tape)
    centers = tape.log_densities(np.array([mode.center for mode in found]))

    def log_densities(points: Floats) -> Floats:
        """Those of the posterior, -inf also where they are larger than any posterior's: rounding errors."""
        logs = tape.log_densities(points)
        return np.where(logs > centers.max() + _TOO_HIGH, -np.inf, logs)

    proposal, spent = _adapted(log_densities, found, rng, what)
    n = settings.chains * settings.draws
    points, logs, weights = np.empty((0, len(tape.start))), np.empty(0), np.empty(0)
    for _ in range(_MORE):
        new = proposal.draw(_A_DRAW * n, rng)
        points, logs = np.concatenate([points, new]), np.concatenate([logs, log_densities(new)])
        weights, khat = smoothed(logs - proposal.log_density(points))
        worth = float(1 / (weights**2).sum())
        if worth >= _WORTH:
            break
    _refuse(khat, worth, what)
    kept = rng.permutation(_systematic(weights, n, rng)).reshape(settings.chains, settings.draws)
    stats = {"khat": khat, "ess": worth, "points": spent + len(points), "modes": _held(points[kept.ravel()], found)}
    return points[kept], stats | {"lp": (("chain", "draw"), logs[kept])}


def smoothed(log_weights: Floats) -> tuple[Floats, float]:
    """Pareto-smoothed importance weights, summing to 1, and their k-hat (infinite where it cannot be told).

    Parameters
    ----------
    log_weights : ndarray, shape (point,)
        Log density less that of the proposal; -inf where there is none.

    Returns
    -------
    weights : ndarray, shape (point,)
        Of the points.
    khat : float
        Shape of the tail of the weights.
    """
    from arviz_stats.base import array_stats

    # The library takes the negative, as of a log likelihood that is left out.
    there = np.isfinite(log_weights)
    weights = np.zeros(len(log_weights))
    if there.sum() < len(there) / 2:
        return np.full(len(there), 1 / len(there)), np.inf
    logs, khat = array_stats.psislw(-log_weights[there])
    weights[there] = np.exp(logs)
    return weights / weights.sum(), float(khat) if np.isfinite(khat) else np.inf


def _adapted(
    log_densities: Callable[[Floats], Floats], found: list[Whitening], rng: np.random.Generator, what: tuple[str, str]
) -> tuple[Proposal, int]:
    """Proposal that is fitted to the posterior, and how many points that took."""
    n = len(found[0].center)
    size = max(_POINTS, _POINTS_A_DIMENSION * n)
    proposal = Proposal.of_modes(found)
    proposals: list[Proposal] = []
    points, logs, densities = np.empty((0, n)), np.empty(0), np.empty(0)
    for done in range(1, _ROUNDS + 1):
        new = proposal.draw(size, rng)
        log_new = log_densities(new)
        if np.isfinite(log_new).mean() < _COUNTED:
            raise SpecError(
                f"The model {what[0]!r} could not be approximated on {what[1]}: its log density is finite hardly "
                "anywhere; do its priors keep every quantity inside its bounds?"
            )
        of_old = [one.log_density(new) for one in proposals]
        of_new = proposal.log_density(new)
        weights, khat = smoothed(log_new - of_new)
        # Sums of the densities of all proposals, old and new, at all points.
        densities = np.concatenate([
            np.logaddexp(densities, proposal.log_density(points)) if len(points) else densities,
            np.logaddexp.reduce([*of_old, of_new], axis=0),
        ])  # fmt: skip
        points, logs = np.concatenate([points, new]), np.concatenate([logs, log_new])
        proposals.append(proposal)
        wanted = max(_COUNTED * size, _COUNTED_A_DIMENSION * n)
        proposal = proposal.fitted(points, _flattened(logs - densities, wanted))
        if done >= _LEAST_ROUNDS and khat < _GOOD_KHAT and 1 / (weights**2).sum() > _GOOD_PART * size:
            break
    return proposal, len(points)


def _flattened(log_weights: Floats, wanted: float) -> Floats:
    """Weights to the largest power up to 1 by which they are worth so many points, summing to 1."""
    log_weights = log_weights - log_weights.max()

    def to(power: float) -> Floats:
        weights = np.exp(power * log_weights)
        return np.asarray(weights / weights.sum())

    def enough(power: float) -> bool:
        return bool(1 / (to(power) ** 2).sum() >= wanted)

    if enough(1.0):
        return to(1.0)
    low, high = 1e-6, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if enough(middle) else (low, middle)
    return to(low)


def _systematic(weights: Floats, n: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Places of n draws, each as often as its weight says, less than one off."""
    ends = np.cumsum(weights)
    places = np.searchsorted(ends / ends[-1], (np.arange(n) + rng.uniform()) / n)
    return np.asarray(np.minimum(places, len(weights) - 1))


def _held(draws: Floats, found: list[Whitening]) -> int:
    """How many modes have draws nearer to them than to others: at least one in a hundred."""
    far = [(((draws - mode.center) / mode.scale) ** 2).sum(axis=1) for mode in found]
    return int((np.bincount(np.argmin(far, axis=0), minlength=len(found)) >= len(draws) / 100).sum())


def _refuse(khat: float, worth: float, what: tuple[str, str]) -> None:
    if khat <= MAX_KHAT and worth >= MIN_DRAWS:
        return
    why = f"k-hat is {khat:.2f}, above {MAX_KHAT}" if khat > MAX_KHAT else f"its draws are worth {worth:.0f}"
    raise ApproximationError(
        f"The posterior of model {what[0]!r} of {what[1]} is too far from what method 'laplace' can draw from "
        f"({why}); sample it with method='nuts' (--method nuts)."
    )
