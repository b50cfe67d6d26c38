"""Closed forms: the scaling law, its optimum, and the shifted power laws between losses.

One family (gamma names the members)::

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

#: Tokens at which the finite-training correction is c: a constant of the notation, not a parameter.
D0: Final = 2e9
#: FLOPs per parameter and token (C = 6 N D).
FLOPS_PER_PARAM_TOKEN: Final = 6.0
#: The members of the family and what they fix.
MEMBERS: Final = {
    "kaplan": "gamma = beta",
    "chinchilla": "gamma = 1",
    "overtraining": "gamma = 1, alpha = beta",
    "generalised": "gamma free",
}


def _lib(*values: Any) -> Any:
    """PyTensor's namespace if any value is a PyTensor variable, else NumPy (which serves xarray too)."""
    if any(type(v).__module__.startswith("pytensor") for v in values):
        import pytensor.tensor as pt

        return pt
    return np


def _logaddexp(a: Any, b: Any) -> Any:
    """log(exp(a) + exp(b)) without overflow, for the three libraries alike."""
    lib = _lib(a, b)
    gap = a - b
    # log1p(exp(-|gap|)) never overflows; the mean and half the distance are max(a, b) without a branch
    return 0.5 * (a + b) + 0.5 * abs(gap) + lib.log1p(lib.exp(-abs(gap)))


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
    lib = _lib(log_params, log_A, alpha, gamma, c)
    log_R = _logaddexp(alpha / gamma * (log_A - log_params), beta / gamma * (log_B - log_tokens))
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
    lib = _lib(params, A, alpha, gamma)
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
    lib = _lib(log_reducible_ref, share, alpha)
    log_R = log_reducible_ref / gamma
    return (
        log_N_ref + gamma / alpha * (log_R + lib.log(share)),
        log_D_ref + gamma / beta * (log_R + lib.log1p(-share)),
    )


def log_optimal_params(log_flops: Any, *, log_A: Any, log_B: Any, alpha: Any, beta: Any, gamma: Any = 1.0) -> Any:
    """Logarithm of the compute-optimal model size N*(C), with D* = C / (6 N*).

    N*(C) = G (C/6)^(beta/(alpha+beta)), G = (alpha A^(alpha/gamma) / (beta B^(beta/gamma)))^(gamma/(alpha+beta)).
    The finite-training correction is left out: it is a transient of short runs (c = 0 at the optimum).
    """
    lib = _lib(log_flops, log_A, alpha)
    log_ratio = lib.log(alpha) - lib.log(beta) + alpha / gamma * log_A - beta / gamma * log_B
    return gamma / (alpha + beta) * log_ratio + beta / (alpha + beta) * (log_flops - np.log(FLOPS_PER_PARAM_TOKEN))


@dataclass(frozen=True)
class ShiftedPowerLaw:
    """L1 = K (L0 - E0)^kappa + E1 between two losses (Eq. 9 of arXiv 2411.12925).

    Attributes
    ----------
    K, kappa : float or array
        Scale (nats^(1-kappa)) and exponent, positive.
    E0, E1 : float or array
        Irreducible entropies of the source's and the target's loss (nats/token).
    """

    K: Any
    kappa: Any
    E0: Any
    E1: Any

    def __call__(self, loss: Any) -> Any:
        """Target's loss at a source's loss above E0 (nats/token; NaN below E0)."""
        return self.K * (loss - self.E0) ** self.kappa + self.E1

    def inverse(self) -> ShiftedPowerLaw:
        """The relation read backwards: exponent 1/kappa, scale K^(-1/kappa)."""
        return ShiftedPowerLaw(K=self.K ** (-1 / self.kappa), kappa=1 / self.kappa, E0=self.E1, E1=self.E0)

    def then(self, following: ShiftedPowerLaw) -> ShiftedPowerLaw:
        """This relation followed by another (the middle entropies must be the same one).

        kappa = kappa_2 kappa_1 and K = K_2 K_1^kappa_2.
        """
        return ShiftedPowerLaw(
            K=following.K * self.K**following.kappa,
            kappa=following.kappa * self.kappa,
            E0=self.E0,
            E1=following.E1,
        )


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

    def loss(self, params: Any, tokens: Any) -> Any:
        """Loss in nats/token at N parameters and D tokens."""
        return self.E + np.exp(
            log_reducible(
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
