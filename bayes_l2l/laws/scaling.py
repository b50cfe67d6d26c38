"""The scaling law, its compute-optimal sizes, and how it translates.

One family (gamma tells its members apart, see `family.py`)::

    L(N, D) = E + R^gamma,    R = [(A/N)^(alpha/gamma) + (B/D)^(beta/gamma)] (1 + c D0/D)

gamma = beta is Eq. 4 of arXiv 2411.12925 (`kaplan`), gamma = 1 is Chinchilla's form (Eq. 1 there),
gamma = 1 with alpha = beta is the over-training law of arXiv 2403.08540. The factor (1 + c D0/D), off by
default, is a transient of short runs; it stands inside R, so that a shifted power law of the loss changes E,
A, B and multiplies the exponents but leaves c: translation is closed. Everything is computed from logarithms,
so that A and B may span hundreds of orders of magnitude.

The functions use only operators and methods that NumPy arrays, xarray objects and PyTensor
variables share: they are written once for all three.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from bayes_l2l.laws.arrays import logaddexp, namespace
from bayes_l2l.laws.shifted_power import ShiftedPowerLaw

#: Tokens at which the finite-training correction is c: a constant of the notation, not a parameter.
D0: Final = 2e9
#: FLOPs per parameter and token (C = 6 N D).
FLOPS_PER_PARAM_TOKEN: Final = 6.0
#: Parameters of the general law of one cell: E, A, B, alpha, beta, gamma.
LAW_PARAMETERS: Final = 6
#: The search for the best size: how far below the closed form in log N, steps at most, and when it is found.
_WIDEST: Final = 25.0
_STEPS: Final = 60
_CLOSE: Final = 1e-10


def log_reducible(
    log_params: Any,
    log_tokens: Any,
    *,
    log_A: Any,
    log_B: Any,
    alpha: Any,
    beta: Any,
    gamma: Any = 1.0,
    c: Any = 0.0,
) -> Any:
    """Logarithm of the reducible loss, log(L - E).

    Parameters
    ----------
    log_params, log_tokens : array-like, xarray or PyTensor
        Natural logarithms of N (parameters) and D (tokens).
    log_A, log_B : array-like, xarray or PyTensor
        Logarithms of A (in parameters) and B (in tokens).
    alpha, beta, gamma : array-like, xarray or PyTensor
        Exponents of the family above, all positive.
    c : array-like, xarray or PyTensor, default 0
        Finite-training correction at D0 = 2e9 tokens, at least 0.

    Returns
    -------
    same kind as the inputs
        log(R^gamma), broadcast; nats/token inside the logarithm.
    """
    lib = namespace(log_params, log_A, alpha, gamma, c)
    log_R = logaddexp(alpha / gamma * (log_A - log_params), beta / gamma * (log_B - log_tokens))
    return gamma * (log_R + lib.log1p(c * lib.exp(np.log(D0) - log_tokens)))


def law_loss(
    params: Any,
    tokens: Any,
    *,
    E: Any,
    A: Any,
    B: Any,
    alpha: Any,
    beta: Any,
    gamma: Any = 1.0,
    c: Any = 0.0,
) -> Any:
    """Loss of the law in nats/token, from A and B themselves (see `log_reducible` for the arguments).

    Examples
    --------
    >>> round(law_loss(1e9, 2e10, E=1.7, A=1e3, B=1e3, alpha=0.34, beta=0.28), 3)
    1.805
    """
    lib = namespace(params, A, alpha, gamma)
    return E + lib.exp(
        log_reducible(
            lib.log(params),
            lib.log(tokens),
            log_A=lib.log(A),
            log_B=lib.log(B),
            alpha=alpha,
            beta=beta,
            gamma=gamma,
            c=c,
        )
    )


def from_reference(
    *,
    log_reducible_ref: Any,
    share: Any,
    alpha: Any,
    beta: Any,
    gamma: Any,
    log_N_ref: float,
    log_D_ref: float,
) -> tuple[Any, Any]:
    """A and B (logarithms) of the law whose value and split are given at a reference size.

    The data say what the loss is in their midst, not at N = 1: models are parameterised there.

    Parameters
    ----------
    log_reducible_ref : array-like
        log R^gamma at the reference, with c = 0.
    share : array-like
        Part of R that is the model-size term (A/N)^(alpha/gamma) at the reference, in (0, 1).
    alpha, beta, gamma : array-like
        Exponents.
    log_N_ref, log_D_ref : float
        Logarithms of the reference size (parameters, tokens).

    Returns
    -------
    log_A, log_B : array-like
    """
    lib = namespace(log_reducible_ref, share, alpha)
    log_R = log_reducible_ref / gamma
    return (
        log_N_ref + gamma / alpha * (log_R + lib.log(share)),
        log_D_ref + gamma / beta * (log_R + lib.log1p(-share)),
    )


def log_progress(
    log_params: Any, log_tokens: Any, *, reference: Any, share: Any, alpha: Any, beta: Any, c: Any = 0.0
) -> Any:
    """Logarithm of the progress R of runs over that at a reference size.

    Parameters
    ----------
    log_params, log_tokens : array-like or PyTensor
        Natural logarithms of N (parameters) and D (tokens).
    reference : pair
        Logarithms of the reference size (parameters, tokens).
    share : array-like or PyTensor
        Part of R that is the model-size term (A/N)^(alpha/gamma) at the reference, in (0, 1).
    alpha, beta : array-like or PyTensor
        Exponents of N and D in R: alpha/gamma and beta/gamma of the family above.
    c : array-like or PyTensor, default 0
        Finite-training correction at D0 = 2e9 tokens, at least 0.

    Returns
    -------
    same kind as the inputs
    """
    lib = namespace(log_params, share, alpha, beta, c)
    log_R = logaddexp(
        lib.log(share) + alpha * (reference[0] - log_params), lib.log1p(-share) + beta * (reference[1] - log_tokens)
    )
    transient = lib.log1p(c * lib.exp(np.log(D0) - log_tokens)) - lib.log1p(c * lib.exp(np.log(D0) - reference[1]))
    return log_R + transient


def log_optimal_params(log_flops: Any, *, log_A: Any, log_B: Any, alpha: Any, beta: Any, gamma: Any = 1.0) -> Any:
    """Logarithm of the compute-optimal model size N*(C), with D* = C / (6 N*).

    N*(C) = G (C/6)^(beta/(alpha+beta)), G = (alpha A^(alpha/gamma) / (beta B^(beta/gamma)))^(gamma/(alpha+beta)).
    The finite-training correction is left out: it is a transient of short runs (c = 0 at the optimum).
    """
    lib = namespace(log_flops, log_A, alpha)
    log_ratio = lib.log(alpha) - lib.log(beta) + alpha / gamma * log_A - beta / gamma * log_B
    return gamma / (alpha + beta) * log_ratio + beta / (alpha + beta) * (log_flops - np.log(FLOPS_PER_PARAM_TOKEN))


@dataclass(frozen=True)
class Law:
    """One member of the family with its parameters (scalars, or arrays of posterior draws).

    Attributes
    ----------
    E : float or array
        Irreducible entropy (nats/token).
    log_A, log_B : float or array
        Logarithms of A (parameters) and B (tokens).
    alpha, beta, gamma, c : float or array
        Exponents and finite-training correction.
    """

    E: Any
    log_A: Any
    log_B: Any
    alpha: Any
    beta: Any
    gamma: Any = 1.0
    c: Any = 0.0

    def loss(self, params: Any, tokens: Any, shift: Any = 0.0) -> Any:
        """Loss at N parameters and D tokens.

        Parameters
        ----------
        params, tokens : array_like
            N and D.
        shift : array_like, default 0
            What log R is off by there.

        Returns
        -------
        array
            Nats/token.
        """
        return self.E + np.exp(
            self.gamma * shift
            + log_reducible(
                np.log(params),
                np.log(tokens),
                log_A=self.log_A,
                log_B=self.log_B,
                alpha=self.alpha,
                beta=self.beta,
                gamma=self.gamma,
                c=self.c,
            )
        )

    def optimal(self, flops: Any) -> tuple[Any, Any]:
        """Compute-optimal (params, tokens) for a budget of C FLOPs."""
        log_n = log_optimal_params(
            np.log(flops),
            log_A=self.log_A,
            log_B=self.log_B,
            alpha=self.alpha,
            beta=self.beta,
            gamma=self.gamma,
        )
        return np.exp(log_n), np.exp(np.log(flops) - np.log(FLOPS_PER_PARAM_TOKEN) - log_n)

    def best(self, flops: Any) -> tuple[Any, Any]:
        """Model size with the lowest loss for a budget, and its exponent in C there, d log N / d log C.

        Unlike `optimal`, the finite-training correction is heeded: along equal compute more parameters mean shorter
        runs. Without it (c = 0) both are those of the closed form, whose exponent is beta/(alpha+beta) at every
        budget; with it N* comes down to that as budgets grow.

        Parameters
        ----------
        flops : float or array
            Budget C (FLOPs), which broadcasts with the parameters.

        Returns
        -------
        params, exponent : ndarray
            Of the shape that budget and parameters broadcast to.
        """
        a, b = self.alpha / self.gamma, self.beta / self.gamma
        log_nd = np.log(flops) - np.log(FLOPS_PER_PARAM_TOKEN)
        c = np.maximum(self.c, np.finfo(float).tiny)

        def slopes(n: Any) -> tuple[Any, Any, Any]:
            """Slope of log R in log N along equal compute, and its derivatives in log N and log C."""
            share = 1 / (1 + np.exp(b * (self.log_B - log_nd + n) - a * (self.log_A - n)))
            short = 1 / (1 + np.exp(log_nd - n - np.log(c * D0)))
            mixed, late = share * (1 - share), short * (1 - short)
            return b - (a + b) * share + short, (a + b) ** 2 * mixed + late, -(a + b) * b * mixed - late

        high = np.log(self.optimal(flops)[0])
        n, low = high, high - _WIDEST
        with np.errstate(over="ignore"):
            for _ in range(_STEPS):
                slope, curvature, _ = slopes(n)
                # The slope grows with N: the minimum is below where it is positive.
                low, high = np.where(slope > 0, low, n), np.where(slope > 0, n, high)
                newton = n - slope / curvature
                following = np.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
                done, n = np.max(np.abs(following - n)) < _CLOSE, following
                if done:
                    break
            _, curvature, with_compute = slopes(n)
        return np.exp(n), -with_compute / curvature

    def translate(self, relation: ShiftedPowerLaw) -> Law:
        """The law of the target's loss, L1 = K (L0 - E)^kappa + E1, where E0 is this law's own E.

        alpha, beta, gamma are multiplied by kappa, A by K^(1/(kappa alpha)), B by K^(1/(kappa beta)) (old
        exponents), c is unchanged, and so is N*(C).
        """
        k = relation.kappa
        log_K = np.log(relation.K)
        return Law(
            E=relation.E1,
            log_A=self.log_A + log_K / (k * self.alpha),
            log_B=self.log_B + log_K / (k * self.beta),
            alpha=k * self.alpha,
            beta=k * self.beta,
            gamma=k * self.gamma,
            c=self.c,
        )

    def shares_progress_with(self, other: Law) -> bool:
        """Whether the R of the two laws differ by a factor alone, in every draw."""
        return np.allclose(_shape(self), _shape(other), rtol=1e-7, atol=1e-7)

    def relation_to(self, target: Law) -> ShiftedPowerLaw:
        """Relation that translates this law to one whose R differs by a factor alone, exactly.

        That factor is (A1/A0)^(alpha/gamma), alike with B: so kappa = gamma1/gamma0 and
        log K = alpha1 (log A1 - log A0).

        Parameters
        ----------
        target : Law
            With equal alpha/gamma, beta/gamma, c and A^(alpha/gamma) / B^(beta/gamma).

        Returns
        -------
        ShiftedPowerLaw
            With this law's E and the target's.
        """
        return ShiftedPowerLaw(
            K=np.exp(target.alpha * (target.log_A - self.log_A)),
            kappa=target.gamma / self.gamma,
            E0=self.E,
            E1=target.E,
        )


def _shape(law: Law) -> Any:
    """What R is made of, but for a factor."""
    a, b = law.alpha / law.gamma, law.beta / law.gamma
    return np.stack([a, b, law.c, a * law.log_A - b * law.log_B])
