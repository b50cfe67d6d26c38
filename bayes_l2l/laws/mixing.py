"""Mixing law: how the loss of a model depends on what its training set is mixed of.

Of what a loss has above a floor, log(L - floor) = level - strength log amount(w) + tilt . w, relative to a reference
mixture, where amount(w) = 1 + sum_j worth_j w_j^power is what the domains of the mixture are worth for the
evaluation, over what is known without any of them. With strength 0 this is the data-mixing law of arXiv 2403.16952;
with tilt 0 a power law of an effective amount of data. It is convex in w, so that the best mixture is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bayes_l2l.laws.arrays import logaddexp

Floats = npt.NDArray[np.float64]

#: How sharply a floor stays below two losses.
_SHARP: Final = 8.0


@dataclass(frozen=True, eq=False)
class MixingLaw:
    """Draws of the mixing law of one evaluation at one size.

    Attributes
    ----------
    worth, tilt : ndarray, shape (draw, domain)
        Of every domain; worth is positive.
    power, strength : ndarray, shape (draw,)
        Power in (0, 1), strength positive.
    reference : ndarray, shape (domain,)
        Weights of the mixture that the law is relative to.
    """

    worth: Floats
    tilt: Floats
    power: Floats
    strength: Floats
    reference: Floats

    def amount(self, weights: Floats) -> Floats:
        """What mixtures are worth, of weights (mixture, domain): shape (draw, mixture), at least 1."""
        total = np.ones((len(self.power), len(weights)))
        for j, of_domain in enumerate(weights.T):
            total += self.worth[:, [j]] * raised(of_domain, self.power)
        return total

    def log_effect(self, weights: Floats) -> Floats:
        """What mixtures change log(L - floor) by over the reference, shape (draw, mixture)."""
        moved = np.log(self.amount(weights)) - np.log(self.amount(self.reference[None]))
        return np.asarray(self.tilt @ (weights - self.reference).T - self.strength[:, None] * moved)


def raised(weights: Floats, power: Floats) -> Floats:
    """Weights (mixture,) to powers (draw,), shape (draw, mixture); 0 remains 0."""
    some = weights > 0
    return np.asarray(some * np.exp(power[:, None] * np.log(np.where(some, weights, 1.0))))


def below_both(log_a: Any, log_b: Any) -> Any:
    """Logarithm of what is below two losses and near the smaller one, of their logarithms (arrays or PyTensor)."""
    return -logaddexp(-_SHARP * log_a, -_SHARP * log_b) / _SHARP
