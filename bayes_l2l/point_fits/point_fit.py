"""Point fit of a law to the runs of one cell: the least Huber loss of log residuals.

arXiv 2411.12925 fits its Eq. 4 so, after Hoffmann et al. (arXiv 2203.15556). Here the losses are summed in
float64 and minimised from many starts, so that the result does not depend on where an optimiser stopped.
All starts, and all resamples of a bootstrap, take their steps together in one batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.errors import DataError, SpecError
from bayes_l2l.laws.family import LAW_FORMS
from bayes_l2l.laws.scaling import Law

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: Log residual at which the Huber loss turns from quadratic to linear, as in both papers.
DELTA: Final = 1e-3
#: Default number of starting points.
N_STARTS: Final = 24

# A fit ends where a step promises less than this part of its objective.
_TOLERANCE: Final = 1e-10
_MAX_STEPS: Final = 500


def _subspace(law: str) -> Floats:
    """Directions in which the optimiser may move theta = (log E, a, b, log p, log q, log gamma), shape (6, free).

    p = alpha/gamma, q = beta/gamma, and a, b are the logarithms of the two terms of R at the geometric mean of the
    runs, where the data know them.
    """
    exponents = LAW_FORMS[law].directions()
    subspace = np.zeros((6, 3 + exponents.shape[1]))
    subspace[:3, :3] = np.eye(3)
    subspace[3:, 3:] = exponents
    return subspace


@dataclass(frozen=True)
class PointLaw(Law):
    """A law with the least objective that a fit has found.

    Attributes
    ----------
    objective : float
        Sum over the runs of weight times Huber loss of log(predicted / measured).
    converged : bool
        Whether the fit had ended. It may not where the runs do not determine all parameters.
    """

    objective: Any = float("nan")
    converged: Any = True

    @property
    def A(self) -> Any:
        """A in parameters; infinite where it is too large for a float."""
        with np.errstate(over="ignore"):
            return np.exp(self.log_A)

    @property
    def B(self) -> Any:
        """B in tokens; infinite where it is too large for a float."""
        with np.errstate(over="ignore"):
            return np.exp(self.log_B)

    def predict(self, params: npt.ArrayLike, tokens: npt.ArrayLike) -> Floats:
        """Loss in nats/token at N parameters and D tokens (array-likes that broadcast)."""
        return np.asarray(self.loss(np.asarray(params, dtype=float), np.asarray(tokens, dtype=float)))


def fit_point(
    params: npt.ArrayLike,
    tokens: npt.ArrayLike,
    loss: npt.ArrayLike,
    *,
    law: str = "kaplan",
    weights: npt.ArrayLike | None = None,
    n_starts: int = N_STARTS,
    seed: int = 0,
) -> PointLaw:
    """Fit one law to the runs of one cell by the least summed Huber loss of log residuals.

    Parameters
    ----------
    params, tokens, loss : array-like, shape (n_runs,)
        Parameters N, tokens D and losses (nats/token), all positive.
    law : str
        Member of the family (`bayes_l2l.laws.family`); "kaplan" is Eq. 4 of arXiv 2411.12925.
    weights : array-like, shape (n_runs,), optional
        Non-negative factor of each run in the sum, such as (C / C_max)**2. All 1 by default.
    n_starts : int
        Starting points, spread over plausible E and exponents; the best end is kept.
    seed : int
        Seed of the starting points.

    Returns
    -------
    PointLaw
        Parameters as floats.

    Raises
    ------
    SpecError
        If `law` is not a member of the family, or `n_starts` is below 1.
    DataError
        If there are fewer runs than the law has parameters, or a value that is not finite and positive.
    """
    if n_starts < 1:
        raise SpecError(f"n_starts must be at least 1, not {n_starts}.")
    runs = Runs.of(params, tokens, loss, law=law)
    factors = np.ones(len(runs.log_loss)) if weights is None else np.asarray(weights, dtype=float)
    if factors.shape != runs.log_loss.shape or not (np.isfinite(factors) & (factors >= 0)).all() or not factors.any():
        raise DataError("The weights must be one finite number of at least 0 for each run, and not all 0.")
    return runs.law(*runs.best(factors, n_starts=n_starts, seed=seed))


@dataclass(frozen=True, eq=False)
class Runs:
    """The runs of one cell as the optimiser sees them; its theta has the shape (n_fits, 6).

    Attributes
    ----------
    log_params, log_tokens : ndarray, shape (n_runs,)
        Logarithms of N and D less their means.
    log_loss : ndarray, shape (n_runs,)
        Logarithms of the losses.
    centre : tuple of float
        The means that were taken off.
    subspace : ndarray, shape (6, n_parameters)
        Directions of theta that the law leaves free.
    """

    log_params: Floats
    log_tokens: Floats
    log_loss: Floats
    centre: tuple[float, float]
    subspace: Floats

    @classmethod
    def of(cls, params: npt.ArrayLike, tokens: npt.ArrayLike, loss: npt.ArrayLike, *, law: str) -> Runs:
        """Check the runs and take logarithms (the arguments and errors are those of `fit_point`)."""
        if law not in LAW_FORMS:
            raise SpecError(f"There is no law {law!r}; the members of the family are {', '.join(LAW_FORMS)}.")
        columns = [np.asarray(v, dtype=float) for v in (params, tokens, loss)]
        if len({c.shape for c in columns}) > 1 or columns[0].ndim != 1:
            shapes = ", ".join(str(c.shape) for c in columns)
            raise DataError(f"params, tokens and loss must be of one length, not of the shapes {shapes}.")
        for name, column in zip(("params", "tokens", "loss"), columns, strict=True):
            if not (usable := np.isfinite(column) & (column > 0)).all():
                run = int(np.argmin(usable))
                raise DataError(f"Run {run + 1} has {name} {column[run]:g}, which must be finite and above 0.")
        n, d, y = (np.log(column) for column in columns)
        subspace = _subspace(law)
        n_parameters = subspace.shape[1]
        if len(y) < n_parameters:
            raise DataError(
                f"The {law} law has {n_parameters} parameters and cannot be fitted to {len(y)} runs alone: "
                "add runs, or take a law or a model that needs fewer."
            )
        return cls(n - n.mean(), d - d.mean(), y, (float(n.mean()), float(d.mean())), subspace)

    def law(self, theta: Floats, objective: Any, converged: Any) -> PointLaw:
        """Law at one theta, or at several at once."""
        log_E, a, b, log_p, log_q, log_gamma = np.moveaxis(theta, -1, 0)
        p, q, gamma = np.exp(log_p), np.exp(log_q), np.exp(log_gamma)
        log_A, log_B = self.centre[0] + a / p, self.centre[1] + b / q
        constants = (np.exp(log_E), log_A, log_B, gamma * p, gamma * q, gamma)
        E, log_A, log_B, alpha, beta, gamma = (v if v.ndim else float(v) for v in constants)
        return PointLaw(E, log_A, log_B, alpha, beta, gamma, objective=objective, converged=converged)

    def starts(self, n: int, *, seed: int) -> Floats:
        """Random points of the subspace whose curves pass through the middle of the losses."""
        rng = np.random.default_rng(seed)
        E = rng.uniform(0.02, 0.95, n) * np.exp(self.log_loss.min())
        log_p, log_q, log_gamma = np.log(rng.uniform(0.2, 1.2, (3, n)))
        theta: Floats = np.column_stack([np.log(E), np.zeros((n, 2)), log_p, log_q, log_gamma])
        theta = theta @ np.linalg.pinv(self.subspace).T @ self.subspace.T
        log_R = np.log(np.exp(np.median(self.log_loss)) - E) / np.exp(theta[:, 5])
        share = rng.uniform(0.1, 0.9, n)
        theta[:, 1], theta[:, 2] = log_R + np.log(share), log_R + np.log1p(-share)
        return theta

    def best(self, weights: Floats, *, n_starts: int, seed: int) -> tuple[Floats, float, bool]:
        """Best of many starts: theta, its sum, and whether the fit had ended."""
        theta, objective, converged = self.minimise(self.starts(n_starts, seed=seed), weights)
        i = int(np.argmin(objective))
        return theta[i], float(objective[i]), bool(converged[i])

    def residuals(self, theta: Floats) -> tuple[Floats, Floats]:
        """Log of predicted over measured loss, (n_fits, n_runs), and its derivatives along the subspace."""
        log_E, a, b, log_p, log_q, log_gamma = (column[:, None] for column in theta.T)
        slope_n, slope_d = np.exp(log_p) * self.log_params, np.exp(log_q) * self.log_tokens
        log_R = np.logaddexp(a - slope_n, b - slope_d)
        log_reducible = np.exp(log_gamma) * log_R
        log_total = np.logaddexp(log_E, log_reducible)
        dR = np.exp(log_reducible - log_total)  # of log L by the logarithm of the reducible loss
        dn = dR * np.exp(log_gamma + a - slope_n - log_R)
        dd = dR * np.exp(log_gamma + b - slope_d - log_R)
        jacobian = np.stack([1 - dR, dn, dd, -dn * slope_n, -dd * slope_d, dR * log_reducible], axis=-1)
        return log_total - self.log_loss, jacobian @ self.subspace

    def minimise(self, theta: Floats, weights: Floats) -> tuple[Floats, Floats, Bools]:
        """Least weighted sums of Huber losses from many starts at once.

        Newton steps (without second derivatives of the law), damped after Levenberg and Marquardt by the
        quadratic that touches the sum from above (that of iteratively reweighted least squares): damped
        steps surely descend, and undamped ones end quickly although most runs lie where the loss is linear.

        Returns the ends of theta, the sums, and whether each fit had ended: where the runs do not
        determine the law, its parameters may drift on without end while the curve hardly changes.
        """
        theta = theta.copy()
        weights = np.broadcast_to(weights, (len(theta), len(self.log_loss)))
        residual, jacobian = self.residuals(theta)
        objective = _huber(residual, weights)
        damping = np.ones(len(theta))
        live = np.arange(len(theta))  # fits that have not ended
        identity = np.eye(self.subspace.shape[1])
        for _ in range(_MAX_STEPS):
            r, J, w = residual[live], jacobian[live], weights[live]
            touching = w / np.maximum(np.abs(r) / DELTA, 1)
            gradient = np.einsum("fri,fr->fi", J, touching * r)
            above = np.swapaxes(J * touching[..., None], 1, 2) @ J
            newton = np.swapaxes(J * np.where(np.abs(r) <= DELTA, w, 0)[..., None], 1, 2) @ J
            diagonal = above * identity
            ridge = 1e-14 * diagonal.max(axis=(1, 2), keepdims=True) * identity
            hessian = newton + damping[live, None, None] * (above + 0.1 * diagonal) + ridge
            step = -np.linalg.solve(hessian, gradient[..., None])[..., 0]
            step /= np.maximum(np.abs(step).max(axis=1, keepdims=True), 1)
            trial = theta[live] + step @ self.subspace.T
            with np.errstate(over="ignore", invalid="ignore"):  # not finite: not better
                trial_residual, trial_jacobian = self.residuals(trial)
            trial_objective = _huber(trial_residual, w)

            better = trial_objective < objective[live]
            damping[live] = np.clip(damping[live] * np.where(better, 0.4, 4.0), 1e-8, 1e8)
            moved = live[better]
            theta[moved], objective[moved] = trial[better], trial_objective[better]
            residual[moved], jacobian[moved] = trial_residual[better], trial_jacobian[better]
            promised = -np.einsum("fi,fi->f", gradient, step)
            live = live[promised > _TOLERANCE * (objective[live] + DELTA**2)]
            if not len(live):
                break
        return theta, objective, ~np.isin(np.arange(len(theta)), live)


def _huber(residual: Floats, weights: Floats) -> Floats:
    size = np.abs(residual)
    loss = np.where(size <= DELTA, residual**2 / 2, DELTA * (size - DELTA / 2))
    return np.asarray((weights * loss).sum(axis=-1))
