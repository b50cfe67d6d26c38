"""Point fits of loss-to-loss relations, and their bootstrap: the regressions of arXiv 2411.12925.

Two losses of runs of equal (N, D) are related by L1 = K (L0 - E0)^kappa + E1 (Eq. 9 there), whatever the two are:
train-to-train, train-to-test and test-to-test differ in the columns alone. The paper takes E0 from the scaling law
of the source. Where the target has a full sweep, E1 comes from its law too (Tables 7 to 9); where it has few runs,
E1 is fitted with K and kappa (Tables 1 and 2). FLOPs-to-loss is the same regression on 1/C, with E0 = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.errors import DataError
from bayes_l2l.laws.shifted_power import ShiftedPowerLaw

Floats = npt.NDArray[np.float64]

#: The relation that predicts the target's loss to be the source's.
IDENTITY: Final = ShiftedPowerLaw(K=1.0, kappa=1.0, E0=0.0, E1=0.0)

_KAPPA: Final = (np.log(1e-2), np.log(20.0))  # range searched
_GRID: Final = 41
_ZOOMS: Final = 5  # each narrows the search to two of 40 steps
_MIN_RUNS: Final = 3


@dataclass(frozen=True, eq=False)
class RelationFit:
    """Point fit of a relation, and the same refitted to resampled runs.

    Attributes
    ----------
    point : ShiftedPowerLaw
        The fit to the runs as they are.
    resampled : ShiftedPowerLaw
        The refits: every parameter of shape (n_boot,).
    residuals : ndarray, shape (n_runs,)
        log(measured / predicted) of the point fit.
    seed : int
        Of the residuals that are drawn.
    """

    point: ShiftedPowerLaw
    resampled: ShiftedPowerLaw
    residuals: Floats
    seed: int

    def draws(self, loss: npt.ArrayLike) -> Floats:
        """Draws (n_boot, n) of the target's loss in new runs, given their source's losses (n,), with run noise."""
        at = np.atleast_1d(np.asarray(loss, dtype=float))
        law = ShiftedPowerLaw(
            **{k: np.broadcast_to(v, np.shape(self.resampled.K))[:, None] for k, v in vars(self.resampled).items()}
        )
        noise = np.random.default_rng(self.seed).choice(self.residuals, (len(law.K), len(at)))
        with np.errstate(invalid="ignore"):  # below E0: not a number
            return np.asarray(law(at) * np.exp(noise))


def fit_relation(
    source: npt.ArrayLike, target: npt.ArrayLike, *, E0: float, E1: float | None = None
) -> ShiftedPowerLaw:
    """Fit L1 = K (L0 - E0)^kappa + E1 to losses of runs of equal (N, D).

    Parameters
    ----------
    source, target : array-like, shape (n_runs,)
        Losses L0 and L1 (nats/token), one pair a size.
    E0 : float
        Irreducible entropy of the source, below all its losses (nats/token).
    E1 : float, optional
        That of the target; the line through log(L1 - E1) over log(L0 - E0) is then fitted by least squares. Without
        it E1 is fitted too, between 0 and the smallest loss, by least squares of L1 itself.

    Returns
    -------
    ShiftedPowerLaw
        Parameters as floats.

    Raises
    ------
    DataError
        If there are fewer than three runs, losses that are not finite, or an E that is not below all losses.

    Notes
    -----
    These are the regressions that give the figures of arXiv 2411.12925 to their last digit: Tables 7 to 9 with E1,
    Tables 1 and 2 without.
    """
    x, y = _checked(source, target, E0, E1)
    K, kappa, found = _solve(x, y, np.ones((1, len(x))), np.atleast_1d(E0), None if E1 is None else np.atleast_1d(E1))
    return ShiftedPowerLaw(K=float(K[0]), kappa=float(kappa[0]), E0=float(E0), E1=float(found[0]))


def fit_compute(flops: npt.ArrayLike, loss: npt.ArrayLike) -> ShiftedPowerLaw:
    """FLOPs-to-loss: L = K (1/C)^kappa + E, for runs near the compute-optimal size.

    Parameters
    ----------
    flops : array-like, shape (n_runs,)
        Training compute C (FLOPs).
    loss : array-like, shape (n_runs,)
        Losses (nats/token).

    Returns
    -------
    ShiftedPowerLaw
        To be called with 1/C; E0 is 0 and E1 the law's E.

    Raises
    ------
    DataError
        As in `fit_relation`.
    """
    return fit_relation(1 / np.asarray(flops, dtype=float), loss, E0=0.0)


def bootstrap_relation(
    source: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    E0: float | Floats,
    E1: float | Floats | None = None,
    n_boot: int = 200,
    seed: int = 0,
) -> RelationFit:
    """Fit a relation, and refit it to runs resampled with replacement.

    Parameters
    ----------
    source, target : array-like, shape (n_runs,)
        Losses, as in `fit_relation`.
    E0, E1 : float or ndarray, shape (n_boot,)
        Irreducible entropies; arrays hold that of each refit (of laws that were bootstrapped), and the point fit
        takes their median. E1 is fitted if not given.
    n_boot : int
        Resamples.
    seed : int
        Of the resampling.

    Returns
    -------
    RelationFit
        Point fit, refits and residuals.

    Raises
    ------
    DataError
        As in `fit_relation`, and if an array of E's has not one for each refit.
    """
    centre = float(np.median(E0)), None if E1 is None else float(np.median(E1))
    point = fit_relation(source, target, E0=centre[0], E1=centre[1])
    x, y = _checked(source, target, E0, E1)
    for name, size in (("E0", np.size(E0)), ("E1", 1 if E1 is None else np.size(E1))):
        if size not in (1, n_boot):
            raise DataError(f"{name} has {size} values for {n_boot} refits: give one, or one a refit.")
    counts = _resample(len(x), n_boot, seed)
    each = [None if E is None else np.broadcast_to(np.asarray(E, dtype=float), n_boot) for E in (E0, E1)]
    K, kappa, found = _solve(x, y, counts, each[0], each[1])
    resampled = ShiftedPowerLaw(K=K, kappa=kappa, E0=each[0], E1=found)
    return RelationFit(point=point, resampled=resampled, residuals=np.log(y / point(x)), seed=seed)


def _checked(source: Any, target: Any, E0: Any, E1: Any) -> tuple[Floats, Floats]:
    x, y = np.asarray(source, dtype=float), np.asarray(target, dtype=float)
    if x.shape != y.shape or x.ndim != 1 or len(x) < _MIN_RUNS:
        raise DataError(
            f"A relation needs the losses of at least {_MIN_RUNS} runs in two columns of one length, "
            f"not of the shapes {x.shape} and {y.shape}."
        )
    for name, losses, E in (("source", x, E0), ("target", y, E1)):
        if not (np.isfinite(losses) & (losses > 0)).all():
            raise DataError(f"The losses of the {name} must be finite and above 0.")
        if E is not None and not np.max(E) < losses.min():
            raise DataError(
                f"E of the {name} is {np.max(E):g}, which must be below its smallest loss {losses.min():g}."
            )
    return x, y


def _resample(n_runs: int, n_boot: int, seed: int) -> Floats:
    """How often each run is drawn, (n_boot, n_runs); resamples of too few distinct runs are drawn again."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n_runs, np.full(n_runs, 1 / n_runs), size=n_boot)
    while (poor := (counts > 0).sum(axis=1) < _MIN_RUNS).any():
        counts[poor] = rng.multinomial(n_runs, np.full(n_runs, 1 / n_runs), size=int(poor.sum()))
    return counts.astype(float)


def _solve(x: Floats, y: Floats, counts: Floats, E0: Any, E1: Any) -> tuple[Floats, Floats, Floats]:
    """K, kappa and E1, each (n_fits,), of weighted least squares for several weights and E's at once."""
    log_x = np.log(x - E0[:, None])
    centre = np.average(log_x, axis=1, weights=np.broadcast_to(counts, log_x.shape))
    log_x -= centre[:, None]  # amid the runs K and kappa hardly depend on each other
    if E1 is not None:
        log_y = np.log(y - E1[:, None])
        kappa = np.sum(counts * log_x * log_y, axis=1) / np.sum(counts * log_x**2, axis=1)
        scale = np.exp(np.average(log_y, axis=1, weights=counts))
        return scale * np.exp(-kappa * centre), kappa, E1
    low, high = (np.full(len(counts), limit) for limit in _KAPPA)
    for _ in range(_ZOOMS):
        log_kappa = np.linspace(low, high, _GRID, axis=1)
        scale, E, squares = _linear(log_x, y, counts, np.exp(log_kappa))
        best = squares.argmin(axis=1)[:, None]
        step, middle = (high - low) / (_GRID - 1), np.take_along_axis(log_kappa, best, axis=1)[:, 0]
        low, high = middle - step, middle + step
    kappa = np.exp(middle)
    scale, E = (np.take_along_axis(values, best, axis=1)[:, 0] for values in (scale, E))
    return scale * np.exp(-kappa * centre), kappa, E


def _linear(log_x: Floats, y: Floats, counts: Floats, kappa: Floats) -> tuple[Floats, Floats, Floats]:
    """Scale, E1 and sum of squares at given kappas, each (n_fits, n_kappa): with kappa known the fit is linear.

    The sum is quadratic in E1 once the scale is solved for, so that the bounds of E1 are met by clipping.
    """
    power = np.exp(kappa[:, :, None] * log_x[:, None, :])
    w = counts[:, None, :]
    n, p, pp = w.sum(axis=2), (w * power).sum(axis=2), (w * power**2).sum(axis=2)
    q, pq = (w * y).sum(axis=2), (w * power * y).sum(axis=2)
    E = np.clip((pp * q - p * pq) / (n * pp - p**2), 0, y.min())
    scale = np.maximum((pq - E * p) / pp, 1e-12)
    squares = (w * (scale[..., None] * power + E[..., None] - y) ** 2).sum(axis=2)
    return scale, E, squares
